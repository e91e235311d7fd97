"""Takes the chunk framing off a response's body, by llhttp (httptools): 0.1 µs a chunk where Python code takes a few.

The request side has a decoder of its own (:mod:`txsse.wire.chunked`), since it must hand out the bytes after the end.
"""

from __future__ import annotations

from typing import Final

import httptools

MAX_OVERHEAD: Final = 64 * 1024
"""Bytes of chunk extensions and trailers in a row, without a body byte between them."""

_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_END = b"\r\n\r\n"


class ChunkReader:
    """Decodes one chunked body (RFC 9112 section 7.1), however it is cut. Trailers are checked and dropped.

    :ivar done: nothing more is expected: the end was reached, or *error* is set.
    :ivar error: why this is no chunked body, or "".
    :ivar surplus: there were bytes after the end.
    """

    __slots__ = ("_callbacks", "_feed", "_overhead", "_pieces", "done", "error", "surplus")

    def __init__(self) -> None:
        self.done = False
        self.error = ""
        self.surplus = False
        self._overhead = 0
        self._callbacks = _Callbacks()
        self._pieces = self._callbacks.pieces
        self._feed = httptools.HttpResponseParser(self._callbacks).feed_data
        self._feed(_HEAD)

    def feed(self, data: bytes) -> bytes:
        """Take the bytes of one read (not empty); return the body bytes in it, joined."""
        pieces = self._pieces
        try:
            if len(data) > len(_END):
                self._feed(data)
            else:
                self._feed_bytewise(data)
        except httptools.HttpParserError:
            # What comes after the end, the next message or garbage, is not this body's fault.
            self.surplus = self._callbacks.ended
            self.error = "" if self.surplus else "malformed chunk in the response"
            self.done = True
        if self._callbacks.ended:
            self._end(data)
        elif not pieces:
            self._count_overhead(len(data))
        else:
            self._overhead = 0
            if len(pieces) == 1:  # the usual read: one event in one chunk
                return pieces.pop()
        body = b"".join(pieces)
        pieces.clear()
        return body

    def _feed_bytewise(self, data: bytes) -> None:
        for at in range(len(data)):
            if self._callbacks.ended:
                self.surplus = True
                return
            self._feed(data[at : at + 1])

    def _end(self, data: bytes) -> None:
        # llhttp does not tell where the end was and skips empty lines after it. A body ends with exactly two line ends, and a read
        # longer than them in which it ends holds them all or, if it holds nothing else, more than them.
        self.done = True
        if len(data) > len(_END) and len(data) - len(data.rstrip(b"\r\n")) != len(_END):
            self.surplus = True

    def _count_overhead(self, count: int) -> None:
        self._overhead += count
        if self._overhead > MAX_OVERHEAD and not self.error:
            self.done = True
            self.error = "too much chunk overhead in the response"


class _Callbacks:
    """What llhttp calls. Apart from the reader, so that no reference cycle arises."""

    __slots__ = ("ended", "on_body", "pieces")

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.on_body = self.pieces.append  # no Python frame per chunk
        self.ended = False

    def on_message_begin(self) -> None:
        if self.ended:
            raise ValueError("a second message")  # stops llhttp, which would mix its body with ours

    def on_message_complete(self) -> None:
        self.ended = True
