"""A store that outlives the process: in memory, with an SQLite file behind it that a thread of its own reads and writes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Final, NoReturn, ParamSpec, TypeVar
from weakref import ref

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from txsse.recordings.entry import Entry
from txsse.recordings.sqlite_file import Corrupt, Erased, File, Gone, Touched
from txsse.recordings.store import MemoryStore, Quota, Reason, Summary, summarize

MOST_WAITING: Final = 128
"""Writes that wait for the file; any more are dropped."""

LONGEST_FETCH: Final = 1.0
"""Seconds after which a fetch is a miss: upstream is asked rather than a client kept waiting for a slow disk."""

COMPLAINT_INTERVAL: Final = 60.0  # seconds

P = ParamSpec("P")
T = TypeVar("T")


class Reactor(IReactorTime, IReactorFromThreads):
    """What the store needs of one."""


class SqliteStore:
    """A :class:`~txsse.recordings.store.Store` whose entries a restart does not lose.

    What is put in is in memory at once and in the file soon; what has left memory is fetched from the file. The file has the quota's
    limit as well, of its own. Which keys are in it is known in memory, so that a miss costs no thread: of what another process wrote
    since this one began, it knows nothing, and a purge here does not reach the memory of another process.

    A file that fails is a store without one: that costs a warning a minute, nothing else. A corrupt one is renamed to ``.corrupt``.
    Nothing runs until it is first used, so that a process may fork in between. The thread ends with :meth:`close`, and not before.

    :param path: the file; made with mode 0600 if it is not there, in a folder that is.
    :raises ValueError: it cannot be opened.
    """

    _log = Logger()

    def __init__(self, path: str, quota: Quota, reactor: Reactor) -> None:
        self.dropped = 0
        self._path = path
        self._reactor = reactor
        self._memory = MemoryStore(quota)
        self._file = File(path, quota.limit)
        self._pool = ThreadPool(0, 1, "recordings")
        self._touched: dict[bytes, float] = {}  # used since the last write
        self._waiting = 0
        self._closing: Deferred[None] | None = None
        self._now = 0.0
        self._complained = float("-inf")
        try:
            self._filed = {each.key: each for each in self._load()}  # what may be in the file
        except (OSError, sqlite3.Error, Corrupt, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise ValueError(f"{path} cannot be used as a store: {reason}") from error
        self._file.close()
        self._pool.start()

    def _load(self) -> list[Summary]:
        try:
            return self._file.load()
        except Corrupt as error:
            self._log.warn("the store {path} begins anew: {why}", path=self._path, why=str(error))
            return self._file.load()

    @property
    def bytes_used(self) -> int:
        return self._memory.bytes_used

    @property
    def count(self) -> int:
        return self._memory.count

    @property
    def evictions(self) -> dict[Reason, int]:
        return self._memory.evictions

    def get(self, key: bytes, now: float) -> Entry | None:
        self._now = now
        entry = self._memory.get(key, now)
        if entry is not None and key in self._filed:
            self._touched[key] = now
        return entry

    def fetch(self, key: bytes, now: float) -> Deferred[Entry | None] | None:
        self._now = now
        summary = self._filed.get(key)
        if summary is None or self._closing is not None:
            return None
        if not summary.fresh(now):
            self._drop(key)
            self._tell(self._file.expire, key, now)
            return None
        reading = self._run(self._file.read, key).addTimeout(LONGEST_FETCH, self._reactor, _too_slow)
        return reading.addCallbacks(self._found, self._complain, (summary, now))

    def _found(self, entry: Entry | None, summary: Summary, now: float) -> Entry | None:
        key = summary.key
        held = self._memory.get(key, now)  # it was replaced meanwhile, or fetched twice
        if held is not None or self._filed.get(key) is not summary:
            return held
        if entry is None or not entry.fresh(now):
            self._drop(key)
            return None
        self._memory.put(entry, now)
        return self.get(key, now) or entry

    def put(self, entry: Entry, now: float) -> bool:
        self._now = now
        known = self._drop(entry.key)
        kept = self._memory.put(entry, now)
        if kept and self._closing is None and self._waiting < MOST_WAITING:
            self._write(entry, now, replaces=known)
            return True
        self.dropped += kept
        if known:
            self._tell(self._file.delete, entry.key)  # the older one must not come back
        return kept

    def _write(self, entry: Entry, now: float, *, replaces: bool) -> None:
        summary = self._filed[entry.key] = summarize(entry)
        touched, self._touched = self._touched, {}
        self._waiting += 1
        # What waits is not in the quota, so it must not be what keeps the entry in memory.
        writing = self._run(self._write_in_thread, ref(entry), entry.key, now, touched, replaces)
        writing.addErrback(self._complain).addCallback(self._written, summary)

    def _write_in_thread(self, reference: ref[Entry], key: bytes, now: float, touched: Touched, replaces: bool) -> Gone | None:
        entry = reference()
        if entry is not None:
            try:
                return self._file.write(entry, now, touched)
            except sqlite3.Error:
                if replaces:
                    self._file.delete(key)  # the older one must not come back
                raise
        self._file.delete(key)
        return None

    def _written(self, gone: Gone | None, summary: Summary) -> None:
        self._waiting -= 1
        if gone is None:
            self.dropped += 1
            gone = [(summary.key, summary.stored)]
        else:
            self.evictions["disk"] += len(gone)
        for key, stored in gone:
            filed = self._filed.get(key)
            if filed is not None and filed.stored == stored:  # else a newer one waits to be written
                self._drop(key)

    def delete(self, key: bytes) -> bool:
        known = self._memory.delete(key) | self._drop(key)
        self._tell(self._file.delete, key)
        return known

    def purge(self, route: str | None) -> int:
        keys = [each.key for each in self.entries() if route is None or each.route == route]
        self._memory.purge(route)
        for key in keys:
            self._drop(key)
        self._tell(self._file.purge, route)
        return len(keys)

    def entries(self) -> Iterator[Summary]:
        held = {each.key: each for each in self._memory.entries()}
        yield from held.values()
        for each in reversed(list(self._filed.values())):
            if each.key not in held:
                yield each

    def close(self) -> Deferred[None]:
        if self._closing is None:
            self._closing = self._run(self._close_in_thread, self._touched)
            self._closing.addErrback(self._complain).addCallback(lambda _: self._pool.stop())
        closed: Deferred[None] = Deferred()
        self._closing.addCallback(lambda _: closed.callback(None))
        return closed

    def _close_in_thread(self, touched: Touched) -> None:
        try:
            if touched:
                self._file.touch(touched)
        finally:
            self._file.close()

    def _drop(self, key: bytes) -> bool:
        """Whether it may have been in the file; nobody looks there from now on."""
        self._touched.pop(key, None)
        return self._filed.pop(key, None) is not None

    def _tell(self, work: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        if self._closing is None:
            self._run(work, *args, **kwargs).addErrback(self._complain)

    def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """In the thread, after all that was asked for before: so what is read is what was written, or deleted, last."""
        return deferToThreadPool(self._reactor, self._pool, work, *args, **kwargs)

    def _complain(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            failure.raiseException()
        if failure.check(Corrupt, Erased) or not 0 <= self._now - self._complained < COMPLAINT_INTERVAL:
            self._complained = self._now
            self._log.warn("the store {path} failed: {why}", path=self._path, why=failure.getErrorMessage())


def _too_slow(_: object, seconds: float) -> NoReturn:
    raise TimeoutError(f"it did not answer within {seconds:g} s")
