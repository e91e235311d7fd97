"""What a service sends as events, and how it looks on the wire. Sans-I/O."""

from __future__ import annotations

import json
from typing import Final

import attrs

from txsse.wire.eventstream import comment, encode_event

KEEPALIVE: Final = comment("txsse")  # one newline: a blank line after an `id` line would be an empty event to some clients


@attrs.frozen
class ServerSentEvent:
    """One event to be sent.

    :param data: text and bytes are sent as they are, anything else as JSON.
    :param event: its type; without one a browser takes it for a ``message``.
    :param retry: the time after which a client shall reconnect, in milliseconds.
    """

    data: object
    event: str | None = None
    id: str | None = None
    retry: int | None = None


@attrs.frozen
class Encoded:
    """Events as they are sent, with their blank lines: of who has encoded them before."""

    data: bytes


def to_json(value: object) -> bytes:
    """Compact JSON in UTF-8. Lone surrogates (legal in JSON, not in UTF-8) fall back to escapes.

    :raises TypeError: *value* holds what JSON has no form for.
    :raises ValueError: so it does, a number that is none or infinite; or it holds itself.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def encode(item: object, retry: int | None = None) -> bytes:
    """The bytes of *item*: an :class:`Encoded`, a :class:`ServerSentEvent`, or the data of one.

    :param retry: in milliseconds, where the event has none of its own.
    :raises TypeError, ValueError: it cannot be sent, see :func:`to_json` and :func:`~txsse.wire.eventstream.encode_event`.
    """
    if isinstance(item, Encoded):
        return item.data if retry is None else b"retry: %d\n%b" % (retry, item.data)
    event = item if isinstance(item, ServerSentEvent) else ServerSentEvent(item)
    data = event.data if isinstance(event.data, str | bytes) else to_json(event.data)
    return encode_event(data, event.event, event.id, retry if event.retry is None else event.retry)


def failure_event(error: str) -> ServerSentEvent:
    """Tells that a stream ended before it was complete.

    :param error: an exception's class; its text may be for nobody outside.
    """
    message = f"The stream failed ({error}); the log of the server says more."
    return ServerSentEvent({"error": {"message": message, "type": "server_error", "code": "internal_error"}}, "error")
