"""What the body of a request for a prediction says. Its input is not read, however long it is: only where it begins and ends."""

from __future__ import annotations

import json
import re
from collections.abc import Generator
from typing import Any, Final

import attrs

from txsse.predictions.model import Invalid
from txsse.wire.headers import Headers, get
from txsse.wire.peek import scan

_MEMBERS: Final = frozenset(("id", "input", "webhook", "webhook_events_filter"))
_JSON: Final = re.compile(rb"application/(?:[A-Za-z0-9!#$&^_.+-]+\+)?json", re.IGNORECASE)
_ID: Final = re.compile(r"[A-Za-z0-9._~:@=+-]{1,128}")
_MAX_SMALL: Final = 64 * 1024


@attrs.frozen
class Asked:
    """
    :param id: "" if there is none.
    :param input: as JSON, an object; ``None`` if there is none.
    :param webhook: where its news go, and *events*: which of them; ``None`` where that was not said.
    """

    id: str
    input: bytes | None
    webhook: object
    events: object


def is_json(fields: Headers) -> bool:
    """Whether the body is said to be JSON, or nothing is said of it."""
    kind = get(fields, b"content-type")
    return kind is None or _JSON.fullmatch(kind.partition(b";")[0].strip()) is not None


def check_id(text: object, *location: str) -> str:
    """*text*, if it can be the id of a prediction.

    :raises Invalid: it cannot.
    """
    if not isinstance(text, str):
        raise Invalid(location, "str type expected", "type_error.str")
    if not _ID.fullmatch(text) or not text.strip("."):
        raise Invalid(location, "a prediction ID has 1 to 128 of the characters A-Z a-z 0-9 . _ ~ : @ = + -")
    return text


def read_asked(body: bytes, id: str = "") -> Generator[None, None, Asked]:
    """Read a body in steps between which others have their turn.

    :param id: the one in the request's path.
    :raises Invalid: it says nothing, or something else.
    """
    found = (yield from scan(body, _MEMBERS, len(body))) if body.strip() else {}
    if found is None:
        raise Invalid(("body",), "the body is not one JSON object", "value_error.jsondecode")
    named = _value(found, "id")
    if named is not None and check_id(named, "body", "id") != (id or named):
        raise Invalid(("body", "id"), "prediction ID must match the ID supplied in the URL")
    given = found.get("input")
    if given == b"null":
        given = None
    if given is not None and not given.startswith(b"{"):
        raise Invalid(("body", "input"), "value is not a valid dict", "type_error.dict")
    return Asked(id or named or "", given, _value(found, "webhook"), _value(found, "webhook_events_filter"))


def _value(found: dict[str, bytes], name: str) -> Any:
    text = found.get(name, b"null")
    try:
        if len(text) > _MAX_SMALL:
            raise ValueError
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Invalid(("body", name), "value is not valid JSON, or too long") from None
