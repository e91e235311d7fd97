"""Where a reader wants to begin: the cursor that it sends, in any of the places where clients send one."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

import attrs

from txsse.wire.headers import Headers, get

_SID: Final = re.compile(rb"(?:[A-Za-z0-9_-]{1,32}~)?[A-Za-z0-9_-]{22}")
_OURS: Final = re.compile(rb"((?:[A-Za-z0-9_-]{1,32}~)?[A-Za-z0-9_-]{22})\.([0-9]{1,10})")
_LIKE_OURS: Final = re.compile(rb"(?:[A-Za-z0-9_-]{1,32}~)?[A-Za-z0-9_-]{22}\..*")
_NUMBER: Final = re.compile(rb"[0-9]{1,10}")
_ALL: Final = frozenset((b"earliest", b"0", b"-1"))
_LONGEST: Final = 128


class BadCursor(ValueError):
    """The text says why, fit for a client."""


@attrs.frozen
class Cursor:
    """
    :param after: the number of the last event that the reader has; 0: none.
    :param live: only what is still to come.
    :param foreign: an id that upstream gave; the event after it is meant.
    """

    after: int = 0
    live: bool = False
    foreign: bytes | None = None


def is_sid(text: bytes) -> bool:
    """Could this be the id of a stream?"""
    return _SID.fullmatch(text) is not None


def ours(headers: Headers) -> tuple[bytes, int] | None:
    """The stream and the event that the Last-Event-ID names, if it is one of ours."""
    told = get(headers, b"last-event-id")
    match = None if told is None else _OURS.fullmatch(told.strip(b" \t"))
    return None if match is None else (match[1], int(match[2]))


def is_mangled(headers: Headers) -> bool:
    """Does the Last-Event-ID begin as one of ours, and is none? Nobody else is asked for what comes after such a thing."""
    told = get(headers, b"last-event-id")
    return told is not None and ours(headers) is None and _LIKE_OURS.fullmatch(told.strip(b" \t")) is not None


def parameters(query: bytes) -> dict[bytes, bytes]:
    """What a query says, decoded to bytes of any value; the last of several of one name.

    (:func:`urllib.parse.parse_qsl` raises at bytes beyond ASCII if it is given bytes.)
    """
    pairs = (pair.partition(b"=") for pair in query.split(b"&") if pair)
    return {_decoded(name): _decoded(value) for name, _, value in pairs}


def _decoded(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))


def parse_cursor(sid: bytes, headers: Headers, query: dict[bytes, bytes]) -> Cursor:
    """The cursor of a reader of stream *sid*: ``Last-Event-ID``, else ``last_event_id``, else ``starting_after``; ``from=live``.

    One that is empty says nothing.

    :param query: the parameters, decoded.
    :raises BadCursor: it is none, or another stream's. Nothing is to be replayed then.
    """
    told = (get(headers, b"last-event-id") or b"").strip(b" \t") or query.get(b"last_event_id", b"").strip(b" \t")
    if told:
        return _of_id(sid, told)
    after = query.get(b"starting_after")
    if after:
        if after not in _ALL and not _NUMBER.fullmatch(after):
            raise BadCursor("starting_after is not the number of an event: send the one after which to go on, or 0 for all.")
        return Cursor(0 if after in _ALL else int(after))
    where = query.get(b"from")
    if where not in (None, b"live", b"earliest"):
        raise BadCursor("from is neither live nor earliest.")
    return Cursor(live=where == b"live")


def _of_id(sid: bytes, told: bytes) -> Cursor:
    if told in _ALL:
        return Cursor()
    match = _OURS.fullmatch(told)
    if match is not None:
        if match[1] != sid:
            raise BadCursor("The cursor belongs to another stream: send an id of this one, or none for all of it.")
        return Cursor(int(match[2]))
    if told.startswith(sid[:22]) or len(told) > _LONGEST or any(byte < 33 or byte > 126 for byte in told):
        raise BadCursor("The cursor is not the id of an event: send the last one that came, or none for all of it.")
    return Cursor(foreign=told)
