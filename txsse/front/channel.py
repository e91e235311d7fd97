"""One client connection of our own HTTP/1.1 front, from its first byte to its last (RFC 9112).

The life of a connection::

    HEAD -> BODY -> RESPONSE -> IDLE -> HEAD ..     a request after the other
    RESPONSE -> LINGER -> CLOSING                   refused before it was read to its end
    any -> CLOSING -> CLOSED                        closing takes as long as what was written needs to leave

Pipelined requests are answered in order: what comes beyond the current request waits in the input. Past :data:`AHEAD` bytes of it reading
pauses until the answer is complete, and :mod:`txsse.front.hangup` looks whether the client has left meanwhile.
"""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.interfaces import IDelayedCall, IPushProducer, ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from txsse._compat import pending_bytes
from txsse.clock import Alarm
from txsse.errors import ProxyError
from txsse.front.body import RequestBody
from txsse.front.hangup import HangupWatch
from txsse.front.limits import head_too_large, malformed, refusal, too_many_connections, too_slow
from txsse.front.response import DEFAULT_STALL_TIMEOUT, RESET_LOOK, Response
from txsse.front.stall import StallWatch
from txsse.interfaces import Exchange, Request
from txsse.sockets import tune
from txsse.wire.http1 import CHUNKED, BadHead, expects_continue, framing, parse_request_head, split_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from txsse.front.site import ProxySite

AHEAD: Final = 64 * 1024
"""Bytes of further requests that are read while one is being answered."""

LINGER: Final = 5.0
"""Seconds for which the rest of a refused request is read and dropped, so that its sender sees the answer and not a reset."""

# A head that ends in bare LFs ends here too: to be refused at once, not to be waited for until its time is up.
_HEAD_END = re.compile(rb"\n\r?\n")
_BLANK_LINES = re.compile(rb"(?:\r\n)*")


class Phase(enum.Enum):
    IDLE = enum.auto()  # between requests
    HEAD = enum.auto()
    BODY = enum.auto()
    RESPONSE = enum.auto()
    LINGER = enum.auto()  # the answer is out; the rest of the request is read and dropped
    CLOSING = enum.auto()  # until what was written has left
    CLOSED = enum.auto()


@implementer(IPushProducer)
class ProxyChannel(Protocol):
    """Reads requests, hands them to the site's handler, and carries the answers."""

    __slots__ = (
        "_advancing",
        "_alarm",
        "_began",
        "_body",
        "_exchange",
        "_hangup",
        "_input",
        "_paused",
        "_peer",
        "_phase",
        "_request",
        "_response",
        "_scanned",
        "_secure",
        "_site",
        "_stall",
        "_stall_timeout",
        "_turn",
        "_unread",
        "connected",
        "transport",
    )

    _log = Logger()

    transport: Any  # TCP, UNIX or TLS: no interface of Twisted has all the methods these share

    def __init__(self, site: ProxySite) -> None:
        self._site = site
        self._phase = Phase.HEAD
        self._peer: str | None = None
        self._secure = False
        # What is being read:
        self._input = b""
        self._scanned = 0  # bytes of the input in which no head ends
        self._began = 0.0
        self._request: Request | None = None
        self._body: RequestBody | None = None  # until the exchange needs it no more
        self._advancing = False
        self._hangup: HangupWatch | None = None  # while reading is paused
        self._turn: IDelayedCall | None = None
        # What is being answered:
        self._response: Response | None = None
        self._exchange: Exchange | None = None
        self._unread = False  # the request was refused before its end
        self._paused = False  # the transport takes no more for now
        # Deadlines; of IDLE, HEAD, BODY and LINGER one at a time:
        self._alarm: Alarm | None = None
        self._stall = StallWatch(site.alarms, self)
        self._stall_timeout = DEFAULT_STALL_TIMEOUT  # of the last answer

    @property
    def idle(self) -> bool:
        """Nothing of a request has come yet."""
        return self._phase in (Phase.IDLE, Phase.HEAD) and not self._input

    # The connection

    def connectionMade(self) -> None:
        self._secure = ISSLTransport.providedBy(self.transport)
        tune(self.transport)
        self.transport.registerProducer(self, True)
        if self._site.enter(self):
            self._time(self._site.limits.header_timeout, self._head_overdue)
        else:
            self._refuse(too_many_connections(), linger=self._site.may_linger())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        exchange = self._exchange
        self._detach()
        self._phase = Phase.CLOSED
        self._input = b""
        self._request = None
        self._stop_timer()
        self._stall.stop()
        del self._stall  # it knows us: without this cut each connection would be left to the cycle collector
        self._stop_listening_for_end()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._site.leave(self)
        if exchange is not None:
            exchange.client_gone()

    def drop(self) -> None:
        """Reset the connection; its exchange hears that the client has gone."""
        if self._phase is not Phase.CLOSED:
            self.transport.abortConnection()

    def hang_up(self) -> None:
        """Close, after what was written has left (for which a stuck reader gets its stall timeout)."""
        if self._phase in (Phase.CLOSING, Phase.CLOSED):
            return
        lingered, self._phase = self._phase is Phase.LINGER, Phase.CLOSING
        self._input = b""
        self._stop_timer()
        self._stall.start()
        self._listen()  # over TLS closing waits for the client's close_notify
        if not lingered:
            # A paused producer would keep the transport from closing.
            self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _linger(self) -> None:
        """Close a connection of which there may be more to read. Closed at once, the kernel would answer that with a reset, which can
        overtake our answer (RFC 9112 section 9.6)."""
        self._phase = Phase.LINGER
        self._input = b""
        self._listen()
        self.transport.unregisterProducer()
        if self._secure:
            # Sends close_notify after the answer, and reads on until the client's; a half-close would go to the TCP connection below.
            self._time(LINGER, self.drop)
            self.transport.loseConnection()
            return
        self._time(LINGER, self.hang_up)
        if hasattr(self.transport, "loseWriteConnection"):
            self.transport.loseWriteConnection()

    # Reading

    def dataReceived(self, data: bytes) -> None:
        if self._phase in (Phase.LINGER, Phase.CLOSING, Phase.CLOSED):
            return
        self._input = self._input + data if self._input else data
        self._advance()

    def _advance(self) -> None:
        """Take what can be taken of the input. A handler may answer at once, hence a loop and no recursion.

        While the transport is full no further request is begun: its answer would only pile up.
        """
        if self._advancing:
            return
        self._advancing = True
        try:
            while self._input and not self._paused and self._take():
                pass
        finally:
            self._advancing = False
        if len(self._input) <= AHEAD:
            self._listen()
        elif self._hangup is None:
            self.transport.pauseProducing()
            self._hangup = HangupWatch(self._site.alarms, self.transport, self.drop)
            self._hangup.look()

    def _listen(self) -> None:
        if self._hangup is not None:
            self._stop_listening_for_end()
            self.transport.resumeProducing()

    def _stop_listening_for_end(self) -> None:
        if self._hangup is not None:
            self._hangup.stop()
            self._hangup = None

    def _take(self) -> bool:
        """Take one thing from the input; whether there may be another."""
        if self._phase in (Phase.IDLE, Phase.HEAD):
            return self._take_head()
        if self._phase is Phase.BODY:
            return self._take_body()
        return False

    def _take_head(self) -> bool:
        if self._input.startswith(b"\r\n"):  # to be let pass before a request (RFC 9112 section 2.2)
            self._input = self._input[_BLANK_LINES.match(self._input).end() :]  # type: ignore[union-attr]  # matches anything
            self._scanned = 0
            return True
        if not self._scanned:
            self._began = self._site.alarms.seconds()
        end = _HEAD_END.search(self._input, max(0, self._scanned - 2))
        self._scanned = len(self._input) if end is None else end.end()
        if self._scanned > self._site.limits.max_head:
            self._refuse(head_too_large(self._site.limits))
            return False
        if end is None:
            if self._phase is Phase.IDLE:
                self._phase = Phase.HEAD
                self._time(self._site.limits.header_timeout, self._head_overdue)
            return False
        block, self._input, self._scanned = self._input[: end.end()], self._input[end.end() :], 0
        self._head_received(block)
        return True

    def _head_received(self, block: bytes) -> None:
        self._stop_timer()
        site = self._site
        try:
            head = parse_request_head(block)
        except BadHead as bad:
            self._refuse(malformed(str(bad)))
            return
        length = framing(head)
        host, path = split_target(head)
        peer = self._who()
        request = Request(head, b"", peer, self._secure, host, path, self._began, self._began)
        error = refusal(head, length, site.limits, site.budget) or site.handler.screen(head, host, path, peer)
        if error is not None:
            self._refuse(error, request, linger=error.close or length != 0)
            return
        self._request = request
        if length == 0:
            self._open()
            return
        self._phase = Phase.BODY
        self._body = RequestBody(length, site.limits, site.budget)
        if length == CHUNKED or length > len(self._input):
            self._time(site.limits.body_timeout, self._body_overdue)
        if not self._input and expects_continue(head):
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _take_body(self) -> bool:
        body, request = self._body, self._request
        assert body is not None and request is not None
        try:
            self._input = body.feed(self._input)
        except ProxyError as error:
            self._refuse(error, request)
            return False
        if body.done:
            request.body = body.take()
            self._open()
        return True

    def _head_overdue(self) -> None:
        if self._input:
            self._refuse(too_slow("head"))
        else:
            self.hang_up()

    def _body_overdue(self) -> None:
        self._refuse(too_slow("body"), self._request)

    def _who(self) -> str:
        """The client's address. Asked for late: behind a PROXY-protocol wrapper it is known with the first bytes."""
        if self._peer is None:
            host = getattr(self.transport.getPeer(), "host", "")
            self._peer = host if isinstance(host, str) else ""
        return self._peer

    # Answering

    def _open(self) -> None:
        request, self._request = self._request, None
        assert request is not None
        self._stop_timer()
        self._phase = Phase.RESPONSE
        request.received = self._site.alarms.seconds()
        response = self._response = Response(self, request.head)
        exchange = self._site.handler.open(request, response)
        if self._response is response:  # not answered yet
            self._exchange = exchange
            if self._paused:
                exchange.client_paused()

    def _refuse(self, error: ProxyError, request: Request | None = None, *, linger: bool = True) -> None:
        """Let *error* be the answer. With *linger* there may be more of the request to come, and the connection is closed."""
        self._stop_timer()
        self._request = None
        self.forget_body()
        self._phase = Phase.RESPONSE
        self._unread = linger
        head, path = (None, b"") if request is None else (request.head, request.path)
        response = self._response = Response(self, head, close=error.close or linger)
        self._site.handler.refuse(error, head, path, self._who(), response)

    def send(self, data: bytes) -> None:
        self.transport.write(data)
        self._stall.wrote(len(data))

    def unsent(self) -> int:
        return pending_bytes(self.transport) or 0

    def date(self) -> bytes:
        return self._site.date()

    def must_close(self) -> bool:
        return self._site.draining

    def finished(self, close: bool) -> None:
        self._detach()
        if close or self._site.draining:
            if self._unread or self._input:
                self._linger()
            else:
                self.hang_up()
            return
        self._phase = Phase.IDLE
        self._time(self._site.limits.idle_timeout, self.hang_up)
        if self._input and not self._advancing:
            # In a turn of its own: whoever finished this answer may have things of that exchange to put away first.
            self._turn = self._site.clock.callLater(0, self._next)

    def _next(self) -> None:
        self._turn = None
        try:
            self._advance()
        except Exception:
            # As the reactor does when dataReceived fails; nobody else would end this connection.
            self._log.failure("a pipelined request failed")
            self.drop()

    def cut(self, reset: bool) -> None:
        self._detach()
        if reset:
            self._phase = Phase.CLOSING
            self._time(RESET_LOOK, self._reset_when_sent)
        else:
            self.hang_up()

    def _reset_when_sent(self) -> None:
        if self._paused or self.unsent():
            self._time(RESET_LOOK, self._reset_when_sent)
        else:
            self.abort()

    def abort(self) -> None:
        if self._phase is Phase.CLOSED:
            return
        self._detach()
        self._phase = Phase.CLOSED
        self._stop_timer()
        self._stall.stop()
        self.transport.abortConnection()

    def forget_body(self) -> None:
        if self._body is not None:
            self._body.release()
            self._body = None

    def _detach(self) -> None:
        """The current exchange is over: it and this connection know each other no more."""
        response, self._response, self._exchange = self._response, None, None
        if response is not None:
            self._stall_timeout = response.stall_timeout
            response.detach()
        self.forget_body()

    # Flow control (IPushProducer, called by the transport)

    def pauseProducing(self) -> None:
        if not self._paused:
            self._paused = True
            if self._exchange is not None:
                self._exchange.client_paused()

    def resumeProducing(self) -> None:
        if self._paused:
            self._paused = False
            if self._exchange is not None:
                self._exchange.client_resumed()
            elif self._turn is None:
                self._advance()

    def stopProducing(self) -> None:
        """The connection is lost; ``connectionLost`` follows."""

    # Time

    def _time(self, delay: float, callback: Callable[[], None]) -> None:
        self._stop_timer()
        self._alarm = self._site.alarms.set(delay, callback)

    def _stop_timer(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    # Stuck readers (Watched)

    @property
    def patience(self) -> float:
        return self._stall_timeout if self._response is None else self._response.stall_timeout

    @property
    def closing(self) -> bool:
        return self._phase is Phase.CLOSING

    def unaccepted(self) -> int:
        """As :meth:`unsent`; where there is no telling, everything counts as unsent from the moment the transport is full."""
        pending = pending_bytes(self.transport)
        if pending is None:
            return 1 if self._paused else 0
        return pending

    def stalled(self) -> None:
        if self._exchange is not None:
            self._exchange.client_stalled()
        self.abort()
