"""Events one by one, with ids of ours: what makes a stream resumable, without breaking those who read it.

Only what dispatches an event is one: a block with a ``data`` line. What stands between (comments, ``retry`` lines, blocks without data) is
relayed and not recorded, and once an id has been seen without its empty line: an empty block after an ``id`` line is an empty event to
openai-python, LangChain and LiteLLM.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_END_OF_LINE: Final = re.compile(rb"\r\n?|\n")
_END_OF_EVENT: Final = re.compile(rb"\r\n\r\n|\n\n|\n\r\n?|\r\r\n?")
_DATA: Final = re.compile(rb"(?:\A|[\r\n])data[:\r\n]")
_ID: Final = re.compile(rb"(?:\A|[\r\n])id(?::([^\r\n]*)|(?=[\r\n]))")
_GLUED: Final = re.compile(rb"(?::|retry:)")  # lines that mean the same before the next event
_BOM: Final = b"\xef\xbb\xbf"


class Splitter:
    """Cuts what a relay lets through, whole events at a time, into events and what stands between them.

    :ivar own_ids: upstream has given an event an id of its own; ours would then contradict it.
    """

    __slots__ = ("_after_cr", "_fresh", "own_ids")

    def __init__(self) -> None:
        self.own_ids = False
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
        # One event is what nearly every read is.
        if data.startswith(b"data:") and data.find(b"\n\n") == len(data) - 2 and 13 not in data and b"\nid" not in data:
            return [data], []
        events: list[bytes] = []
        between: list[tuple[int, bytes]] = []
        at = 0
        while at < len(data):
            match = _END_OF_EVENT.search(data, at)
            end = len(data) if match is None else match.end()
            block = data[at:end]
            if match is not None and match.start() == at:  # begins with an empty line: of a comment that was let through before
                end = at + len(_END_OF_LINE.match(block).group())  # type: ignore[union-attr]
            elif _DATA.search(block):
                at, lines = self._lines_before(data, at)
                if lines:
                    between.append((len(events), lines))
                event = data[at:end]
                self.own_ids = self.own_ids or _ID.search(event) is not None
                events.append(event)
            elif lines := b"".join(_kept(block)):
                between.append((len(events), lines))
            at = end
        return events, between

    def _lines_before(self, data: bytes, at: int) -> tuple[int, bytes]:
        """Comments at the head of an event's block do not belong to it."""
        begin = at
        while data.startswith(b":", at):
            line = _END_OF_LINE.search(data, at)
            assert line is not None
            at = line.end()
        return at, data[begin:at]


def _kept(block: bytes) -> list[bytes]:
    """The lines of a block without data that may go before the next event."""
    return [line + b"\n" for line in block.splitlines() if _GLUED.match(line)]


def number(sid: bytes, first: int, events: Sequence[bytes]) -> bytes:
    """*events*, the first of which is number *first*, each with its id."""
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
