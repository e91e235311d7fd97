"""Events one by one, with ids of ours: what makes a stream resumable, without breaking those who read it.

Only what dispatches an event is one: a block with a ``data`` line. What stands between (comments, ``retry`` lines, blocks without data) is
relayed and not recorded, and once an id has been seen without its empty line: an empty block after an ``id`` line is an empty event to
openai-python, LangChain and LiteLLM.
"""

from __future__ import annotations

import enum
import re
from array import array
from collections.abc import Iterator, Sequence
from typing import Final

_EOL: Final = rb"(?:\r\n?+|\n)"
_PIECE: Final = re.compile(rb":[^\r\n]*+%b|%b|(?:[^\r\n]++%b)++%b" % (_EOL, _EOL, _EOL, _EOL))
"""A comment line at the head of a block, an empty line, or a block up to its empty line."""
_DATA: Final = re.compile(rb"(?:\A|[\r\n])data(?:[:\r\n]|\Z)")
_ID: Final = re.compile(rb"(?:\A|[\r\n])id(?::([^\r\n\0]*+)(?!\0)|(?=[\r\n]))")  # with a NUL it is none (HTML, 9.2.6)
_GLUED: Final = re.compile(rb"(?::|retry:)")  # lines that mean the same before the next event
_LINE: Final = re.compile(rb"[^\n]*+\n|[^\n]++\Z")
_BOM: Final = b"\xef\xbb\xbf"


class Ids(enum.IntEnum):
    """Which events a reader is given with ids of ours. Those that upstream has given ids keep them in any case."""

    NONE = 0
    UNLESS_OWN = 1
    """All, until upstream gives one of its own: from there on a cursor is to mean what it means to upstream."""
    EACH = 2
    """All that have none of upstream's, so that whatever a reader had last can be named."""


class Splitter:
    """Cuts what a relay lets through, whole events at a time, into events and what stands between them.

    :ivar own_ids: upstream has given an event an id of its own.
    :ivar open: the last event has no end: the stream ended in it.
    """

    __slots__ = ("_after_cr", "_fresh", "open", "own_ids")

    def __init__(self) -> None:
        self.own_ids = False
        self.open = False
        self._fresh = True
        self._after_cr = False

    def feed(self, data: bytes) -> tuple[list[bytes], list[tuple[int, bytes]]]:
        """The events in *data*, byte for byte; and what stands before which of them: pairs of an index (that of the next event) and lines.

        A byte order mark is taken off: what is put before the first event would stand before it.
        """
        if self._fresh:
            self._fresh = False
            data = data.removeprefix(_BOM)
        elif self._after_cr and data.startswith(b"\n"):
            data = data[1:]  # the second half of a line end that was taken for whole
        self._after_cr = data.endswith(b"\r")
        has_cr = 13 in data  # a tenth of the time that looking for b"\r" takes
        if not has_cr and _is_one_event(data):  # nearly every read is
            return [data], []
        if not self.own_ids and (b"\nid" in data or data.startswith(b"id") or (has_cr and b"\rid" in data)):
            self.own_ids = _has_id_of_event(data)
        events: list[bytes] = []
        between: list[tuple[int, bytes]] = []
        at = 0
        while match := _PIECE.match(data, at):
            at = match.end()
            piece = match[0]
            if piece.startswith(b"data:") or _DATA.search(piece):
                events.append(piece)
            elif lines := b"".join([line + b"\n" for line in piece.splitlines() if _GLUED.match(line)]):
                between.append((len(events), lines))
        if _DATA.search(rest := data[at:]):
            self.open = True
            events.append(rest)
        return events, between


def _is_one_event(data: bytes) -> bool:
    """Is it a line of data, maybe after one with a name, and the empty line, all ending with LF?"""
    # Counting takes a quarter of the time that looking for two line ends, or for an id, does.
    if not data.endswith(b"\n\n"):
        return False
    lines = data.count(b"\n")
    if lines == 2:
        return data.startswith(b"data:")
    return lines == 3 and data.startswith(b"event:") and data.startswith(b"data:", data.find(b"\n") + 1)


def _has_id_of_event(data: bytes) -> bool:
    return any(_ID.search(piece) and _DATA.search(piece) for piece in [match[0] for match in _PIECE.finditer(data)])


def ends_of_events(body: bytes) -> Iterator[int]:
    """Where each event of a whole stream ends. What is no event belongs to the one after it; where there is none, all is one."""
    at = len(_BOM) if body.startswith(_BOM) else 0
    found = False
    while match := _PIECE.match(body, at):
        at = match.end()
        piece = match[0]
        if piece.startswith(b"data:") or _DATA.search(piece):
            found = True
            yield at
    if (body and not found) or _DATA.search(body[at:]):
        yield len(body)


def ends_of_lines(body: bytes) -> Iterator[int]:
    """The same of lines."""
    return (match.end() for match in _LINE.finditer(body))


class Marks:
    """Where the events of a stream end that is there as a whole, found as far as somebody wants to know.

    :param ends: all of them, in order.
    """

    __slots__ = ("_found", "_rest")

    def __init__(self, ends: Iterator[int]) -> None:
        self._found = array("I")
        self._rest = ends

    def beyond(self, offset: int) -> array[int]:
        """Those up to the first one beyond *offset*, at least; not a copy."""
        found = self._found
        if not found or found[-1] <= offset:
            for end in self._rest:
                found.append(end)
                if end > offset:
                    break
        return found

    def first(self, count: int) -> array[int]:
        """So many of them, at least, if there are as many; not a copy."""
        found = self._found
        while len(found) < count and (end := next(self._rest, None)) is not None:
            found.append(end)
        return found

    def all(self) -> array[int]:
        """Not a copy."""
        self._found.extend(self._rest)
        return self._found


def number(sid: bytes, first: int, events: Sequence[bytes], *, own: bool = False) -> bytes:
    """*events*, the first of which is number *first*, each with its id.

    :param own: some of them may have ids of upstream's.
    """
    if own:
        return b"".join(
            [each if own_id(each) is not None else b"id: %b.%d\n%b" % (sid, seq, each) for seq, each in enumerate(events, first)]
        )
    if len(events) == 1:
        return b"id: %b.%d\n%b" % (sid, first, events[0])
    return b"".join([b"id: %b.%d\n%b" % (sid, seq, event) for seq, event in enumerate(events, first)])


def interleave(events: Sequence[bytes], between: Sequence[tuple[int, bytes]]) -> bytes:
    """Events and what stands between them, as they came."""
    if not between:
        return b"".join(events)
    parts: list[bytes] = []
    at = 0
    for index, lines in between:
        parts += events[at:index]
        parts.append(lines)
        at = index
    return b"".join([*parts, *events[at:]])


def own_id(event: bytes) -> bytes | None:
    """The id that upstream gave to *event*."""
    found = [match[1] or b"" for match in _ID.finditer(event)]
    return found[-1].removeprefix(b" ") if found else None
