"""Upstreams of which at most one runs at a time: one GPU, many models.

A group has one place. Whoever wants it stands in line, in the order of asking; the one who has it is told when others wait, and gives
it back once it is gone, not when it is asked to go. So no two run at once, and nobody waits for ever but for one who is busy for ever.
"""

from __future__ import annotations

from typing import Protocol


class Member(Protocol):
    """Who shares a place; told apart by identity. Both calls may come while it is asking, withdrawing or giving back."""

    def granted(self) -> None:
        """The place is yours until you give it back; you are no longer in line."""

    def reconsider(self) -> None:
        """You have the place, and whether others want it may have changed: see :meth:`Group.contested`."""


class Group:
    """One place, and the line for it."""

    def __init__(self) -> None:
        self._holder: Member | None = None
        self._line: dict[Member, None] = {}  # in the order of asking

    def ask(self, member: Member) -> None:
        """Stand in line. Who has the place may ask too: for another turn, after it has given this one back. Idempotent."""
        if member not in self._line:
            self._line[member] = None
            self._settle()

    def withdraw(self, member: Member) -> None:
        """Leave the line; a place one has is kept. Idempotent."""
        if self._line.pop(member, self) is None:
            self._settle()

    def give_back(self, member: Member) -> None:
        """Leave the place, if one has it: nothing of *member* runs any more."""
        if self._holder is member:
            self._holder = None
            self._settle()

    def contested(self, member: Member) -> bool:
        """Whether anybody else waits for the place."""
        return any(each is not member for each in self._line)

    def _settle(self) -> None:
        if self._holder is None:
            first = next(iter(self._line), None)
            if first is None:
                return
            del self._line[first]
            self._holder = first
            first.granted()  # perhaps it gives the place back at once, and the next one has it
        if self._holder is not None:
            self._holder.reconsider()
