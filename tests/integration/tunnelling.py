"""Both ends of a WebSocket through the proxy: peers that say what the test says, after a scripted handshake."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from twisted.internet.endpoints import connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from txsse.testing import eventually

ASK = b"GET /ws HTTP/1.1\r\nHost: example.org\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Case: %b\r\n\r\n"
AGREED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
TIMEOUT = 30.0


@implementer(IHalfCloseableProtocol)
class Peer(Protocol):
    """One end: counts what it reads after the head, and notes how the other side ended it.

    :ivar ended: "" while the other side may send, "fin" after its FIN, "reset" when the connection broke.
    """

    transport: Any

    def __init__(self, reactor: Any, on_head: Callable[[Peer], None]) -> None:
        self.head = b""
        self.count = 0
        self.last = b""  # of what it read
        self.digest = hashlib.sha256()
        self.ended = ""
        self.lost = False
        self._reactor = reactor
        self._on_head = on_head
        self._in_head = True

    def send(self, data: bytes) -> None:
        self.transport.write(data)

    def half_close(self) -> None:
        self.transport.loseWriteConnection()

    def close(self) -> None:
        self.transport.loseConnection()

    def reset(self) -> None:
        if not self.lost:
            self.transport.abortConnection()

    async def until(self, condition: Callable[[], object], what: str = "") -> None:
        await eventually(self._reactor, condition, TIMEOUT, what)

    async def reads(self, data: bytes) -> None:
        await self.until(lambda: self.last.endswith(data), f"{data!r}")

    async def has_read(self, count: int) -> None:
        await self.until(lambda: self.count == count, f"{count} bytes")

    async def is_lost(self) -> None:
        await self.until(lambda: self.lost, "the end of it")

    async def gone(self) -> str:
        """Wait until the other side has ended; how."""
        await self.until(lambda: self.ended, "the end")
        return self.ended

    # What Twisted calls

    def dataReceived(self, data: bytes) -> None:
        if self._in_head:
            self.head, end, data = (self.head + data).partition(b"\r\n\r\n")
            self.head += end
            if not end:
                return
            self._in_head = False
            self._on_head(self)
        self.count += len(data)
        self.last = (self.last + data)[-100:]
        self.digest.update(data)

    def readConnectionLost(self) -> None:
        self.ended = "fin"

    def writeConnectionLost(self) -> None:
        """Our own FIN has left."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = True
        self.ended = self.ended or ("fin" if reason.check(ConnectionDone) else "reset")


class Backend:
    """Agrees to every WebSocket."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._ports: list[Any] = []
        self.peers: list[Peer] = []
        self.clients: list[Peer] = []
        self.factory = Factory.forProtocol(self._build)
        self.factory.noisy = False

    def _build(self) -> Peer:
        return Peer(self._reactor, self._agree)

    def _agree(self, peer: Peer) -> None:
        self.peers.append(peer)
        peer.send(AGREED)

    def listens(self, port: Any) -> None:
        self._ports.append(port)

    async def stop(self) -> None:
        for port in self._ports:
            await port.stopListening()
        for peer in [*self.peers, *self.clients]:
            peer.reset()
            await peer.is_lost()


async def tunnel(reactor: Any, backend: Backend, endpoint: Any, case: str = "") -> tuple[Peer, Peer]:
    """A client that has its 101, and its peer."""
    known = len(backend.peers)
    client: Peer = await connectProtocol(endpoint, Peer(reactor, lambda peer: None))
    backend.clients.append(client)
    client.send(ASK % case.encode())
    await client.until(lambda: client.head, "a head")
    assert client.head.startswith(b"HTTP/1.1 101 "), client.head
    (far,) = backend.peers[known:]
    return client, far
