"""A plain, slow, whole-body reading of event streams (WHATWG HTML section 9.2.6): the second opinion in tests."""

from __future__ import annotations

import re

import attrs

_LINE_END = re.compile("\r\n|\n|\r")


@attrs.frozen
class Event:
    """A dispatched event."""

    data: str
    type: str = "message"
    id: str = ""


def _lines(body: bytes) -> list[str]:
    # utf-8-sig: one byte order mark at the start is not part of the stream.
    # What follows the last line end is no line: an unfinished event is never dispatched.
    return _LINE_END.split(body.decode("utf-8-sig", "replace"))[:-1]


def events(body: bytes) -> list[Event]:
    """The events an EventSource would dispatch from *body*."""
    found: list[Event] = []
    data: list[str] = []
    kind = last_id = ""
    for line in _lines(body):
        if not line:
            if data:
                found.append(Event("\n".join(data), kind or "message", last_id))
            data, kind = [], ""
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "event":
            kind = value
        elif name == "id" and "\0" not in value:
            last_id = value
    return found


def comments(body: bytes) -> list[str]:
    """The comment lines of *body* without their colon and one space: keepalives among them."""
    return [line[1:].removeprefix(" ") for line in _lines(body) if line.startswith(":")]
