"""HTTP/1.x message heads: values, and the strict parser of request heads (RFC 9112)."""

from __future__ import annotations

import attrs

from txsse.wire.headers import Headers


@attrs.frozen
class RequestHead:
    """A request line and its fields, byte for byte as they came."""

    method: bytes
    target: bytes
    version: bytes  # b"HTTP/1.1" or b"HTTP/1.0"
    headers: Headers


@attrs.frozen
class ResponseHead:
    """A final (not 1xx) response's status line and fields, byte for byte as they came."""

    status: int
    reason: bytes
    version: bytes
    headers: Headers
