"""Event streams as the WHATWG HTML standard defines them (section 9.2): an incremental decoder, and the encoder."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import attrs

MAX_EVENT_BYTES: Final = 1 << 20

_BOM = b"\xef\xbb\xbf"
_END_OF_LINE = re.compile(rb"\r\n?|\n")
_ANY_NEWLINE = re.compile(r"\r\n?|\n")


class EventTooLong(ValueError):
    """An event (or a single line) went over the decoder's bound."""


@attrs.frozen
class Event:
    """A dispatched event.

    :param id: the stream's last event id, which an event without an ``id`` line inherits.
    :param retry: milliseconds, where the event's own lines set the reconnection time.
    """

    type: str
    data: str
    id: str = ""
    retry: int | None = None


class EventStreamDecoder:
    """Turns the bytes of an event stream, however they are cut, into events. Bytes that are no UTF-8 become U+FFFD.

    What stands after the last empty line is never dispatched, so the end of the stream needs no call.

    :param max_event_bytes: the most that the lines of one event, and any line, may hold.
    :param last_event_id: of the connection before, which holds until this stream sets another one.
    :ivar last_event_id: what a reconnecting client would send as Last-Event-ID.
    :ivar retry: the reconnection time in milliseconds, or ``None`` while the stream has not set one.
    """

    __slots__ = ("_after_cr", "_bom", "_data", "_event_retry", "_id", "_line", "_max", "_size", "_type", "last_event_id", "retry")

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES, last_event_id: str = "") -> None:
        self.last_event_id = last_event_id
        self.retry: int | None = None
        self._max = max_event_bytes
        self._bom: bytes | None = b""  # the stream's first bytes while they may be a byte order mark
        self._after_cr = False
        self._line = bytearray()  # an unfinished line
        self._size = 0  # bytes of the current event's data so far
        self._data: list[str] = []
        self._type = ""
        self._id = last_event_id
        self._event_retry: int | None = None

    def feed(self, data: bytes) -> list[Event]:
        """Take the next bytes; return the events they complete.

        :raises EventTooLong: the decoder is of no use afterwards.
        """
        if self._bom is not None:
            data = self._bom + data
            if len(data) < len(_BOM) and _BOM.startswith(data):
                self._bom = data
                return []
            data = data.removeprefix(_BOM)
            self._bom = None
        if not data:
            return []
        events: list[Event] = []
        # The LF of a CRLF that was cut in two ends no second line.
        begin = 1 if self._after_cr and data.startswith(b"\n") else 0
        for end_of_line in _END_OF_LINE.finditer(data, begin):
            self._line_received(data[begin : end_of_line.start()], events)
            begin = end_of_line.end()
        self._line += data[begin:]
        self._check(len(self._line))
        self._after_cr = data.endswith(b"\r")
        return events

    def _line_received(self, line: bytes, events: list[Event]) -> None:
        if self._line:
            line = bytes(self._line) + line
            self._line.clear()
        self._check(len(line))
        if not line:
            self._dispatch(events)
        elif not line.startswith(b":"):
            name, _, value = line.partition(b":")
            self._field(name, value.removeprefix(b" "))

    def _check(self, more: int) -> None:
        if self._size + more > self._max:
            raise EventTooLong(f"an event is longer than {self._max} bytes")

    def _field(self, name: bytes, value: bytes) -> None:
        if name == b"data":
            self._size += len(value) + 1
            self._data.append(value.decode("utf-8", "replace"))
        elif name == b"event":
            self._type = value.decode("utf-8", "replace")
        elif name == b"id":
            if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) < 16:
            self.retry = self._event_retry = int(value)

    def _dispatch(self, events: list[Event]) -> None:
        self.last_event_id = self._id
        if self._data:
            events.append(Event(self._type or "message", "\n".join(self._data), self._id, self._event_retry))
            self._data = []
        self._type = ""
        self._size = 0
        self._event_retry = None


def encode_event(data: str | bytes, event: str | None = None, id: str | None = None, retry: int | None = None) -> bytes:
    """One event, blank line included; any newline in *data* starts another ``data`` line.

    :param retry: milliseconds.
    :raises ValueError: a newline in *event* or *id*, or NUL in *id*, which no line can carry; a *retry* below 0, which is none.
    """
    lines: list[bytes] = []
    if retry is not None and retry < 0:
        raise ValueError("retry cannot be less than 0 ms")
    if event is not None:
        lines.append(b"event: " + _one_line(event))
    if id is not None:
        lines.append(b"id: " + _one_line(id, "\0"))
    if retry is not None:
        lines.append(b"retry: %d" % retry)
    raw = data.encode() if isinstance(data, str) else data
    lines.extend(b"data: " + line for line in _END_OF_LINE.split(raw))
    return b"\n".join(lines) + b"\n\n"


def comment(text: str) -> bytes:
    """*text* as comment: one line and one newline, no blank line (after an ``id`` line that would be an empty event to some)."""
    return b"".join(f": {line}\n".encode() for line in _ANY_NEWLINE.split(text))


@lru_cache(64)  # a backend has few, and each answer asks
def is_event_stream(content_type: bytes | None) -> bool:
    """Does this Content-Type say ``text/event-stream``, with whatever parameters?"""
    return content_type is not None and content_type.partition(b";")[0].strip(b" \t").lower() == b"text/event-stream"


def _one_line(value: str, forbidden: str = "") -> bytes:
    if any(character in value for character in "\r\n" + forbidden):
        raise ValueError("this field of an event cannot hold a newline or NUL")
    return value.encode()
