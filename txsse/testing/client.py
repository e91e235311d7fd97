"""A raw-socket client that notes each read with its time, and can misbehave: stop reading, half-close, reset."""

from __future__ import annotations

import hashlib
import socket
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import attrs
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from txsse.testing import http
from txsse.testing.events import Event, comments, events
from txsse.testing.http import MessageReader, Response
from txsse.testing.waiting import TIMEOUT, Reactor, Watch
from txsse.wire.headers import Headers


@attrs.frozen
class Read:
    """What one read of the socket brought."""

    at: float  # reactor seconds
    data: bytes  # as it came
    body: bytes  # the body bytes in it, framing taken off


@implementer(IHalfCloseableProtocol)
class RecordingClient(Protocol):
    """One connection to a server. Make it with :meth:`connect`.

    A body read is ``client.response.body``; its arrival in pieces ``client.body_reads``.
    """

    transport: Any  # TCP or UNIX: what they share is in no one interface

    def __init__(self, reactor: Reactor, keep: bool = True) -> None:
        self.reads: list[Read] = []
        self.connected_at = reactor.seconds()
        self.closed_at: float | None = None  # when the server's end was seen
        self.closed_by = ""  # "fin" or "reset": how the server ended it
        self.digest = hashlib.sha256()  # of all body bytes
        self._reactor = reactor
        self._keep = keep
        self._methods: deque[str] = deque()
        self._reader = MessageReader(self._response, until_close=True, keep=keep)
        self._watch = Watch(reactor)

    @classmethod
    async def connect(
        cls, reactor: Reactor, port: int = 0, *, host: str = "127.0.0.1", path: str = "", keep: bool = True, receive_buffer: int = 0
    ) -> RecordingClient:
        """Connect to a TCP port, or to the UNIX socket *path*.

        :param keep: ``False`` keeps no bytes, only sizes and the digest (for bodies of hundreds of MiB).
        :param receive_buffer: the kernel's receive buffer in bytes, so that a pause is felt early. Below 64 KiB
            the loopback interface becomes very slow.
        """
        endpoint: Any = UNIXClientEndpoint(reactor, path) if path else TCP4ClientEndpoint(reactor, host, port)
        client: RecordingClient = await connectProtocol(endpoint, cls(reactor, keep))
        if receive_buffer:
            client.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        return client

    # Sending

    def send(self, data: bytes) -> None:
        """Send raw bytes."""
        self.transport.write(data)

    def request(self, method: str, target: str, body: bytes = b"", headers: Iterable[str] = ()) -> float:
        """Send a well-formed request (see :func:`txsse.testing.http.request`); returns the time in reactor seconds."""
        self._methods.append(method)
        self.send(http.request(method, target, body, headers))
        now: float = self._reactor.seconds()
        return now

    def post(self, target: str, body: bytes, headers: Iterable[str] = ("Content-Type: application/json",)) -> float:
        return self.request("POST", target, body, headers)

    # What came

    @property
    def received(self) -> bytes:
        """Every byte, as it came."""
        return b"".join(read.data for read in self.reads)

    @property
    def responses(self) -> list[Response]:
        """Every response whose head has come, 1xx among them."""
        return self._reader.messages

    @property
    def response(self) -> Response:
        """The newest response; ``AssertionError`` if no head has come yet."""
        assert self.responses, f"no response head: {self!r}"
        return self.responses[-1]

    @property
    def body(self) -> bytes:
        """The newest response's body so far."""
        return bytes(self.response.body)

    @property
    def events(self) -> list[Event]:
        """The events in :attr:`body`."""
        return events(self.body)

    @property
    def comments(self) -> list[str]:
        """The comment lines in :attr:`body`."""
        return comments(self.body)

    @property
    def body_reads(self) -> list[tuple[float, bytes]]:
        """Time and body bytes of each read that brought any."""
        return [(read.at, read.body) for read in self.reads if read.body]

    @property
    def closed(self) -> bool:
        return self.closed_at is not None

    @property
    def broken(self) -> str:
        """Why the server's bytes could not be read as HTTP, or ``""``."""
        return self._reader.broken

    # Waiting: each ends with AssertionError after *timeout* seconds, saying what had come

    async def until(self, condition: Callable[[], object], timeout: float = TIMEOUT) -> None:
        """Wait until *condition* is true, looked at after each read and at the end."""
        await self._watch.until(condition, timeout, lambda: f"not true with {self!r}")

    async def head(self, number: int = 1, timeout: float = TIMEOUT) -> Response:
        """Wait for the head of the *number*-th response on this connection."""
        await self.until(lambda: len(self.responses) >= number or self.closed, timeout)
        assert len(self.responses) >= number, f"closed without a head: {self!r}"
        return self.responses[number - 1]

    async def complete(self, number: int = 1, timeout: float = TIMEOUT) -> Response:
        """Wait for the clean end of the *number*-th response; ``AssertionError`` if the connection ends first."""
        await self.until(lambda: self._is_complete(number) or self.closed, timeout)
        assert self._is_complete(number), f"closed without a clean end: {self!r}"
        return self.responses[number - 1]

    async def contains(self, data: bytes, timeout: float = TIMEOUT) -> float:
        """Wait until the newest response's body contains *data*; returns the time in reactor seconds."""
        await self.until(lambda: self.responses and data in self.response.body, timeout)
        now: float = self._reactor.seconds()
        return now

    async def gone(self, timeout: float = TIMEOUT) -> str:
        """Wait until the server has ended the connection; returns how: "fin" or "reset"."""
        await self.until(lambda: self.closed, timeout)
        return self.closed_by

    # Misbehaving

    def pause(self) -> None:
        """Read no more: the kernel's buffers fill up, the server's end is not seen meanwhile."""
        self.transport.pauseProducing()

    def resume(self) -> None:
        self.transport.resumeProducing()

    def half_close(self) -> None:
        """Send FIN but read on."""
        self.transport.loseWriteConnection()

    def close(self) -> None:
        """Leave: close the socket after what was sent (FIN, or RST if unread bytes lie in the kernel)."""
        self.transport.loseConnection()

    def reset(self) -> None:
        """Leave with RST."""
        self.transport.abortConnection()

    # What Twisted calls

    def dataReceived(self, data: bytes) -> None:
        body = self._reader.feed(data)
        self.digest.update(body)
        if self._keep:
            self.reads.append(Read(self._reactor.seconds(), data, body))
        self._watch.look()

    def readConnectionLost(self) -> None:
        # The server's FIN. We are done too: a connection is not used after that.
        self._ended("fin")
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        # Our own FIN has gone out; nothing to do.
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._ended("fin" if reason.check(ConnectionDone) else "reset")

    def _ended(self, how: str) -> None:
        if self.closed:
            return
        self.closed_at = self._reactor.seconds()
        self.closed_by = how
        self._reader.close(clean=how == "fin")
        self._watch.look()

    def _response(self, start: bytes, headers: Headers) -> Response:
        response = Response(start, headers)
        if response.status >= 200 and self._methods:
            response.to_head = self._methods.popleft() == "HEAD"
        return response

    def _is_complete(self, number: int) -> bool:
        return len(self.responses) >= number and self.responses[number - 1].complete

    def __repr__(self) -> str:
        return f"<RecordingClient received={self.received[-2000:]!r} closed_by={self.closed_by!r} {self.broken}>"
