"""One response from a backend, sans-I/O: the head strictly, the body without its framing.

However the input is cut, the outcome is the same.
"""

from __future__ import annotations

import re
from typing import Final

from txsse.upstream.chunks import ChunkReader
from txsse.wire.headers import tokens
from txsse.wire.http1 import LENGTH, BadHead, ResponseHead, parse_fields

MAX_HEAD: Final = 64 * 1024
"""Bytes of one head, that of a 1xx included."""

MAX_FIELDS: Final = 256
"""Header fields of one head."""

MAX_INTERIM: Final = 32
"""1xx heads before the final one."""

# RFC 9112 section 4. The reason, and in old servers the space before it, may be missing.
_STATUS_LINE = re.compile(rb"(HTTP/1\.[01]) ([1-9][0-9][0-9])(?: ([^\r\n]*+))?\r\n")
_BARE_LF = re.compile(rb"(?<!\r)\n")

_UNTIL_CLOSE = -1

MALFORMED: Final = "malformed response head"


class ResponseParser:
    """Reads the response to one request; the next one takes a new parser.

    After each :meth:`feed` look at the attributes.

    :ivar head: of the final response, once it is complete.
    :ivar done: nothing more is expected: the response has ended, or *error* is set.
    :ivar error: why this is no response, in a few words fit for a client, or "".
    :ivar surplus: there were bytes after the end: whatever they are, the connection cannot be used again.
    """

    __slots__ = ("_buffer", "_chunks", "_interim", "_left", "_method", "done", "error", "head", "surplus")

    def __init__(self, method: bytes) -> None:
        """:param method: of the request: the answer to HEAD has no body, whatever its fields say."""
        self.head: ResponseHead | None = None
        self.done = False
        self.error = ""
        self.surplus = False
        self._method = method
        self._buffer = bytearray()  # an incomplete head
        self._interim = 0
        self._chunks: ChunkReader | None = None
        self._left = 0  # of a body delimited by its length

    @property
    def touched(self) -> bool:
        """Whether a byte of a response has come."""
        return bool(self.head or self._buffer or self._interim or self.error)

    @property
    def until_close(self) -> bool:
        """The body ends where the connection does."""
        return self.head is not None and self._left == _UNTIL_CLOSE

    @property
    def reusable(self) -> bool:
        """The response has ended so that the connection may carry another request (RFC 9112 section 9.3)."""
        head = self.head
        if head is None or not self.done or self.error or self.surplus:
            return False
        options = tokens(head.headers, b"connection")
        return b"close" not in options and (head.version == b"HTTP/1.1" or b"keep-alive" in options)

    def feed(self, data: bytes) -> bytes:
        """Take the bytes of one read (not empty); return the body bytes in it, joined. Those before an error are good."""
        if self.head is None:
            data = self._feed_head(data)
            if not data:
                return b""
        if self.done:
            self.surplus = not self.error
            return b""
        chunks = self._chunks
        if chunks is not None:
            body = chunks.feed(data)
            if chunks.done:
                self.done, self.error, self.surplus = True, chunks.error, chunks.surplus
            return body
        left = self._left
        if left == _UNTIL_CLOSE:
            return data
        self._left = max(left - len(data), 0)
        if len(data) < left:
            return data
        self.done = True
        self.surplus = len(data) > left
        return data[:left]

    def _fail(self, error: str) -> None:
        self.done = True
        self.error = error
        self._buffer = bytearray()

    def _feed_head(self, data: bytes | bytearray) -> bytes:
        """Read heads up to the final one; return what follows it."""
        if self.done:
            return b""
        searched = 0
        if self._buffer:
            searched = max(0, len(self._buffer) - 3)
            self._buffer += data
            data = self._buffer
        while self.head is None and not self.error:
            end = data.find(b"\r\n\r\n", searched) + 4
            if end < 4:
                self._keep_incomplete(data, searched)
                return b""
            self._read_head(bytes(data[:end]))
            data, searched = data[end:], 0
            self._buffer = bytearray()
        return bytes(data)

    def _keep_incomplete(self, data: bytes | bytearray, searched: int) -> None:
        """Wait for the rest, unless it cannot become a head any more."""
        if len(data) > MAX_HEAD:
            self._fail("response head too large")
        elif not b"HTTP/1.".startswith(data[:7]) or _BARE_LF.search(data, searched):
            self._fail(MALFORMED)
        elif data is not self._buffer:
            self._buffer = bytearray(data)

    def _read_head(self, block: bytes) -> None:
        if len(block) > MAX_HEAD:
            self._fail("response head too large")
            return
        line = _STATUS_LINE.match(block)
        if line is None:
            self._fail(MALFORMED)
            return
        try:
            headers = parse_fields(block, line.end())
        except BadHead:
            self._fail(MALFORMED)
            return
        status = int(line[2])
        if len(headers) > MAX_FIELDS:
            self._fail("too many fields in the response head")
        elif status == 101:  # Upgrade is never passed on
            self._fail("unexpected 101 response")
        elif status >= 200:
            self._begin_body(ResponseHead(status, line[3] or b"", line[1], headers))
        else:
            self._interim += 1
            if self._interim > MAX_INTERIM:
                self._fail("too many 1xx responses")

    def _begin_body(self, head: ResponseHead) -> None:
        """Find out how the body ends (RFC 9112 section 6.3)."""
        lengths: list[bytes] = []
        codings: list[bytes] = []
        for name, value in head.headers:
            match name.lower():
                case b"content-length":
                    lengths.append(value)
                case b"transfer-encoding":
                    codings.append(value)
        if lengths and (codings or len(lengths) > 1 or not LENGTH.fullmatch(lengths[0])):
            self._fail("bad Content-Length in the response")
            return
        if codings and (len(codings) > 1 or codings[0].lower() != b"chunked" or head.version != b"HTTP/1.1"):
            self._fail("bad Transfer-Encoding in the response")
            return
        self.head = head
        if self._method == b"HEAD" or head.status in (204, 304):
            self.done = True
        elif codings:
            self._chunks = ChunkReader()
        elif lengths:
            self._left = int(lengths[0])
            self.done = self._left == 0
        else:
            self._left = _UNTIL_CLOSE
