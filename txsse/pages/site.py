"""The ``Site`` of our own pages. Imported when the first request for one comes."""

from __future__ import annotations

from io import BytesIO

from twisted.internet.interfaces import IReactorTime
from twisted.web import http
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request, Site


def make_site(resource: IResource, reactor: IReactorTime) -> Site:
    """Serves *resource*, that of a Klein application, behind our own front.

    Asked for protocols only and never started, for what ``Site`` does then (a clock for its log) nobody needs here. What a request
    may be and how long it may take our own front has seen to; an answer takes as long as it takes."""
    return _PagesSite(_Plain(resource), requestFactory=_PagesRequest, timeout=None, reactor=reactor)


class _PagesSite(Site):
    noisy = False
    displayTracebacks = False

    def log(self, request: http.Request) -> None:
        """Called by twisted.web at the end of each request; the log of accesses is the proxy's."""


class _Plain(Resource):
    """Lets the application see only what Klein can take: it would log a traceback for the rest, as often as a client likes."""

    isLeaf = True

    def __init__(self, inner: IResource) -> None:
        super().__init__()
        self._inner = inner

    def render(self, request: IRequest) -> bytes | int:
        try:
            b"/".join(request.postpath).decode("utf-8")
        except UnicodeDecodeError:
            request.setResponseCode(404)
            return b""
        served: bytes | int = self._inner.render(request)
        return served


class _PagesRequest(Request):
    defaultContentType = None

    def gotLength(self, length: int | None) -> None:
        # Not in a file: it is in memory already, within the bounds of our front.
        self.content = BytesIO()

    def getRequestHostname(self) -> bytes:
        # Klein binds its URL map to it, and fails on what is no host name; no path of ours depends on it.
        return b"pages"
