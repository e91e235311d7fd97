"""A stored answer by the numbers of its events, as far as it has been told: what a recording is to a stream that runs."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING, Final
from weakref import ref

from txsse.dialects import DIALECTS
from txsse.recordings.numbering import Splitter

if TYPE_CHECKING:
    from txsse.recordings.entry import Entry
    from txsse.recordings.recording import Space

_NOTHING_BETWEEN: Final = b"data:"


class Transcript:
    """Read as a :class:`~txsse.recordings.recording.Recording` is.

    Its bytes are the entry's, and the entry is the store's: it stays while somebody reads it (:meth:`hold`), and is :attr:`lost` when the
    store lets go of it at any other time. So it counts once, and what is purged is purged.

    :param space: what :meth:`charge` takes memory from.
    :param due: when each event is to be told, in seconds from the beginning; ``None``: all at once.
    :param own: no store has the entry: it is kept here until :meth:`close`, and counts here; where there is no memory for that, it stays
        while somebody reads it.
    :ivar size: bytes that are charged.
    """

    __slots__ = ("_due", "_entry", "_held", "_own", "_space", "_told", "size")

    first: Final = 1

    def __init__(self, entry: Entry, space: Space, due: array[float] | None = None, *, own: bool = False) -> None:
        self._own = own and space.take(entry.size)
        self.size = entry.size if self._own else 0
        self._space = space
        self._entry = ref(entry)
        self._held: Entry | None = entry if self._own else None
        self._due = due
        self._told = 0

    @property
    def entry(self) -> Entry:
        """Only while it is not lost."""
        entry = self._entry()
        assert entry is not None
        return entry

    @property
    def lost(self) -> bool:
        return self._entry() is None

    @property
    def last(self) -> int:
        """The number of the last event that has been told; 0 if there is none."""
        return len(self.entry.events.all()) if self._due is None else self._told

    @property
    def open(self) -> bool:
        """All is told, and the last event has no end."""
        entry = self.entry
        if not entry.streamed or DIALECTS[entry.dialect].by_lines or not (ends := entry.events.all()) or self.last < len(ends):
            return False
        splitter = Splitter()
        splitter.feed(entry.body[ends[-2] if len(ends) > 1 else 0 :])
        return splitter.open

    @property
    def own_ids(self) -> bool:
        """Upstream may have given some of its events ids."""
        return self.entry.may_hold_ids

    # -- its time

    def advance(self, elapsed: float) -> bool:
        """What is due after so many seconds is told from now on; says whether that is all."""
        if self._due is None:
            return True
        self._told = bisect_right(self._due, elapsed)
        return self._told == len(self._due)

    @property
    def next_due(self) -> float:
        """When the next event is, in seconds from the beginning. Only while there is one."""
        assert self._due is not None
        return self._due[self._told]

    @property
    def last_due(self) -> float:
        """When the last event is."""
        assert self._due is not None
        return self._due[-1]

    # -- memory

    def hold(self) -> None:
        """Somebody reads it."""
        self._held = self.entry

    def release(self) -> None:
        """Nobody does any more."""
        if not self._own:
            self._held = None

    def charge(self, count: int) -> bool:
        """*count* bytes for what is kept along with it; ``False``: there are none left."""
        taken = self._space.take(count)
        if taken:
            self.size += count
        return taken

    def close(self) -> None:
        """Give back what was charged. Who reads it may go on. Idempotent."""
        self._own = False
        self._space.give(self.size)
        self.size = 0

    # -- reading

    def read(self, after: int, most: int) -> tuple[bytes, int]:
        """What has been told after event number *after*, at least one event and then not more than *most* bytes; and the number of its
        last event. Nothing and *after* at the end. What stands between two events goes with the second, or at the end with the last.
        """
        entry = self.entry
        marks, body = entry.events, entry.body
        ends = marks.first(after)
        begin = ends[after - 1] if after else 0
        ends = marks.beyond(begin + most)
        last = max(bisect_right(ends, begin + most), after + 1)
        if self._due is not None:
            last = min(last, self._told)
        last = min(last, len(ends))
        if last <= after:
            return b"", after
        end = ends[last - 1]
        more = len(marks.beyond(end)) > last
        return body[begin : end if more else len(body)], last

    def pieces(self, after: int, most: int) -> list[bytes]:
        """As :meth:`read`, event by event, without what stands between."""
        data, last = self.read(after, most)
        if not data:
            return []
        ends = self.entry.events.first(last)
        begin = ends[after - 1] if after else 0
        bounds = [begin, *ends[after:last]]
        pieces = [data[at - begin : end - begin] for at, end in pairwise(bounds)]
        if all(piece.startswith(_NOTHING_BETWEEN) for piece in pieces):
            return pieces
        return Splitter().feed(data)[0]
