"""The store that machines share, against a real Redis: what others find, what is deleted everywhere, and that nobody waits for it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import attrs
import pytest
import pytest_twisted  # type: ignore[import-untyped]  # has no types
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from tests.recordings.entries import an_entry, key_of
from tests.redis.conftest import OpenLink
from tests.redis.server import RedisServer
from tests.timing import BUSY
from txsse.recordings.entry import Entry
from txsse.recordings.store import Quota, Store
from txsse.redis.cache import LONGEST_FETCH, RedisStore, pack, unpack_entry
from txsse.testing import eventually

CLOCK: Any = reactor

PURGED = 2.5
"""When something is purged."""

OpenStore = Callable[..., RedisStore]


@pytest.fixture
def open_store(redis: RedisServer, open_link: OpenLink) -> Generator[OpenStore]:
    stores: list[RedisStore] = []

    def open_store(limit: int = 1024 * 1024) -> RedisStore:
        stores.append(RedisStore(open_link(redis.url), Quota(limit), lambda: PURGED))
        return stores[-1]

    yield open_store
    for each in stores:
        pytest_twisted.blockon(each.close())


@pytest.fixture
def stores(open_store: OpenStore) -> tuple[RedisStore, RedisStore]:
    both = open_store(), open_store()
    pytest_twisted.blockon(Deferred.fromCoroutine(eventually(CLOCK, lambda: all(each.link.available for each in both))))
    return both


async def look(store: Store, number: int, now: float = 0.0) -> Entry | None:
    """As who looks for an entry does."""
    entry = store.get(key_of(number), now)
    if entry is None:
        fetching = store.fetch(key_of(number), now)
        entry = None if fetching is None else await fetching
    return entry


async def put(store: RedisStore, *entries: Entry, now: float = 0.0) -> None:
    """Until it is written."""
    for each in entries:
        assert store.put(each, now)
    await eventually(CLOCK, lambda: store._waiting == 0)


async def test_an_entry_of_one_process_is_found_by_another(stores: tuple[RedisStore, RedisStore]) -> None:
    ours, theirs = stores
    entry = an_entry(1, 5000, route="chät", stored=100.0, ttl=60.0)
    await put(ours, entry, now=101.0)
    assert await look(theirs, 2, 102.0) is None
    found = await look(theirs, 1, 102.0)
    assert found is not None
    assert _values(found) == _values(entry)
    assert theirs.get(key_of(1), 103.0) is found
    assert (theirs.count, theirs.bytes_used) == (1, found.size)
    assert [each.key for each in theirs.entries()] == [key_of(1)]


async def test_an_entry_goes_when_its_ttl_is_over(redis: RedisServer, stores: tuple[RedisStore, RedisStore]) -> None:
    ours, theirs = stores
    await put(ours, an_entry(1, stored=100.0, ttl=60.0), now=110.0)
    left = await ours.link.command("PTTL", "txsse:cache:" + key_of(1).hex())
    assert isinstance(left, int) and 49_000 < left <= 50_000
    assert await look(theirs, 1, 160.0) is None
    assert not ours.put(an_entry(2, stored=100.0, ttl=60.0), 160.0)


async def test_what_memory_forgets_is_still_found(open_store: OpenStore) -> None:
    store = open_store(limit=10_000)
    await eventually(CLOCK, lambda: store.link.available)
    for number in range(10):
        await put(store, an_entry(number, 3000))
    assert store.count < 4
    found = await look(store, 0)
    assert found is not None and len(found.body) == 3000


async def test_a_deleted_entry_is_gone_everywhere(stores: tuple[RedisStore, RedisStore]) -> None:
    ours, theirs = stores
    await put(ours, an_entry(1))
    await look(theirs, 1)
    assert ours.delete(key_of(1))
    assert not ours.delete(key_of(2))
    await eventually(CLOCK, lambda: theirs.count == 0)
    assert await look(theirs, 1) is None
    assert await look(ours, 1) is None


@pytest.mark.parametrize("route", ["chat", None])
async def test_what_is_purged_is_gone_everywhere(route: str | None, stores: tuple[RedisStore, RedisStore]) -> None:
    ours, theirs = stores
    await put(ours, *(an_entry(number, route="chat" if number % 2 else "code", stored=1.0) for number in range(40)), now=1.0)
    for number in range(4):
        await look(theirs, number, 2.0)
    assert await ours.link.command("SET", "somebody:else", "x") == b"OK"
    assert ours.purge(route) == (20 if route else 40)
    assert await look(ours, 1, 3.0) is None  # at once, whatever Redis still has
    await eventually(CLOCK, lambda: theirs.count == (2 if route else 0))
    left = {number for number in range(40) if await look(theirs, number, 3.0)}
    assert left == ({number for number in range(40) if number % 2 == 0} if route else set())
    assert await ours.link.command("DBSIZE") == (21 if route else 1)
    await put(ours, an_entry(1, stored=4.0), now=4.0)
    assert await look(theirs, 1, 4.0)


class Maker:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.outdated: list[bytes | str | None] = []

    def outdate(self, key: bytes) -> None:
        self.outdated.append(key)

    def outdate_route(self, route: str | None) -> None:
        self.outdated.append(route)


async def test_who_hears_of_a_purge_neither_tells_nor_keeps_what_is_older(stores: tuple[RedisStore, RedisStore]) -> None:
    ours, theirs = stores
    maker = theirs.maker = Maker()
    ours.delete(key_of(7))
    ours.purge("chat")
    ours.purge(None)
    await eventually(CLOCK, lambda: maker.outdated == [key_of(7), "chat", None])
    for number, stored in ((1, PURGED - 1), (2, PURGED + 1)):  # as if the first had not been deleted yet
        await put(ours, an_entry(number, stored=stored), now=stored)
    assert await look(theirs, 1, 4.0) is None
    assert await look(theirs, 2, 4.0)


async def test_a_frozen_redis_is_a_miss_in_time_and_holds_nobody_up(redis: RedisServer, stores: tuple[RedisStore, RedisStore]) -> None:
    ours, _ = stores
    await put(ours, an_entry(1))
    redis.freeze()
    began = CLOCK.seconds()
    assert await look(ours, 2) is None
    assert LONGEST_FETCH - 0.01 <= CLOCK.seconds() - began < LONGEST_FETCH + BUSY
    assert ours.put(an_entry(3), 0)
    assert await look(ours, 3)
    redis.thaw()


async def test_without_redis_it_is_a_store_in_memory(redis: RedisServer, stores: tuple[RedisStore, RedisStore]) -> None:
    ours, _ = stores
    redis.stop()
    await eventually(CLOCK, lambda: not ours.link.available)
    assert ours.put(an_entry(1), 0)
    assert ours.dropped == 1
    assert ours.get(key_of(1), 0)
    assert ours.fetch(key_of(2), 0) is None
    assert ours.delete(key_of(1))
    assert ours.purge(None) == 0


async def test_a_fetch_may_be_cancelled(stores: tuple[RedisStore, RedisStore]) -> None:
    ours, theirs = stores
    await put(ours, an_entry(1))
    fetching = theirs.fetch(key_of(1), 0)
    assert fetching is not None
    failed: list[object] = []
    fetching.addErrback(lambda failure: failed.append(failure.trap(CancelledError)))
    fetching.cancel()
    assert failed == [CancelledError]
    assert await look(theirs, 1)


async def test_what_is_no_entry_is_a_miss(stores: tuple[RedisStore, RedisStore]) -> None:
    ours, _ = stores
    whole = pack(an_entry(1))
    for value in (b"", b"x" * 100, whole[:-1], whole + b"x"):
        await ours.link.command("SET", "txsse:cache:" + key_of(1).hex(), value)
        assert await look(ours, 1) is None
    await ours.link.command("DEL", "txsse:cache:" + key_of(1).hex())
    await ours.link.command("RPUSH", "txsse:cache:" + key_of(1).hex(), "a list")
    assert await look(ours, 1) is None


async def test_a_closed_store_writes_what_it_took_and_no_more(stores: tuple[RedisStore, RedisStore]) -> None:
    ours, theirs = stores
    assert ours.put(an_entry(1), 0)
    await ours.close()
    await ours.close()
    assert ours.put(an_entry(2), 0)
    assert await look(theirs, 1)
    assert await look(theirs, 2) is None


@given(st.integers(1, 300), st.text(), st.text())
def test_a_packed_entry_is_the_same_again(length: int, route: str, model: str) -> None:
    entry = an_entry(1, length, route=route, model=model)
    assert _values(unpack_entry(entry.key, pack(entry))) == _values(entry)


def _values(entry: Entry) -> list[object]:
    return [getattr(entry, field.name) for field in attrs.fields(Entry)]
