"""A value that must not be seen in a log, a traceback or ``--check``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import attrs

from txsse.config.errors import Refused, choices, shown

MASK: Final = "***"
_LONGEST: Final = 64 * 1024  # bytes of a secret's file that are read


@attrs.frozen(repr=False)
class Secret:
    """Holds a secret text: ``repr`` and ``str`` show ``***``, :meth:`reveal` the text. An empty one is false."""

    _value: str = ""

    def reveal(self) -> str:
        """The text itself: only for the wire and for comparing."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return MASK if self._value else "''"

    def __str__(self) -> str:
        return MASK if self._value else ""


def read_secret(value: object) -> Secret:
    """A literal, ``{ file = ".." }`` or ``{ env = ".." }``, read now: a reload reads them again. A literal is never shown in an error.

    :raises Refused: it is none of these, or names an empty or unreadable source: an empty token would switch protection off silently.
    """
    if isinstance(value, str):
        return Secret(value)
    if not isinstance(value, dict):
        raise Refused('a secret is a string, { file = ".." } or { env = ".." }')
    if len(value) != 1 or not isinstance(next(iter(value.values())), str):
        raise Refused(f'a secret has one source, {{ file = ".." }} or {{ env = ".." }}; found: {", ".join(map(str, value)) or "none"}')
    ((source, name),) = value.items()
    if source == "env":
        text, empty = os.environ.get(name, ""), f"the environment variable {name} is not set or empty; set it"
    elif source == "file":
        text, empty = _content(name), f"the file {shown(name)} is empty"
    else:
        raise Refused(f"unknown source {source!r} of a secret; {choices(source, ('file', 'env'))}")
    if not text:
        raise Refused(empty)
    return Secret(text)


def _content(name: str) -> str:
    try:
        with Path(name).open("rb") as stream:
            return stream.read(_LONGEST).decode().rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise Refused(f"the file {shown(name)} cannot be read: {why_unreadable(error)}") from None


def why_unreadable(error: Exception) -> str:
    """What an exception of opening and decoding a file says, without the file's name or content."""
    if isinstance(error, UnicodeError):
        return "it is not UTF-8"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
