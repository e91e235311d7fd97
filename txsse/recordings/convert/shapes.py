"""What all conversions share: JSON read strictly, objects that come in pieces put together, texts cut into words."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, Final

import attrs

from txsse.wire.eventstream import Event, EventStreamDecoder

JsonObject = dict[str, Any]

_MOST_SLICES: Final = 4096
"""Frames that one text becomes at most: each is some 200 bytes larger than its word."""
_WORD: Final = re.compile(r"\s*\S+\s*")
_SAID_ONCE: Final = frozenset(("role", "id", "type", "name"))
"""Members that servers repeat in every piece, and that are no pieces of a text."""


class NotConvertible(ValueError):
    """An answer has no other form, or none without a loss."""


@attrs.frozen
class Converter:
    """Both ways of one dialect; they raise ``ValueError`` or ``RecursionError`` where there is no way.

    :param to_document: the document that a whole stream amounts to.
    :param to_stream: the frames of a document, with the usage if that was asked for. ``None``: documents have no other form.
    """

    to_document: Callable[[bytes], JsonObject]
    to_stream: Callable[[JsonObject, bool], list[bytes]] | None = None


def parse(text: str) -> Any:
    """The value of a JSON text.

    :raises ValueError: also for what Python would read and change: a member that is there twice, NaN, and numbers too large for a double.
    """
    return json.loads(text, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_finite)


def read_object(text: str) -> JsonObject:
    """A JSON object that is no error in any of the shapes that servers use.

    :raises ValueError: it is something else.
    """
    value = as_object(parse(text))
    if value.get("error") is not None or value.get("object") == "error" or value.get("type") == "error":
        raise NotConvertible("an error")
    return value


def read_events(body: bytes) -> list[Event]:
    """The events of a whole stream that say something, the last of which may lack its empty line.

    :raises ValueError: an ``error`` event, or bytes that are no UTF-8, which a decoder would replace.
    """
    body.decode()
    events = EventStreamDecoder(len(body) + 2).feed(body + b"\n\n")
    if any(event.type == "error" for event in events):
        raise NotConvertible("an error")
    return [event for event in events if event.data and event.type != "ping"]


def as_object(value: object) -> JsonObject:
    if not isinstance(value, dict):
        raise NotConvertible("no object")
    return value


def as_objects(value: object) -> list[JsonObject]:
    if not isinstance(value, list):
        raise NotConvertible("no list")
    return [as_object(each) for each in value]


def as_text(value: object) -> str:
    if not isinstance(value, str):
        raise NotConvertible("no text")
    return value


def as_index(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise NotConvertible("no index")
    return value


def is_empty(value: object) -> bool:
    """Has it nothing to be cut or told later: null, an empty text, an empty list?"""
    return value is None or value in ("", [])


def words(text: str) -> list[str]:
    """*text* in slices of a word and the blanks around it, which joined are *text* again; of several words where it is very long."""
    if not text or text.isspace():  # the pattern would look at every blank from every other
        return [text] if text else []
    found: list[str] = _WORD.findall(text)
    if len(found) <= _MOST_SLICES:
        return found
    count = -(-len(found) // _MOST_SLICES)
    return ["".join(found[at : at + count]) for at in range(0, len(found), count)]


def joined(known: JsonObject, piece: JsonObject) -> JsonObject:
    """An object of which one more piece has come: texts and lists are continued, objects member by member, of numbers the last counts.

    Null replaces nothing.

    :raises NotConvertible: a member is a text here and a list there, or has two identities.
    """
    return known | {name: _continued(name, known.get(name), value) for name, value in piece.items()}


def _continued(name: str, known: Any, more: Any) -> Any:
    if known is None or more is None:
        return known if more is None else more
    if isinstance(known, str) and isinstance(more, str) and name in _SAID_ONCE:
        if known and more and known != more:
            raise NotConvertible(f"{name} has changed")
        return known or more
    if isinstance(known, str) and isinstance(more, str):
        return known + more
    if isinstance(known, list) and isinstance(more, list):
        return known + more
    if isinstance(known, dict) and isinstance(more, dict):
        return joined(known, more)
    if isinstance(known, str | list | dict) or isinstance(more, str | list | dict):
        raise NotConvertible(f"{name} is of two kinds")
    return more


def _unique(pairs: list[tuple[str, Any]]) -> JsonObject:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise NotConvertible("a member that is there twice")
    return members


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise NotConvertible("no number of JSON, or too large a one")
    return value
