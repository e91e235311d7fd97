"""Takes the chunk framing off a response's body, by llhttp (httptools): 0.1 µs a chunk where Python code takes a few.

The request side has a decoder of its own (:mod:`txsse.wire.chunked`), since it must hand out the bytes after the end.

llhttp's parser takes 1.2 KiB, and one that stands between two chunks is like any other that does. So the streams share one: a stream
borrows it for the length of a read, and keeps it only if the read ends inside a chunk, until it comes out of that. To be told where a read
has ended costs 11 ns a chunk, for two calls from C to C: a read of one chunk takes 97 ns instead of 86, one of 64 chunks 3.7 µs instead
of 3.0.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Final

import httptools

MAX_OVERHEAD: Final = 64 * 1024
"""Bytes of chunk extensions and trailers in a row, without a body byte between them."""

_HEAD: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_END: Final = b"\r\n\r\n"
_LF: Final = 10


class _Parser:
    """llhttp inside a message with a chunked body. All that it calls is C: there is no Python frame per chunk, and no reference cycle.

    :ivar feed: takes bytes; raises HttpParserError if they are malformed, or begin another message.
    :ivar pieces: of the body, as they were found; emptied by who feeds.
    :ivar between: the first item is true outside of the chunks (a size line belongs to its chunk once it is complete); empty after the end.
    :ivar overhead: bytes since the last one of the body, counted by who keeps it.
    """

    __slots__ = ("_may_begin", "between", "feed", "overhead", "pieces")

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.between = [True, False]
        self.overhead = 0
        self._may_begin = [None]
        callbacks = SimpleNamespace(
            on_message_begin=self._may_begin.pop,  # fails for a second message, whose body would be mixed with ours: llhttp stops
            on_chunk_header=self.between.reverse,
            on_body=self.pieces.append,
            on_chunk_complete=self.between.reverse,
            on_message_complete=self.between.clear,
        )
        self.feed = httptools.HttpResponseParser(callbacks).feed_data
        self.feed(_HEAD)

    def begin_anew(self) -> None:
        """After the end of a body: go to where the next one begins. A third of the price of a new parser."""
        self.between += (True, False)
        self._may_begin.append(None)
        self.feed(_HEAD)


_KEPT: Final = 8
_free = [_Parser()]  # between two chunks, all of them; never empty


def _take() -> None:
    """The last one of the free is so no more."""
    _free.pop()
    if not _free:
        _free.append(_Parser())


def _give_back(parser: _Parser) -> None:
    parser.overhead = 0
    if len(_free) < _KEPT:
        _free.append(parser)


class ChunkedBody:
    """Decodes one chunked body (RFC 9112 section 7.1), however it is cut. Trailers are checked and dropped."""

    __slots__ = ("_parser", "done", "error", "surplus")

    def __init__(self) -> None:
        self.done = False
        self.error = ""
        self.surplus = False
        self._parser: _Parser | None = None  # while inside a chunk

    def feed(self, data: bytes) -> bytes:
        """Take the bytes of one read (not empty); return the body bytes in it, joined."""
        kept = self._parser
        parser = kept or _free[-1]
        try:
            if kept is None or len(data) > len(_END):
                parser.feed(data)
            else:
                self._feed_bytewise(parser, data)
        except httptools.HttpParserError:
            self._stop(parser)
        else:
            between = parser.between
            # The last byte, because half a size line is still outside of its chunk.
            if kept or not between or not between[0] or data[-1] != _LF:
                self._settle(parser, data)
        pieces = parser.pieces
        if len(pieces) == 1:  # the usual read: one event in one chunk
            return pieces.pop()
        body = b"".join(pieces)
        pieces.clear()
        return body

    def _feed_bytewise(self, parser: _Parser, data: bytes) -> None:
        for at in range(len(data)):
            if not parser.between:
                self.surplus = True
                return
            parser.feed(data[at : at + 1])

    def _stop(self, parser: _Parser) -> None:
        self._own(None)
        self.done = True
        # What comes after the end, the next message or garbage, is not this body's fault.
        self.surplus = not parser.between
        self.error = "" if self.surplus else "malformed chunk in the response"

    def _settle(self, parser: _Parser, data: bytes) -> None:
        """The read began or ended inside a chunk, or the body is complete."""
        if not parser.between:
            self._own(None)
            self._end(parser, data)
        elif parser.between[0] and data[-1] == _LF:
            self._own(None)
            _give_back(parser)
        else:
            self._own(parser)
            parser.overhead = 0 if parser.pieces else parser.overhead + len(data)
            if parser.overhead > MAX_OVERHEAD:
                self.done = True
                self.error = "too much chunk overhead in the response"

    def _own(self, parser: _Parser | None) -> None:
        if self._parser is None:
            _take()
        self._parser = parser

    def _end(self, parser: _Parser, data: bytes) -> None:
        # llhttp does not tell where the end was and skips empty lines after it. A body ends with exactly two line ends, and a read
        # longer than them in which it ends holds them all or, if it holds nothing else, more than them.
        self.done = True
        if len(data) > len(_END) and len(data) - len(data.rstrip(b"\r\n")) != len(_END):
            self.surplus = True
        try:
            parser.begin_anew()
        except httptools.HttpParserError:
            return  # a trailer "Connection: close" was the last it wanted to hear
        _give_back(parser)
