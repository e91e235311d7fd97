"""A scripted proxy behind a front, bounds for it, and transports that take bytes as slowly as a test wants."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs
from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.web.resource import IResource
from twisted.web.server import Site

from txsse.clock import Alarms
from txsse.errors import ProxyError
from txsse.front.channel import ProxyChannel
from txsse.front.handover import Pages
from txsse.front.limits import Budget, Limits
from txsse.front.resource import ProxyResource
from txsse.front.site import ProxySite
from txsse.interfaces import Downstream, Handler, Request
from txsse.wire.headers import Headers
from txsse.wire.http1 import RequestHead

NOON = 1_000_000_000.0  # Sun, 09 Sep 2001 01:46:40 GMT
DATE = b"Sun, 09 Sep 2001 01:46:40 GMT"
PLAIN: Headers = [(b"Content-Type", b"text/plain")]


@attrs.frozen
class Bounds:
    max_connections: int = 10
    max_head: int = 1024
    header_timeout: float = 10.0
    body_timeout: float = 60.0
    idle_timeout: float = 75.0
    max_body: int = 1000
    max_buffered: int = 5000


class ScriptedExchange:
    """Writes down what a front tells it."""

    def __init__(self, request: Request, downstream: Downstream) -> None:
        self.request = request
        self.downstream = downstream
        self.heard: list[str] = []

    def client_paused(self) -> None:
        self.heard.append("paused")

    def client_resumed(self) -> None:
        self.heard.append("resumed")

    def client_gone(self) -> None:
        self.heard.append("gone")

    def client_stalled(self) -> None:
        self.heard.append("stalled")
        self.downstream.abort()


def answer(downstream: Downstream, body: bytes = b"hello") -> None:
    downstream.start(200, b"OK", [*PLAIN, (b"Content-Length", b"%d" % len(body))])
    downstream.write(body)
    downstream.finish()


class ScriptedHandler:
    """Takes down every call; answers requests by *script*, or leaves them open."""

    def __init__(self, script: Callable[[Downstream], None] | None = None) -> None:
        self.script = script
        self.exchanges: list[ScriptedExchange] = []
        self.screened: list[tuple[bytes, bytes, str]] = []
        self.refused: list[ProxyError] = []
        self.calls: list[tuple[object, ...]] = []
        self.objection: ProxyError | None = None

    def screen(self, head: RequestHead, host: bytes, path: bytes, peer: str) -> ProxyError | None:
        self.screened.append((host, path, peer))
        self.calls.append(("screen", head, host, path))
        return self.objection

    def open(self, request: Request, downstream: Downstream) -> ScriptedExchange:
        exchange = ScriptedExchange(request, downstream)
        self.exchanges.append(exchange)
        self.calls.append(("open", request.head, request.body, request.host, request.path))
        if self.script is not None:
            self.script(downstream)
        return exchange

    def refuse(self, error: ProxyError, head: RequestHead | None, path: bytes, peer: str, downstream: Downstream) -> None:
        self.refused.append(error)
        self.calls.append(("refuse", error.code, error.http_status, error.close, head, path))
        body = error.code.encode()
        headers: Headers = [*PLAIN, (b"Content-Length", b"%d" % len(body))]
        if error.retry_after is not None:
            headers.append((b"Retry-After", b"%d" % error.retry_after))
        if error.allow:
            headers.append((b"Allow", error.allow))
        downstream.start(error.http_status, b"Refused", headers)
        downstream.write(body)
        downstream.finish()

    @property
    def last(self) -> ScriptedExchange:
        return self.exchanges[-1]


class SocketlikeTransport(StringTransport):
    """A :class:`StringTransport` that loses its connection when it is told to, as a socket with an empty buffer does."""

    aborted = False
    gone = False
    half_closed = False
    protocol: ProxyChannel

    def loseConnection(self) -> None:
        super().loseConnection()
        self._lost(Failure(ConnectionDone()))

    def abortConnection(self) -> None:
        self.aborted = True
        self._lost(Failure(ConnectionAborted()))

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def client_leaves(self) -> None:
        self._lost(Failure(ConnectionDone()))

    def _lost(self, reason: Failure) -> None:
        if not self.gone:
            self.gone = True
            self.protocol.connectionLost(reason)


class SlowTransport(FileDescriptor):
    """A real Twisted descriptor whose socket accepts only as many bytes as :meth:`accept` says."""

    def __init__(self, protocol: ProxyChannel) -> None:
        super().__init__(MemoryReactorClock())
        self.connected = 1
        self.sent = b""
        self.aborted = False
        self._room = 0
        self._protocol = protocol

    def writeSomeData(self, data: bytes) -> int:
        part = bytes(data)[: self._room]
        self._room -= len(part)
        self.sent += part
        return len(part)

    def accept(self, room: int) -> None:
        """Let the socket take *room* bytes more."""
        self._room = room
        while self._room and self.doWrite() is None and self.queued:
            pass

    @property
    def queued(self) -> int:
        return len(self.dataBuffer) - self.offset + self._tempDataLen

    def abortConnection(self) -> None:
        self.aborted = True
        self.connectionLost(Failure(ConnectionAborted()))

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        self._protocol.connectionLost(reason)

    def getPeer(self) -> object:
        return None


class Backing:
    """What a front stands on, made of parts."""

    def __init__(self, handler: Handler, limits: Limits, clock: IReactorTime, alarms: Alarms) -> None:
        self.handler = handler
        self.limits = limits
        self.clock = clock
        self.alarms = alarms
        self.budget = Budget(limits.max_buffered)


class Bench:
    """A site of ours with everything it needs, and clients of it."""

    def __init__(
        self, handler: ScriptedHandler | None = None, bounds: Bounds | None = None, make_pages: Callable[[Clock], Pages] | None = None
    ) -> None:
        self.handler = ScriptedHandler() if handler is None else handler
        self.clock = Clock()
        self.alarms = Alarms(self.clock)
        self.backing = Backing(self.handler, bounds or Bounds(), self.clock, self.alarms)
        pages = None if make_pages is None else make_pages(self.clock)
        self.site = ProxySite(self.backing, pages=pages, wall=lambda: NOON + self.clock.seconds())

    def connect(self, transport: SocketlikeTransport | None = None) -> SocketlikeTransport:
        transport = SocketlikeTransport() if transport is None else transport
        transport.protocol = self.site.buildProtocol(None)
        transport.protocol.makeConnection(transport)
        return transport

    def connect_slowly(self) -> tuple[ProxyChannel, SlowTransport]:
        channel = self.site.buildProtocol(None)
        transport = SlowTransport(channel)
        channel.makeConnection(transport)
        return channel, transport

    def send(self, data: bytes, transport: SocketlikeTransport | None = None) -> SocketlikeTransport:
        transport = self.connect() if transport is None else transport
        transport.protocol.dataReceived(data)
        return transport

    def pass_time(self, seconds: float, step: float = 0.005) -> None:
        """In small steps, for one big step rings everything that is due in it at its end."""
        self.clock.pump([step] * round(seconds / step))


class WebBench:
    """A stranger's ``Site`` with a resource of ours, behind the same face as :class:`Bench`."""

    def __init__(self, handler: ScriptedHandler | None = None, bounds: Bounds | None = None) -> None:
        self.handler = ScriptedHandler() if handler is None else handler
        self.clock = MemoryReactorClock()
        self.alarms = Alarms(self.clock)
        self.resource = ProxyResource(Backing(self.handler, bounds or Bounds(), self.clock, self.alarms))
        self.site = self.make_site(self.resource)

    def make_site(self, resource: IResource) -> Site:
        return Site(resource, reactor=self.clock, logFormatter=lambda timestamp, request: "")

    def connect(self, transport: SocketlikeTransport | None = None) -> SocketlikeTransport:
        transport = SocketlikeTransport(lenient=True) if transport is None else transport
        transport.protocol = self.site.buildProtocol(None)
        transport.protocol.makeConnection(transport)
        return transport

    def send(self, data: bytes, transport: SocketlikeTransport | None = None) -> SocketlikeTransport:
        transport = self.connect() if transport is None else transport
        transport.protocol.dataReceived(data)
        return transport

    def pass_time(self, seconds: float, step: float = 0.005) -> None:
        self.clock.pump([step] * round(seconds / step))


def bytewise(data: bytes) -> Iterator[bytes]:
    return (data[at : at + 1] for at in range(len(data)))
