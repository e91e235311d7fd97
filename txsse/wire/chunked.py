"""The chunked transfer coding (RFC 9112 section 7.1): a strict incremental decoder."""

from __future__ import annotations

import re
from typing import Final

LAST_CHUNK: Final = b"0\r\n\r\n"

MAX_SIZE_LINE: Final = 1024
"""Bytes of one size line with its extensions."""

MAX_EXTENSIONS: Final = 16384
"""Bytes of all chunk extensions of a body: they cost work and carry nothing."""

MAX_TRAILERS: Final = 16384
"""Bytes of the trailer section."""

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})([ \t]*+;[\t -~\x80-\xff]*+)?")
_TRAILER_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t -~\x80-\xff]*+")

_SIZE, _DATA_END, _TRAILER = range(3)


class BadChunk(ValueError):
    """The body is not in chunked coding; where it ends cannot be known."""


class ChunkedDecoder:
    """Takes the framing off a chunked body, however it is cut. Trailers are checked and dropped.

    The body's own size is not bounded here: whoever collects what :meth:`feed` returns counts it.

    :ivar done: the last chunk and its trailers have been read.
    :ivar unused: what came after the end: the next request's bytes.
    """

    __slots__ = ("_extensions", "_left", "_line", "_next", "_trailers", "done", "unused")

    def __init__(self) -> None:
        self.done = False
        self.unused = b""
        self._line = b""  # an unfinished line
        self._left = 0  # bytes of the current chunk still to come
        self._next = _SIZE  # what the next line is
        self._extensions = 0
        self._trailers = 0

    def feed(self, data: bytes) -> bytes:
        """Decode *data*; return the body bytes it held.

        :raises BadChunk: also for a bare LF, and past the bounds of this module. The decoder is of no use afterwards.
        """
        if self._line:
            data, self._line = self._line + data, b""
        body: list[bytes] = []
        at = 0
        while at < len(data) and not self.done:
            if self._left:
                part = data[at : at + self._left]
                self._left -= len(part)
                at += len(part)
                body.append(part)
                continue
            stop = data.find(b"\n", at, at + MAX_SIZE_LINE)
            if stop < 0:
                if len(data) - at >= MAX_SIZE_LINE:
                    raise BadChunk("a line of the chunked body is too long")
                self._line = data[at:]
                break
            if stop == at or data[stop - 1] != 13:
                raise BadChunk("a line of the chunked body ends with a bare LF")
            self._line_received(data[at : stop - 1])
            at = stop + 1
        if self.done:
            self.unused += data[at:]
        return b"".join(body)

    def _line_received(self, line: bytes) -> None:
        if self._next == _SIZE:
            self._size_received(line)
        elif self._next == _TRAILER:
            self._trailer_received(line)
        elif line:
            raise BadChunk("a chunk is longer than its size")
        else:
            self._next = _SIZE

    def _size_received(self, line: bytes) -> None:
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise BadChunk("the size of a chunk is malformed")
        self._extensions += len(match[2] or b"")
        if self._extensions > MAX_EXTENSIONS:
            raise BadChunk("the chunked body has too many extensions")
        self._left = int(match[1], 16)
        self._next = _DATA_END if self._left else _TRAILER

    def _trailer_received(self, line: bytes) -> None:
        if not line:
            self.done = True
            return
        self._trailers += len(line) + 2
        if self._trailers > MAX_TRAILERS:
            raise BadChunk("the trailer section is too long")
        if not _TRAILER_LINE.fullmatch(line):
            raise BadChunk("a trailer field is malformed")
