"""Request heads that were read before: a client sends the same one again and again, but for Content-Length and X-Request-Id."""

from __future__ import annotations

import re
from typing import Any, Final

from txsse.wire.headers import Headers, get
from txsse.wire.http1 import CHUNKED, RequestHead, parse_request_head

MAX_HEADS: Final = 256

# With these a head takes 16 KiB at most, so all of them 8 MiB, shapes included.
MAX_BLOCK: Final = 4096
MAX_FIELDS: Final = 64

MAX_SHARED: Final = 1024
"""Fields that are kept once, for all heads that have them."""

_LENGTH: Final = re.compile(rb"(?i:\r\ncontent-length:)[ \t]*+([0-9]{1,15})[ \t]*+\r\n")
_REQUEST_ID: Final = re.compile(rb"\r\n((?i:x-request-id)):[ \t]*+([A-Za-z0-9._:-]{1,128})[ \t]*+\r\n")


class HeadMemo:
    """Parses each distinct head once, and gives the same object for it from then on; the longest known is forgotten first.

    Heads are told apart by their bytes, with the first Content-Length that is a plain number, and the first X-Request-Id that can be
    kept, taken for 0. What the strict parser says of a head depends on neither, so one that is known is as good as parsed. Heads that
    differ in their request id alone have one shape.

    Heads that differ otherwise, by a key or a trace id, have most fields in common: of these there is one object too, for a thousand
    streams may have a thousand heads.
    """

    __slots__ = ("_fields", "_heads", "_shapes")

    def __init__(self) -> None:
        self._heads: dict[bytes, RequestHead] = {}
        self._shapes: dict[bytes, tuple[RequestHead, int]] = {}  # and where a request id stands among the fields
        self._fields: dict[tuple[bytes, bytes], tuple[bytes, bytes]] = {}

    def parse(self, block: bytes) -> tuple[RequestHead, int]:
        """As :func:`txsse.wire.http1.parse_request_head`."""
        found = _LENGTH.search(block)
        key, length = (block, 0) if found is None else (_with_0(block, found, 1), int(found[1]))
        head = self._heads.get(key)
        if head is None:
            named = _REQUEST_ID.search(key)
            if named is None:
                return self._learn(key, block)
            key = _with_0(key, named, 2)
            known = self._shapes.get(key)
            if known is None:
                return self._learn_shape(key, named, block)
            shape, at = known
            head = shape.identified(at, named[1], named[2])
        return head, CHUNKED if head.chunked else length

    def _learn(self, key: bytes, block: bytes) -> tuple[RequestHead, int]:
        head, length = parse_request_head(block)
        if _is_small(key, head):
            _make_room(self._heads)
            head.headers = self._shared(head.headers)
            self._heads[key] = head
        return head, length

    def _learn_shape(self, key: bytes, named: re.Match[bytes], block: bytes) -> tuple[RequestHead, int]:
        head, length = parse_request_head(block)
        at = head.headers.index((named[1], named[2]))
        rest = [*head.headers[:at], *head.headers[at + 1 :]]
        if not _is_small(key, head) or get(rest, b"x-request-id") is not None:
            return head, length
        _make_room(self._shapes)
        shape = RequestHead(head.method, head.target, head.version, self._shared(rest), head.sized)
        self._shapes[key] = shape, at
        return shape.identified(at, named[1], named[2]), length

    def _shared(self, headers: Headers) -> Headers:
        if len(self._fields) >= MAX_SHARED:
            self._fields.clear()
        share = self._fields.setdefault
        return [share(field, field) for field in headers]


def _with_0(block: bytes, found: re.Match[bytes], group: int) -> bytes:
    begin, end = found.span(group)
    return b"%b0%b" % (block[:begin], block[end:])


def _is_small(key: bytes, head: RequestHead) -> bool:
    return len(key) <= MAX_BLOCK and len(head.headers) <= MAX_FIELDS


def _make_room(memo: dict[bytes, Any]) -> None:
    if len(memo) >= MAX_HEADS:
        del memo[next(iter(memo))]
