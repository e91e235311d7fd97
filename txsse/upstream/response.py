"""One response from a backend, sans-I/O: the head strictly, then the body without its framing.

However the input is cut, the outcome is the same.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

import attrs

from txsse.upstream.chunks import ChunkedBody
from txsse.wire.headers import get, get_all, tokens
from txsse.wire.http1 import CHUNKED, LENGTH, BadHead, ResponseHead, names_websocket, parse_fields

MAX_HEAD: Final = 64 * 1024
"""Bytes of one head, that of a 1xx included."""

MAX_FIELDS: Final = 256
"""Header fields of one head."""

MAX_INTERIM: Final = 32
"""1xx heads before the final one."""

MAX_KNOWN: Final = 64
"""Heads that are remembered."""

MAX_KNOWN_SIZE: Final = 4096
"""Bytes of a head that is remembered."""

MALFORMED: Final = "malformed response head"

UNTIL_CLOSE: Final = -2
"""In place of a length: the body ends where the connection does."""

# RFC 9112 section 4. The reason, and in old servers the space before it, may be missing.
_STATUS_LINE = re.compile(rb"(HTTP/1\.[01]) ([1-9][0-9][0-9])(?: ([^\r\n]*+))?\r\n")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_HEAD_END: Final = b"\r\n\r\n"


class BadResponse(ValueError):
    """This is no response; the text says why, fit for a client."""


class Body(Protocol):
    """What comes after a head, fed read by read until :attr:`done`.

    :ivar done: nothing more is expected: it has ended, or :attr:`error` is set.
    :ivar error: why this is no body, in a few words fit for a client, or "".
    :ivar surplus: there were bytes after the end: whatever they are, the connection cannot be used again.
    """

    @property
    def done(self) -> bool: ...

    @property
    def error(self) -> str: ...

    @property
    def surplus(self) -> bool: ...

    def feed(self, data: bytes) -> bytes:
        """Take the bytes of one read (not empty); return the body bytes in it, joined. Those before an error are good."""


class SizedBody:
    """A body of so many bytes."""

    __slots__ = ("_left", "done", "surplus")
    error: Final = ""

    def __init__(self, length: int) -> None:
        self.done = length == 0
        self.surplus = False
        self._left = length

    def feed(self, data: bytes) -> bytes:
        left = self._left - len(data)
        if left > 0:
            self._left = left
            return data
        self.done = True
        if left == 0:
            return data
        self.surplus = True
        data, self._left = data[: self._left], 0
        return data


class OpenBody:
    """A body that goes on until the connection closes."""

    __slots__ = ()
    done: Final = False
    error: Final = ""
    surplus: Final = False

    def feed(self, data: bytes) -> bytes:
        return data


OPEN: Final = OpenBody()
"""One for all: it remembers nothing."""

TUNNEL: Final = OpenBody()
"""What comes after a 101."""


@attrs.frozen
class FramedHead:
    """A final response's head, and what it says about the rest of the connection.

    :ivar framing: how the body is delimited (RFC 9112 section 6.3): its length in bytes, or :data:`CHUNKED`, or :data:`UNTIL_CLOSE`.
    :ivar keep_alive: after the body the connection may carry another request (RFC 9112 section 9.3).
    """

    head: ResponseHead
    framing: int
    keep_alive: bool


# A busy upstream sends the same heads all second long. Their headers are shared then, and never changed.
_known: dict[bytes, FramedHead] = {}


def parse_head(block: bytes, *, upgrades: bool = False) -> FramedHead | None:
    """Read a head: everything up to and including the blank line. ``None`` for a 1xx.

    :param upgrades: a WebSocket was asked for, so there may be a 101.
    :raises BadResponse: it is none.
    """
    line = _STATUS_LINE.match(block)
    if line is None:
        raise BadResponse(MALFORMED)
    try:
        headers = parse_fields(block, line.end())
    except BadHead:
        raise BadResponse(MALFORMED) from None
    if len(headers) > MAX_FIELDS:
        raise BadResponse("too many fields in the response head")
    status = int(line[2])
    if status == 101:
        if upgrades and names_websocket(headers):
            return FramedHead(ResponseHead(status, line[3] or b"", line[1], headers), UNTIL_CLOSE, keep_alive=False)
        raise BadResponse("unexpected 101 response")
    if status < 200:
        return None
    head = ResponseHead(status, line[3] or b"", line[1], headers)
    framed = FramedHead(head, _framing(head), _keeps_alive(head))
    if len(block) <= MAX_KNOWN_SIZE:
        if len(_known) >= MAX_KNOWN:
            del _known[next(iter(_known))]  # the one known longest
        _known[block] = framed
    return framed


def _keeps_alive(head: ResponseHead) -> bool:
    headers = head.headers
    if head.status == 204 and (get(headers, b"transfer-encoding") is not None or get(headers, b"content-length") not in (None, b"0")):
        # It has no body, so it may not announce one. A backend that does sends it too, and the next answer would begin with it.
        return False
    options = tokens(headers, b"connection")
    return b"close" not in options and (head.version == b"HTTP/1.1" or b"keep-alive" in options)


def _framing(head: ResponseHead) -> int:
    lengths = get_all(head.headers, b"content-length")
    codings = get_all(head.headers, b"transfer-encoding")
    if lengths and (codings or len(lengths) > 1 or not LENGTH.fullmatch(lengths[0])):
        raise BadResponse("bad Content-Length in the response")
    if codings and (len(codings) > 1 or codings[0].lower() != b"chunked" or head.version != b"HTTP/1.1"):
        raise BadResponse("bad Transfer-Encoding in the response")
    if head.status in (204, 304):
        return 0
    if codings:
        return CHUNKED
    return int(lengths[0]) if lengths else UNTIL_CLOSE


class HeadReader:
    """Finds the final head in what comes after a request.

    After each :meth:`feed` look at the attributes.

    :ivar found: the final head, once it is complete.
    :ivar error: why there is none, in a few words fit for a client, or "".
    """

    __slots__ = ("_bodiless", "_buffer", "_interim", "_upgrades", "error", "found")

    def __init__(self, method: bytes, upgrades: bool = False) -> None:
        """
        :param method: of the request: the answer to HEAD has no body, whatever its fields say.
        :param upgrades: it asks for a WebSocket.
        """
        self._bodiless = method == b"HEAD"
        self._upgrades = upgrades
        self.found: FramedHead | None = None
        self.error = ""
        self._buffer: bytearray | None = None  # an incomplete head
        self._interim = 0

    @property
    def touched(self) -> bool:
        """Whether a byte of a response has come."""
        return bool(self.found or self._buffer or self._interim or self.error)

    def body(self) -> Body:
        """Who reads the body after the head that was found."""
        assert self.found is not None
        framing = 0 if self._bodiless else self.found.framing
        if framing >= 0:
            return SizedBody(framing)
        if framing == CHUNKED:
            return ChunkedBody()
        return TUNNEL if self.found.head.status == 101 else OPEN

    def feed(self, data: bytes) -> bytes:
        """Take the bytes of one read (not empty); return those after the final head, if it is complete with them."""
        if self._buffer is None:
            end = data.find(_HEAD_END) + len(_HEAD_END)
            self.found = _known.get(data[:end])
            if self.found is not None:
                return data[end:]
        try:
            return self._read(data)
        except BadResponse as bad:
            self.error = str(bad)
            self._buffer = None
            return b""

    def _read(self, data: bytes | bytearray) -> bytes:
        searched = 0
        if self._buffer is not None:
            searched = max(0, len(self._buffer) - len(_HEAD_END) + 1)
            self._buffer += data
            data = self._buffer
        while (end := data.find(_HEAD_END, searched) + len(_HEAD_END)) >= len(_HEAD_END):
            if end > MAX_HEAD:
                raise BadResponse("response head too large")
            block = bytes(data[:end])
            self.found = _known.get(block) or parse_head(block, upgrades=self._upgrades)
            self._buffer = None
            data, searched = bytes(data[end:]), 0
            if self.found is not None:
                return data
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise BadResponse("too many 1xx responses")
        if data:
            self._keep_incomplete(data, searched)
        return b""

    def _keep_incomplete(self, data: bytes | bytearray, searched: int) -> None:
        """Wait for the rest, unless it cannot become a head any more."""
        if len(data) > MAX_HEAD:
            raise BadResponse("response head too large")
        if not b"HTTP/1.".startswith(data[:7]) or _BARE_LF.search(data, searched):
            raise BadResponse(MALFORMED)
        if data is not self._buffer:
            self._buffer = bytearray(data)
