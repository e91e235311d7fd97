"""Lines with times on a terminal, or plainly in a file or pipe: colour and spinner only where a person looks."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from typing import TextIO

WIDTH = 100
_DIM, _BOLD, _RED, _RESET = "\x1b[2m", "\x1b[1m", "\x1b[31m", "\x1b[0m"
_ERASE_LINE = "\r\x1b[K"


class Terminal:
    """Writes to *stream*, flushed at once. A flow of words and a spinner share the last line and give way to whole lines."""

    def __init__(self, stream: TextIO, environment: Mapping[str, str] = os.environ) -> None:
        self.interactive = stream.isatty() and environment.get("TERM") != "dumb"
        self._colour = self.interactive and not environment.get("NO_COLOR")  # https://no-color.org
        self._stream = stream
        self._column = 0  # of an unfinished flow; 0: the last line is finished
        self._spinning = False
        self._frames = itertools.cycle("|/-\\")

    def line(self, text: str = "", at: float | None = None) -> None:
        """A line, with its time in seconds in front."""
        self._clear()
        self._write(f"{_stamp(at)}{text}\n")

    def dim(self, text: str, at: float | None = None) -> None:
        self.line(self._styled(_DIM, text), at)

    def strong(self, text: str, at: float | None = None) -> None:
        self.line(self._styled(_BOLD, text), at)

    def error(self, text: str, at: float | None = None) -> None:
        self.line(self._styled(_RED, text), at)

    def flow(self, text: str, at: float) -> None:
        """Text that goes on on the same line, as it comes; a new line begins with the time where one is full."""
        self._erase_spinner()
        if not self._column or self._column + len(text) > WIDTH:
            self._clear()
            stamp, text = _stamp(at), text.lstrip(" ")
            self._write(stamp)
            self._column = len(stamp)
        self._write(text)
        self._column += len(text)

    def spin(self, text: str) -> None:
        """Draw the next picture of the spinner; nothing where nobody looks, or in the middle of a flow."""
        if self.interactive and not self._column:
            self._write(f"{_ERASE_LINE}{self._styled(_DIM, f'{next(self._frames)} {text}')}")
            self._spinning = True

    def close(self) -> None:
        """Leave the cursor at the start of an empty line."""
        self._clear()

    def _clear(self) -> None:
        self._erase_spinner()
        if self._column:
            self._write("\n")
            self._column = 0

    def _erase_spinner(self) -> None:
        if self._spinning:
            self._write(_ERASE_LINE)
            self._spinning = False

    def _styled(self, style: str, text: str) -> str:
        return f"{style}{text}{_RESET}" if self._colour else text

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _stamp(at: float | None) -> str:
    return "" if at is None else f"{at:8.3f}  "


def printable(text: str) -> str:
    """*text* without control characters: what a server sends must not steer the terminal."""
    return "".join(char if char.isprintable() or char == "\t" else "\ufffd" for char in text)
