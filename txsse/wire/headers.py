"""Header fields as they stood on the wire: a list of (name, value) pairs, order and letter case kept."""

from __future__ import annotations

from collections.abc import Iterable

Headers = list[tuple[bytes, bytes]]


def get_all(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """Every value of the field *name* (lower case), in order."""
    size = len(name)  # lengths are compared first, for making a name lower-case is what costs
    return [value for key, value in headers if len(key) == size and key.lower() == name]


def get(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """The first value of the field *name* (lower case), or ``None``."""
    size = len(name)
    for key, value in headers:
        if len(key) == size and key.lower() == name:
            return value
    return None


def tokens(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """The comma-separated members of all lines of *name*, lower-cased and stripped (RFC 9110 section 5.6.1)."""
    found: list[bytes] = []
    for value in get_all(headers, name):
        found.extend(token for part in value.split(b",") if (token := part.strip().lower()))
    return found


def without(headers: Iterable[tuple[bytes, bytes]], names: Iterable[bytes]) -> Headers:
    """The fields whose lower-cased name is not among *names*."""
    drop = frozenset(names)
    return [(key, value) for key, value in headers if key.lower() not in drop]


class Prepared:
    """Fields that many messages have in common, as they are sent, and what a sender has to know of them. Never changed.

    :ivar lines: each with its line end.
    :ivar length: what Content-Length says.
    :ivar dated: there is a Date.
    """

    __slots__ = ("dated", "fields", "length", "lines")

    def __init__(self, fields: Headers) -> None:
        length = get(fields, b"content-length")
        self.fields = fields
        self.lines = b"".join([b"%b: %b\r\n" % field for field in fields])
        self.length = None if length is None else int(length)
        self.dated = get(fields, b"date") is not None


NO_FIELDS = Prepared([])

HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)


def end_to_end(headers: Headers) -> Headers:
    """The fields a proxy passes on: hop-by-hop ones and those named by Connection are dropped (RFC 9110 section 7.6.1)."""
    named = tokens(headers, b"connection")
    return without(headers, HOP_BY_HOP.union(named))
