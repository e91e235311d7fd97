"""What ``Cache-Control`` asks of a cache (RFC 9111 section 5.2), of a request as of a response."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import attrs

from txsse.wire.headers import Headers, get_all

MAX_AGE: Final = 2**31
"""Seconds: what a larger number is taken for (RFC 9111 section 1.2.2)."""

_QUOTED = rb'"(?:[^"\\]++|\\(?s:.))*+"'
_LINE = re.compile(rb'(?:[^"]++|%b)*+' % _QUOTED)
_PART = re.compile(rb'(?:[^,"]++|%b)++' % _QUOTED)
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)


@attrs.frozen
class Directives:
    """The directives that count here; of one given twice the more restrictive, and others are ignored.

    :param no_cache: not to be answered from what is stored.
    :param no_store: nothing of it is to be stored.
    :param only_if_cached: to be answered from what is stored, or not at all.
    :param private: not for a cache that many share.
    :param max_age: seconds that an answer may be old, at most :data:`MAX_AGE`; ``None`` without a bound.
    """

    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    private: bool = False
    max_age: int | None = None


_NONE: Final = Directives()


def parse(headers: Headers) -> Directives:
    """Read all lines of ``Cache-Control``, or of ``Pragma`` where there is none (RFC 9111 section 5.4).

    ``private="field"`` is taken for ``private``, as section 5.2.2.7 allows. ``no-cache="field"`` is ignored: it is about a field alone. A
    ``max-age`` that is no number is 0 (section 4.2.1: such an answer is stale).
    """
    lines = get_all(headers, b"cache-control")
    if lines:
        return _directives(tuple(lines))
    lines = get_all(headers, b"pragma")
    return Directives(no_cache=_directives(tuple(lines)).no_cache) if lines else _NONE


@lru_cache(64)  # clients and backends say the same again and again
def _directives(lines: tuple[bytes, ...]) -> Directives:
    given: dict[bytes, list[bytes]] = {}
    for line in lines:
        for part in _parts(line):
            name, _, argument = part.partition(b"=")
            given.setdefault(name.strip().lower(), []).append(_unquoted(argument.strip()))
    return Directives(
        no_cache=b"" in given.get(b"no-cache", ()),
        no_store=b"no-store" in given,
        only_if_cached=b"only-if-cached" in given,
        private=b"private" in given,
        max_age=min(map(_seconds, given.get(b"max-age", ())), default=None),
    )


def _parts(line: bytes) -> Iterator[bytes]:
    # Where a quote is left open nobody can tell what it was to hold: every comma separates, so that what follows still counts.
    if _LINE.fullmatch(line) is None:
        yield from line.split(b",")
        return
    for match in _PART.finditer(line):
        yield match[0]


def _unquoted(argument: bytes) -> bytes:
    """An argument may be a token or a quoted string, whatever its directive says (RFC 9111 section 5.2)."""
    if len(argument) < 2 or not (argument.startswith(b'"') and argument.endswith(b'"')):
        return argument
    return _QUOTED_PAIR.sub(rb"\1", argument[1:-1])


def _seconds(argument: bytes) -> int:
    if not argument.isdigit():
        return 0
    digits = argument.lstrip(b"0")
    return min(int(digits or b"0"), MAX_AGE) if len(digits) <= 10 else MAX_AGE
