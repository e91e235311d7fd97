"""``/-/streams/<sid>`` but for its reading: a stream's state as JSON, and its end. Reading it is the proxy's own business."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final, Protocol

from txsse.proxy.admission import wants_state
from txsse.proxy.cors import cors_headers, is_preflight, preflight_headers
from txsse.wire.headers import Headers
from txsse.wire.http1 import RequestHead

if TYPE_CHECKING:
    from twisted.web.iweb import IRequest

STREAMS: Final = "/-/streams/"


class OwnStream(Protocol):
    """A stream, for whoever made it."""

    @property
    def origins(self) -> Collection[str]:
        """Whose scripts may read it."""

    @property
    def notes(self) -> Headers:
        """Fields that tell of it."""

    def state(self) -> dict[str, Any]:
        """As JSON."""

    async def end(self) -> OwnStream:
        """End it, for all who read it; gives it as it is then. Does nothing to one that is over."""


class StreamsPage(Protocol):
    """The streams of a running proxy, as far as their owners may look."""

    @property
    def origins(self) -> Collection[str]:
        """Whose scripts may hear that there is no such stream."""

    def passes_on(self, head: RequestHead, sid: str) -> bool:
        """Another proxy keeps this stream, and is asked."""

    async def find(self, sid: str, headers: Headers, path: bytes) -> OwnStream:
        """
        :param headers: of the request, *path* with its query: whom it comes from.
        :raises ProxyError: there is none for this caller.
        """


def is_for_pages(head: RequestHead, page: StreamsPage) -> bool:
    """Is this request for a path of :data:`STREAMS` about a stream, and not for what it says?"""
    if head.method == b"GET" and not wants_state(head.headers):
        return False
    sid = head.path[len(STREAMS) :].partition(b"?")[0].partition(b"/")[0]
    return is_preflight(head) or not page.passes_on(head, sid.decode("latin-1"))


async def tell(page: StreamsPage, request: IRequest, sid: str, headers: Headers, *, end: bool) -> bytes:
    """The body of the answer that tells how a stream stands, which is ended first if *end*.

    :raises ProxyError: there is none for this caller.
    """
    stream = await page.find(sid, headers, request.uri)
    if end:
        stream = await stream.end()
    body = json.dumps(stream.state(), separators=(",", ":")).encode("ascii")
    told = [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(body)), (b"Cache-Control", b"no-store")]
    for name, value in (*told, *stream.notes):
        request.setHeader(name, value)
    share(request, headers, stream.origins)
    request.responseHeaders.removeHeader(b"Server")
    return body


def share(request: IRequest, headers: Headers, origins: Collection[str]) -> None:
    """Let scripts of these origins read the answer, and of no others."""
    request.responseHeaders.removeHeader(b"Access-Control-Allow-Origin")
    for name, value in cors_headers(headers, origins):
        request.setHeader(name, value)


def answers_preflight(page: StreamsPage, request: IRequest, headers: Headers) -> bool:
    """Tell a browser what its script may ask; ``False``: nothing, or that is not what it wants to know."""
    granted = preflight_headers(headers, page.origins)
    for name, value in granted or ():
        request.setHeader(name, value)
    if granted is not None:
        request.setResponseCode(204)
        request.responseHeaders.removeHeader(b"Server")
    return granted is not None
