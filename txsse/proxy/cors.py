"""CORS fields for what the proxy says on its own account (the Fetch standard, section "HTTP-access control").

An upstream's own answer keeps its own CORS fields; these are for heads the proxy commits, errors it makes, and preflights it answers
while the upstream sleeps. Without them a browser shows a script an opaque network error instead of the status and text.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from txsse.wire.headers import Headers, get, get_all, without
from txsse.wire.http1 import RequestHead, ResponseHead

PREFLIGHT_MAX_AGE: Final = 600  # seconds; Chromium allows 7200, Firefox 86400: short, for the real upstream may answer otherwise


def cors_headers(request: Headers, allowed: Collection[str]) -> Headers:
    """The fields that let a script of an allowed origin read our answer; none for other origins and for requests without one.

    :param allowed: origins such as ``https://chat.example``, or ``*`` for any.
    """
    if not allowed:
        return []
    headers: Headers = []
    if allow := allowed_origin(request, allowed):
        headers.append((b"Access-Control-Allow-Origin", allow))
    if "*" not in allowed:
        # Also without a match: a shared cache must not give one origin's answer to another.
        headers.append((b"Vary", b"Origin"))
    return headers


def shared_anew(head: ResponseHead, request: Headers, allowed: Collection[str]) -> ResponseHead:
    """The upstream's *head* for another request than the one it answered, where we say who may read it."""
    if not allowed:
        return head
    headers = [*without(head.headers, (b"access-control-allow-origin",)), *cors_headers(request, allowed)]
    return ResponseHead(head.status, head.reason, head.version, headers)


def is_preflight(head: RequestHead) -> bool:
    """Whether a browser asks beforehand if it may send the real request."""
    return head.method == b"OPTIONS" and bool(get(head.headers, b"origin")) and bool(get(head.headers, b"access-control-request-method"))


def preflight_headers(request: Headers, allowed: Collection[str]) -> Headers | None:
    """The fields of a ``204`` answer to a preflight of an allowed origin, or ``None`` where the origin is not allowed."""
    allow = allowed_origin(request, allowed)
    if allow is None:
        return None
    headers: Headers = [
        (b"Access-Control-Allow-Origin", allow),
        # What is asked for is granted: which methods and fields exist is the upstream's to say, when the real request comes.
        (b"Access-Control-Allow-Methods", get(request, b"access-control-request-method") or b"GET, POST"),
        (b"Access-Control-Max-Age", b"%d" % PREFLIGHT_MAX_AGE),
        (b"Vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
    ]
    if fields := b", ".join(get_all(request, b"access-control-request-headers")):
        headers.append((b"Access-Control-Allow-Headers", fields))
    return headers


def allowed_origin(request: Headers, allowed: Collection[str]) -> bytes | None:
    """The value for ``Access-Control-Allow-Origin``, or ``None`` where the request is from elsewhere."""
    origins = get_all(request, b"origin")
    if len(origins) != 1:
        return None
    if "*" in allowed:
        return b"*"
    # An origin is compared byte for byte, as browsers serialise it (RFC 6454 section 6.2): scheme and host in lower case, no slash.
    return origins[0] if origins[0].decode("latin-1") in allowed else None
