"""One connection to a backend: a request out, its response in, then perhaps the next one.

The inner loop is ``dataReceived -> Body.feed -> Receiver.body_received``; everything else happens a few times per request.
"""

from __future__ import annotations

from typing import Any, Final, Protocol, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from txsse.interfaces import Failed, Fault, Receiver, Tunnel
from txsse.sockets import adopt, half_close
from txsse.upstream.response import TUNNEL, Body, HeadReader, OpenBody
from txsse.upstream.tls_errors import tls_reason

SLICE: Final = 64 * 1024
"""Bytes of a request body written at once; what is longer waits for the socket slice by slice."""


class Owner(Protocol):
    """Who keeps a connection: the pool. Called with no exchange under way any more."""

    def connection_free(self, connection: UpstreamConnection, reusable: bool) -> None:
        """The response has ended. A *reusable* connection can carry another request, and reads on; else it is to be closed."""

    def connection_lost(self, connection: UpstreamConnection) -> None:
        """The socket is closed."""


@implementer(IProtocol)
class UpstreamConnection:
    """An HTTP/1.1 client connection, one request at a time.

    :ivar served: requests it was given so far.
    :ivar idle_since: for the owner, who alone reads and writes it.
    """

    # Not Twisted's Protocol, whose instances have a __dict__.
    __slots__ = (
        "_body",
        "_keep_alive",
        "_owner",
        "_paused",
        "_reader",
        "_receiver",
        "_upload",
        "idle_since",
        "served",
        "transport",
    )

    transport: Any  # TCP, TLS or UNIX: what they share is in no one interface

    def __init__(self, owner: Owner) -> None:
        self.transport = None  # nor is there one after the connection was lost
        self.served = 0
        self.idle_since = 0.0
        self._owner = owner
        # Of the exchange under way: who hears of it, and who reads, the head first and then the body.
        self._receiver: Receiver | None = None
        self._reader: HeadReader | None = None
        self._body: Body | None = None
        self._keep_alive = False
        self._upload: _Upload | None = None
        self._paused = False

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        self.transport = adopt(self.transport, self)

    @property
    def busy(self) -> bool:
        """An exchange is under way."""
        return self._receiver is not None

    def send(self, head: bytes, body: bytes, method: bytes, receiver: Receiver, upgrades: bool = False) -> None:
        """Send a request; *receiver* hears of its response.

        :param head: the request's head up to and including its blank line, with the framing fields for *body*.
        :param upgrades: it asks for a WebSocket, and *receiver* is a :class:`~txsse.interfaces.Tunnel`.
        """
        assert self._receiver is None, "one request at a time"
        self.served += 1
        self._receiver = receiver
        self._reader = HeadReader(method, upgrades)
        if len(body) <= SLICE:
            self.transport.write(head + body)  # in one piece: each write may be a system call
        else:
            self._upload = _Upload(self.transport, head, body)

    def abort(self) -> None:
        """Reset the connection at once, in whatever phase; the receiver hears no more."""
        self._forget()
        self.drop()

    def drop(self) -> None:
        """Reset the connection at once; the receiver hears of it."""
        # Not loseConnection: it waits for what is queued, and over TLS for a close_notify which a paused transport never reads.
        if self.transport is not None:
            self.transport.abortConnection()

    def pause(self) -> None:
        """Read no more; what was already read still comes. Idempotent."""
        if not self._paused:
            self._paused = True
            self.transport.pauseProducing()

    def resume(self) -> None:
        """Read on. Idempotent."""
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()

    def close(self) -> None:
        """Close in the polite way, by a FIN after what is queued. The peer may never take that: drop it some time later."""
        transport = self.transport
        below = getattr(transport, "transport", None)
        transport.loseConnection()
        if below is not None:
            # Over TLS the close_notify leaves, and we do not wait for the peer's.
            below.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        body, receiver = self._body, self._receiver
        if body is None or receiver is None:
            self._head_received(data)
            return
        found = body.feed(data)
        if not body.done:
            if found:
                receiver.body_received(found)
            return
        receiver.cork()
        try:
            self._tell(receiver, body, found)
        finally:
            receiver.uncork()

    def _head_received(self, data: bytes) -> None:
        reader, receiver = self._reader, self._receiver
        if reader is None or receiver is None:
            # Nobody asked: a 408, a stray line end, the rest of an answer. It could be taken for the next one's (RFC 9112 section 9.2).
            self.drop()
            return
        rest = reader.feed(data)
        if reader.found is None and not reader.error:
            return
        receiver.cork()
        try:
            if reader.found is None:
                self._fail(receiver, reader.error)
                return
            self._reader = None
            self._keep_alive = reader.found.keep_alive
            body = self._body = reader.body()
            if body is TUNNEL:
                cast(Tunnel, receiver).switched(reader.found.head, self)
            else:
                receiver.response_started(reader.found.head)
            if self._body is body:
                self._tell(receiver, body, body.feed(rest) if rest else b"")
        finally:
            receiver.uncork()

    def _tell(self, receiver: Receiver, body: Body, found: bytes) -> None:
        """Body bytes, and the end if it has come with them."""
        if found:
            receiver.body_received(found)
        if not body.done or self._body is not body:  # it may have aborted
            return
        if body.error:
            self._fail(receiver, body.error)
        else:
            self._end(receiver, reusable=self._keep_alive and not body.surplus)

    def _end(self, receiver: Receiver, *, reusable: bool) -> None:
        if self._upload is None or self._upload.finished:
            self._forget()
            # A response may end in the very read that made the client pause us; the owner must see the end of the connection.
            self.resume()
            self._owner.connection_free(self, reusable)
        else:
            self.abort()
        receiver.response_ended()

    def _fail(self, receiver: Receiver, detail: str) -> None:
        self.abort()
        receiver.dispatch_failed(Failed(Fault.INVALID, detail))

    # One end of a tunnel (FarEnd)

    def open(self, producer: Any) -> None:
        self.transport.registerProducer(producer, True)

    def write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    def half_close(self) -> bool:
        return self.transport is not None and half_close(self.transport)

    def half_closed(self) -> bool:
        """Called by the transport: the peer has sent a FIN. Whether that is not the end."""
        if self._body is not TUNNEL:
            return False
        cast(Tunnel, self._receiver).upstream_ended()
        return True

    def finish(self) -> None:
        if self.transport is not None:
            self._forget()
            self.transport.unregisterProducer()
            self._owner.connection_free(self, False)

    def _forget(self) -> None:
        self._receiver = self._reader = self._body = self._upload = None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        receiver, reader, body = self._receiver, self._reader, self._body
        self.transport = None
        self._forget()
        self._owner.connection_lost(self)
        if receiver is None:
            return
        clean = reason.check(ConnectionDone) is not None
        how = "connection closed" if clean else "connection reset"
        if body is not None:
            if clean and isinstance(body, OpenBody):
                receiver.response_ended()
            else:
                receiver.dispatch_failed(Failed(Fault.TRUNCATED, how + " inside the response"))
        elif reader is not None and reader.touched:
            receiver.dispatch_failed(Failed(Fault.INVALID, how + " inside the response head"))
        elif self.served > 1:
            receiver.dispatch_failed(Failed(Fault.STALE, "kept-alive " + how))
        elif (why := tls_reason(reason.value)) is not None:
            # In TLS 1.3 a server refuses us, or misses our certificate, only after our side of the handshake is complete.
            receiver.dispatch_failed(Failed(Fault.INVALID, "TLS: " + why))
        else:
            receiver.dispatch_failed(Failed(Fault.RESET, how + " before a response"))


@implementer(IPushProducer)
class _Upload:
    """Writes a long request body as fast as the socket takes it, and no faster. Paused and stopped by the transport alone."""

    __slots__ = ("_at", "_body", "_head", "_paused", "_transport", "finished")

    def __init__(self, transport: Any, head: bytes, body: bytes) -> None:
        self.finished = False
        self._transport = transport
        self._head = head  # until the first slice, with which it leaves
        self._body = body
        self._at = 0
        self._paused = False
        transport.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        while not self._paused and not self.finished:
            # A copy: transports take bytes only.
            piece, self._head = self._head + self._body[self._at : self._at + SLICE], b""
            self._transport.write(piece)
            self._at += SLICE
            if self._at >= len(self._body):
                self._finish()
                self._transport.unregisterProducer()

    def pauseProducing(self) -> None:
        self._paused = True

    def stopProducing(self) -> None:
        """The connection was lost."""
        self._finish()

    def _finish(self) -> None:
        self.finished = True
        self._body = b""
