"""What a client of a streaming handler asks for, and the answers that are no stream."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

import attrs
from twisted.web.iweb import IRequest

from txsse.proxy.admission import takes_events
from txsse.web.events import to_json
from txsse.wire.headers import Headers, tokens


@attrs.frozen
class Wish:
    """What a request's head asks for.

    :ivar events: Accept names ``text/event-stream``, wherever in its list. That beats what Prefer says of the form.
    :ivar background: Prefer says ``respond-async`` (RFC 7240 section 4.1): the run goes on without the client.
    """

    events: bool
    background: bool


def wish_of(request: IRequest) -> Wish:
    fields: Headers = [(name, value) for name, values in request.requestHeaders.getAllRawHeaders() for value in values]
    preferred = {preference.partition(b";")[0].rstrip() for preference in tokens(fields, b"prefer")}  # without their parameters
    return Wish(takes_events(fields), b"respond-async" in preferred)


class BadInput(ValueError):
    """The body of a request is no JSON object."""


def input_of(request: IRequest) -> Any:
    """The ``input`` in the JSON body of *request*; ``{}`` where there is none.

    :raises BadInput: there is a body, and it is no JSON object.
    """
    body = request.content.read()
    if not body:
        return {}
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise BadInput("The body is not JSON.") from None
    if not isinstance(document, dict):
        raise BadInput("The body is not a JSON object.")
    return document.get("input", {})


def answer_json(request: IRequest, document: object, status: int = 200) -> bytes:
    """Set status and fields on *request*; returns *document* as its body. Bytes are JSON already."""
    body = document if isinstance(document, bytes) else to_json(document)
    request.setResponseCode(status, HTTPStatus(status).phrase.encode("ascii"))  # twisted.web does not know all of them
    request.setHeader(b"Content-Type", b"application/json")
    request.setHeader(b"Content-Length", b"%d" % len(body))
    return body


def answer_error(request: IRequest, status: int, code: str, message: str) -> bytes:
    """An error of the client's, in the shape that the proxy's own have."""
    return answer_json(request, {"error": {"message": message, "type": "invalid_request_error", "code": code}}, status)


def not_streamable(request: IRequest) -> bytes:
    """406, for who asks for events where there are none."""
    message = "This is not answered with an event stream: leave text/event-stream out of Accept."
    return answer_error(request, 406, "not_streamable", message)
