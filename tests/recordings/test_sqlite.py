"""The store that outlives the process: what a restart finds, what the thread is asked for and in which order, and a file that fails."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Generator
from pathlib import Path
from typing import cast

import pytest
import pytest_twisted  # type: ignore[import-untyped]  # has no types
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, gatherResults
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher

from tests.recordings.entries import an_entry, key_of
from txsse.recordings import sqlite as module
from txsse.recordings import sqlite_file
from txsse.recordings.entry import Entry
from txsse.recordings.sqlite import LONGEST_FETCH, MOST_WAITING, Reactor, SqliteStore
from txsse.recordings.store import Quota, Store

LIMIT = 1024 * 1024

Open = Callable[..., SqliteStore]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recordings.sqlite"


@pytest.fixture
def open_store(path: Path) -> Generator[Open]:
    stores: list[SqliteStore] = []

    def opened(quota: Quota | None = None) -> SqliteStore:
        stores.append(SqliteStore(str(path), quota or Quota(LIMIT), cast(Reactor, reactor)))
        return stores[-1]

    yield opened
    for each in stores:
        pytest_twisted.blockon(each.close())


@pytest.fixture
def warnings() -> Generator[list[str]]:
    said: list[str] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_namespace") == module.__name__ + ".SqliteStore":
            said.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]  # a function is enough of an ILogObserver
    yield said
    globalLogPublisher.removeObserver(observe)  # type: ignore[arg-type]  # the same


async def look(store: Store, number: int, now: float = 0.0) -> Entry | None:
    """As who looks for an entry does."""
    entry = store.get(key_of(number), now)
    if entry is None:
        fetching = store.fetch(key_of(number), now)
        entry = None if fetching is None else await fetching
    return entry


def forget(store: Store, quota: Quota) -> None:
    """Make recordings need all the memory, for a moment."""
    count = quota.limit - (quota.used - store.bytes_used)
    assert quota.take(count)
    quota.give(count)
    assert store.count == 0


def run(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(statement)
    connection.close()


async def test_a_restart_keeps_the_entries(open_store: Open) -> None:
    store = open_store()
    for number in range(5):
        assert store.put(an_entry(number, 1000 + number, model=f"m{number}"), 0)
    await store.close()

    quota = Quota(LIMIT)
    store = open_store(quota)
    assert (store.count, quota.used) == (0, 0)
    assert sorted(each.model for each in store.entries()) == ["m0", "m1", "m2", "m3", "m4"]
    entry = await look(store, 3)
    assert entry is not None and entry.body == b"x" * 1003
    assert store.get(key_of(3), 0) is entry
    assert quota.used == store.bytes_used == entry.size
    assert next(store.entries()).hits == 2
    assert len(list(store.entries())) == 5


async def test_what_has_left_memory_is_fetched(open_store: Open) -> None:
    quota = Quota(LIMIT)
    store = open_store(quota)
    entry = an_entry(1)
    store.put(entry, 0)
    forget(store, quota)
    got = await look(store, 1)
    assert got is not None and got.body == entry.body


async def test_what_is_fetched_without_room_for_it_is_told_and_not_kept(open_store: Open) -> None:
    quota = Quota(LIMIT)
    store = open_store(quota)
    entry = an_entry(1)
    store.put(entry, 0)
    assert quota.take(LIMIT)
    assert await look(store, 1) is not None
    assert store.count == 0
    assert quota.used == LIMIT


def test_a_miss_asks_nobody(open_store: Open) -> None:
    assert open_store().fetch(key_of(1), 0) is None


async def test_a_purge_reaches_the_file_before_a_later_fetch(open_store: Open, path: Path) -> None:
    quota = Quota(LIMIT)
    store = open_store(quota)
    entries = [an_entry(number, route="chat" if number % 3 else "code") for number in range(6)]
    for each in entries:
        store.put(each, 0)
    forget(store, quota)
    before = store.fetch(key_of(0), 0)
    assert store.purge("code") == 2
    assert before is not None and await before is None  # it was on its way when it was purged
    assert store.fetch(key_of(0), 0) is None
    assert await look(store, 1) is not None

    again = an_entry(0, 7)
    assert store.put(again, 0)
    forget(store, quota)
    got = await look(store, 0)
    assert got is not None and got.body == again.body
    assert store.purge(None) == 5
    assert store.purge(None) == 0
    await store.close()
    assert list(open_store().entries()) == []


async def test_a_deleted_entry_does_not_come_back(open_store: Open) -> None:
    store = open_store()
    store.put(an_entry(1), 0)
    store.put(an_entry(2), 0)
    assert store.delete(key_of(1))
    assert not store.delete(key_of(1))
    assert await look(store, 1) is None
    await store.close()
    assert [each.key for each in open_store().entries()] == [key_of(2)]


@pytest.mark.parametrize("how", ["delete", "purge", "replace"])
async def test_what_cannot_be_deleted_does_not_come_back_either(
    open_store: Open, path: Path, warnings: list[str], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY", 0.01)
    store = open_store()
    store.put(older := an_entry(1, 10), 0)
    await store.close()
    store = open_store()
    assert await look(store, 1) is not None
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # as a full disk does, it keeps everybody from deleting
    newer = an_entry(1, 20)
    if how == "delete":
        assert store.delete(older.key)
    elif how == "purge":
        assert store.purge(None) == 1
    else:
        assert store.put(newer, 1)
    await store.close()
    other.close()
    assert any("database is locked" in each for each in warnings)
    store = open_store()
    assert list(store.entries()) == []
    store.put(newer, 1)
    await store.close()
    assert len(list(open_store().entries())) == 1


async def test_what_cannot_be_written_leaves_the_file_alone(
    open_store: Open, path: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY", 0.01)
    store = open_store()
    store.put(an_entry(1), 0)
    await store.close()
    store = open_store()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store.put(an_entry(2), 0)
    await store.close()
    other.close()
    assert len(warnings) == 1 and "database is locked" in warnings[0]
    assert [each.key for each in open_store().entries()] == [key_of(1)]


async def test_what_is_replaced_while_it_is_fetched_is_told_as_it_is_now(open_store: Open) -> None:
    quota = Quota(LIMIT)
    store = open_store(quota)
    older, newer = an_entry(1, 10), an_entry(1, 20, stored=1.0)
    store.put(older, 0)
    forget(store, quota)
    fetching = store.fetch(key_of(1), 0)
    assert fetching is not None
    store.put(newer, 1)
    assert await fetching is newer
    forget(store, quota)
    got = await look(store, 1, 1)
    assert got is not None and got.body == newer.body


async def test_an_entry_that_is_fetched_twice_at_once_is_kept_once(open_store: Open) -> None:
    quota = Quota(LIMIT)
    store = open_store(quota)
    entry = an_entry(1)
    store.put(entry, 0)
    forget(store, quota)
    one, other = await gatherResults([ensureDeferred(look(store, 1)) for _ in range(2)])
    assert one is other is not None
    assert quota.used == entry.size


async def test_what_has_expired_is_a_miss_and_leaves_the_file(open_store: Open) -> None:
    quota = Quota(LIMIT)
    store = open_store(quota)
    entries = [an_entry(number, stored=1000.0, ttl=60.0) for number in range(2)]
    for each in entries:
        store.put(each, 1000.0)
    forget(store, quota)
    assert await look(store, 0, 1059.0) is not None
    assert store.get(key_of(0), 1060.0) is None
    assert store.fetch(key_of(0), 1060.0) is None
    await store.close()
    assert [each.key for each in open_store().entries()] == [key_of(1)]


async def test_the_file_lets_go_of_what_was_used_least_recently(open_store: Open, path: Path) -> None:
    store = open_store()
    entries = [an_entry(number, 90_000) for number in range(30)]
    for number, entry in enumerate(entries):
        store.put(entry, number)
        store.get(key_of(0), number + 0.5)
    await store.close()
    assert path.stat().st_size <= LIMIT
    assert store.evictions["disk"] > 10
    kept = {each.key for each in open_store().entries()}
    assert {key_of(0), key_of(29), key_of(28)} <= kept
    assert not {key_of(1), key_of(2)} & kept
    assert len(kept) == 30 - store.evictions["disk"]
    assert kept == {each.key for each in store.entries()}


async def test_too_many_writes_at_once_are_dropped_and_counted(open_store: Open) -> None:
    store = open_store()
    for number in range(MOST_WAITING + 20):
        assert store.put(an_entry(number, 10), 0)
    older = key_of(3)
    assert store.put(an_entry(3, 20), 0)
    assert (store.dropped, store.count) == (21, MOST_WAITING + 20)
    await store.close()
    kept = {each.key for each in open_store().entries()}
    assert len(kept) == MOST_WAITING - 1
    assert older not in kept  # rather none than one that was replaced


async def test_what_waits_to_be_written_is_not_kept_in_memory_by_that(open_store: Open, path: Path) -> None:
    quota = Quota(LIMIT)
    store = open_store(quota)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # the first write has to wait, so the second has not begun
    first = an_entry(1)
    store.put(first, 0)
    store.put(an_entry(2), 0)
    forget(store, quota)
    other.close()
    await store.close()
    assert store.dropped == 1
    assert [each.key for each in store.entries()] == [key_of(1)]
    assert [each.key for each in open_store().entries()] == [key_of(1)]


async def test_two_stores_share_a_file(open_store: Open) -> None:
    one, other = open_store(), open_store()
    for number in range(30):
        one.put(an_entry(number, fill=b"1"), 0)
        other.put(an_entry(number + 20, fill=b"2"), 0)
    await gatherResults([one.close(), other.close()])
    assert (one.dropped, other.dropped) == (0, 0)
    third = open_store()
    bodies = [await look(third, number) for number in range(50)]
    assert [each.body[:1] for each in bodies if each is not None][:20] == [b"1"] * 20
    assert [each.body[:1] for each in bodies if each is not None][30:] == [b"2"] * 20


async def test_a_corrupt_file_is_moved_aside_with_a_word(open_store: Open, path: Path, warnings: list[str]) -> None:
    path.write_bytes(b"scribble" * 1000)
    store = open_store()
    (warning,) = warnings
    assert str(path) in warning and f"{path}.corrupt" in warning
    store.put(an_entry(1), 0)
    await store.close()
    assert len(list(open_store().entries())) == 1
    assert path.with_name(path.name + ".corrupt").read_bytes().startswith(b"scribble")


async def test_a_broken_file_is_a_miss_and_a_warning_a_minute(open_store: Open, path: Path, warnings: list[str]) -> None:
    quota = Quota(LIMIT)
    store = open_store(quota)
    entries = [an_entry(number) for number in range(3)]
    for number, now in enumerate((0, 59, 60)):
        store.put(entries[number], now)
        forget(store, quota)
        assert await look(store, number, now) is not None
        forget(store, quota)
        run(path, "DROP TABLE entries")
        assert await look(store, number, now) is None
        assert await look(store, number, now) is None  # it is in order again, and empty
        assert store.fetch(key_of(number), now) is None
    assert [str(path) in each and "no such table" in each for each in warnings] == [True, True]


class Slow(Clock):
    """A reactor whose time stands still."""

    callFromThread = staticmethod(cast(Reactor, reactor).callFromThread)


async def test_a_file_that_takes_too_long_is_a_miss(path: Path, warnings: list[str]) -> None:
    quota, clock = Quota(LIMIT), Slow()
    store = SqliteStore(str(path), quota, cast(Reactor, clock))
    entries = [an_entry(1), an_entry(2)]
    store.put(entries[0], 0)
    forget(store, quota)
    assert await look(store, 1) is not None
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store.put(entries[1], 0)  # has to wait, and whoever comes after it
    forget(store, quota)
    fetching = store.fetch(key_of(1), 0)
    assert fetching is not None
    clock.advance(LONGEST_FETCH - 0.1)
    assert not fetching.called
    clock.advance(0.1)
    assert await fetching is None
    assert len(warnings) == 1 and "did not answer within 1 s" in warnings[0]
    other.close()
    assert await look(store, 1) is not None  # another time
    await store.close()
    assert clock.getDelayedCalls() == []


def test_what_cannot_be_opened_is_said(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "missing" / "file", "No such file or directory"), (tmp_path, "unable to open database file")):
        with pytest.raises(ValueError, match=reason) as caught:
            SqliteStore(str(path), Quota(LIMIT), cast(Reactor, reactor))
        assert str(path) in str(caught.value)


async def test_a_cancelled_fetch_fails_and_harms_nobody(open_store: Open, warnings: list[str]) -> None:
    quota = Quota(LIMIT)
    store = open_store(quota)
    entry = an_entry(1)
    store.put(entry, 0)
    forget(store, quota)
    fetching = store.fetch(key_of(1), 0)
    assert fetching is not None
    fetching.cancel()
    with pytest.raises(CancelledError):
        await fetching
    assert await look(store, 1) is not None
    assert warnings == []


async def test_nothing_is_asked_of_a_closed_store(open_store: Open) -> None:
    quota = Quota(LIMIT)
    store = open_store(quota)
    entry = an_entry(1)
    store.put(entry, 0)
    forget(store, quota)
    fetching = store.fetch(key_of(1), 0)
    assert fetching is not None
    closing: list[Deferred[None]] = [store.close(), store.close()]
    assert store.fetch(key_of(1), 0) is None
    await gatherResults(closing)
    assert await fetching is not None  # it was asked before
    assert store.put(an_entry(2), 0)
    assert store.get(key_of(2), 0) is not None
    assert store.delete(key_of(1))
    assert store.purge(None) == 1
    assert [each.key for each in open_store().entries()] == [key_of(1)]


async def test_the_process_may_fork_between_making_a_store_and_using_it(open_store: Open, path: Path) -> None:
    store = open_store()
    assert not [each for each in os.listdir("/proc/self/fd") if _is_open(each, path)]
    store.put(an_entry(1), 0)
    await store.close()
    assert not [each for each in os.listdir("/proc/self/fd") if _is_open(each, path)]


def _is_open(descriptor: str, path: Path) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").startswith(str(path))
    except FileNotFoundError:  # that of the listing itself
        return False
