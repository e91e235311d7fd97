from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionRefusedError, DNSLookupError, NoRouteError, TCPTimedOutError
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from tests.sockets.watching import needs_ipv6
from txsse.clock import Alarms
from txsse.config.errors import Refused
from txsse.interfaces import Failed, Fault
from txsse.sockets.descriptor import Descriptor
from txsse.testing import free_port
from txsse.upstream.endpoints import ConnectFailed, Target, _Handshake, connect

LOCAL = Target.parse("http://127.0.0.1:8080")


@pytest.fixture
def reactor() -> MemoryReactorClock:
    return MemoryReactorClock()


def accept(factory: Any) -> StringTransport:
    """Let the attempt behind *factory* succeed."""
    transport = StringTransport()
    factory.buildProtocol(None).makeConnection(transport)
    return transport


def fail(factory: Any, error: Exception) -> None:
    """Let the attempt behind *factory* fail."""
    factory.clientConnectionFailed(None, Failure(error))


def failed(attempt: Deferred[Protocol]) -> Failed:
    """Why *attempt* failed."""
    caught: list[Failure] = []
    attempt.addErrback(caught.append)
    assert caught, "still under way"
    error = caught[0].value
    assert isinstance(error, ConnectFailed)
    return error.failed


@pytest.mark.parametrize(
    ("url", "authority", "loopback"),
    [
        ("http://127.0.0.1:8080", b"127.0.0.1:8080", True),
        ("http://localhost", b"localhost", True),
        ("http://[::1]:80/", b"[::1]", True),
        ("http://10.0.0.7:1", b"10.0.0.7:1", False),
        ("https://llama.example", b"llama.example", False),
        ("https://llama.example:8443", b"llama.example:8443", False),
        ("unix:/run/llama.sock", b"localhost", True),
    ],
)
def test_a_target_knows_its_host_field_and_whether_it_is_near(url: str, authority: bytes, loopback: bool) -> None:
    target = Target.parse(url)
    assert (target.authority, target.loopback) == (authority, loopback)


@pytest.mark.parametrize(
    ("url", "peer"),
    [
        ("http://127.0.0.1:8080", (socket.AF_INET, ("127.0.0.1", 8080))),
        ("http://[::1]", (socket.AF_INET6, ("::1", 80))),
        ("unix:/run/llama.sock", (socket.AF_UNIX, "/run/llama.sock")),
        ("http://localhost:8080", None),
        ("https://127.0.0.1:8080", None),
    ],
)
def test_a_target_knows_whether_it_can_be_dialled(url: str, peer: object) -> None:
    assert Target.parse(url).peer == peer


def test_tls_goes_with_https() -> None:
    assert Target.parse("http://llama.example").tls is None
    tls = Target.parse("https://llama.example").tls
    assert tls is not None and tls.name == "llama.example"
    tls = Target.parse("https://127.0.0.1", server_name="llama.example").tls
    assert tls is not None and tls.name == "llama.example"


def test_a_wrong_url_is_refused() -> None:
    with pytest.raises(Refused, match="remove /v1"):
        Target.parse("http://127.0.0.1:8080/v1")


def test_the_protocol_is_connected_and_handed_over(reactor: MemoryReactorClock) -> None:
    attempt = connect(reactor, LOCAL, Protocol, 5)
    host, port, factory, _, _ = reactor.tcpClients[0]
    assert (host, port) == ("127.0.0.1", 8080)
    transport = accept(factory)
    got: list[Protocol] = []
    attempt.addCallback(got.append)
    assert got[0].transport is transport
    assert reactor.getDelayedCalls() == []


def test_literals_and_sockets_need_no_look_up(reactor: MemoryReactorClock) -> None:
    for url in ("http://[::1]:81", "unix:/run/llama.sock"):
        connect(reactor, Target.parse(url), Protocol, 5).addErrback(lambda _: None)
    assert reactor.tcpClients[0][:2] == ("::1", 81)
    assert reactor.unixClients[0][0] == "/run/llama.sock"


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (ConnectionRefusedError(), "connection refused"),
        (NoRouteError(), "no route to host"),
        (ConnectError(errno.EHOSTUNREACH), "no route to host"),
        (DNSLookupError(), "host name not found"),
        (TCPTimedOutError(), "connect timeout after 2.5 s"),
        (ConnectError(errno.ENOENT, "127.0.0.1 is gone"), "no such file or directory"),
        (ConnectError(string="127.0.0.1 is gone"), "cannot connect"),
    ],
)
def test_a_failure_to_connect_is_unreachable_and_told_without_addresses(reactor: MemoryReactorClock, error: Exception, detail: str) -> None:
    attempt = connect(reactor, LOCAL, Protocol, 2.5)
    fail(reactor.tcpClients[0][2], error)
    assert failed(attempt) == Failed(Fault.UNREACHABLE, detail)
    assert reactor.getDelayedCalls() == []


def test_a_silent_host_is_given_up_in_time(reactor: MemoryReactorClock) -> None:
    attempt = connect(reactor, LOCAL, Protocol, 5)
    reactor.advance(4.9)
    assert not attempt.called
    reactor.advance(0.2)
    assert failed(attempt) == Failed(Fault.UNREACHABLE, "connect timeout after 5 s")
    assert reactor.connectors[0].stoppedConnecting


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "https://127.0.0.1:8080", "unix:/run/llama.sock"])
def test_an_attempt_can_be_cancelled(reactor: MemoryReactorClock, url: str) -> None:
    attempt = connect(reactor, Target.parse(url), Protocol, 5)
    attempt.cancel()
    caught: list[Failure] = []
    attempt.addErrback(caught.append)
    assert caught[0].check(CancelledError)
    assert reactor.connectors[0].stoppedConnecting
    assert reactor.getDelayedCalls() == []


def test_an_attempt_can_be_cancelled_in_the_handshake(reactor: MemoryReactorClock) -> None:
    attempt = connect(reactor, Target.parse("https://127.0.0.1:8080"), Protocol, 5)
    transport = accept(reactor.tcpClients[0][2])
    assert transport.value().startswith(b"\x16\x03")  # ClientHello
    attempt.cancel()
    caught: list[Failure] = []
    attempt.addErrback(caught.append)
    assert caught[0].check(CancelledError)
    assert transport.disconnected
    assert reactor.getDelayedCalls() == []


def test_a_handshake_that_ended_without_a_look_at_the_certificate_is_refused() -> None:
    handshake = _Handshake(Protocol)
    transport = StringTransport()
    handshake.makeConnection(transport)
    handshake.handshakeCompleted()
    assert transport.disconnected
    handshake.connectionLost(Failure(ConnectionDone()))
    assert failed(handshake.done) == Failed(Fault.INVALID, "certificate was not verified")


@pytest.mark.parametrize("refusal", ["", "certificate is for another host"])
def test_a_peer_that_goes_in_the_handshake_is_a_reset_unless_it_was_refused(refusal: str) -> None:
    handshake = _Handshake(Protocol)
    handshake.refusal = refusal
    handshake.connectionLost(Failure(ConnectionDone()))
    expected = Failed(Fault.INVALID, refusal) if refusal else Failed(Fault.RESET, "connection closed in the TLS handshake")
    assert failed(handshake.done) == expected


def test_the_timeout_covers_the_handshake(reactor: MemoryReactorClock) -> None:
    attempt = connect(reactor, Target.parse("https://127.0.0.1:8080"), Protocol, 5)
    transport = accept(reactor.tcpClients[0][2])
    reactor.advance(5)
    assert failed(attempt) == Failed(Fault.UNREACHABLE, "connect timeout after 5 s")
    assert transport.disconnected


def test_an_unforeseen_error_is_not_dressed_up(reactor: MemoryReactorClock) -> None:
    def broken() -> Protocol:
        raise ZeroDivisionError

    attempt = connect(reactor, LOCAL, broken, 5)
    reactor.tcpClients[0][2].buildProtocol(None)
    caught: list[Failure] = []
    attempt.addErrback(caught.append)
    assert caught[0].check(ZeroDivisionError)


# On the reactor itself, literals and sockets are dialled without Twisted's endpoints.


def listen(host: str, folder: Path) -> tuple[socket.socket, str]:
    """A listening socket at *host*, and its URL."""
    if host == "unix":
        path = str(folder / "socket")
        made = socket.socket(socket.AF_UNIX)
        made.bind(path)
        made.listen()
        return made, f"unix:{path}"
    made = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    shown = f"[{host}]" if ":" in host else host
    return made, f"http://{shown}:{made.getsockname()[1]}"


@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("::1", marks=needs_ipv6), "unix"])
async def test_what_needs_no_look_up_is_dialled(host: str, tmp_path: Path) -> None:
    listening, url = listen(host, tmp_path)
    with listening:
        protocol = await connect(_reactor, Target.parse(url), Protocol, 5)
        transport: Any = protocol.transport
        assert isinstance(transport, Descriptor)
        transport.abortConnection()


@pytest.mark.parametrize(
    ("url", "detail"),
    [
        (f"http://127.0.0.1:{free_port()}", "connection refused"),
        ("unix:/nowhere/at/all", "no such file or directory"),
        ("http://[fe80::1%nowhere0]:1", "host name not found"),
    ],
)
async def test_dialling_fails_in_the_same_words(url: str, detail: str) -> None:
    assert failed(connect(_reactor, Target.parse(url), Protocol, 5)) == Failed(Fault.UNREACHABLE, detail)


async def test_alarms_can_tell_that_a_host_is_silent() -> None:
    clock = Clock()
    # Accepts nobody, and drops the SYN of whoever comes.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.create_connection(full.getsockname()):
        target = Target.parse(f"http://127.0.0.1:{full.getsockname()[1]}")
        attempt = connect(_reactor, target, Protocol, 2.5, Alarms(clock))
        clock.advance(2.4)
        assert not attempt.called
        clock.advance(0.3)
        assert failed(attempt) == Failed(Fault.UNREACHABLE, "connect timeout after 2.5 s")
        assert clock.getDelayedCalls() == []


async def test_dialling_can_be_cancelled() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.create_connection(full.getsockname()):
        attempt = connect(_reactor, Target.parse(f"http://127.0.0.1:{full.getsockname()[1]}"), Protocol, 5)
        attempt.cancel()
        caught: list[Failure] = []
        attempt.addErrback(caught.append)
        assert caught[0].check(CancelledError)
