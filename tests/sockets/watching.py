"""A reactor that turns when a test says so, on real sockets, and a protocol that writes down what it hears."""

from __future__ import annotations

import select
import socket
import struct
from typing import Any

import pytest
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.tcp import Server
from twisted.python.failure import Failure
from zope.interface import implementer

from txsse.sockets.transports import TCPTransport

ENDED = select.POLLHUP | select.POLLERR


@implementer(IReactorFDSet)
class Watcher(Clock):
    """What Twisted's epoll and poll reactors do in their turns."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()

    def addReader(self, reader: Any) -> None:
        self.readers.add(reader)

    def addWriter(self, writer: Any) -> None:
        self.writers.add(writer)

    def removeReader(self, reader: Any) -> None:
        self.readers.discard(reader)

    def removeWriter(self, writer: Any) -> None:
        self.writers.discard(writer)

    def removeAll(self) -> list[Any]:
        found = list(self.readers | self.writers)
        self.readers.clear()
        self.writers.clear()
        return found

    def getReaders(self) -> list[Any]:
        return list(self.readers)

    def getWriters(self) -> list[Any]:
        return list(self.writers)

    def turn(self, patience: float = 0) -> bool:
        """Whether there was anything to do; it is waited for *patience* seconds."""
        due = any(call.getTime() <= self.seconds() for call in self.getDelayedCalls())
        self.advance(0)
        watched = {each.fileno(): each for each in self.readers | self.writers if each.fileno() >= 0}
        poller = select.poll()
        for number, each in watched.items():
            poller.register(number, select.POLLIN * (each in self.readers) | select.POLLOUT * (each in self.writers))
        found = poller.poll(patience * 1000)
        for number, event in found:
            self._handle(watched[number], event)
        return due or bool(found)

    def _handle(self, selectable: Any, event: int) -> None:
        why: Exception | None = None
        try:
            if event & ENDED and not event & select.POLLIN:
                why = CONNECTION_DONE if selectable in self.readers else CONNECTION_LOST
            if event & select.POLLIN:
                why = selectable.doRead()
            if not why and event & select.POLLOUT:
                why = selectable.doWrite()
        except Exception as error:
            why = error
        if why:
            self.removeReader(selectable)
            self.removeWriter(selectable)
            selectable.connectionLost(Failure(why))

    def settle(self) -> None:
        """Turn until there is nothing to do."""
        while self.turn():
            pass


class Recorder(Protocol):
    """Writes down what it hears; fails in ``dataReceived`` with *error*, if it has one."""

    transport: Any

    def __init__(self, error: Exception | None = None) -> None:
        self.data = b""
        self.reads: list[int] = []
        self.lost: list[type[BaseException]] = []
        self._error = error

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        self.reads.append(len(data))
        if self._error is not None:
            raise self._error

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        assert reason.type is not None
        self.lost.append(reason.type)


class Link:
    """A protocol on a transport of *kind* (``ours`` or ``twisted``), and its peer: a bare socket that does not block."""

    def __init__(self, kind: str = "ours", *, tcp: bool = False, protocol: Recorder | None = None) -> None:
        self.reactor = Watcher()
        self.protocol = Recorder() if protocol is None else protocol
        self.socket, self.peer = tcp_pair() if tcp else socket.socketpair()
        self.peer.setblocking(False)
        self.transport: Any
        if kind == "ours":
            self.socket.setblocking(False)
            self.transport = TCPTransport(self.reactor, self.socket, self.protocol, ("127.0.0.1", 1))
            self.transport.resumeProducing()
        else:
            # Types: a port is optional, and zope's interface is all it needs of a reactor.
            self.transport = Server(self.socket, self.protocol, ("127.0.0.1", 1), None, 0, self.reactor)  # type: ignore[arg-type]
        self.protocol.makeConnection(self.transport)

    def settle(self) -> None:
        self.reactor.settle()

    def read(self) -> bytes:
        """All that has reached the peer; the transport's side turns meanwhile."""
        got = bytearray()
        while True:
            self.settle()
            try:
                data = self.peer.recv(1 << 20)
            except (BlockingIOError, ConnectionResetError):  # the latter for a UNIX socket that was closed with something unread
                return bytes(got)
            if not data:
                return bytes(got)
            got += data

    def sees_end(self) -> bool:
        """Whether the peer reads a FIN, after all else."""
        try:
            return self.peer.recv(1) == b""
        except BlockingIOError:
            return False

    def fill(self, size: int) -> bytes:
        """Write *size* bytes to a peer that does not read; returns them."""
        data = (bytes(range(256)) * (size // 256 + 1))[:size]
        self.transport.write(data)
        return data

    def close(self) -> None:
        self.peer.close()
        self.socket.close()


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no ::1")


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        peer = socket.create_connection(listening.getsockname())
        return listening.accept()[0], peer


def reset(peer: socket.socket) -> None:
    """Close with a reset."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
