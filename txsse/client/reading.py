"""An event stream as a person watches it: events and comments, in the order they came."""

from __future__ import annotations

import attrs

from txsse.wire.eventstream import MAX_EVENT_BYTES, Event, EventStreamDecoder, EventTooLong


@attrs.frozen
class Comment:
    """A comment line, without its colon and one space."""

    text: str

    @property
    def keepalive(self) -> bool:
        """It is one of txsse's own."""
        return self.text == "txsse" or self.text.startswith("txsse ")


class StreamReader:
    """The decoder, with the comments that it leaves out."""

    def __init__(self, last_event_id: str = "") -> None:
        self._decoder = EventStreamDecoder(last_event_id=last_event_id)
        self._tail = b""

    @property
    def last_event_id(self) -> str:
        return self._decoder.last_event_id

    @property
    def retry(self) -> int | None:
        """The reconnection time in milliseconds, if the stream has set one."""
        return self._decoder.retry

    def feed(self, data: bytes) -> list[Event | Comment]:
        """Take bytes; :class:`EventTooLong` if they never end a line or an event."""
        lines = (self._tail + data).splitlines(keepends=True)
        self._tail = lines.pop() if lines and not lines[-1].endswith((b"\r", b"\n")) else b""
        if len(self._tail) > MAX_EVENT_BYTES:
            raise EventTooLong("a line is too long")
        found: list[Event | Comment] = []
        for line in lines:
            found += self._decoder.feed(line)
            if line.startswith(b":"):
                found.append(Comment(line[1:].decode("utf-8", "replace").rstrip("\r\n").removeprefix(" ")))
        return found
