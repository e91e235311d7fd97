"""Our own pages' paths, as a Klein application. Importing this imports Klein, and with it the reactor: see :mod:`.listener`."""

from __future__ import annotations

from typing import ClassVar, Final, Protocol

from klein import Klein
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.server import Request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from txsse.clock import Alarms
from txsse.dialects import DIALECTS
from txsse.errors import ProxyError
from txsse.pages.progress import Wait, progress
from txsse.pages.site import Account, PageRequest
from txsse.pages.streams import STREAMS, StreamsPage, answers_preflight, share, tell
from txsse.web.stream import EventStream
from txsse.wire.headers import Headers

RETRY: Final = 2000  # milliseconds


class PagesView(Account, Protocol):
    """A running proxy, as far as its pages may look."""

    alarms: Alarms

    def lets_in(self, headers: Headers, path: bytes) -> bool:
        """Whether a request with these fields, for this path with its query, brings a key, or need not."""

    @property
    def shows_pages(self) -> bool:
        """Somebody may be shown a page that follows a wait."""

    def followed(self, token: str) -> Wait | None:
        """The wait that a ticket is for, whose time then begins anew."""

    @property
    def stream_control(self) -> StreamsPage | None:
        """``None`` where no streams are kept."""


class PagesApp:
    """Answers for the proxy behind *view*."""

    app: ClassVar = Klein()
    _log = Logger()

    def __init__(self, view: PagesView) -> None:
        self._view = view

    @app.route("/-/hold/<token>", methods=["GET"])
    def hold(self, request: Request, token: str) -> bytes | EventStream:
        """The progress of the wait that *token* is a ticket for."""
        self._screen(request)
        if self._view.followed(token) is None:
            raise ProxyError("no_route", "There is no such wait, or it was over long ago. Load the page anew.")
        request.setHeader(b"Cache-Control", b"no-store, no-transform")
        return EventStream(progress(self._view.alarms, lambda: self._view.followed(token)), retry=RETRY)

    @app.route("/-/streams/<sid>", methods=["GET"])
    async def stream(self, request: Request, sid: str) -> bytes:
        """How it stands."""
        return await self._tell(request, sid, end=False)

    @app.route("/-/streams/<sid>", methods=["DELETE"])
    @app.route("/-/streams/<sid>/cancel", methods=["POST"])
    async def end_stream(self, request: Request, sid: str) -> bytes:
        return await self._tell(request, sid, end=True)

    async def _tell(self, request: Request, sid: str, *, end: bool) -> bytes:
        self._screen(request)
        page = self._view.stream_control
        if page is None:
            raise _nothing()
        return await tell(page, request, sid, _fields(request), end=end)

    @app.route("/-/streams/<sid>", methods=["OPTIONS"])
    @app.route("/-/streams/<sid>/cancel", methods=["OPTIONS"])
    def may_script(self, request: Request, sid: str) -> bytes:
        """Browsers ask without credentials, hence without a word about whether there is such a stream."""
        page = self._view.stream_control
        if page is None or not answers_preflight(page, request, _fields(request)):
            raise MethodNotAllowed(["DELETE", "GET", "HEAD"] if request.path.count(b"/") == 3 else ["POST"])
        return b""

    def _screen(self, request: Request) -> None:
        """:raises ProxyError: it may not."""
        if not self._view.lets_in(_fields(request), request.uri):
            raise ProxyError("invalid_api_key", "The API key is missing or not one of this proxy's.")

    @app.handle_errors(ProxyError)
    def refused(self, request: IRequest, failure: Failure) -> bytes:
        error = failure.value
        assert isinstance(error, ProxyError)  # what it is registered for
        return self._refuse(request, error)

    @app.handle_errors(HTTPException)
    def not_served(self, request: IRequest, failure: Failure) -> bytes:
        """No such path or method. werkzeug's redirects are 404 here as well: they would repeat the client's Host and path."""
        error = failure.value
        if not isinstance(error, MethodNotAllowed):
            return self._refuse(request, _nothing())
        allow = ", ".join(sorted({*(error.valid_methods or ())} - {"OPTIONS"})).encode("ascii")
        return self._refuse(request, ProxyError("bad_request", "This path does not know that method.", status=405, allow=allow))

    def _refuse(self, request: IRequest, error: ProxyError) -> bytes:
        page = self._view.stream_control
        if page is not None and request.uri.startswith(STREAMS.encode()):
            share(request, _fields(request), page.origins)
        return _refuse(request, error)


def _fields(request: IRequest) -> Headers:
    return [(name, value) for name, values in request.requestHeaders.getAllRawHeaders() for value in values]


def _nothing() -> ProxyError:
    return ProxyError("no_route", "There is nothing at this path.")


def _refuse(request: IRequest, error: ProxyError) -> bytes:
    if isinstance(request, PageRequest):
        request.error = error
    body = DIALECTS["sse"].error_body(error)
    request.setResponseCode(error.http_status)
    fields = request.responseHeaders
    fields.setRawHeaders(b"Content-Type", [b"application/json"])
    fields.setRawHeaders(b"Content-Length", [b"%d" % len(body)])
    fields.setRawHeaders(b"Cache-Control", [b"no-store"])
    if error.http_status == 401:
        fields.setRawHeaders(b"WWW-Authenticate", [b"Bearer"])
    if error.allow:
        fields.setRawHeaders(b"Allow", [error.allow])
    fields.removeHeader(b"Server")
    return body
