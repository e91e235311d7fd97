"""What one look at an upstream finds out, over real sockets; and the gate with a real probe behind it."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError

from tests.timing import at_best
from tests.upstream.certificates import Authority, ServerContext, names
from tests.upstream.waiting import wait
from txsse.config import model
from txsse.testing import HANG, REQUEST, RESET, ScriptedUpstream, UpstreamConnection, answer, eventually, sleep, steps
from txsse.upstream.endpoints import Target
from txsse.upstream.gate import Gate
from txsse.upstream.lookout import Verdict
from txsse.upstream.probe import Probe

LOADING = answer(b'{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}', "503 Service Unavailable")
NOT_FOUND = answer(b"{}", "404 Not Found")
OK = answer(b'{"status":"ok"}')


class Pages:
    """A backend as a table of pages; what is not in it is a 404."""

    def __init__(self, pages: dict[bytes, bytes] | None = None) -> None:
        self.pages = pages or {}
        self.upstream = ScriptedUpstream(reactor, self._serve)

    async def _serve(self, connection: UpstreamConnection) -> None:
        request = await connection.request()
        connection.send(self.pages.get(request.target, NOT_FOUND))
        connection.close()

    def asked(self) -> list[bytes]:
        """The pages asked since the last time."""
        targets = [request.target for request in self.upstream.requests]
        self.upstream.requests.clear()
        return targets


def probe_of(upstream: ScriptedUpstream, config: model.Probe | None = None) -> Probe:
    return Probe(reactor, Target.parse(upstream.url), config or model.Probe())


async def test_a_closed_port_is_down_whatever_the_preset() -> None:
    upstream = ScriptedUpstream(reactor)
    for preset in ("tcp", "auto", "llamacpp"):
        verdict = await probe_of(upstream, model.Probe(preset=preset))()
        assert verdict == Verdict(False, detail="connection refused")


async def test_tcp_connects_and_closes_and_says_nothing() -> None:
    upstream = ScriptedUpstream(reactor)
    await upstream.open()
    assert await probe_of(upstream, model.Probe(preset="tcp"))() == Verdict(True)
    connection = await upstream.connection()
    await connection.gone()
    assert connection.received == b""
    await upstream.stop()


async def test_a_unix_socket_is_probed_like_a_port(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(reactor, steps(REQUEST, OK, HANG), path=str(tmp_path / "s"))
    probe = probe_of(upstream, model.Probe(preset="llamacpp"))
    assert await probe() == Verdict(False, detail="no such file or directory")
    await upstream.open()
    assert await probe() == Verdict(True)
    assert upstream.requests[0].header("host") == b"localhost"
    await upstream.stop()


async def test_llamacpp_is_loading_and_then_ready() -> None:
    backend = Pages({b"/health": LOADING})
    await backend.upstream.open()
    probe = probe_of(backend.upstream, model.Probe(preset="llamacpp"))
    assert await probe() == Verdict(False, loading=True, detail="HTTP 503")
    backend.pages[b"/health"] = OK
    assert await probe() == Verdict(True)
    await backend.upstream.stop()


@pytest.mark.parametrize(
    ("page", "verdict"),
    [
        (answer(b"", "502 Bad Gateway"), Verdict(False, detail="HTTP 502")),
        (answer(b"starting"), Verdict(False, detail="HTTP 200, unexpected body")),
        (answer(b"", "503 Service Unavailable"), Verdict(False, detail="HTTP 503")),
    ],
)
async def test_the_detail_names_the_status_and_never_the_body(page: bytes, verdict: Verdict) -> None:
    backend = Pages({b"/health": page})
    await backend.upstream.open()
    assert await probe_of(backend.upstream, model.Probe(preset="llamacpp"))() == verdict
    await backend.upstream.stop()


async def test_a_server_that_hangs_up_is_down() -> None:
    upstream = ScriptedUpstream(reactor, steps(REQUEST, RESET))
    await upstream.open()
    assert await probe_of(upstream)() == Verdict(False, detail="connection closed before the end of the answer")
    await upstream.stop()


async def test_auto_takes_the_first_page_that_decides_and_asks_it_first_from_then_on() -> None:
    backend = Pages({b"/health": LOADING})
    await backend.upstream.open()
    probe = probe_of(backend.upstream)
    assert await probe() == Verdict(False, loading=True, detail="HTTP 503")
    assert backend.asked() == [b"/ready", b"/health"]
    backend.pages[b"/health"] = OK
    assert await probe() == Verdict(True)
    assert backend.asked() == [b"/health"]
    # Another backend came to the port, which knows another page.
    backend.pages = {b"/ready": answer(b"")}
    assert await probe() == Verdict(True)
    assert backend.asked() == [b"/health", b"/ready"]
    assert await probe() == Verdict(True)
    assert backend.asked() == [b"/ready"]
    await backend.upstream.stop()


async def test_auto_takes_a_server_without_any_of_the_pages_for_ready() -> None:
    backend = Pages()
    await backend.upstream.open()
    assert await probe_of(backend.upstream)() == Verdict(True)
    assert backend.asked() == [b"/ready", b"/health", b"/v1/models"]
    await backend.upstream.stop()


async def test_the_upstreams_own_headers_are_sent() -> None:
    backend = Pages()
    await backend.upstream.open()
    probe = Probe(reactor, Target.parse(backend.upstream.url), model.Probe(), [(b"Authorization", b"Bearer s3cret")])
    await probe()
    assert [request.header("authorization") for request in backend.upstream.requests] == [b"Bearer s3cret"] * 3
    await backend.upstream.stop()


async def test_a_cancelled_probe_gives_no_verdict() -> None:
    upstream = ScriptedUpstream(reactor)
    await upstream.open()
    looking = probe_of(upstream)()
    await (await upstream.connection()).request()
    looking.cancel()
    with pytest.raises(CancelledError):
        await looking
    await upstream.stop()


async def test_the_gate_notices_a_port_that_opens_within_an_interval_and_50_ms() -> None:
    async def measure() -> float:
        config = model.Probe(interval=0.1)
        upstream = ScriptedUpstream(reactor, steps(REQUEST, answer(), HANG))
        gate = Gate(reactor, probe_of(upstream, config), config, loopback=True)
        waiter = wait(gate)
        await sleep(reactor, 0.33)
        assert gate.last_error == "connection refused"
        await upstream.open()
        opened: float = reactor.seconds()
        await waiter
        took = reactor.seconds() - opened
        await upstream.stop()
        return took

    await at_best(measure, 0.15)


async def test_the_last_to_leave_ends_the_probe_in_the_middle_of_a_body() -> None:
    upstream = ScriptedUpstream(reactor)
    await upstream.open()
    config = model.Probe()
    gate = Gate(reactor, probe_of(upstream, config), config, loopback=True)
    waiter = wait(gate)
    waiter.addErrback(lambda failure: failure.trap(CancelledError) and None)
    connection = await upstream.connection()
    await connection.request()
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    await sleep(reactor, 0.02)
    waiter.cancel()
    await connection.gone()
    await upstream.stop()


async def test_a_body_that_does_not_end_is_given_up_after_the_timeout() -> None:
    upstream = ScriptedUpstream(reactor, steps(REQUEST, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", HANG))
    await upstream.open()
    config = model.Probe(timeout=0.1)
    gate = Gate(reactor, probe_of(upstream, config), config, loopback=True)
    waiter = wait(gate)
    waiter.addErrback(lambda failure: failure.trap(CancelledError) and None)
    await eventually(reactor, lambda: gate.last_error)
    assert gate.last_error == "timed out"
    await (await upstream.connection()).gone()
    waiter.cancel()
    await upstream.stop()


async def test_a_peer_that_cannot_be_verified_is_hopeless_and_not_just_down() -> None:
    async def plain(connection: UpstreamConnection) -> None:
        connection.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await connection.gone()

    upstream = ScriptedUpstream(reactor, plain)
    await upstream.open()
    target = Target.parse(upstream.url.replace("http://", "https://"))
    verdict = await Probe(reactor, target, model.Probe())()
    assert verdict.hopeless
    assert verdict.detail.startswith("TLS: ")
    await upstream.stop()


async def test_a_peer_that_asks_for_a_certificate_we_do_not_have_is_hopeless(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    _, file = authority.issue("backend", names("127.0.0.1"))
    upstream = ScriptedUpstream(reactor, steps(HANG), tls=ServerContext(file, clients=authority))
    await upstream.open()
    verdict = await Probe(reactor, Target.parse(upstream.url, ca_file=authority.ca_file), model.Probe())()
    assert verdict.hopeless
    assert verdict.detail.startswith("TLS: ")
    await upstream.stop()
