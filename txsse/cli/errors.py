"""The one exception a command ends with on purpose."""

from __future__ import annotations

import attrs


@attrs.define(eq=False)
class CommandError(Exception):
    """A command cannot go on: *message* is printed on stderr without a traceback, *status* is the exit status."""

    message: str
    status: int = 1

    def __str__(self) -> str:
        return self.message
