"""What of one stream is yet to be written to Redis, and what comes next: no I/O, no clock.

One step is under way at a time. A step that fails is taken again as it was, which Redis recognises by the numbers of its pieces. What
waits is bounded: a stream that outruns its bound is shared no more, and those who follow it are told so as soon as that can be written.
"""

from __future__ import annotations

from array import array
from collections import deque
from typing import Final, Literal, TypeAlias

import attrs

from txsse.recordings.recording import Space
from txsse.redis.records import UNSHARED, Batch, Head, Terminal

BATCH: Final = 8 * 1024
"""Bytes at which a batch is full. A piece larger than that is a batch of its own."""

MOST_WAITING: Final = 1024 * 1024
"""Bytes of one stream: when so many wait no other piece may."""

_MARKS: Final = 32


@attrs.frozen
class Create:
    """The first step."""


@attrs.frozen
class Append:
    """
    :param batch: ``None``: none, only see whether it is still ours.
    :param keep: the number of the first piece that need be kept.
    :param head: how the answer begins, the first time that it is known.
    """

    batch: Batch | None
    keep: int
    head: Head | None = None


@attrs.frozen
class Finish:
    """
    :param last: the number of the last piece that was written.
    """

    terminal: Terminal
    last: int


Step: TypeAlias = Create | Append | Finish
Loss = Literal["fenced", "gone", "behind"]
"""Why a stream is shared no more: another process ended it, its keys vanished, too much of it had to wait."""


class Outbox:
    """
    :param keep: bytes of the stream that Redis is to keep, at least.
    :param space: where it takes its memory from.
    :ivar last: the number of the last piece written down.
    :ivar lost: why it is shared no more.
    :ivar over: nothing is to be written any more.
    """

    def __init__(self, keep: int, space: Space) -> None:
        self.last = 0
        self.lost: Loss | None = None
        self.over = False
        self._space = space
        self._data = bytearray()  # what waits and is in no step
        self._ends = array("I")
        self._taken = 0  # bytes of the space
        self._written = 0  # the last piece that is in a step, or was
        self._created = False
        self._look = False
        self._head: Head | None = None  # until it is in a step
        self._terminal: Terminal | None = None
        self._step: Step | None = None
        self._under_way = False
        self._stalled = False
        self._window = _Window(keep)

    @property
    def wants(self) -> bool:
        """:meth:`take` has something to give."""
        if self.over or self._under_way or self._stalled:
            return False
        return bool(self._step or self._ends or self._look or self._head or self._terminal or not self._created)

    @property
    def waiting(self) -> bool:
        """Something is yet to be written."""
        return not self.over and bool(self._step or self._ends or self._terminal or not self._created)

    @property
    def full(self) -> bool:
        """There is a whole batch."""
        return len(self._data) >= BATCH

    def begin(self, head: Head) -> None:
        """Write down how the answer begins, before its first piece."""
        self._head = head

    def append(self, piece: bytes) -> bool:
        """Write down the next piece (not empty); nothing is done once it is over. ``False``: it does not fit, and :attr:`lost` says so."""
        if self.over or self._terminal is not None:
            return True
        self.last += 1
        if self._taken >= MOST_WAITING or not self._space.take(len(piece)):
            self._fall_behind()
            return False
        self._taken += len(piece)
        self._data += piece
        self._ends.append(len(self._data))
        return True

    def finish(self, terminal: Terminal) -> None:
        """Nothing follows. Only the first call counts."""
        if self._terminal is None:
            self._terminal = terminal

    def look(self) -> None:
        """Find out whether it is still ours, even if there is nothing to write."""
        self._look = True

    def take(self) -> Step | None:
        """The next step, unless one is under way. Then :meth:`done`, :meth:`failed` or :meth:`lose` is to be called."""
        if not self.wants:
            return None
        if self._step is None:
            self._step = self._next()
        self._under_way = True
        return self._step

    def _next(self) -> Step:
        if not self._created:
            return Create()
        head, self._head = self._head, None
        if self._ends:
            batch = self._cut()
            self._look = False
            return Append(batch, self._window.add(batch), head)
        if self._terminal is not None and head is None:
            return Finish(self._terminal, self._written)
        self._look = False
        return Append(None, 0, head)

    def _cut(self) -> Batch:
        ends = self._ends
        first = self.last - len(ends) + 1
        if len(self._data) <= BATCH:
            count = len(ends)
        else:
            count = 1
            while count < len(ends) and ends[count] <= BATCH:
                count += 1
        cut = ends[count - 1]
        batch = Batch(first, bytes(self._data[:cut]), ends[:count])
        self._written = batch.last
        del self._data[:cut]
        self._ends = array("I", [end - cut for end in ends[count:]])
        return batch

    def done(self) -> None:
        """The step has been taken."""
        step, self._step, self._under_way = self._step, None, False
        match step:
            case Create():
                self._created = True
            case Append(batch=Batch(data=data)):
                self._give(len(data))
            case Finish():
                self.over = True

    def failed(self) -> None:
        """Perhaps the step has been taken and perhaps not: it comes again after :meth:`retry`."""
        self._under_way = False
        self._stalled = True

    def retry(self) -> None:
        """Redis may have recovered."""
        self._stalled = False

    def lose(self, why: Loss) -> None:
        """It is not ours any more; nothing can be written."""
        self.lost = self.lost or why
        self.close()

    def close(self) -> None:
        """Forget what waits. Idempotent."""
        self.over = True
        self._drop()
        self._step = None
        self._give(self._taken)

    def _fall_behind(self) -> None:
        self.lost = "behind"
        self._drop()
        waiting = self._step.batch if isinstance(self._step, Append) else None
        self._give(self._taken - (len(waiting.data) if waiting else 0))
        self._terminal = UNSHARED

    def _drop(self) -> None:
        self._data.clear()
        self._ends = array("I")

    def _give(self, count: int) -> None:
        self._taken -= count
        self._space.give(count)


class _Window:
    """Where the last so many bytes of a stream begin, roughly."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._marks: deque[tuple[int, int]] = deque([(1, 0)])  # the number of a piece, the bytes before it
        self._total = 0

    def add(self, batch: Batch) -> int:
        """The number of a piece such that those from there to the end of *batch* are at least so many bytes."""
        if self._total - self._marks[-1][1] >= self._size // _MARKS:
            self._marks.append((batch.first, self._total))
        self._total += len(batch.data)
        while len(self._marks) > 1 and self._total - self._marks[1][1] >= self._size:
            self._marks.popleft()
        return self._marks[0][0]
