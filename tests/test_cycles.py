"""Exchanges leave nothing for the garbage collector: when one is over, reference counts alone free it.

So a proxy with thousands of open streams need not stop for collections that walk all of them (:func:`txsse.tap.settle`). Real sockets,
because a part of the cycles that there were is Twisted's own.
"""

from __future__ import annotations

import gc
import re
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from txsse.config import loads
from txsse.service import ProxyService
from txsse.testing import LAST_CHUNK, STREAM_HEAD, answer, chunk, eventually, free_port, request

reactor: Any = _reactor  # IReactorTCP, IReactorSocket and IReactorTime at once: zope interfaces have no intersection

EXCHANGES = 2000  # of each kind
HELD = 200  # at a time

BODY = b'{"stream":true}'
POST = request("POST", "/v1/chat/completions", BODY, headers=["Content-Type: application/json"])
ANEW = request("POST", "/v1/chat/completions", BODY, headers=["Content-Type: application/json", "Cache-Control: no-cache"])
HANDSHAKE = b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
EVENT = chunk(b'data: {"choices":[]}\n\n')
LAST = chunk(b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n')
END = chunk(b"data: [DONE]\n\n") + LAST_CHUNK

CONFIGURATION = """
[server]
listen = ["tcp:0:interface=127.0.0.1"]
admin = "none"
[[upstream]]
name = "llama"
url = "http://127.0.0.1:{port}"
probe = {{ preset = "{preset}", interval = "10ms" }}
[[route]]
upstream = "llama"
[route.hold]
commit_after = "1ms"
"""

CACHE = """
[route.cache]
mode = "all"
scope = "shared"
"""


class Connection(Protocol):
    """One of the backend's: answers each request as the backend was told."""

    transport: Any

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def connectionMade(self) -> None:
        self._backend.connections.add(self)

    def dataReceived(self, data: bytes) -> None:
        if data.endswith((BODY, b"\r\n\r\n")):
            self.transport.write(self._backend.answer)
            if self._backend.breaks_off:
                self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._backend.connections.discard(self)


class Backend:
    def __init__(self, answer: bytes, breaks_off: bool = False) -> None:
        self.answer = answer
        self.breaks_off = breaks_off
        self.port = free_port()
        self.connections: set[Connection] = set()
        self._listening: Any = None

    def open(self) -> None:
        factory = Factory.forProtocol(lambda: Connection(self))
        factory.noisy = False
        self._listening = reactor.listenTCP(self.port, factory, backlog=1024, interface="127.0.0.1")

    async def close(self) -> None:
        if self._listening is not None:
            await maybeDeferred(self._listening.stopListening)
            self._listening = None
        for connection in self.connections:
            connection.transport.abortConnection()
        await eventually(reactor, lambda: not self.connections)


class Client(Protocol):
    """Sends a request, and the next one when its answer has ended."""

    transport: Any

    def __init__(self, load: Load) -> None:
        self._load = load
        self._received = b""

    def connectionMade(self) -> None:
        self.transport.write(self._load.post)

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        if not self._received.endswith(self._load.until):
            return
        self._received = b""
        if self._load.leaving:
            self.transport.abortConnection()
        elif self._load.begin_one():
            self.transport.write(self._load.post)
        else:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._load.lost()


class Load:
    """So many exchanges, some of them at once, on connections that are kept alive as long as the proxy lets them.

    :param until: what comes last in an answer.
    :param leaving: the client leaves at that point, and another one comes.
    """

    def __init__(self, port: int, exchanges: int, until: bytes, *, at_once: int = 50, leaving: bool = False, post: bytes = POST) -> None:
        self.until = until
        self.post = post
        self.leaving = leaving
        self.over: Deferred[None] = Deferred()
        self._port = port
        self._left = exchanges
        self._open = 0
        self._factory = Factory.forProtocol(lambda: Client(self))
        self._factory.noisy = False
        for _ in range(at_once):
            self._connect()

    def begin_one(self) -> bool:
        """Whether there is another exchange to begin."""
        self._left -= 1
        return self._left >= 0

    def lost(self) -> None:
        self._open -= 1
        self._connect()
        if not self._open and not self.over.called:
            self.over.callback(None)

    def _connect(self) -> None:
        if not self.begin_one():
            return
        self._open += 1
        with socket.create_connection(("127.0.0.1", self._port)) as connected:
            connected.setblocking(False)
            # Not connectTCP: its connections are cyclic garbage when they are over.
            reactor.adoptStreamConnection(connected.fileno(), socket.AF_INET, self._factory)


class Bench:
    """A proxy, a backend that is not open yet, and the count."""

    def __init__(self, backend: Backend, preset: str = "none", more: str = "") -> None:
        self.backend = backend
        self.lines: list[str] = []
        self._service = ProxyService(
            loads(CONFIGURATION.format(port=backend.port, preset=preset) + more), reactor=reactor, access_log=self.lines.append
        )
        self._service.startService()
        address: Any = self._service.ports[0].getHost()
        self._port = address.port
        self._loads: list[Load] = []  # kept, for they know their factories, which know them

    def start(self, exchanges: int, until: bytes, *, at_once: int = 50, leaving: bool = False, post: bytes = POST) -> None:
        self._loads.append(Load(self._port, exchanges, until, at_once=at_once, leaving=leaving, post=post))

    async def over(self) -> None:
        await self._loads[-1].over
        await eventually(reactor, lambda: not self._service.open_streams)

    async def waiting(self, count: int) -> None:
        """So many requests are held."""
        await eventually(reactor, lambda: self._service.status()["upstreams"]["llama"]["waiting"] == count)

    @property
    def answers(self) -> Counter[str]:
        """What the cache said."""
        return Counter(re.findall(r" cache=(\w+)", "".join(self.lines)))

    async def stop(self) -> Counter[str]:
        """End everything; the outcomes of all exchanges."""
        await self._service.stopService()
        await self.backend.close()
        return Counter(re.findall(r" outcome=(\w+)", "".join(self.lines)))


@contextmanager
def unreachable() -> Iterator[Counter[str]]:
    """Counts, by type, the objects that this block leaves to the collector."""
    found: Counter[str] = Counter()
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found.update(type(each).__qualname__ for each in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def test_short_answers() -> None:
    bench = Bench(Backend(answer()))
    bench.backend.open()
    with unreachable() as found:
        bench.start(EXCHANGES, b"{}")
        await bench.over()
    assert await bench.stop() == {"ok": EXCHANGES}
    assert not found


async def test_streams() -> None:
    bench = Bench(Backend(STREAM_HEAD + EVENT + END))
    bench.backend.open()
    with unreachable() as found:
        bench.start(EXCHANGES, LAST_CHUNK)
        await bench.over()
    assert await bench.stop() == {"ok": EXCHANGES}
    assert not found


async def test_held_streams() -> None:
    bench = Bench(Backend(STREAM_HEAD + EVENT + END), preset="tcp")
    with unreachable() as found:
        for _ in range(EXCHANGES // HELD):
            bench.start(HELD, LAST_CHUNK, at_once=HELD)
            await bench.waiting(HELD)
            bench.backend.open()
            await bench.over()
            await bench.backend.close()
    assert await bench.stop() == {"ok": EXCHANGES}
    assert not found


async def test_streams_whose_backend_breaks_off() -> None:
    bench = Bench(Backend(STREAM_HEAD + EVENT, breaks_off=True))
    bench.backend.open()
    with unreachable() as found:
        bench.start(EXCHANGES, b"never", at_once=500)
        await bench.over()
    assert await bench.stop() == {"upstream_error": EXCHANGES}
    assert not found


async def test_requests_to_a_backend_that_is_not_there() -> None:
    bench = Bench(Backend(b""))
    with unreachable() as found:
        bench.start(EXCHANGES, b"}}")
        await bench.over()
    assert await bench.stop() == {"upstream_error": EXCHANGES}
    assert not found


async def test_clients_that_leave() -> None:
    bench = Bench(Backend(STREAM_HEAD + EVENT))
    bench.backend.open()
    with unreachable() as found:
        bench.start(EXCHANGES, EVENT, leaving=True)
        await bench.over()
    assert await bench.stop() == {"client_closed": EXCHANGES}
    assert not found


async def test_streams_that_are_recorded() -> None:
    bench = Bench(Backend(STREAM_HEAD + LAST + END), more=CACHE)
    bench.backend.open()
    with unreachable() as found:
        bench.start(EXCHANGES, LAST_CHUNK, post=ANEW)
        await bench.over()
    assert await bench.stop() == {"ok": EXCHANGES}
    assert bench.answers == {"bypass": EXCHANGES}
    assert not found


async def test_streams_that_are_told_again() -> None:
    bench = Bench(Backend(STREAM_HEAD + LAST + END), more=CACHE)
    bench.backend.open()
    with unreachable() as found:
        bench.start(EXCHANGES, LAST_CHUNK)
        await bench.over()
    assert await bench.stop() == {"ok": EXCHANGES}
    assert bench.answers["hit"] > EXCHANGES - 100
    assert bench.answers["miss"] == 1
    assert not found


async def test_clients_that_leave_a_stream_they_share() -> None:
    bench = Bench(Backend(STREAM_HEAD + EVENT), more=CACHE)
    bench.backend.open()
    with unreachable() as found:
        bench.start(EXCHANGES, EVENT, leaving=True)
        await bench.over()
    assert await bench.stop() == {"client_closed": EXCHANGES}
    assert bench.answers["coalesced"] > EXCHANGES / 2
    assert not found


async def test_tunnels() -> None:
    """Half of them end as they should, half are left by their clients."""
    bench = Bench(Backend(SWITCHED + b"hello"))
    bench.backend.open()
    with unreachable() as found:
        bench.start(HELD, b"hello", leaving=True, post=HANDSHAKE)
        await bench.over()
        bench.backend.breaks_off = True
        bench.start(HELD, b"never", post=HANDSHAKE)
        await bench.over()
    assert await bench.stop() == {"client_closed": HELD, "ok": HELD}
    assert not found
