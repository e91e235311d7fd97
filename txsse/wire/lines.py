"""Where a stream of newline-delimited JSON may be cut: the :class:`~txsse.wire.boundary.BoundaryTracker` of Ollama's streams."""

from __future__ import annotations

import re
from typing import Final

_BLANKS: Final = re.compile(rb"[ \t]++\Z")


class LineTracker:
    """Lets whole lines through and keeps the beginning of an unfinished one back.

    What :meth:`feed` and :meth:`end` return is, joined, what was fed, byte for byte. A line ends with LF (a CR before it belongs to the
    line). Blanks before a line are let through at once: they are how such a stream is kept alive, by us or by a proxy behind us.

    :param hold_bytes: the most that is kept back; an unfinished line that is longer goes out as it comes (:attr:`raw`).
    :ivar uneven: reads so far that changed anything here. All others were whole lines: a second tracker that is clean would let them
        through as they are, and need not be asked.
    """

    __slots__ = ("_hold_bytes", "_tail", "raw", "uneven")

    raw: bool
    """Part of an unfinished line was let through: nothing else may be written until its end."""

    def __init__(self, hold_bytes: int) -> None:
        self._hold_bytes = hold_bytes
        self._tail = bytearray()  # what is kept back; an endless line in tiny reads must not be copied each time
        self.raw = False
        self.uneven = 0

    @property
    def clean(self) -> bool:
        """At a boundary with nothing left open."""
        return not self.raw and not self._tail

    @property
    def held(self) -> int:
        """Bytes kept back."""
        return len(self._tail)

    @property
    def at_boundary(self) -> bool:
        """May blanks of our own, or a line, be written now? Whatever is not whole is kept back, so only a raw line forbids it."""
        return not self.raw

    def feed(self, data: bytes) -> bytes:
        """Take what was read; return what may be written now: everything up to the last line end."""
        if data.endswith(b"\n") and not self._tail:
            if self.raw:
                self.raw = False
                self.uneven += 1
            return data
        self.uneven += 1
        cut = data.rfind(b"\n") + 1
        if not cut and self.raw:
            return data
        if not cut:
            out = b""
            self._tail += data
        elif self._tail:
            self._tail += data[:cut]
            out = bytes(self._tail)
            self._tail = bytearray(data[cut:])
        else:
            out = data[:cut]
            self._tail += data[cut:]
        self.raw = len(self._tail) > self._hold_bytes
        if self.raw or _BLANKS.match(self._tail):
            out += self._take_tail()
        return out

    def end(self) -> bytes:
        """The stream ended cleanly: what was kept back."""
        if self._tail:
            self.raw = True
            self.uneven += 1
        return self._take_tail()

    def _take_tail(self) -> bytes:
        tail = bytes(self._tail)
        self._tail.clear()
        return tail
