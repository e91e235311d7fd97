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
from txsse.web.stream import EventStream
from txsse.wire.headers import Headers

RETRY: Final = 2000  # milliseconds


class PagesView(Protocol):
    """A running proxy, as far as its pages may look."""

    alarms: Alarms

    def lets_in(self, headers: Headers, path: bytes) -> bool:
        """Whether a request with these fields, for this path with its query, brings a key, or need not."""

    def followed(self, token: str) -> Wait | None:
        """The wait that a ticket is for, whose time then begins anew."""


class PagesApp:
    """Answers for the proxy behind *view*."""

    app: ClassVar = Klein()
    _log = Logger()

    def __init__(self, view: PagesView) -> None:
        self._view = view

    @app.route("/-/hold/<token>", methods=["GET"])
    def hold(self, request: Request, token: str) -> bytes | EventStream:
        """The progress of the wait that *token* is a ticket for."""
        if not self._view.lets_in(_fields(request), request.uri):
            request.setHeader(b"WWW-Authenticate", b"Bearer")
            return _refuse(request, ProxyError("invalid_api_key", "The API key is missing or not one of this proxy's."))
        if self._view.followed(token) is None:
            return _refuse(request, ProxyError("no_route", "There is no such wait, or it was over long ago. Load the page anew."))
        request.setHeader(b"Cache-Control", b"no-store, no-transform")
        return EventStream(progress(self._view.alarms, lambda: self._view.followed(token)), retry=RETRY)

    @app.handle_errors(HTTPException)
    def not_served(self, request: IRequest, failure: Failure) -> bytes:
        """No such path or method. werkzeug's redirects are 404 here as well: they would repeat the client's Host and path."""
        if isinstance(failure.value, MethodNotAllowed):
            request.setHeader(b"Allow", b"GET, HEAD")
            return _refuse(request, ProxyError("bad_request", "This path knows GET only.", status=405))
        return _refuse(request, ProxyError("no_route", "There is nothing at this path."))


def _fields(request: Request) -> Headers:
    return [(name, value) for name, values in request.requestHeaders.getAllRawHeaders() for value in values]


def _refuse(request: IRequest, error: ProxyError) -> bytes:
    body = DIALECTS["sse"].error_body(error)
    request.setResponseCode(error.http_status)
    fields = request.responseHeaders
    fields.setRawHeaders(b"Content-Type", [b"application/json"])
    fields.setRawHeaders(b"Content-Length", [b"%d" % len(body)])
    fields.setRawHeaders(b"Cache-Control", [b"no-store"])
    fields.removeHeader(b"Server")
    return body
