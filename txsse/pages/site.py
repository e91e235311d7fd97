"""The ``Site`` of our own pages. Imported when the first request for one comes."""

from __future__ import annotations

from functools import partial
from io import BytesIO
from typing import Final, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request, Site

from txsse.errors import Outcome, ProxyError
from txsse.wire.http1 import RequestHead

NOWHERE: Final = b"\xef\xbf\xbd"
"""Stands for a path that is no text: no page of ours has it."""


class Account(Protocol):
    """Who keeps the account of requests."""

    def page_asked(self, head: RequestHead) -> bytes:
        """The id that a request with this head goes by."""

    def page_answered(
        self, head: RequestHead, ident: bytes, peer: str, status: int, size: int, error: ProxyError | None, outcome: Outcome
    ) -> None:
        """It has had its answer, of *size* bytes; *error*: what it was refused with."""


def make_site(resource: IResource, reactor: IReactorTime, account: Account | None = None) -> Site:
    """Serves *resource*, that of a Klein application, behind our own front.

    Asked for protocols only and never started, for what ``Site`` does then (a clock for its log) nobody needs here. What a request
    may be and how long it may take our own front has seen to; an answer takes as long as it takes.

    :param account: without one *resource* keeps its own.
    """
    return _PagesSite(_Plain(resource), requestFactory=partial(PageRequest, account), timeout=None, reactor=reactor)


class _PagesSite(Site):
    noisy = False
    displayTracebacks = False

    def log(self, request: http.Request) -> None:
        """Called by twisted.web at the end of each request; the log of accesses is the proxy's."""
        assert isinstance(request, PageRequest)
        request.account_for("ok" if request.error is None else "rejected")


class _Plain(Resource):
    """Shows the application no path that Klein cannot take: it would log a traceback, as often as a client likes."""

    isLeaf = True

    def __init__(self, inner: IResource) -> None:
        super().__init__()
        self._inner = inner

    def render(self, request: IRequest) -> bytes | int:
        try:
            b"/".join(request.postpath).decode("utf-8")
        except UnicodeDecodeError:
            request.postpath = [NOWHERE]
        served: bytes | int = self._inner.render(request)
        return served


class PageRequest(Request):
    """A request for a page of ours.

    :ivar error: what it was refused with.
    """

    defaultContentType = None
    error: ProxyError | None = None

    def __init__(self, account: Account | None, channel: http.HTTPChannel, queued: bool) -> None:
        super().__init__(channel, queued)
        self._account = account
        self._head: RequestHead | None = None

    def process(self) -> None:
        if self._account is not None:
            fields = [(name, value) for name, values in self.requestHeaders.getAllRawHeaders() for value in values]
            self._head = RequestHead(self.method, self.uri, self.clientproto, fields)
            self._ident = self._account.page_asked(self._head)
            self.setHeader(b"X-Request-Id", self._ident)
        super().process()

    def connectionLost(self, reason: Failure) -> None:
        super().connectionLost(reason)
        self.account_for("client_closed")

    def account_for(self, outcome: Outcome) -> None:
        """It is over."""
        account, self._account = self._account, None
        if account is not None and self._head is not None:
            peer = getattr(self.client, "host", "")
            account.page_answered(self._head, self._ident, peer, self.code, self.sentLength, self.error, outcome)

    def gotLength(self, length: int | None) -> None:
        # Not in a file: it is in memory already, within the bounds of our front.
        self.content = BytesIO()

    def getRequestHostname(self) -> bytes:
        # Klein binds its URL map to it, and fails on what is no host name; no path of ours depends on it.
        return b"pages"
