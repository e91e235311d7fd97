"""The requests and answers of one client connection of our own HTTP/1.1 front, from its first byte to its last (RFC 9112).

The life of a connection::

    HEAD -> BODY -> RESPONSE -> IDLE -> HEAD ..     a request after the other
    RESPONSE -> LINGER -> CLOSING                   refused before it was read to its end
    HEAD, BODY -> LENT                              a request for our own pages: the rest is twisted.web's
    RESPONSE -> TUNNEL                              upstream has agreed to a WebSocket: bytes from here on
    any -> CLOSING -> CLOSED                        closing takes as long as what was written needs to leave

Pipelined requests are answered in order: what comes beyond the current request waits in the input. Past :data:`AHEAD` bytes of it reading
pauses until the answer is complete, and :mod:`txsse.front.hangup` looks whether the client has left meanwhile.

While an answer is awaited or streams, a connection has no timer, no parser and no buffer.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IProtocol, IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from txsse.errors import ProxyError
from txsse.front.body import RequestBody
from txsse.front.connection import BODY, CLOSED, CLOSING, HEAD, IDLE, LENT, LINGER, RESPONSE, TUNNEL, Connection
from txsse.front.limits import head_too_large, malformed, path_of, refusal, too_many_connections, too_slow
from txsse.front.response import DEFAULT_STALL_TIMEOUT, RESET_LOOK, Response
from txsse.interfaces import Exchange, Request, Tunnel
from txsse.sockets import half_close, hold_little
from txsse.wire.http1 import BadHead

if TYPE_CHECKING:
    from txsse.front.handover import Pages
    from txsse.front.site import ProxySite

AHEAD: Final = 64 * 1024
"""Bytes of further requests that are read while one is being answered."""

# A head that ends in bare LFs ends here too: to be refused at once, not to be waited for until its time is up.
_HEAD_END = re.compile(rb"\n\r?\n")
_BLANK_LINES = re.compile(rb"(?:\r\n)*")


@implementer(IProtocol, IPushProducer)
class ProxyChannel(Connection):
    """Reads requests, hands them to the site's handler, and carries the answers.

    Not a ``twisted.internet.protocol.Protocol``, whose instances have a ``__dict__``.
    """

    __slots__ = (
        "_advancing",
        "_began",
        "_body",
        "_exchange",
        "_held",
        "_request",
        "_response",
        "_scanned",
        "_stall_timeout",
        "_turn",
        "_unread",
    )

    _log = Logger()

    def __init__(self, site: ProxySite) -> None:
        super().__init__(site)
        # What is being read:
        self._scanned = 0  # bytes of the input in which no head ends
        self._began = 0.0
        self._request: Request | None = None  # whose body is being read
        self._body: RequestBody | None = None  # of which a part has come
        self._advancing = False
        self._turn: IDelayedCall | None = None
        # What is being answered:
        self._response: Response | None = None
        self._exchange: Exchange | None = None
        self._held = 0  # bytes of its body that count in the budget
        self._unread = False  # the request was refused before its end
        self._stall_timeout = DEFAULT_STALL_TIMEOUT  # of the last answer

    @property
    def idle(self) -> bool:
        """Nothing of a request has come yet."""
        return self._phase <= HEAD and not self._input

    # The connection

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        self._take_over(self.transport)
        if self._site.enter(self):
            self._sleep(self._site.backing.limits.header_timeout)
        else:
            self._refuse(too_many_connections(), linger=self._site.may_linger())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        exchange = self._exchange
        ended = self._phase is TUNNEL and reason.check(ConnectionDone) is not None
        self._detach()
        self._let_go()
        self._request = None
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._site.leave(self)
        if ended:
            cast(Tunnel, exchange).client_ended(reads=False)
        elif exchange is not None:
            exchange.client_gone()

    # Reading

    def dataReceived(self, data: bytes) -> None:
        if self._phase > RESPONSE:
            if self._phase is TUNNEL:
                cast(Tunnel, self._exchange).client_sent(data)
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
            while self._input and not self._paused and self._phase < RESPONSE and self._take():
                pass
        finally:
            self._advancing = False
        if len(self._input) <= AHEAD:
            self._listen()
        else:
            self._stop_listening()

    def _take(self) -> bool:
        """Take one thing from the input; whether there may be another."""
        return self._take_body() if self._phase is BODY else self._take_head()

    def _take_head(self) -> bool:
        data = self._input
        if data.startswith(b"\r\n"):  # to be let pass before a request (RFC 9112 section 2.2)
            self._input = data[_BLANK_LINES.match(data).end() :]  # type: ignore[union-attr]  # matches anything
            self._scanned = 0
            return True
        if not self._scanned:
            self._began = self._site.alarms.seconds()
        end = _HEAD_END.search(data, max(0, self._scanned - 2))
        size = len(data) if end is None else end.end()
        limits = self._site.backing.limits
        if size > limits.max_head:
            self._refuse(head_too_large(limits), unread=data)
            return False
        if end is None:
            self._scanned = size
            if self._phase is IDLE:
                self._phase = HEAD
                self._sleep(limits.header_timeout)
            return False
        self._input, self._scanned = data[size:], 0
        self._sleep_no_more()
        self._head_received(data[:size])
        return True

    def _head_received(self, block: bytes) -> None:
        site = self._site
        try:
            head, length = site.heads.parse(block)
        except BadHead as bad:
            self._refuse(malformed(str(bad)), unread=block)
            return
        peer = self._who()
        request = Request(head, b"", peer, self._secure, head.host, head.path, self._began, self._began)
        limits = site.backing.limits
        error = refusal(head, length, limits, site.budget)
        pages = site.pages
        if error is None and (pages is None or not head.path.startswith(pages.under) or not pages.is_ours(head)):
            error = site.handler.screen(head, head.host, head.path, peer)
        if error is not None:
            self._refuse(error, request, linger=error.close or length != 0)
        elif length == 0:
            self._open(request)
        elif 0 < length <= len(self._input):  # all of it has come
            request.body, self._input = self._input[:length], self._input[length:]
            self._held = length
            site.budget.used += length  # the refusal has seen that it fits
            self._open(request)
        else:
            self._phase = BODY
            self._request = request
            self._body = RequestBody(length, limits, site.budget)
            self._sleep(limits.body_timeout)
            if not self._input and head.expects_continue:
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
            self._sleep_no_more()
            self._body = self._request = None
            self._held, request.body = body.held, body.content
            self._open(request)
        return True

    # Answering

    def _open(self, request: Request) -> None:
        pages = self._site.pages
        if pages is not None and request.path.startswith(pages.under) and pages.is_ours(request.head):
            self._lend(request, pages)
            return
        predictions = self._site.predictions
        if predictions is not None and predictions.is_ours(request.head):
            self._lend(request, predictions)
            return
        self._phase = RESPONSE
        request.received = self._site.alarms.seconds()
        response = self._response = Response(self, request.head)
        exchange = self._site.handler.open(request, response)
        if self._response is response:  # not answered yet
            self._exchange = exchange
            if self._paused:
                exchange.client_paused()

    def _lend(self, request: Request, pages: Pages) -> None:
        """Let twisted.web answer; what it writes does not go through us."""
        self._phase = LENT
        self._input = b""
        self.settled()
        self.transport.unregisterProducer()
        guest = self._exchange = pages.welcome(self.transport)
        guest.answer(request)

    def _refuse(self, error: ProxyError, request: Request | None = None, *, linger: bool = True, unread: bytes = b"") -> None:
        """Let *error* be the answer. With *linger* there may be more of the request to come, and the connection is closed.

        :param unread: as much of the head as there is, of one that cannot be read; its path tells in which shape its client expects errors.
        """
        self._sleep_no_more()
        self._request = None
        self.forget_body()
        self._phase = RESPONSE
        self._unread = linger
        if request is not None:
            head, path = request.head, request.path
        else:
            head, path = None, path_of(unread)
        response = self._response = Response(self, head, close=error.close or linger)
        self._site.handler.refuse(error, head, path, self._who(), response)

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
        self._phase = IDLE
        self._sleep(self._site.backing.limits.idle_timeout)
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
            self._phase = CLOSING
            self._sleep(RESET_LOOK)
        else:
            self.hang_up()

    def abort(self) -> None:
        if self._phase is not CLOSED:
            self._detach()
            self._let_go()
            self.transport.abortConnection()

    def forget_body(self) -> None:
        if self._body is not None:
            self._body.release()
            self._body = None
        if self._held:
            self._site.budget.give(self._held)
            self._held = 0

    def hold_little(self) -> None:
        hold_little(self.transport)

    def _detach(self) -> None:
        """The current exchange is over: it and this connection know each other no more."""
        response, self._response, self._exchange = self._response, None, None
        if response is not None:
            self._stall_timeout = response.stall_timeout
            response.detach()
        self.forget_body()

    # One end of a tunnel (NearEnd)

    def open(self, tunnel: Tunnel) -> None:
        self._phase = TUNNEL
        self._exchange = tunnel
        early, self._input = self._input, b""
        self._listen()
        if early:
            tunnel.client_sent(early)

    def pause(self) -> None:
        self._stop_listening()

    def resume(self) -> None:
        self._listen()

    def half_close(self) -> bool:
        return half_close(self.transport)

    def half_closed(self) -> bool:
        """Called by the transport: the client has sent a FIN. Whether that is not the end."""
        if self._phase is not TUNNEL:
            return False
        cast(Tunnel, self._exchange).client_ended(reads=True)
        return True

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

    # Out of patience

    def wake(self) -> None:
        self._bucket = None
        phase = self._phase
        if phase is HEAD and self._input:
            self._refuse(too_slow("head"), unread=self._input)
        elif phase is BODY:
            self._refuse(too_slow("body"), self._request)
        elif phase is CLOSING:  # to be reset, once everything has left
            if self._paused or self.unsent():
                self._sleep(RESET_LOOK)
            else:
                self.abort()
        elif phase is LINGER and self._secure:  # it has been closing since then
            self.drop()
        else:
            self.hang_up()

    @property
    def patience(self) -> float:
        return self._stall_timeout if self._response is None else self._response.stall_timeout

    def stalled(self) -> None:
        self.settled()
        if self._exchange is not None:
            self._exchange.client_stalled()
        self.abort()
