"""What can go wrong with a command."""

from __future__ import annotations

from typing import Final


class RedisError(Exception):
    """A command has failed."""


class Unavailable(RedisError):
    """There was no answer: no connection, or not in time. It may have been done, or may yet be."""


class CommandRefused(RedisError):
    """Redis answered with an error: nothing was done."""


UNUSABLE: Final = frozenset(("LOADING", "MASTERDOWN", "MISCONF", "NOAUTH", "NOREPLICAS", "READONLY"))
"""Codes of refusals that hold for whatever is written, as long as they do. Another connection may lead to another server."""

CODES: Final = UNUSABLE | {"BUSY", "NOPERM", "OOM"}
"""Those that are told apart."""


def words_of(refusal: BaseException | None) -> str:
    """What Redis said, without what it was sent: of a command that it does not know it repeats the arguments, and so a password."""
    return str(refusal).partition(", with args")[0].partition(" script: ")[0]


def code_of(words: str) -> str:
    """One of :data:`CODES`, or ``other``. A refusal in a script stands first in what Redis 7 says of it, and last in what 6 does."""
    return next((word for word in words.replace("-", " ").split() if word in CODES), "other")
