"""The proxy as a resource of somebody else's ``twisted.web`` site.

What a resource cannot do, for it is called when the request is complete: answer early (413 and 417 come after the upload, and
a ``100 Continue`` has been sent), bound the time a request takes to arrive, count connections, notice a stuck reader.
What the site does to a request before we see it: field names are capitalised and fields of one name gathered, the body went to
a temporary file if it was large. ``ProxySite`` is free of all this.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from twisted.web.server import Request as WebRequest
from zope.interface import implementer

from txsse._compat import pending_bytes
from txsse.clock import Alarm, Alarms
from txsse.errors import ProxyError
from txsse.front.limits import Backing, Budget, body_too_large, malformed, path_of, refusal, too_much_buffered
from txsse.front.response import DEFAULT_STALL_TIMEOUT, RESET_LOOK
from txsse.interfaces import Exchange, Request
from txsse.wire.headers import NO_FIELDS, Headers, Prepared
from txsse.wire.http1 import BadHead, RequestHead, parse_request_head


class ProxyResource(Resource):
    """Serves a proxy below any path of a ``Site``, or as the result of a Klein route with ``branch=True``.

    The target is forwarded whole, with the path this is mounted at: routes match what the client asked for.

    :param backing: the proxy, such as a :class:`~txsse.service.ProxyService` (which need not listen itself).
    """

    isLeaf = True

    def __init__(self, backing: Backing) -> None:
        super().__init__()
        self.backing = backing

    def render(self, request: WebRequest) -> int:
        downstream = WebResponse(request, self.backing.alarms, self.backing.budget)
        host = getattr(request.getClientAddress(), "host", "")
        peer = host if isinstance(host, str) else ""
        try:
            head = head_of(request)
        except BadHead as bad:
            self._refuse(malformed(str(bad)), None, path_of(b"%b %b " % (request.method, request.uri)), peer, downstream)
            return NOT_DONE_YET
        error = self._admit(request, head, peer, downstream)
        if error is not None:
            self._refuse(error, head, head.path, peer, downstream)
            return NOT_DONE_YET
        if head.wants_close:
            downstream.close_afterwards()  # the site sees it in the first Connection field only, and only between blanks
        now = self.backing.alarms.seconds()
        complete = Request(head, _content(request), peer, bool(request.isSecure()), head.host, head.path, now, now)
        downstream.attend(self.backing.handler.open(complete, downstream))
        return NOT_DONE_YET

    def _admit(self, request: WebRequest, head: RequestHead, peer: str, downstream: WebResponse) -> ProxyError | None:
        error = refusal(head, 0, self.backing.limits, self.backing.budget)
        if error is not None:
            return error
        size = _content_size(request)
        if size > self.backing.limits.max_body:
            return body_too_large(self.backing.limits)
        if not downstream.hold(size):
            return too_much_buffered()
        return self.backing.handler.screen(head, head.host, head.path, peer)

    def _refuse(self, error: ProxyError, head: RequestHead | None, path: bytes, peer: str, downstream: WebResponse) -> None:
        if error.close:
            downstream.close_afterwards()
        self.backing.handler.refuse(error, head, path, peer, downstream)


def head_of(request: WebRequest) -> RequestHead:
    """The head as far as it can be had, checked like one of our own: what reaches a backend is the same through either front.

    :raises BadHead: twisted.web accepts more than we pass on (no Host or two, bytes that are not ASCII in the target, ..).
    """
    version = b"HTTP/1.0" if request.clientproto == b"HTTP/1.0" else b"HTTP/1.1"  # HTTP/2 is told apart by nobody behind us
    lines = [b"%b %b %b\r\n" % (request.method, request.uri, version)]
    for name, values in request.requestHeaders.getAllRawHeaders():
        lines.extend([b"%b: %b\r\n" % (name, value) for value in values])
    head, _ = parse_request_head(b"".join([*lines, b"\r\n"]))
    return head


def _content_size(request: WebRequest) -> int:
    if request.content is None:
        return 0
    size: int = request.content.seek(0, 2)
    request.content.seek(0)
    return size


def _content(request: WebRequest) -> bytes:
    """The body. It is taken out of the request, which would hold it a second time, or hold a file open, as long as it is answered."""
    if request.content is None:
        return b""
    body: bytes = request.content.read()
    request.content.close()
    return body


@implementer(IPushProducer)
class WebResponse:
    """The :class:`~txsse.interfaces.Downstream` of a ``twisted.web`` request.

    :ivar stall_timeout: seconds that a truncated answer gets to leave. Stuck readers are not looked for otherwise.
    """

    def __init__(self, request: WebRequest, alarms: Alarms, budget: Budget) -> None:
        self._request: WebRequest | None = request
        self._alarms = alarms
        self._budget = budget
        self._held = 0
        self._exchange: Exchange | None = None
        self._paused = False
        self._framed = True  # the client can tell a truncated answer from a complete one
        self._alarm: Alarm | None = None
        self._deadline: Alarm | None = None
        self.stall_timeout = DEFAULT_STALL_TIMEOUT
        request.notifyFinish().addErrback(self._lost)
        request.registerProducer(self, True)

    def hold(self, size: int) -> bool:
        """Take the body's bytes from the budget."""
        if not self._budget.take(size):
            return False
        self._held = size
        return True

    def forget_body(self) -> None:
        """The request's body is needed no more: its bytes leave the budget."""
        self._budget.give(self._held)
        self._held = 0

    def hold_little(self) -> None:
        """The transport is not ours."""

    def attend(self, exchange: Exchange) -> None:
        """*exchange* is the one that is answered here, unless it has been answered already."""
        if self._request is not None:
            self._exchange = exchange
            if self._paused:
                exchange.client_paused()

    def close_afterwards(self) -> None:
        """Serve no other request on this connection. (HTTP/2 has no such thing.)"""
        request = self._request
        if request is not None and request.clientproto.startswith(b"HTTP/1"):
            request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
            request.channel.persistent = 0

    def start(self, status: int, reason: bytes, headers: Headers, *, common: Prepared = NO_FIELDS, has_body: bool = True) -> None:
        request = self._request
        if request is None:
            return
        headers = [*common.fields, *headers]
        request.setResponseCode(status, reason)
        # The site's own defaults must not show where they are not the backend's.
        request.defaultContentType = None
        request.responseHeaders.removeHeader(b"Server")
        for name, _ in headers:
            request.responseHeaders.removeHeader(name)
        for name, value in headers:
            request.responseHeaders.addRawHeader(name, value)
        sized = request.responseHeaders.hasHeader(b"Content-Length")
        self._framed = sized or not has_body or request.clientproto != b"HTTP/1.0"
        request.write(b"")  # nothing but the head, at once

    def write(self, data: bytes) -> None:
        if self._request is not None:
            self._request.write(data)

    def cork(self) -> None:
        """Twisted's transports gather the writes of a reactor turn anyway."""

    def uncork(self) -> None: ...

    def finish(self) -> None:
        request = self._request
        if request is not None:
            self._end()
            request.unregisterProducer()
            request.finish()

    def cut(self) -> None:
        request = self._request
        if request is None:
            return
        self._end()
        request.unregisterProducer()
        self._deadline = self._alarms.set(self.stall_timeout, lambda: self._abort(request))
        if self._framed:
            # Not request.finish(), which would write the last chunk.
            request.channel.loseConnection()
        else:
            self._alarm = self._alarms.set(RESET_LOOK, lambda: self._reset_when_sent(request))

    def _reset_when_sent(self, request: WebRequest) -> None:
        if pending_bytes(_transport(request)):
            self._alarm = self._alarms.set(RESET_LOOK, lambda: self._reset_when_sent(request))
        else:
            self._abort(request)

    def abort(self) -> None:
        request = self._request
        if request is not None:
            self._end()
            self._abort(request)

    def _abort(self, request: WebRequest) -> None:
        self._stop_timers()
        transport = _transport(request)
        if transport is not None:
            transport.abortConnection()

    def pending(self) -> int:
        return 0 if self._request is None else pending_bytes(_transport(self._request)) or 0

    def _lost(self, _reason: Failure) -> None:
        exchange = self._exchange
        self._end()
        self._stop_timers()
        if exchange is not None:
            exchange.client_gone()

    def _end(self) -> None:
        """The exchange is over: from here on every call is a no-op."""
        self._request = self._exchange = None
        self.forget_body()

    def _stop_timers(self) -> None:
        for alarm in (self._alarm, self._deadline):
            if alarm is not None:
                alarm.cancel()
        self._alarm = self._deadline = None

    # Flow control (IPushProducer, called by the site's channel)

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

    def stopProducing(self) -> None:
        """The connection is lost; ``notifyFinish`` tells."""


def _transport(request: WebRequest) -> Any:
    """What the bytes of *request*'s answer are written to; ``None`` after its connection was lost."""
    return getattr(request.channel, "transport", None)
