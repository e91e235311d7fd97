"""The admin listener's ``Site``: the guard in front, the Klein application behind it. Imported when the first connection comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request, Site

from txsse.admin.answers import answer_error
from txsse.admin.app import AdminApp

if TYPE_CHECKING:
    from txsse.admin.guard import Guard
    from txsse.admin.view import AdminView

MAX_BODY: Final = 64 * 1024
IDLE_TIMEOUT: Final = 60  # seconds


def make_site(view: AdminView, guard: Guard, reactor: IReactorTime) -> Site:
    """The site behind a listener; it is asked for protocols only and never started, for what ``Site`` does then (a clock for its log
    that ticks once a second) nobody needs here."""
    root = _Guarded(guard, AdminApp(view).app.resource())
    return _AdminSite(root, requestFactory=_AdminRequest, timeout=IDLE_TIMEOUT, reactor=reactor)


class _AdminSite(Site):
    """A site that leaves probes and scrapes, several a second on some clusters, out of the log."""

    noisy = False
    displayTracebacks = False

    def log(self, request: http.Request) -> None:
        pass


class _Guarded(Resource):
    """Lets the application see only what the guard lets pass and what Klein can take."""

    isLeaf = True

    def __init__(self, guard: Guard, inner: IResource) -> None:
        super().__init__()
        self._guard = guard
        self._inner = inner

    def render(self, request: IRequest) -> bytes | int:
        refusal = self._guard.refusal(request.path, request.requestHeaders)
        if refusal is not None:
            if refusal.status == 401:
                request.setHeader(b"WWW-Authenticate", b'Bearer realm="txsse admin"')
            return answer_error(request, refusal.status, refusal.code, refusal.message)
        if not _is_plain(request):
            return answer_error(request, 400, "bad_request", "Method or path is not valid.")
        served: bytes | int = self._inner.render(request)
        return served


def _is_plain(request: IRequest) -> bool:
    """Whether method and path are text. Klein would log a traceback for what is not, as often as a client likes."""
    try:
        b"/".join(request.postpath).decode("utf-8")
    except UnicodeDecodeError:
        return False
    method: bytes = request.method
    return method.isalpha()


class _AdminRequest(Request):
    """A request whose body is bounded and whose failures are told without HTML."""

    defaultContentType = None
    _refused = False

    def getRequestHostname(self) -> bytes:
        # Klein binds its URL map to it and fails on a malformed Host; no path of ours depends on it, and the guard has its own look.
        return b"admin"

    def gotLength(self, length: int | None) -> None:
        # Called by the channel at the end of the head. twisted.web would buffer any body, in a temporary file from 100 kB on.
        if length is not None and length <= MAX_BODY:
            super().gotLength(length)
            return
        self._refused = True
        super().gotLength(0)
        self.requestHeaders.removeHeader(b"Expect")
        transport = self.channel.transport
        assert transport is not None  # it delivered this head
        transport.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        self.channel.loseConnection()

    def handleContentChunk(self, data: bytes) -> None:
        if not self._refused:
            super().handleContentChunk(data)

    def process(self) -> None:
        if not self._refused:
            super().process()

    def processingFailed(self, reason: Failure) -> Failure:
        # Called by twisted.web for an exception outside Klein's handlers.
        self._log.failure("admin request failed", failure=reason)
        self.write(answer_error(self, 500, "internal_error", "The admin listener failed; its log says why."))
        self.finish()
        return reason
