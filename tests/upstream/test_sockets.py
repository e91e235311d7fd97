"""The few things only real sockets show."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted  # type: ignore[import-untyped]  # has no types
from twisted.internet import reactor as _reactor
from twisted.internet.protocol import Protocol

from tests.timing import BUSY, at_best
from tests.upstream.certificates import Authority, ServerContext, names
from tests.upstream.recording import RecordingReceiver
from txsse.clock import Alarms
from txsse.interfaces import Dispatch, Failed, Fault
from txsse.sockets import KEEPALIVE_IDLE
from txsse.testing import CLOSE, LAST_CHUNK, REQUEST, STREAM_HEAD, Script, ScriptedUpstream, chunk, eventually, free_port, sleep, steps
from txsse.upstream.endpoints import Target, connect
from txsse.upstream.pool import ConnectionPool

reactor: Any = _reactor

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
SERVE = steps(REQUEST, HELLO, repeat=True)


class Link:
    """A scripted backend and a pool towards it."""

    def __init__(self, upstream: ScriptedUpstream, alarms: Alarms, target: Target) -> None:
        self.upstream = upstream
        self.pool = ConnectionPool(reactor, alarms, target, connect_timeout=20)

    def send(self, head: bytes = HEAD, body: bytes = b"") -> tuple[Dispatch, RecordingReceiver]:
        receiver = RecordingReceiver()
        return self.pool.dispatch(head, body, head.split(b" ")[0], receiver), receiver

    async def fetch(self) -> RecordingReceiver:
        _, receiver = self.send()
        await receiver.over.addTimeout(20, reactor)
        return receiver

    async def nothing_open(self, within: float = BUSY) -> None:
        await eventually(reactor, lambda: not self.pool.connecting and not self.pool.open, within, "our side closed")
        await eventually(reactor, lambda: not self.upstream.open_connections, within, "the backend's side closed")


Links = Callable[..., Awaitable[Link]]


@pytest_twisted.async_yield_fixture()  # type: ignore[untyped-decorator]  # pytest-twisted has no types
async def links() -> AsyncGenerator[Links, None]:
    """Makes links: a backend with a script (and TLS, or on a UNIX socket), and a pool whose target has the other options."""
    alarms = Alarms(reactor)
    made: list[Link] = []

    async def make(script: Script | None = None, *, tls: Any = None, path: str = "", **options: str) -> Link:
        upstream = ScriptedUpstream(reactor, script, tls=tls, path=path)
        await upstream.open()
        made.append(Link(upstream, alarms, Target.parse(upstream.url, **options)))
        return made[-1]

    yield make
    for link in made:
        link.pool.close()
        await link.upstream.stop()
    alarms.stop()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def good_tls(authority: Authority) -> ServerContext:
    return ServerContext(authority.issue("local", names("127.0.0.1"))[1])


async def test_requests_share_a_connection(links: Links) -> None:
    link = await links(SERVE)
    for _ in range(3):
        receiver = await link.fetch()
        assert receiver.ended and receiver.body == b"hello"
    assert len(link.upstream.connections) == 1
    assert (link.pool.open, link.pool.idle) == (1, 1)


async def test_sockets_do_not_wait_and_are_kept_alive(links: Links) -> None:
    link = await links(SERVE)
    protocol = await connect(reactor, Target.parse(link.upstream.url), Protocol, 20)
    transport: Any = protocol.transport
    handle = transport.getHandle()
    assert handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == KEEPALIVE_IDLE
    transport.abortConnection()


async def test_a_closed_port_is_reported_at_once_by_name_and_by_number(links: Links) -> None:
    async def measure(host: str) -> float:
        receiver = RecordingReceiver()
        alarms = Alarms(reactor)
        started = reactor.seconds()
        ConnectionPool(reactor, alarms, Target.parse(f"http://{host}:{free_port()}")).dispatch(HEAD, b"", b"GET", receiver)
        await receiver.over
        assert receiver.failed == Failed(Fault.UNREACHABLE, "connection refused")
        took: float = reactor.seconds() - started
        return took

    for host in ("localhost", "127.0.0.1"):
        await at_best(partial(measure, host), 0.15)  # Twisted's own happy eyeballs take 0.3 s


async def test_a_name_leads_to_the_address_that_answers(links: Links) -> None:
    link = await links(SERVE)
    protocol = await connect(reactor, Target.parse(f"http://localhost:{link.upstream.port}"), Protocol, 20)
    assert (await link.upstream.connection()).transport is not None
    transport: Any = protocol.transport
    transport.abortConnection()


async def test_unix_sockets(links: Links, tmp_path: Path) -> None:
    link = await links(SERVE, path=str(tmp_path / "socket"))
    assert (await link.fetch()).body == b"hello"
    assert (await link.fetch()).ended and len(link.upstream.connections) == 1
    receiver = RecordingReceiver()
    missing = ConnectionPool(reactor, Alarms(reactor), Target.parse(f"unix:{tmp_path}/missing"))
    missing.dispatch(HEAD, b"", b"GET", receiver)
    await receiver.over
    assert receiver.failed == Failed(Fault.UNREACHABLE, "no such file or directory")


# TLS.


@pytest.mark.parametrize(("san", "server_name"), [("127.0.0.1", ""), ("llama.internal.example", "llama.internal.example")])
async def test_a_certified_backend_is_talked_to(links: Links, authority: Authority, san: str, server_name: str) -> None:
    tls = ServerContext(authority.issue("x", names(san))[1])
    link = await links(SERVE, tls=tls, ca_file=authority.ca_file, server_name=server_name)
    for _ in range(2):
        assert (await link.fetch()).body == b"hello"
    (connection,) = link.upstream.connections
    sent = connection.transport.getHandle().get_servername()
    assert sent == (server_name.encode() or None)  # an address is not sent as SNI (RFC 6066 section 3)


@pytest.mark.parametrize(
    ("san", "age", "detail"),
    [
        ("127.0.0.2", 0, "certificate is for another host"),
        ("", 0, "certificate has no subjectAltName"),
        ("127.0.0.1", 2, "certificate not trusted: expired"),
    ],
)
async def test_a_backend_with_a_wrong_certificate_gets_no_request(
    links: Links, authority: Authority, san: str, age: int, detail: str
) -> None:
    _, file = authority.issue("127.0.0.1", names(san) if san else None, age=age)
    link = await links(SERVE, tls=ServerContext(file), ca_file=authority.ca_file)
    assert (await link.fetch()).failed == Failed(Fault.INVALID, detail)
    assert link.upstream.requests == []
    await link.nothing_open()


async def test_a_certificate_of_a_foreign_authority_is_refused(links: Links, authority: Authority, tmp_path: Path) -> None:
    link = await links(SERVE, tls=good_tls(authority), ca_file=Authority(tmp_path, "other").ca_file)
    failed = (await link.fetch()).failed
    assert failed == Failed(Fault.INVALID, "certificate not trusted: unknown authority")


async def test_the_system_does_not_trust_a_private_authority(links: Links, authority: Authority) -> None:
    link = await links(SERVE, tls=good_tls(authority))
    assert (await link.fetch()).fault is Fault.INVALID


async def test_we_show_our_certificate_to_who_asks(links: Links, authority: Authority) -> None:
    _, own = authority.issue("txsse", names("txsse"))
    tls = ServerContext(authority.issue("local", names("127.0.0.1"))[1], clients=authority)
    link = await links(SERVE, tls=tls, ca_file=authority.ca_file, cert=own)
    assert (await link.fetch()).body == b"hello"
    link = await links(SERVE, tls=tls, ca_file=authority.ca_file)
    receiver = await link.fetch()
    # TLS 1.3 clients learn it only after their own Finished.
    assert receiver.fault in (Fault.INVALID, Fault.RESET) and link.upstream.requests == []


async def test_a_backend_that_speaks_no_tls_is_invalid(links: Links) -> None:
    link = await links(steps(b"HTTP/1.1 400 Bad Request\r\n\r\n", CLOSE))
    receiver = RecordingReceiver()
    pool = ConnectionPool(reactor, Alarms(reactor), Target.parse(link.upstream.url.replace("http", "https")))
    pool.dispatch(HEAD, b"", b"GET", receiver)
    await receiver.over
    assert receiver.failed == Failed(Fault.INVALID, "TLS: wrong version number")


@pytest.mark.parametrize("polite", [True, False])
async def test_over_tls_only_a_close_notify_ends_a_body_until_close(links: Links, authority: Authority, polite: bool) -> None:
    async def script(connection: Any) -> None:
        await connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
        await sleep(reactor, 0.02)
        if polite:
            connection.close()
        else:
            connection.transport.transport.loseConnection()

    link = await links(script, tls=good_tls(authority), ca_file=authority.ca_file)
    receiver = await link.fetch()
    assert receiver.body == b"abc"
    assert receiver.ended is polite
    assert receiver.fault is (None if polite else Fault.TRUNCATED)


# Abort.


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("phase", ["sent", "inside the head", "inside the body", "paused"])
async def test_abort_reaches_the_backend_at_once(links: Links, authority: Authority, secure: bool, phase: str) -> None:
    link = await links(tls=good_tls(authority) if secure else None, ca_file=authority.ca_file)
    dispatch, receiver = link.send()
    connection = await link.upstream.connection()
    await connection.request()
    if phase == "inside the head":
        connection.send(b"HTTP/1.1 200 ")
        await sleep(reactor, 0.02)
    elif phase != "sent":
        connection.send(STREAM_HEAD + chunk(b"data: 1\n\n"))
        await eventually(reactor, lambda: receiver.reads)
    if phase == "paused":
        dispatch.pause()
        connection.send(chunk(b"x" * 1000))  # the close_notify of a peer would queue up behind it
        await sleep(reactor, 0.02)
    dispatch.abort()
    await link.nothing_open()
    assert not receiver.ended and receiver.failed is None


async def test_abort_in_the_handshake_frees_the_socket(links: Links) -> None:
    link = await links()  # accepts, and never says a word
    pool = ConnectionPool(reactor, Alarms(reactor), Target.parse(link.upstream.url.replace("http", "https")))
    receiver = RecordingReceiver()
    dispatch = pool.dispatch(HEAD, b"", b"GET", receiver)
    connection = await link.upstream.connection()
    await eventually(reactor, lambda: connection.received)
    dispatch.abort()
    await connection.gone()
    assert pool.connecting == 0 and receiver.silent


async def test_aborted_dispatches_leave_no_descriptor(links: Links) -> None:
    link = await links()
    before = len(os.listdir("/proc/self/fd"))
    for number in range(100):
        dispatch, _ = link.send()
        if number % 2:
            await link.upstream.connection()
        dispatch.abort()
    await link.nothing_open()
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize("listening", [False, True])
async def test_attempts_that_fail_or_are_aborted_leave_no_garbage(links: Links, listening: bool) -> None:
    link = await links()
    target = Target.parse(link.upstream.url if listening else f"http://127.0.0.1:{free_port()}")
    alarms = Alarms(reactor)
    pool = ConnectionPool(reactor, alarms, target)
    receivers = [RecordingReceiver() for _ in range(50)]

    def attempt_all() -> None:
        for receiver in receivers:
            dispatch = pool.dispatch(HEAD, b"", b"GET", receiver)
            if listening:
                dispatch.abort()

    gc.collect()
    gc.disable()
    try:
        attempt_all()
        await eventually(reactor, lambda: not pool.connecting and not pool.open)
        await eventually(reactor, lambda: listening or all(each.failed for each in receivers))
        receivers.clear()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        assert not [each for each in gc.garbage if type(each).__module__.startswith("txsse")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
        alarms.stop()


# Reuse and flow.


@pytest.mark.parametrize("secure", [False, True])
async def test_a_backend_that_closes_an_idle_connection_is_noticed(links: Links, authority: Authority, secure: bool) -> None:
    link = await links(steps(REQUEST, HELLO, 0.02, CLOSE), tls=good_tls(authority) if secure else None, ca_file=authority.ca_file)
    assert (await link.fetch()).ended
    assert link.pool.idle == 1
    await link.nothing_open()
    assert (await link.fetch()).ended
    assert len(link.upstream.connections) == 2


async def test_a_backend_that_closes_upon_the_second_request_leaves_it_stale(links: Links) -> None:
    link = await links(steps(REQUEST, HELLO, REQUEST, CLOSE))
    assert (await link.fetch()).ended
    _, receiver = link.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n", b"{}")
    await receiver.over
    assert receiver.fault is Fault.STALE


@pytest.mark.parametrize("secure", [False, True])
async def test_idle_connections_are_closed_in_the_polite_way(links: Links, authority: Authority, secure: bool) -> None:
    link = await links(SERVE, tls=good_tls(authority) if secure else None, ca_file=authority.ca_file)
    await link.fetch()
    link.pool.close_idle()
    await link.nothing_open()
    assert link.upstream.connections[0].closed_by == "fin"


@pytest.mark.parametrize("secure", [False, True])
async def test_a_large_request_body_arrives_whole(links: Links, authority: Authority, secure: bool) -> None:
    link = await links(tls=good_tls(authority) if secure else None, ca_file=authority.ca_file)
    body = os.urandom(1 << 20) * 8
    _, receiver = link.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body), body)
    connection = await link.upstream.connection()
    connection.pause_reading()
    await sleep(reactor, 0.05)
    connection.resume_reading()
    request = await connection.request(20)
    assert request.body == body
    connection.send(HELLO)
    await receiver.over
    assert receiver.ended and link.pool.idle == 1


async def test_an_answer_while_uploading_is_heard(links: Links) -> None:
    link = await links()
    _, receiver = link.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n", b"x" * 9999999)
    connection = await link.upstream.connection()
    connection.pause_reading()
    connection.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    await receiver.over
    assert receiver.head is not None and receiver.head.status == 413 and receiver.ended
    connection.resume_reading()
    await link.nothing_open()


@pytest.mark.parametrize("secure", [False, True])
async def test_a_pause_reaches_the_backend_and_nothing_is_lost(links: Links, authority: Authority, secure: bool) -> None:
    link = await links(tls=good_tls(authority) if secure else None, ca_file=authority.ca_file)
    dispatch, receiver = link.send()
    connection = await link.upstream.connection()
    await connection.request()
    dispatch.pause()
    piece = os.urandom(1 << 16)
    connection.send(STREAM_HEAD)
    sent = 0
    while not connection.paused and sent < 1000:
        connection.send(chunk(piece))
        sent += 1
        await sleep(reactor, 0)
    assert sent < 1000, "the backend was never held back"
    heard = len(receiver.reads)
    await sleep(reactor, 0.05)
    assert len(receiver.reads) == heard
    dispatch.resume()
    connection.send(LAST_CHUNK)
    await receiver.over.addTimeout(20, reactor)
    assert receiver.ended and receiver.body == piece * sent
