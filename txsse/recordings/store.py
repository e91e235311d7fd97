"""Where answers are kept: what every store can do, the memory they share with recordings that grow, and the store in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Literal, Protocol

import attrs
from twisted.internet.defer import Deferred, succeed

from txsse.recordings.entry import Entry

Reason = Literal["lru", "expired", "replaced", "disk"]
"""Why an entry went by itself: least recently used, past its ttl, a newer one came, the file was full."""


@attrs.frozen
class Summary:
    """An entry without what was answered, for lists.

    :param size: bytes, as :attr:`Entry.size` reckons.
    :param stored: Unix time in seconds.
    :param ttl: seconds.
    :param hits: how often this process got it from the store.
    """

    key: bytes
    route: str
    dialect: str
    model: str
    size: int
    stored: float
    ttl: float
    hits: int = 0

    @property
    def expires(self) -> float:
        """Unix time in seconds."""
        return self.stored + self.ttl

    def age(self, now: float) -> float:
        """Seconds since it was stored; never negative."""
        return max(now - self.stored, 0.0)

    def fresh(self, now: float) -> bool:
        return self.age(now) < self.ttl


def summarize(entry: Entry, hits: int = 0) -> Summary:
    return Summary(entry.key, entry.route, entry.dialect, entry.model, entry.size, entry.stored, entry.ttl, hits)


class Store(Protocol):
    """Keeps entries by their keys. All times are Unix times in seconds.

    What is asked often is answered at once, from memory; what lies elsewhere (a file, another machine) comes by :meth:`fetch`.
    """

    @property
    def bytes_used(self) -> int:
        """The sizes of the entries in memory."""

    @property
    def count(self) -> int:
        """Entries in memory."""

    @property
    def evictions(self) -> Mapping[Reason, int]:
        """How many entries went by themselves so far."""

    @property
    def dropped(self) -> int:
        """Entries that were kept in memory only, because what lies behind it was too slow or failed."""

    def get(self, key: bytes, now: float) -> Entry | None:
        """The entry of *key* if it is in memory and within its ttl. It is the most recently used one from then on."""

    def fetch(self, key: bytes, now: float) -> Deferred[Entry | None] | None:
        """Look further, after :meth:`get` found nothing. ``None``: there is nowhere to look, so it is a miss at once.

        The Deferred may be cancelled, and fails for no other reason: what cannot be read is a miss.
        """

    def put(self, entry: Entry, now: float) -> bool:
        """Keep *entry* instead of any older one of its key, which goes in any case.

        Give back the memory of its recording first. ``False``: there is no room for it, or it is past its ttl; it is not kept.
        """

    def delete(self, key: bytes) -> bool:
        """Whether it was known to be there."""

    def purge(self, route: str | None) -> int:
        """Delete the entries of *route*, or all; how many were known."""

    def entries(self) -> Iterator[Summary]:
        """All that are known, most recently used first; some may be past their ttl."""

    def close(self) -> Deferred[None]:
        """Fires when nothing waits to be written any more. From then on nothing is kept but in memory. Idempotent."""


class Evictable(Protocol):
    """What a quota makes room in."""

    @property
    def bytes_used(self) -> int: ...

    def evict(self) -> None:
        """Let go of the entry that was used least recently, and give its memory back. Only called while there is one."""


class Quota:
    """Memory for entries and for recordings that still grow: never more than *limit* bytes together, as they reckon.

    :ivar used: bytes that are taken.
    """

    __slots__ = ("_evictables", "limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._evictables: list[Evictable] = []

    def attach(self, evictable: Evictable) -> None:
        """*evictable* takes its memory here, and makes room if those before it cannot."""
        self._evictables.append(evictable)

    def take(self, count: int) -> bool:
        """*count* bytes more; stored entries make room if they must. ``False``: all of them could not, and nothing was done."""
        used = self.used + count
        if used <= self.limit:
            self.used = used
            return True
        return self._take_from_entries(count)

    def give(self, count: int) -> None:
        """Back, what was taken."""
        self.used -= count

    def _take_from_entries(self, count: int) -> bool:
        if self.used - sum(each.bytes_used for each in self._evictables) + count > self.limit:
            return False
        for each in self._evictables:
            while self.used + count > self.limit and each.bytes_used:
                each.evict()
        self.used += count
        return True


@attrs.define(eq=False)
class _Kept:
    entry: Entry
    size: int
    hits: int = 0


class MemoryStore:
    """Entries in memory, the least recently used of which go first when the quota is used up."""

    dropped = 0

    def __init__(self, quota: Quota) -> None:
        self.bytes_used = 0
        self.evictions: dict[Reason, int] = {"lru": 0, "expired": 0, "replaced": 0, "disk": 0}
        self._quota = quota
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()  # the least recently used one first
        quota.attach(self)

    @property
    def count(self) -> int:
        return len(self._kept)

    def get(self, key: bytes, now: float) -> Entry | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        if not kept.entry.fresh(now):
            self.delete(key)
            self.evictions["expired"] += 1
            return None
        self._kept.move_to_end(key)
        kept.hits += 1
        return kept.entry

    def fetch(self, key: bytes, now: float) -> None:
        return None

    def put(self, entry: Entry, now: float) -> bool:
        if self.delete(entry.key):
            self.evictions["replaced"] += 1
        size = entry.size
        if not entry.fresh(now) or not self._quota.take(size):
            return False
        self._kept[entry.key] = _Kept(entry, size)
        self.bytes_used += size
        return True

    def delete(self, key: bytes) -> bool:
        kept = self._kept.pop(key, None)
        if kept is None:
            return False
        self._give(kept)
        return True

    def purge(self, route: str | None) -> int:
        keys = [key for key, kept in self._kept.items() if route is None or kept.entry.route == route]
        for key in keys:
            self.delete(key)
        return len(keys)

    def entries(self) -> Iterator[Summary]:
        for kept in reversed(list(self._kept.values())):
            yield summarize(kept.entry, kept.hits)

    def evict(self) -> None:
        """Called by the quota."""
        self._give(self._kept.popitem(last=False)[1])
        self.evictions["lru"] += 1

    def close(self) -> Deferred[None]:
        return succeed(None)

    def _give(self, kept: _Kept) -> None:
        self.bytes_used -= kept.size
        self._quota.give(kept.size)
