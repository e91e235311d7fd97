"""Our own front on real sockets: what only a kernel can show."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
import struct
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any, cast

import pytest
import pytest_twisted  # type: ignore[import-untyped]  # has no types
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.protocols.tls import TLSMemoryBIOFactory

from tests.front.fakes import PLAIN, Backing, Bounds, ScriptedHandler, answer
from tests.front.tls import Unknown
from tests.timing import BUSY, at_best
from txsse.clock import Alarms
from txsse.front.handover import Pages
from txsse.front.site import ProxySite

HEAD = b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n"
POST = HEAD + b"12345"
PROMPTLY = 0.1


class Listening:
    """A site on a port of the loopback."""

    def __init__(self, *, tls: bool = False, pages: Pages | None = None) -> None:
        self.handler = ScriptedHandler()
        self.alarms = Alarms(reactor)
        backing = Backing(self.handler, Bounds(max_connections=2000), cast(IReactorTime, reactor), self.alarms)
        self.site = ProxySite(backing, pages=pages)
        self._factory = TLSMemoryBIOFactory(Unknown(), False, self.site) if tls else self.site
        self.tls = tls
        self._port: Any

    async def open(self) -> None:
        self._port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(self._factory)

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self._port.getHost().port

    def connect(self) -> socket.socket:
        client = socket.socket()
        client.setblocking(False)
        assert client.connect_ex(self.address) == errno.EINPROGRESS
        return client

    async def close(self) -> None:
        await self._port.stopListening()
        self.site.abort_all()
        await until(lambda: not self.site.connections)
        self.alarms.stop()


async def until(met: Callable[[], object], within: float = 20.0) -> float:
    """Turn the reactor until *met*; how long that took."""
    began = reactor.seconds()
    while not met():
        assert reactor.seconds() - began < within, "it did not happen in time"
        await deferLater(reactor, 0.001)
    return reactor.seconds() - began


@pytest_twisted.async_yield_fixture()  # type: ignore[untyped-decorator]  # has no types
async def listening() -> AsyncGenerator[Listening]:
    made = Listening()
    await made.open()
    yield made
    await made.close()


async def read(client: socket.socket, enough: Callable[[bytes], bool]) -> bytes:
    """What *client* reads until *enough*, or to the end."""
    data = b""

    def more() -> bool:
        nonlocal data
        with contextlib.suppress(BlockingIOError):
            while part := client.recv(65536):
                data += part
            return True
        return enough(data)

    await until(more)
    return data


def fin(client: socket.socket) -> None:
    client.close()


def half_close(client: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@pytest.mark.parametrize("leave", [fin, half_close, reset])
@pytest.mark.parametrize("phase", ["connected", "head", "body", "waiting", "streaming", "blocked"])
async def test_a_client_that_leaves_is_noticed_at_once(listening: Listening, phase: str, leave: Callable[[socket.socket], None]) -> None:
    async def measure() -> float:
        listening.handler.exchanges.clear()
        client = listening.connect()
        await until(lambda: listening.site.connections)
        client.send({"connected": b"", "head": HEAD[:-5], "body": POST[:-1]}.get(phase, POST))
        if phase in ("waiting", "streaming", "blocked"):
            await until(lambda: listening.handler.exchanges)
            if phase != "waiting":
                listening.handler.last.downstream.start(200, b"OK", PLAIN)
            if phase == "blocked":
                listening.handler.last.downstream.write(b"x" * 20_000_000)
        await deferLater(reactor, 0.02)
        leave(client)
        took = await until(lambda: not listening.site.connections)
        assert [each.heard[-1] for each in listening.handler.exchanges] == ["gone"] * len(listening.handler.exchanges)
        client.close()
        return took

    await at_best(measure, PROMPTLY)


async def test_a_thousand_clients_that_leave_leave_nothing(listening: Listening) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    for turn in range(20):
        clients = [listening.connect() for _ in range(50)]
        await until(lambda: listening.site.connections == 50)
        phase = [b"", HEAD[:-5], POST[:-1], POST, POST][turn % 5]
        for client in clients:
            client.send(phase)
        if phase == POST:
            await until(lambda: len(listening.handler.exchanges) == 50)
            if turn % 5 == 4:
                for exchange in listening.handler.exchanges:
                    exchange.downstream.start(200, b"OK", PLAIN)
        for client in clients:
            client.close()
        await until(lambda: not listening.site.connections)
        assert all(each.heard == ["gone"] for each in listening.handler.exchanges)
        listening.handler.exchanges.clear()
        listening.handler.calls.clear()
    assert descriptors() == before
    assert listening.site.budget.used == 0


async def test_a_client_still_uploading_reads_its_refusal(listening: Listening) -> None:
    client = listening.connect()
    await until(lambda: listening.site.connections)
    client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 50000000\r\n\r\n")
    sent = 0
    for _ in range(50):
        with contextlib.suppress(BlockingIOError):
            sent += client.send(b"x" * 100_000)
        await deferLater(reactor, 0.001)
    assert sent > 1_000_000
    data = await read(client, lambda data: False)
    assert data.startswith(b"HTTP/1.1 413 ") and data.endswith(b"\r\n\r\nbody_too_large")
    client.close()
    await until(lambda: not listening.site.connections)


async def test_head_and_first_bytes_leave_in_one_segment(listening: Listening) -> None:
    client = listening.connect()
    await until(lambda: listening.site.connections)
    client.send(POST)
    await until(lambda: listening.handler.exchanges)
    downstream = listening.handler.last.downstream
    downstream.cork()
    downstream.start(200, b"OK", PLAIN)
    downstream.write(b"first")
    downstream.uncork()
    data = b""

    def arrived() -> bool:
        nonlocal data
        with contextlib.suppress(BlockingIOError):
            data = client.recv(65536)
        return bool(data)

    await until(arrived)
    assert data.endswith(b"\r\n\r\n5\r\nfirst\r\n")
    client.close()


async def test_a_cut_answer_without_framing_arrives_and_is_then_reset(listening: Listening) -> None:
    client = listening.connect()
    await until(lambda: listening.site.connections)
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    await until(lambda: listening.handler.exchanges)
    downstream = listening.handler.last.downstream
    downstream.start(200, b"OK", PLAIN)
    downstream.write(b"half")
    downstream.cut()
    data = await read(client, lambda data: data.endswith(b"half"))
    assert data.endswith(b"\r\n\r\nhalf")
    await until(lambda: not listening.site.connections)
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    client.close()


async def test_a_stuck_reader_is_aborted_over_tcp(listening: Listening) -> None:
    client = listening.connect()
    await until(lambda: listening.site.connections)
    client.send(POST)
    await until(lambda: listening.handler.exchanges)
    exchange = listening.handler.last
    exchange.downstream.stall_timeout = 0.3
    exchange.downstream.start(200, b"OK", PLAIN)
    exchange.downstream.write(b"x" * 20_000_000)
    assert 0.28 < await until(lambda: not listening.site.connections) < 0.3 + BUSY
    assert exchange.heard == ["paused", "stalled"]
    client.close()


async def test_a_refusal_over_tls_closes_as_promptly_as_without() -> None:
    listening = Listening(tls=True)
    await listening.open()

    def talk() -> tuple[bytes, float]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(socket.create_connection(listening.address)) as client:
            client.sendall(b"nonsense\r\n\r\n")
            began = time.monotonic()
            got = b""
            while piece := client.recv(65536):
                got += piece
            return got, time.monotonic() - began

    async def measure() -> float:
        got, took = await deferToThread(talk)
        assert got.startswith(b"HTTP/1.1 400 ")
        return took

    await at_best(measure, 1)
    await until(lambda: not listening.site.connections)
    await listening.close()


async def test_over_tls_it_is_all_the_same() -> None:
    listening = Listening(tls=True)
    await listening.open()
    client = listening.connect()
    await until(lambda: listening.site.connections)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing)

    def step(what: Callable[[], object]) -> bool:
        """Try *what*, and carry bytes both ways; whether it went through."""
        try:
            what()
            done = True
        except ssl.SSLWantReadError:
            done = False
        if data := outgoing.read():
            client.send(data)
        with contextlib.suppress(BlockingIOError):
            incoming.write(client.recv(1_000_000))
        return done

    await until(lambda: step(session.do_handshake))
    step(lambda: session.write(POST))
    await until(lambda: listening.handler.exchanges)
    assert listening.handler.last.request.secure
    answer(listening.handler.last.downstream)
    got = bytearray()
    await until(lambda: step(lambda: got.extend(session.read(65536))) and got.endswith(b"hello"))

    step(lambda: session.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n"))
    await until(lambda: step(lambda: got.extend(session.read(65536))) and got.endswith(b"body_too_large"))

    client.close()
    await until(lambda: not listening.site.connections)
    await listening.close()


async def test_a_stuck_reader_is_aborted_over_tls() -> None:
    listening = Listening(tls=True)
    await listening.open()

    def talk() -> socket.socket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        plain = socket.create_connection(listening.address)
        client = context.wrap_socket(plain)
        client.sendall(POST)
        return client

    client = await deferToThread(talk)
    await until(lambda: listening.handler.exchanges)
    exchange = listening.handler.last
    exchange.downstream.stall_timeout = 0.3
    exchange.downstream.start(200, b"OK", PLAIN)
    exchange.downstream.write(b"x" * 20_000_000)
    await until(lambda: not listening.site.connections)
    assert exchange.heard[-1] == "stalled"
    client.close()
    await listening.close()
