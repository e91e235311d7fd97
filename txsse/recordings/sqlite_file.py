"""The file in which a store keeps entries: an SQLite database that is never more than a cache.

Everything here blocks, and is used by one thread at a time. Several processes may have the file open; the last one to write wins.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final, TypeVar

from txsse.recordings.entry import Entry
from txsse.recordings.packing import little, pack_head, unpack
from txsse.recordings.store import Summary

VERSION: Final = 1
"""Of the table below. A file with another one is emptied."""

APPLICATION: Final = 0x74785353
"""Marks the file as ours (https://www.sqlite.org/pragma.html#pragma_application_id), so that we never empty somebody else's."""

BUSY: Final = 1.0
"""Seconds to wait for another process that writes."""

WAL_SIZE: Final = 4 * 1024 * 1024
"""Bytes to which the file's journal shrinks again."""

_FIXED_PAGES: Final = 4  # the file's head, the table, its two indexes
_MORE_PAGES: Final = 6  # those a row may add to the table and the indexes, besides the ones it fills

# What is long comes last: SQLite reads a row from its beginning, and no further than it must.
_SCHEMA: Final = (
    """CREATE TABLE IF NOT EXISTS entries (
        id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, used REAL NOT NULL, route TEXT NOT NULL,
        stored REAL NOT NULL, ttl REAL NOT NULL, head TEXT NOT NULL, size INTEGER NOT NULL,
        ends BLOB NOT NULL, times BLOB NOT NULL, body BLOB NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS by_use ON entries (used)",
)
_INSERT: Final = "INSERT INTO entries (key, used, route, stored, ttl, head, size, ends, times, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_SELECT: Final = "SELECT key, route, stored, ttl, head, ends, times, body FROM entries WHERE key = ?"
_SELECT_ALL: Final = "SELECT key, route, stored, ttl, head, size FROM entries ORDER BY used, id"
_SELECT_OLDEST: Final = "SELECT id, key, stored FROM entries ORDER BY used, id LIMIT 1"

T = TypeVar("T")
Touched = Mapping[bytes, float]
"""Keys, and the Unix time when each was used last."""
Gone = list[tuple[bytes, float]]
"""The key and :attr:`Entry.stored` of entries that had to go."""


class Corrupt(Exception):
    """The file was no sound database and has been moved aside; the next use begins a fresh one."""


class Erased(Exception):
    """Something could not be deleted, and all of the file went instead; the next use begins a fresh one."""


class File:
    """The database at *path*, opened when it is first used and again after every failure.

    Every method but :meth:`close` may raise :exc:`sqlite3.Error`, :exc:`OSError`, :exc:`Corrupt`, and :exc:`ValueError` if the file
    belongs to another program. What is to be deleted is not told again by anybody who opens the file later, even if its disk is full
    or somebody has locked it: rather than that all of it goes, with :exc:`Erased`.

    :param limit: bytes that the file may have; the least recently used entries go first. Its journal (``-wal``) comes on top.
    """

    def __init__(self, path: str, limit: int) -> None:
        self._path = os.path.abspath(path)
        self._limit = limit
        self._connection: sqlite3.Connection | None = None
        self._inode = 0

    def load(self) -> list[Summary]:
        """What is in the file, least recently used first."""
        return self._use(lambda connection: [_summary(row) for row in connection.execute(_SELECT_ALL)])

    def read(self, key: bytes) -> Entry | None:
        def work(connection: sqlite3.Connection) -> Entry | None:
            row = connection.execute(_SELECT, (key,)).fetchone()
            return None if row is None else _entry(row)

        return self._use(work)

    def write(self, entry: Entry, now: float, touched: Touched) -> Gone | None:
        """Put *entry* in, instead of any other of its key, which goes in any case; what else had to go.

        ``None``: it is too large for the file.
        """
        row = _row(entry, now)
        size = sum(len(each) for each in row if isinstance(each, (str, bytes)))

        def work(connection: sqlite3.Connection) -> Gone | None:
            with _transaction(connection):
                _touch(connection, touched)
                connection.execute("DELETE FROM entries WHERE key = ?", (entry.key,))
                page = _pragma(connection, "page_size")
                need = size // (page - 100) + _MORE_PAGES  # SQLite takes less than 100 bytes of each
                if need + _FIXED_PAGES > self._limit // page:
                    return None
                gone = _make_room(connection, self._limit // page - need)
                connection.execute(_INSERT, row)
                return gone

        return self._use(work)

    def delete(self, key: bytes) -> None:
        self._erase(lambda connection: connection.execute("DELETE FROM entries WHERE key = ?", (key,)))

    def expire(self, key: bytes, now: float) -> None:
        """Delete the entry of *key*, unless another process has put a fresh one there."""
        self._use(lambda connection: connection.execute("DELETE FROM entries WHERE key = ? AND stored + ttl <= ?", (key, now)))

    def purge(self, route: str | None) -> None:
        self._erase(lambda connection: connection.execute("DELETE FROM entries WHERE ?1 IS NULL OR route = ?1", (route,)))

    def touch(self, touched: Touched) -> None:
        """These were used: they go later."""

        def work(connection: sqlite3.Connection) -> None:
            with _transaction(connection):
                _touch(connection, touched)

        self._use(work)

    def close(self) -> None:
        """Idempotent, and not for good. A connection belongs to the thread that used it first; this lets another one begin."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):  # nothing is left to be written
                connection.close()

    def _use(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = self._open()
            return work(self._connection)
        except (sqlite3.Error, Corrupt) as error:
            self.close()  # what is wrong with it may be over when it is opened anew: somebody moved the file, say
            if _is_corrupt(error):
                self._put_away(aside=True)
                raise Corrupt(f"it is corrupt ({error}), and was moved to {self._path}.corrupt") from error
            raise

    def _erase(self, work: Callable[[sqlite3.Connection], object]) -> None:
        try:
            self._use(work)
        except sqlite3.Error as error:
            self._put_away(aside=False)
            raise Erased(f"something could not be deleted from it ({error}), so all of it was") from error

    def _open(self) -> sqlite3.Connection:
        with _alone(self._path):
            # Not opened to look at it: closing a file lets go of all locks that this process has on it, SQLite's among them.
            with suppress(FileExistsError):
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            self._inode = os.stat(self._path).st_ino
            connection = sqlite3.connect(self._path, timeout=BUSY, isolation_level=None)
            connection.text_factory = _text
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        owner = _pragma(connection, "application_id")
        if owner != APPLICATION and (owner or connection.execute("SELECT 1 FROM sqlite_master").fetchone()):
            raise ValueError("it is the database of another program")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_SIZE}")
        pages = self._limit // _pragma(connection, "page_size")
        with _transaction(connection):
            if _pragma(connection, "user_version") != VERSION:
                connection.execute("DROP TABLE IF EXISTS entries")
            for statement in _SCHEMA:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            _make_room(connection, pages)
        if _pragma(connection, "page_count") > pages:  # the limit was higher when it was last used
            with suppress(sqlite3.OperationalError):  # another process is using it; it will shrink another time
                connection.execute("VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _put_away(self, *, aside: bool) -> None:
        with _alone(self._path), suppress(FileNotFoundError):
            if os.stat(self._path).st_ino == self._inode:  # else another process was first
                if aside:
                    os.replace(self._path, self._path + ".corrupt")
                else:
                    os.remove(self._path)
                for each in ("-wal", "-shm"):
                    with suppress(FileNotFoundError):
                        os.remove(self._path + each)


@contextmanager
def _alone(path: str) -> Iterator[None]:
    """No other process of ours opens the file meanwhile, or moves it aside."""
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # some failures end it themselves
            connection.execute("ROLLBACK")
        raise


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)


def _touch(connection: sqlite3.Connection, touched: Touched) -> None:
    connection.executemany("UPDATE entries SET used = max(used, ?) WHERE key = ?", [(now, key) for key, now in touched.items()])


def _make_room(connection: sqlite3.Connection, pages: int) -> Gone:
    """Delete the least recently used entries until the others take no more than so many pages."""
    gone = []
    while _pragma(connection, "page_count") - _pragma(connection, "freelist_count") > pages:
        row = connection.execute(_SELECT_OLDEST).fetchone()
        if row is None:
            break
        connection.execute("DELETE FROM entries WHERE id = ?", row[:1])
        gone.append((row[1], row[2]))
    return gone


def _is_corrupt(error: Exception) -> bool:
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest tells more precisely what is corrupt
        return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return True


def _row(entry: Entry, now: float) -> tuple[object, ...]:
    ends, times = little(entry.ends).tobytes(), little(entry.times).tobytes()
    return (entry.key, now, entry.route, entry.stored, entry.ttl, pack_head(entry), entry.size, ends, times, entry.body)


def _text(value: bytes) -> str:
    """What rotted is found out by who makes sense of it, in one place."""
    return value.decode("utf-8", "replace")


def _summary(row: tuple[bytes, str, float, float, str, int]) -> Summary:
    key, route, stored, ttl, head, size = row
    try:
        dialect, _, model, _, _ = json.loads(head)
        return Summary(key, sys.intern(route), sys.intern(dialect), sys.intern(model), size, float(stored), float(ttl))
    except (ValueError, TypeError) as error:
        raise Corrupt("an entry cannot be read") from error


def _entry(row: tuple[bytes, str, float, float, str, bytes, bytes, bytes]) -> Entry:
    try:
        return unpack(*row)
    except ValueError as error:
        raise Corrupt("an entry cannot be read") from error
