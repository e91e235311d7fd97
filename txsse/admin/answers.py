"""Complete answers of the admin listener, each with a length and without anything a browser could make more of."""

from __future__ import annotations

import json
from typing import Any, Final

import attrs
from twisted.web.iweb import IRequest

TEXT: Final = b"text/plain; charset=utf-8"
JSON: Final = b"application/json"
HTML: Final = b"text/html; charset=utf-8"


@attrs.define(eq=False)
class Mistaken(Exception):
    """What was asked for cannot be: the status, the code and the text of the answer."""

    status: int
    code: str
    message: str


def answer(request: IRequest, body: bytes, content_type: bytes, status: int = 200) -> bytes:
    """Set status and fields on *request*; returns *body*, which Klein handlers and ``Resource.render`` pass on as theirs."""
    request.setResponseCode(status)
    fields = request.responseHeaders
    fields.setRawHeaders(b"Content-Type", [content_type])
    fields.setRawHeaders(b"Content-Length", [b"%d" % len(body)])
    fields.setRawHeaders(b"Cache-Control", [b"no-store"])
    fields.setRawHeaders(b"X-Content-Type-Options", [b"nosniff"])
    fields.removeHeader(b"Server")
    return body


def answer_json(request: IRequest, value: Any, status: int = 200) -> bytes:
    return answer(request, json.dumps(value, indent=2).encode("ascii") + b"\n", JSON, status)


def answer_error(request: IRequest, status: int, code: str, message: str) -> bytes:
    """An error, in the shape the proxy's own have on the main listener."""
    return answer_json(request, {"error": {"code": code, "message": message}}, status)
