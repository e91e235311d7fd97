"""One connection to a backend: a request out, its response in, then perhaps the next one.

The inner loop is ``dataReceived -> ResponseParser.feed -> Receiver.body_received``; everything else happens a few times per request.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from txsse.interfaces import Failed, Fault, Receiver
from txsse.upstream.response import ResponseParser
from txsse.upstream.tls import tls_reason

SLICE: Final = 64 * 1024
"""Bytes of a request body written at once; what is longer waits for the socket slice by slice."""


class Owner(Protocol):
    """Who keeps a connection: the pool. Called with no exchange under way any more."""

    def connection_free(self, connection: UpstreamConnection, reusable: bool) -> None:
        """The response has ended. A *reusable* connection can carry another request, and reads on; else it is to be closed."""

    def connection_lost(self, connection: UpstreamConnection) -> None:
        """The socket is closed."""


class UpstreamConnection(TwistedProtocol):
    """An HTTP/1.1 client connection, one request at a time.

    :ivar served: requests it was given so far.
    :ivar idle_since: for the owner, who alone reads and writes it.
    """

    transport: Any  # TCP, TLS or UNIX: what they share is in no one interface

    def __init__(self, owner: Owner) -> None:
        self.served = 0
        self.idle_since = 0.0
        self._owner = owner
        self._parser: ResponseParser | None = None  # of the exchange under way
        self._receiver: Receiver | None = None
        self._started = False  # the receiver knows the head
        self._paused = False
        self._lost = False
        self._upload: _Upload | None = None

    @property
    def busy(self) -> bool:
        """An exchange is under way."""
        return self._parser is not None

    def send(self, head: bytes, body: bytes, method: bytes, receiver: Receiver) -> None:
        """Send a request; *receiver* hears of its response.

        :param head: the request's head up to and including its blank line, with the framing fields for *body*.
        """
        assert self._parser is None, "one request at a time"
        self.served += 1
        self._parser = ResponseParser(method)
        self._receiver = receiver
        self._started = False
        if len(body) <= SLICE:
            self.transport.writeSequence((head, body))
        else:
            self.transport.write(head)
            self._upload = _Upload(self.transport, body)
            self._upload.resumeProducing()

    def abort(self) -> None:
        """Reset the connection at once, in whatever phase; the receiver hears no more."""
        self._forget()
        self.drop()

    def drop(self) -> None:
        """Reset the connection at once; the receiver hears of it."""
        # Not loseConnection: it waits for what is queued, and over TLS for a close_notify which a paused transport never reads.
        if not self._lost:
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
        self.transport.loseConnection()
        below = getattr(self.transport, "transport", None)
        if below is not None:
            # Over TLS the close_notify leaves, and we do not wait for the peer's.
            below.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        parser = self._parser
        if parser is None:
            # Nobody asked: a 408, a stray line end, the rest of an answer. It could be taken for the next one's (RFC 9112 section 9.2).
            self.drop()
            return
        receiver = self._receiver
        assert receiver is not None
        body = parser.feed(data)
        if not self._started and parser.head is not None:
            self._started = True
            receiver.response_started(parser.head)
        if body and self._parser is parser:  # it may have aborted
            receiver.body_received(body)
        if parser.done and self._parser is parser:
            if parser.error:
                self._fail(Fault.INVALID, parser.error)
            else:
                self._end(parser, receiver)

    def _end(self, parser: ResponseParser, receiver: Receiver) -> None:
        if self._upload is None or self._upload.finished:
            self._forget()
            # A response may end in the very read that made the client pause us; the owner must see the end of the connection.
            self.resume()
            self._owner.connection_free(self, parser.reusable)
        else:
            self.abort()
        receiver.response_ended()

    def _fail(self, fault: Fault, detail: str) -> None:
        receiver = self._receiver
        self.abort()
        if receiver is not None:
            receiver.dispatch_failed(Failed(fault, detail))

    def _forget(self) -> None:
        self._parser = self._receiver = self._upload = None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        parser, receiver = self._parser, self._receiver
        self._lost = True
        self._forget()
        self._owner.connection_lost(self)
        if parser is None or receiver is None:
            return
        clean = reason.check(ConnectionDone) is not None
        how = "connection closed" if clean else "connection reset"
        if parser.head is not None:
            if parser.until_close and clean:
                receiver.response_ended()
            else:
                receiver.dispatch_failed(Failed(Fault.TRUNCATED, how + " inside the response"))
        elif parser.touched:
            receiver.dispatch_failed(Failed(Fault.INVALID, how + " inside the response head"))
        elif self.served > 1:
            receiver.dispatch_failed(Failed(Fault.STALE, "kept-alive " + how))
        elif isinstance(reason.value, SSL.Error):
            # In TLS 1.3 a server refuses us, or misses our certificate, only after our side of the handshake is complete.
            receiver.dispatch_failed(Failed(Fault.INVALID, "TLS: " + tls_reason(reason.value)))
        else:
            receiver.dispatch_failed(Failed(Fault.RESET, how + " before a response"))


@implementer(IPushProducer)
class _Upload:
    """Writes a long request body as fast as the socket takes it, and no faster. Paused and stopped by the transport alone."""

    def __init__(self, transport: Any, body: bytes) -> None:
        self.finished = False
        self._transport = transport
        self._body = body
        self._at = 0
        self._paused = False
        transport.registerProducer(self, True)

    def resumeProducing(self) -> None:
        self._paused = False
        while not self._paused and not self.finished:
            # A copy: transports take bytes only.
            self._transport.write(self._body[self._at : self._at + SLICE])
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
