"""What is wrong with a configuration, all of it at once, in sentences for whoever wrote it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import attrs


class ConfigError(Exception):
    """The configuration is refused.

    :param problems: one line each: the option, its value, what is allowed, and what to do.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems: list[str] = list(problems)
        super().__init__(*self.problems)

    def __str__(self) -> str:
        return "\n".join(self.problems)


@attrs.define(eq=False)
class Refused(ValueError):
    """One value is wrong; whoever knows which option it belongs to makes a :class:`Problem` of it."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@attrs.frozen
class Problem:
    """One thing wrong: *where* names the option, *reason* says the rest."""

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


def nearest(word: str, valid: Iterable[str]) -> str | None:
    """The valid name that *word* was probably meant to be."""
    lowered = {name.lower(): name for name in valid}
    found = difflib.get_close_matches(word.lower(), lowered, n=1)
    return lowered[found[0]] if found else None


def shown(value: object) -> str:
    """*value* as an error line shows it: one line, bounded."""
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def choices(word: object, valid: Iterable[str]) -> str:
    """The end of a refusal: what is allowed, and what was probably meant."""
    names = list(valid)
    guess = nearest(word, names) if isinstance(word, str) else None
    hint = f"did you mean {guess!r}? " if guess is not None else ""
    return f"{hint}Allowed: {', '.join(names)}"
