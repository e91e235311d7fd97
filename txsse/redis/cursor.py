"""One reader's place in a shared stream: no I/O, no clock. Events in, actions out.

A reader is *live* while the batches that are told as they are written go on where it is. Nothing else is kept for it: whatever is
missing, came while it did not read, or came in the wrong order is read from the store when it can take it. Numbers tell which is which,
so that it hears every piece once and in order, whatever is lost, doubled or late.
"""

from __future__ import annotations

from array import array
from collections import deque
from typing import Final, TypeAlias

import attrs

from txsse.redis.records import Batch, Snapshot, Terminal

MOST_BATCHES: Final = 128
"""That are read at a time."""

FEWEST_BATCHES: Final = 8
PAGE: Final = 64 * 1024
"""Bytes that are about to be read at a time."""


@attrs.frozen
class Read:
    """Ask the store for a snapshot with at most *count* batches after piece number *after*."""

    after: int
    count: int


@attrs.frozen
class Tell:
    """Hand the reader these pieces."""

    batch: Batch


@attrs.frozen
class Gap:
    """Tell it that the next *count* pieces are not kept any more."""

    count: int


@attrs.frozen
class End:
    """Tell it how the stream ended. The last action."""

    terminal: Terminal


Action: TypeAlias = Read | Tell | Gap | End


class Cursor:
    """After each event, :meth:`next` is to be called until there is no action any more.

    :param after: the number of the piece before the first one wanted.
    :ivar after: that of the last piece told, or missed.
    """

    def __init__(self, after: int) -> None:
        self.after = after
        self.over = False
        self._last = 0  # that is known to be written
        self._newer = 0  # of what was heard since the last question
        self._look = False  # there is reason to ask, whatever is known
        self._reading = False
        self._waiting = False  # it could not be read
        self._paused = False
        self._terminal: Terminal | None = None
        self._final = 0  # the number of the last piece ever, once there is a terminal
        self._ready: deque[Batch] = deque()
        self._count = FEWEST_BATCHES

    def next(self) -> Action | None:
        if self._paused:
            self._ready.clear()
        if self.over or self._paused:
            return None
        while self._ready:
            batch = self._ready[0]
            if batch.first > self.after + 1:
                missed, self.after = batch.first - 1 - self.after, batch.first - 1
                return Gap(missed)
            self._ready.popleft()
            if batch.last > self.after:
                batch, self.after = batch.after(self.after), batch.last
                return Tell(batch)
        if self._reading:
            return None
        if self._terminal is not None and self.after >= self._final:
            self.over = True
            return End(self._terminal)
        if self._waiting or not (self._look or self._last > self.after):
            return None
        self._reading = True
        self._look = False
        self._newer = 0
        return Read(self.after, self._count)

    def heard(self, batch: Batch) -> None:
        """A batch was told as it was written; perhaps late, perhaps not for the first time."""
        self._newer = max(self._newer, batch.last)
        self._last = max(self._last, batch.last)
        if not self._paused and not self._reading and not self._ready and batch.first <= self.after + 1:
            self._ready.append(batch)

    def look(self) -> None:
        """Something may have been missed: read what there is."""
        self._look = True
        self._waiting = False

    def retry(self) -> None:
        """What could not be read may be read now."""
        self._waiting = False

    def learned(self, last: int, terminal: Terminal | None) -> None:
        """Somebody else has looked at the stream."""
        self._last = max(self._last, last)
        self._conclude(last, terminal)

    def read(self, found: Snapshot) -> None:
        """The answer to :class:`Read`."""
        self._reading = False
        # Not the maximum with what was known: a store that came back with less must not be asked for ever for what it has not.
        self._last = max(found.last, self._newer)
        self._conclude(found.last, found.terminal)
        self._ready.extend(found.batches)
        size = sum(len(batch.data) for batch in found.batches)
        if size > PAGE:
            self._count = max(self._count // 2, FEWEST_BATCHES)
        elif len(found.batches) == self._count and size < PAGE // 2:
            self._count = min(self._count * 2, MOST_BATCHES)
        if not found.batches and found.last > self.after:
            self._ready.append(Batch(found.last + 1, b"", array("I")))  # what there was is evicted

    def read_failed(self) -> None:
        """There was no answer; :meth:`retry` or :meth:`look` says when to ask again."""
        self._reading = False
        self._waiting = True
        self._look = True

    def give_up(self, terminal: Terminal) -> None:
        """There is nothing more to be had. What the reader has not heard of it is lost."""
        self._terminal = terminal
        self._final = 0

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False

    def _conclude(self, last: int, terminal: Terminal | None) -> None:
        if terminal is not None and self._terminal is None:
            self._terminal = terminal
            self._final = last
