"""Changing single events, or lines, of what a boundary tracker lets through."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import ClassVar, Final

_EOL = rb"(?:\r\n?+|\n)"
_BLANK_LINE: Final = re.compile(rb"\n\n|\n\r\n?+|\r\r\n?+")
"""The end of an event: of its last two line ends, from the last byte of the first one on."""
_END_OF_LINE: Final = re.compile(_EOL)
_LINE_FEED: Final = re.compile(rb"\n")


class PieceFilter(ABC):
    """A stateful filter over the bytes that a tracker lets through: called with them, it returns what is to be written in their place.

    A call may hold any number of pieces. The last one may be the beginning of a piece that was too long to be kept back whole (or one that
    the stream ended in): then :meth:`rewrite` has that beginning alone, and the rest follows as it comes, unless the beginning was dropped.
    How the pieces are spread over the calls makes no difference to what is written.
    """

    __slots__ = ("_after_cr", "_dropped", "_ends", "_last")

    _piece: ClassVar[re.Pattern[bytes]]

    def __init__(self) -> None:
        self._ends: re.Pattern[bytes] | None = None  # what ends the piece of which only a part was let through
        self._last = b""  # the last byte of that part
        self._dropped = False  # the piece before this one was
        self._after_cr = False  # it ended with a CR, whose LF may follow

    def __call__(self, data: bytes) -> bytes:
        if not data:
            return data
        out: list[bytes] = []
        at = self._rest_of_the_open_piece(data, out)
        while match := self._piece.match(data, at):
            out.append(self._rewritten(match[0], whole=True))
            at = match.end()
        if at < len(data):
            out.append(self._rewritten(data[at:], whole=False))
            self._ends = self._end_of(data[at:])
            self._last = data[-1:]
        self._after_cr = self._ends is None and data.endswith(b"\r")
        return b"".join(out)

    @abstractmethod
    def rewrite(self, piece: bytes, *, whole: bool) -> bytes:
        """What is written in place of *piece*; ``b""`` drops it. Not *whole*: it is the beginning of one, and the rest will follow."""

    @abstractmethod
    def _end_of(self, beginning: bytes) -> re.Pattern[bytes]:
        """What the end of a piece looks like that has begun so, seen from its last byte known."""

    def _rewritten(self, piece: bytes, *, whole: bool) -> bytes:
        new = self.rewrite(piece, whole=whole)
        self._dropped = not new
        return new

    def _rest_of_the_open_piece(self, data: bytes, out: list[bytes]) -> int:
        """Where the first whole piece begins."""
        if self._ends is not None:
            match = self._ends.search(self._last + data)
            if match is None:
                end = len(data)
                self._last = data[-1:]
            else:
                end = match.end() - len(self._last)
                self._ends = None
        else:
            end = 1 if self._after_cr and data.startswith(b"\n") else 0
        if not self._dropped:
            out.append(data[:end])
        return end


class EventFilter(PieceFilter):
    """Pieces of an event stream: an event up to its blank line; a comment line before an event; a blank line that ends no event."""

    __slots__ = ()

    _piece = re.compile(rb":[^\r\n]*+%b|%b|(?:[^\r\n]++%b)++%b" % (_EOL, _EOL, _EOL, _EOL))

    def _end_of(self, beginning: bytes) -> re.Pattern[bytes]:
        return _END_OF_LINE if beginning.startswith(b":") else _BLANK_LINE


class LineFilter(PieceFilter):
    """Pieces of newline-delimited JSON: lines, with their LF; and blanks before a line, which a tracker lets through at once."""

    __slots__ = ()

    _piece = re.compile(rb"[ \t]++|[^\n]*+\n")

    def _end_of(self, beginning: bytes) -> re.Pattern[bytes]:
        return _LINE_FEED
