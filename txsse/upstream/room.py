"""The waiting room of an upstream: who waits, in which order they are let in, and how many may be in flight at a time. Sans-I/O.

Where slots are not limited everybody is let in at once, so there is no queue to be kept, only a dict: 110 bytes less for each of thousands.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from typing import Final, Protocol

import attrs

COUNTED_ANEW: Final = 1.0
"""Seconds for which a place in the queue is told as it was: counting costs time for each who waits, and each of them asks."""


@attrs.frozen
class Refusal:
    """Why it does not help to wait.

    :param code: of :data:`txsse.errors.CODES`: ``upstream_invalid`` or ``wake_failed``.
    :param detail: fit for a client: "certificate has expired", "its process exited with status 3".
    :param retry_after: seconds after which it may help; ``None`` if nobody knows.
    """

    code: str
    detail: str
    retry_after: float | None = None


class Waiter(Protocol):
    """Who waits; told apart by identity. A Deferred each would cost 400 bytes a held request."""

    def admitted(self) -> None:
        """The upstream is ready, and a slot is taken for the waiter, who has to give it back."""

    def turned_away(self, refusal: Refusal) -> None:
        """The upstream will not become ready by waiting."""


class Room:
    """Lets in by priority (the highest first), then by arrival; where there is room for all, as they come.

    :param slots: how many may be in flight; 0 = any number.
    :ivar taken: slots in use.
    """

    __slots__ = ("_counted", "_counted_at", "_heap", "_numbers", "_waiting", "slots", "taken")

    def __init__(self, slots: int = 0) -> None:
        self.slots = slots
        self.taken = 0
        self._waiting: dict[Waiter, None] = {}
        # Those who have left stay in the heap until they are its top, or its majority.
        self._heap: list[tuple[int, float, int, Waiter]] = []
        self._numbers = itertools.count()
        self._counted: dict[Waiter, int] = {}
        self._counted_at = float("-inf")

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self) -> bool:
        """Take a slot, if there is one and nobody waits for it."""
        if self.slots and (self._waiting or self.taken >= self.slots):
            return False
        self.taken += 1
        return True

    def give(self) -> None:
        """Give a slot back."""
        self.taken -= 1

    def enter(self, waiter: Waiter, priority: int, since: float) -> None:
        """Wait. Who was let in and comes back has its old place, by the time *since* which it waits."""
        self._waiting[waiter] = None
        if self.slots:
            heapq.heappush(self._heap, (-priority, since, next(self._numbers), waiter))

    def take_in(self, other: Room) -> None:
        """All who wait in *other*, a room with as many slots, wait here instead, in the places they have there."""
        for priority, since, _, waiter in sorted(other._heap) or [(0, 0.0, 0, each) for each in other._waiting]:
            if other.leave(waiter):
                self.enter(waiter, -priority, since)

    def leave(self, waiter: Waiter) -> bool:
        """Wait no more; whether it did."""
        if self._waiting.pop(waiter, self) is not None:
            return False
        if len(self._heap) > 2 * len(self._waiting) + 64:
            self._heap = [each for each in self._heap if each[3] in self._waiting]
            heapq.heapify(self._heap)
        return True

    def next(self) -> Waiter | None:
        """The first in order leaves the room and takes a slot; ``None`` if nobody waits, or there is no slot."""
        if not self._waiting or (self.slots and self.taken >= self.slots):
            return None
        waiter = next(iter(self._waiting))
        if self.slots:
            waiter = heapq.heappop(self._heap)[3]
            while waiter not in self._waiting:
                waiter = heapq.heappop(self._heap)[3]
        del self._waiting[waiter]
        self.taken += 1
        return waiter

    def empty(self) -> Iterator[Waiter]:
        """Everybody leaves, in order; who comes meanwhile stays."""
        ordered = [each[3] for each in sorted(self._heap) if each[3] in self._waiting] if self.slots else list(self._waiting)
        for waiter in ordered:
            if self.leave(waiter):
                yield waiter

    def place_of(self, waiter: Waiter, now: float) -> int | None:
        """The place in the queue, counted from 1, at most a second old; ``None`` where there is no queue but only a wait."""
        if not self.slots or waiter not in self._waiting:
            return None
        if now - self._counted_at >= COUNTED_ANEW or waiter not in self._counted:
            ordered = (each[3] for each in sorted(self._heap) if each[3] in self._waiting)
            self._counted = {each: place for place, each in enumerate(ordered, 1)}
            self._counted_at = now
        return self._counted[waiter]
