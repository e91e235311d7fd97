"""One client connection of our own HTTP/1.1 front, from its first byte to its last (RFC 9112).

The life of a connection::

    HEAD -> BODY -> RESPONSE -> IDLE -> HEAD ..     a request after the other
    RESPONSE -> LINGER -> CLOSING                   refused before it was read to its end
    any -> CLOSING -> CLOSED                        closing takes as long as what was written needs to leave

Pipelined requests are answered in order: what comes beyond the current request waits in the input. Past :data:`AHEAD` bytes of it reading
pauses until the answer is complete; whether the client has left meanwhile is looked up each :data:`DEAF_LOOK` seconds.
"""

from __future__ import annotations

import enum
import re
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.interfaces import IDelayedCall, IPushProducer, ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from txsse._compat import pending_bytes
from txsse.clock import Alarm
from txsse.errors import ProxyError
from txsse.front.hangup import has_left
from txsse.front.limits import body_too_large, head_too_large, malformed, refusal, too_many_connections, too_much_buffered, too_slow
from txsse.front.response import DEFAULT_STALL_TIMEOUT, Response
from txsse.interfaces import Exchange, Request
from txsse.sockets import tune
from txsse.wire.chunked import BadChunk, ChunkedDecoder
from txsse.wire.http1 import CHUNKED, BadHead, expects_continue, framing, parse_request_head, split_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from txsse.front.site import ProxySite

AHEAD: Final = 64 * 1024
"""Bytes of further requests that are read while one is being answered."""

DEAF_LOOK: Final = 0.05
"""Seconds between two looks whether a client has left that is not read from."""

LINGER: Final = 5.0
"""Seconds for which the rest of a refused request is read and dropped, so that its sender sees the answer and not a reset."""

RESET_LOOK: Final = 0.05
"""Seconds between two looks whether everything has left, before a reset."""

LOOKS: Final = 8
"""How many times within a stall timeout the socket is looked at: a stall is noticed late by at most this fraction of it."""

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
        "_accepted",
        "_advancing",
        "_alarm",
        "_began",
        "_body",
        "_deaf",
        "_decoder",
        "_ear",
        "_exchange",
        "_held",
        "_input",
        "_left",
        "_paused",
        "_peer",
        "_phase",
        "_request",
        "_response",
        "_scanned",
        "_secure",
        "_since",
        "_site",
        "_stall_timeout",
        "_turn",
        "_unread",
        "_watch",
        "_written",
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
        self._decoder: ChunkedDecoder | None = None
        self._left = 0  # bytes of the body still to come, when its length was declared
        self._body: BytesIO | None = None
        self._held = 0  # bytes of the budget
        self._advancing = False
        self._deaf = False  # reading is paused
        self._ear: Alarm | None = None  # then
        self._turn: IDelayedCall | None = None
        # What is being answered:
        self._response: Response | None = None
        self._exchange: Exchange | None = None
        self._unread = False  # the request was refused before its end
        self._paused = False  # the transport takes no more for now
        # Deadlines; of IDLE, HEAD, BODY and LINGER one at a time:
        self._alarm: Alarm | None = None
        # Stuck readers: when the transport was last seen to get rid of a byte, and how many it had by then.
        self._watch: Alarm | None = None
        self._stall_timeout = DEFAULT_STALL_TIMEOUT
        self._written = 0
        self._accepted = 0
        self._since = 0.0

    @property
    def busy(self) -> bool:
        """A request is being answered."""
        return self._phase is Phase.RESPONSE

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
        self._stop_watch()
        self._stop_ear()
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
        self._start_watch()
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
        self._time(LINGER, self.hang_up)
        self.transport.unregisterProducer()
        # Not through TLS: the wrapper would pass the call on to the TCP connection below it.
        if not self._secure and hasattr(self.transport, "loseWriteConnection"):
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
        elif not self._deaf:
            self._deaf = True
            self.transport.pauseProducing()
            self._listen_for_end()

    def _listen(self) -> None:
        if self._deaf:
            self._deaf = False
            self._stop_ear()
            self.transport.resumeProducing()

    def _listen_for_end(self) -> None:
        if has_left(self.transport):
            self._ear = None
            self.drop()
        else:
            self._ear = self._site.alarms.set(DEAF_LOOK, self._listen_for_end)

    def _stop_ear(self) -> None:
        if self._ear is not None:
            self._ear.cancel()
            self._ear = None

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
        self._left = length
        if length == CHUNKED:
            self._decoder = ChunkedDecoder()
        if length == CHUNKED or length > len(self._input):
            self._time(site.limits.body_timeout, self._body_overdue)
        if not self._input and expects_continue(head):
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _take_body(self) -> bool:
        data, self._input = self._input, b""
        if self._decoder is None:
            if len(data) > self._left:
                data, self._input = data[: self._left], data[self._left :]
            self._left -= len(data)
            complete = not self._left
        else:
            try:
                data = self._decoder.feed(data)
            except BadChunk as bad:
                self._refuse(malformed(str(bad)), self._request)
                return False
            complete = self._decoder.done
            self._input = self._decoder.unused
        error = self._keep(data, complete)
        if error is not None:
            self._refuse(error, self._request)
            return False
        if complete:
            self._open()
        return True

    def _keep(self, data: bytes, complete: bool) -> ProxyError | None:
        """Add *data* to the request's body."""
        site = self._site
        if self._held + len(data) > site.limits.max_body:
            return body_too_large(site.limits)
        if not site.budget.take(len(data)):
            return too_much_buffered()
        self._held += len(data)
        assert self._request is not None
        if self._body is None and complete:
            self._request.body = data
            return None
        # A BytesIO hands its bytes out without a copy, so a body never occupies twice its size.
        if self._body is None:
            self._body = BytesIO()
        self._body.write(data)
        if complete:
            self._request.body, self._body = self._body.getvalue(), None
        return None

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
        self._decoder = None
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
        self._request = self._decoder = self._body = None
        self._phase = Phase.RESPONSE
        self._unread = linger
        head, path = (None, b"") if request is None else (request.head, request.path)
        response = self._response = Response(self, head, close=error.close or linger)
        self._site.handler.refuse(error, head, path, self._who(), response)

    def send(self, data: bytes) -> None:
        self._written += len(data)
        self.transport.write(data)
        if self._watch is None:
            self._start_watch()

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
        self._stop_watch()
        self.transport.abortConnection()

    def forget_body(self) -> None:
        self._site.budget.give(self._held)
        self._held = 0

    def _detach(self) -> None:
        """The current exchange is over: it and this connection know each other no more."""
        response, self._response, self._exchange = self._response, None, None
        if response is not None:
            self._stall_timeout = response.stall_timeout
            response.detach()
        self._decoder = self._body = None
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

    def _patience(self) -> float:
        return self._stall_timeout if self._response is None else self._response.stall_timeout

    def _pending(self) -> int:
        """As :meth:`unsent`; where there is no telling, everything counts as unsent from the moment the transport is full."""
        pending = pending_bytes(self.transport)
        if pending is None:
            return 1 if self._paused else 0
        return pending

    def _start_watch(self) -> None:
        """Look after the socket from time to time, until nothing is pending."""
        self._stop_watch()
        self._since = self._site.alarms.seconds()
        self._accepted = self._written - self._pending()
        self._watch = self._site.alarms.set(self._patience() / LOOKS, self._look)

    def _stop_watch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _look(self) -> None:
        self._watch = None
        pending = self._pending()
        if not pending and self._phase is not Phase.CLOSING:
            return  # the next write starts another
        now = self._site.alarms.seconds()
        patience = self._patience()
        if self._written - pending != self._accepted:
            self._accepted = self._written - pending
            self._since = now
        left = self._since + patience - now
        if left > 0:
            self._watch = self._site.alarms.set(min(left, patience / LOOKS), self._look)
            return
        if self._exchange is not None:
            self._exchange.client_stalled()
        self.abort()
