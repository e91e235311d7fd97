"""A WebSocket from end to end, on a reactor in memory: a client's transport, our front, the proxy, an upstream's transport."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.web.server import Site
from zope.interface import alsoProvides

from tests.front.fakes import Backing, Bounds
from txsse.config import loads
from txsse.front.channel import AHEAD
from txsse.front.resource import ProxyResource
from txsse.front.site import ProxySite
from txsse.logs import AccessLog
from txsse.proxy.handler import Proxy

READY = """
[[upstream]]
name = "llama"
url = "http://127.0.0.1:8080"
probe = { preset = "none" }
%s
"""
COLD = READY.replace('"none"', '"tcp"') % ""
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
ASK = b"GET /ws?a=b HTTP/1.1\r\nHost: example.org\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n" + KEY + b"\r\n"
ACCEPT = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
AGREED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" + ACCEPT + b"\r\n"
PLAIN = b"GET /page HTTP/1.1\r\nHost: example.org\r\n\r\n"


class Wire(StringTransport):
    """One connection, as its protocol sees it; what the other side does, the test does."""

    producer: Any

    def __init__(self, protocol: Any, *, tls: bool = False) -> None:
        super().__init__(lenient=True)
        self.half_closed = self.aborted = self.gone = False
        self.protocol = protocol
        protocol.makeConnection(self)
        if tls:
            alsoProvides(self, ISSLTransport)

    def receive(self, data: bytes) -> Wire:
        self.protocol.dataReceived(data)
        return self

    def take(self) -> bytes:
        """What was written since the last time."""
        data: bytes = self.value()
        self.clear()
        return data

    @property
    def reading(self) -> bool:
        return self.producerState == "producing"

    def end(self) -> None:
        """The other side sends a FIN."""
        protocol = getattr(self.protocol, "_wrappedProtocol", self.protocol)  # an endpoint's wrapper, which our transports do without
        if ISSLTransport.providedBy(self) or not protocol.half_closed():
            self._lose(ConnectionDone())

    def reset(self) -> None:
        self._lose(ConnectionLost())

    def unregisterProducer(self) -> None:
        self.producer = None  # as transports do, whether there is one or not

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def loseConnection(self) -> None:
        super().loseConnection()
        self._lose(ConnectionDone())

    def abortConnection(self) -> None:
        self.aborted = True
        self._lose(ConnectionLost())

    def _lose(self, reason: Exception) -> None:
        if not self.gone:
            self.gone = True
            self.protocol.connectionLost(Failure(reason))


class Rig:
    def __init__(self, configuration: str = READY % "", *, tls: str = "") -> None:
        """*tls*: the side that speaks it: ``client`` or ``upstream``."""
        self.reactor: Any = MemoryReactorClock()
        self.lines: list[str] = []
        self.log = AccessLog(self.lines.append, "text", self.reactor)
        self.proxy = Proxy(loads(configuration), self.reactor, "abc", self.log)
        self.backing = Backing(self.proxy, Bounds(), self.reactor, self.proxy.alarms)
        self.site = ProxySite(self.backing)
        self._tls = tls

    def client(self, data: bytes = ASK) -> Wire:
        return Wire(self.site.buildProtocol(None), tls=self._tls == "client").receive(data)

    def upstream(self) -> Wire:
        """The newest connection that was asked for comes about."""
        self.reactor.advance(0)
        return Wire(self.reactor.tcpClients[-1][2].buildProtocol(None), tls=self._tls == "upstream")

    def tunnel(self) -> tuple[Wire, Wire]:
        client = self.client()
        upstream = self.upstream().receive(AGREED)
        client.clear()
        upstream.clear()
        return client, upstream

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.05)):
            self.reactor.advance(0.05)

    @property
    def told(self) -> dict[str, str]:
        """The only access line."""
        self.log.stop()
        (line,) = "".join(self.lines).splitlines()
        return dict(word.split("=", 1) for word in line.split())

    @property
    def slots(self) -> int:
        return self.proxy.backends["llama"].gate.slots[1]


def status_of(answer: bytes) -> int:
    return int(answer.split()[1])


def code_of(answer: bytes) -> str:
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"])


# -- the handshake


def test_what_upstream_is_asked_and_what_the_client_is_told() -> None:
    rig = Rig()
    client = rig.client(ASK.replace(KEY, KEY + b"X-Request-Id: 7\r\nX-Txsse-Resume: 1\r\nSec-WebSocket-Protocol: chat\r\n"))
    upstream = rig.upstream()
    assert upstream.take() == (
        b"GET /ws?a=b HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n" + KEY + b"Sec-WebSocket-Protocol: chat\r\n"
        b"X-Forwarded-Proto: http\r\nX-Forwarded-Host: example.org\r\n"
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nVia: 1.1 txsse-abc\r\nX-Request-Id: 7\r\n\r\n"
    ).replace(b"X-Forwarded-Proto", b"X-Forwarded-For: 192.168.1.1\r\nX-Forwarded-Proto")
    assert client.take() == b""
    upstream.receive(AGREED)
    assert client.take() == (
        b"HTTP/1.1 101 Switching Protocols\r\n" + ACCEPT + b"X-Txsse-Cold-Start: false\r\nX-Request-Id: 7\r\n"
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    assert rig.proxy.metrics.in_flight["llama"] == 1


@pytest.mark.parametrize("size", [1, 7, len(AGREED), 10_000])
def test_bytes_that_come_with_the_heads_are_not_lost(size: int) -> None:
    rig = Rig()
    client = rig.client(ASK + b"early ").receive(b"bird")
    upstream = rig.upstream()
    upstream.clear()
    answer = AGREED + b"\x81\x05hello"
    for at in range(0, len(answer), size):
        upstream.receive(answer[at : at + size])
    assert client.take().endswith(b"\r\n\r\n\x81\x05hello")
    assert upstream.take() == b"early bird"
    client.receive(b"more")
    upstream.receive(b"HTTP/1.1 200 OK\r\n\r\n")
    assert (client.take(), upstream.take()) == (b"HTTP/1.1 200 OK\r\n\r\n", b"more")


def test_a_client_that_does_not_wait_for_the_answer_is_read_again_after_it() -> None:
    rig = Rig()
    much = b"x" * (AHEAD + 1)
    client = rig.client(ASK + much)
    upstream = rig.upstream()
    assert not client.reading
    upstream.clear()
    upstream.receive(AGREED)
    assert client.reading
    assert upstream.take() == much


@pytest.mark.parametrize(
    "change",
    [
        (b"WebSocket", b"h2c"),
        (b"WebSocket", b"websockets"),
        (b"keep-alive, Upgrade", b"keep-alive"),
        (b"Upgrade: WebSocket", b"X-Upgrade: WebSocket"),
        (b"GET", b"POST"),
        (b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\nx"),
        (b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (b"/ws?a=b HTTP/1.1", b"/ws?a=b HTTP/1.0"),
    ],
    ids=["another protocol", "nearly", "not named by Connection", "no Upgrade", "POST", "body", "chunked", "HTTP/1.0"],
)
def test_anything_else_is_an_ordinary_request(change: tuple[bytes, bytes]) -> None:
    rig = Rig()
    client = rig.client(ASK.replace(*change))
    upstream = rig.upstream()
    head = upstream.take().lower()
    assert b"\r\nupgrade:" not in head and b"\r\nconnection:" not in head
    upstream.receive(AGREED)
    assert status_of(client.value()) == 502
    assert code_of(client.value()) == "upstream_invalid"


@pytest.mark.parametrize(
    "fields", [b"Connection: UPGRADE\r\nUpgrade: h2c, WEBSOCKET", b"Connection: a\r\nConnection: upgrade\r\nUpgrade: websocket"]
)
def test_the_fields_are_lists_in_any_case(fields: bytes) -> None:
    rig = Rig()
    rig.client(ASK.replace(b"Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket", fields))
    head = rig.upstream().value()
    assert head.count(b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n") == 1
    assert b"h2c" not in head


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"],
)
def test_a_switch_to_something_else_is_no_answer(answer: bytes) -> None:
    rig = Rig()
    client = rig.client()
    upstream = rig.upstream().receive(answer)
    assert status_of(client.value()) == 502
    assert upstream.aborted


def test_any_other_answer_is_relayed_and_the_connection_goes_on() -> None:
    rig = Rig()
    client = rig.client()
    first = rig.upstream().receive(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    assert status_of(client.value()) == 403
    assert client.take().endswith(b"\r\n\r\nno")
    client.receive(PLAIN)
    assert first.value().endswith(b"\r\n\r\n")  # HTTP went on there too
    first.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert client.value().endswith(b"ok")
    assert rig.proxy.metrics.requests == {("llama", 403, "ok"): 1, ("llama", 200, "ok"): 1}


def test_each_has_a_connection_of_its_own_that_is_not_kept() -> None:
    rig = Rig()
    rig.client(PLAIN)
    kept = rig.upstream().receive(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    kept.clear()
    client = rig.client()
    upstream = rig.upstream().receive(AGREED)
    assert kept.value() == b""
    client.end()
    upstream.end()
    assert upstream.gone
    (server,) = rig.proxy.backends["llama"].servers
    assert server.pool.idle == 1
    assert server.in_flight == 0


def test_keys_are_asked_for_and_not_passed_on(tmp_path: Any) -> None:
    keys = tmp_path / "keys"
    keys.write_text("me:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\n")  # of "secret"
    rig = Rig(READY % "" + f'[auth]\nkeys_file = "{keys}"\n')
    assert status_of(rig.client().value()) == 401
    client = rig.client(ASK.replace(KEY, KEY + b"Authorization: Bearer secret\r\n"))
    upstream = rig.upstream()
    assert b"secret" not in upstream.value()
    assert b"\r\nUpgrade: websocket\r\n" in upstream.value()
    upstream.receive(AGREED)
    assert status_of(client.value()) == 101


def test_a_strangers_site_does_not_do_it() -> None:
    rig = Rig()
    site = Site(ProxyResource(rig.backing), reactor=rig.reactor, logFormatter=lambda timestamp, request: "")
    client = Wire(site.buildProtocol(None)).receive(ASK)
    assert status_of(client.value()) == 501
    assert code_of(client.value()) == "bad_request"
    assert rig.reactor.tcpClients == []
    client.loseConnection()


# -- before an upstream that is not ready


def test_it_waits_for_a_probe_and_not_longer() -> None:
    rig = Rig(COLD)
    client = rig.client()
    rig.upstream()  # the probe
    rig.reactor.advance(0)
    assert rig.upstream().value().startswith(b"GET /ws?a=b ")
    assert client.value() == b""


def test_one_that_is_not_ready_is_woken_for_the_next_try() -> None:
    rig = Rig(COLD)
    client = rig.client()
    rig.wait(1)
    assert status_of(client.value()) == 503
    assert code_of(client.value()) == "readiness_timeout"
    assert b"\r\nRetry-After: 5\r\n" in client.value()
    assert rig.proxy.backends["llama"].waiting == 1  # in its place
    rig.reactor.tcpClients[-1][2].clientConnectionFailed(None, Failure(ConnectionRefusedError()))
    second = rig.client()
    assert status_of(second.value()) == 503  # at once: it is asked all the time
    rig.wait(0.3)
    rig.upstream()
    rig.wait(0.1)
    third = rig.client()
    rig.upstream().receive(AGREED)
    assert status_of(third.value()) == 101


def test_one_that_wakes_nobody_wakes_nobody() -> None:
    rig = Rig(COLD + '[[route]]\nupstream = "llama"\nno_wake = { paths = ["/ws"] }\n')
    assert status_of(rig.client().value()) == 503
    assert rig.reactor.tcpClients == []
    assert rig.proxy.backends["llama"].waiting == 0


def test_one_that_refuses_the_connection_is_not_waited_for() -> None:
    rig = Rig(COLD)
    rig.client(PLAIN)
    rig.upstream()
    rig.reactor.advance(0)
    rig.upstream().receive(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    client = rig.client()
    rig.reactor.tcpClients[-1][2].clientConnectionFailed(None, Failure(ConnectionRefusedError()))
    rig.wait(1)
    assert status_of(client.value()) == 503
    assert rig.slots == 0


def test_without_a_free_slot_it_is_refused_at_once() -> None:
    rig = Rig(READY % "max_concurrency = 1")
    client, upstream = rig.tunnel()
    second = rig.client()
    assert status_of(second.value()) == 503
    assert code_of(second.value()) == "queue_timeout"
    assert b"\r\nRetry-After: " in second.value()
    client.end()
    assert rig.slots == 1  # one side goes on
    upstream.end()
    assert rig.slots == 0
    third = rig.client()
    rig.upstream().receive(AGREED)
    assert status_of(third.value()) == 101


# -- flow control


def test_a_slow_upstream_pauses_the_client() -> None:
    rig = Rig()
    client, upstream = rig.tunnel()
    upstream.producer.pauseProducing()
    assert not client.reading
    client.receive(b"a last read")
    assert upstream.take() == b"a last read"
    upstream.producer.resumeProducing()
    assert client.reading


def test_an_upstream_that_takes_nothing_of_what_came_early_pauses_the_client_at_once() -> None:
    class Full(Wire):
        def write(self, data: bytes) -> None:
            super().write(data)
            if self.producer is not None:
                self.producer.pauseProducing()

    rig = Rig()
    client = rig.client(ASK + b"early")
    Full(rig.reactor.tcpClients[-1][2].buildProtocol(None)).receive(AGREED)
    assert not client.reading


def test_a_slow_client_pauses_upstream() -> None:
    rig = Rig()
    client, upstream = rig.tunnel()
    client.producer.pauseProducing()
    assert not upstream.reading
    client.producer.resumeProducing()
    assert upstream.reading


def test_a_client_that_does_not_read_is_reset() -> None:
    rig = Rig(READY % "" + '[[route]]\nupstream = "llama"\nstream = { stall_timeout = "2s" }\n')
    client, upstream = rig.tunnel()
    client.producer.pauseProducing()
    upstream.receive(b"for nobody")
    rig.wait(1.5)
    assert not client.gone
    rig.wait(1)
    assert client.aborted and upstream.aborted
    assert rig.told["outcome"] == "client_closed"


# -- the end


def test_a_clients_end_is_passed_on_and_what_upstream_still_says_arrives() -> None:
    rig = Rig()
    client, upstream = rig.tunnel()
    client.receive(b"question").end()
    assert upstream.half_closed and not upstream.gone
    assert not client.half_closed and not client.gone
    upstream.receive(b"answer")
    assert client.take() == b"answer"
    upstream.end()
    assert client.gone and upstream.gone
    assert not client.aborted and not upstream.aborted
    told = rig.told
    assert (told["status"], told["outcome"], told["code"]) == ("101", "ok", "-")
    assert (told["bytes_in"], told["bytes_out"]) == ("8", "6")
    assert rig.proxy.metrics.requests == {("llama", 101, "ok"): 1}
    assert rig.proxy.metrics.relayed_bytes["llama"] == 6
    assert rig.proxy.metrics.in_flight["llama"] == 0
    assert rig.site.connections == 0


def test_upstreams_end_is_passed_on_and_what_the_client_still_says_arrives() -> None:
    rig = Rig()
    client, upstream = rig.tunnel()
    upstream.receive(b"goodbye").end()
    assert client.take() == b"goodbye"
    assert client.half_closed and not client.gone
    client.receive(b"you too")
    assert upstream.take() == b"you too"
    client.end()
    assert client.gone and upstream.gone
    assert rig.told["outcome"] == "ok"


def test_an_end_that_is_told_twice_is_one() -> None:
    rig = Rig()
    client, upstream = rig.tunnel()
    client.end()
    client.end()
    assert not upstream.gone
    upstream.end()
    assert upstream.gone
    assert rig.told["outcome"] == "ok"


@pytest.mark.parametrize("tls", ["client", "upstream"])
@pytest.mark.parametrize("first", ["client", "upstream"])
def test_over_tls_the_end_of_one_side_is_that_of_both(tls: str, first: str) -> None:
    rig = Rig(tls=tls)
    client, upstream = rig.tunnel()
    client.receive(b"last")
    upstream.receive(b"words")
    (client if first == "client" else upstream).end()
    assert client.gone and upstream.gone
    assert client.value() == b"words" and upstream.value() == b"last"
    assert not client.aborted and not upstream.aborted
    assert rig.told["outcome"] == "ok"


def test_a_reset_client_resets_upstream() -> None:
    rig = Rig()
    client, upstream = rig.tunnel()
    client.reset()
    assert upstream.aborted
    assert rig.told["outcome"] == "client_closed"


def test_a_reset_upstream_resets_the_client() -> None:
    rig = Rig()
    client, upstream = rig.tunnel()
    upstream.receive(b"half a fr").reset()
    assert client.take() == b"half a fr"
    rig.wait(0.1)
    assert client.aborted
    told = rig.told
    assert (told["outcome"], told["code"]) == ("upstream_error", "upstream_disconnected")


def test_a_client_that_leaves_before_the_answer_takes_upstream_with_it() -> None:
    rig = Rig()
    client = rig.client()
    upstream = rig.upstream()
    client.end()
    assert upstream.aborted
    assert rig.told["outcome"] == "client_closed"


# -- time


def test_silence_before_the_answer_has_its_bound() -> None:
    rig = Rig(READY % 'timeouts = { first_byte = "1s" }')
    client = rig.client()
    upstream = rig.upstream()
    rig.wait(1.1)
    assert status_of(client.value()) == 504
    assert upstream.aborted


def test_silence_of_a_tunnel_has_none_until_one_side_has_ended() -> None:
    rig = Rig(READY % 'timeouts = { first_byte = "1s", idle = "1s" }')
    client, upstream = rig.tunnel()
    rig.wait(5)
    client.end()
    for _ in range(5):
        rig.wait(0.9)
        upstream.receive(b".")
    assert client.take() == b"....."
    rig.wait(1.5)
    assert client.aborted and upstream.aborted
    assert rig.told["code"] == "upstream_timeout"


def test_the_whole_of_it_has_its_bound() -> None:
    rig = Rig(READY % 'timeouts = { total = "3s" }')
    client, upstream = rig.tunnel()
    rig.wait(2.5)
    assert not client.gone
    rig.wait(1)
    assert client.aborted and upstream.aborted
    assert rig.told["outcome"] == "timeout"


def test_the_end_of_a_drain_is_its_end() -> None:
    rig = Rig()
    client, upstream = rig.tunnel()
    rig.site.drain()
    client.receive(b"still here")
    assert upstream.take() == b"still here"
    rig.proxy.shut_down()
    rig.wait(0.1)
    assert client.aborted and upstream.aborted
    assert (rig.told["outcome"], rig.told["code"]) == ("shutdown", "shutting_down")
