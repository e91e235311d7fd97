"""The quota that entries and growing recordings share, and the store in memory: the bound, who goes first, what a list says."""

from __future__ import annotations

import random

import pytest

from tests.recordings.entries import an_entry, key_of
from txsse.recordings.entry import Entry
from txsse.recordings.store import MemoryStore, Quota, Store

LIMIT = 64 * 1024
SIZE = an_entry(length=100).size


def keys(store: Store) -> list[bytes]:
    """Least recently used first."""
    return [each.key for each in store.entries()][::-1]


class Model:
    """The same, the slow and obvious way."""

    def __init__(self) -> None:
        self.stored: list[tuple[bytes, int]] = []  # least recently used first
        self.live = 0

    @property
    def used(self) -> int:
        return self.live + sum(size for _, size in self.stored)

    def room_for(self, count: int) -> bool:
        if self.live + count > LIMIT:
            return False
        while self.used + count > LIMIT:
            self.stored.pop(0)
        return True

    def take(self, count: int) -> bool:
        fits = self.room_for(count)
        self.live += count if fits else 0
        return fits

    def delete(self, key: bytes) -> bool:
        before = len(self.stored)
        self.stored = [each for each in self.stored if each[0] != key]
        return len(self.stored) < before

    def put(self, entry: Entry) -> bool:
        self.delete(entry.key)
        fits = self.room_for(entry.size)
        self.stored += [(entry.key, entry.size)] if fits else []
        return fits

    def get(self, key: bytes) -> bool:
        found = [each for each in self.stored if each[0] == key]
        self.stored = [each for each in self.stored if each[0] != key] + found
        return bool(found)


@pytest.mark.parametrize("seed", range(3))
def test_the_bound_holds_at_every_step_and_the_least_recently_used_go_first(seed: int) -> None:
    chance = random.Random(seed)
    quota = Quota(LIMIT)
    store = MemoryStore(quota)
    model = Model()
    lives: list[int] = []
    refused = 0
    for step in range(10_000):
        number = chance.randrange(60)
        match chance.choices(("put", "get", "take", "give", "delete"), (4, 4, 5, 3, 1))[0]:
            case "put":
                entry = an_entry(number, chance.choice((10, 500, 3000, 20_000, LIMIT)))
                assert store.put(entry, step) == model.put(entry)
            case "get":
                assert (store.get(key_of(number), step) is not None) == model.get(key_of(number))
            case "take":
                count = chance.choice((1, 300, 16_000))
                taken = quota.take(count)
                assert taken == model.take(count)
                lives += [count] if taken else []
                refused += not taken
            case "give" if lives:
                count = lives.pop(chance.randrange(len(lives)))
                quota.give(count)
                model.live -= count
            case "delete":
                assert store.delete(key_of(number)) == model.delete(key_of(number))
        assert quota.used <= LIMIT
        assert quota.used == sum(lives) + sum(each.size for each in store.entries()) == model.used
        assert keys(store) == [key for key, _ in model.stored]
        assert store.bytes_used == quota.used - sum(lives)
        assert store.count == len(model.stored)
    assert store.evictions["lru"] > 100
    assert refused > 100


def test_a_quota_without_a_store_is_a_bound() -> None:
    quota = Quota(10)
    assert quota.take(10)
    assert not quota.take(1)
    quota.give(1)
    assert quota.take(1)
    assert quota.used == 10


def test_what_was_used_goes_last() -> None:
    store = MemoryStore(Quota(3 * SIZE))
    for number in (1, 2, 3):
        store.put(an_entry(number), 0)
    store.get(key_of(1), 1)
    store.put(an_entry(4), 2)
    assert keys(store) == [key_of(3), key_of(1), key_of(4)]
    assert store.evictions == {"lru": 1, "expired": 0, "replaced": 0, "disk": 0}


def test_nothing_goes_for_what_would_not_fit_anyway() -> None:
    quota = Quota(3 * SIZE)
    store = MemoryStore(quota)
    assert quota.take(SIZE)
    store.put(an_entry(1), 0)
    store.put(an_entry(2), 0)
    assert not quota.take(2 * SIZE + 1)
    assert not store.put(an_entry(3, 100 + SIZE + 1), 0)
    assert keys(store) == [key_of(1), key_of(2)]
    assert quota.used == 3 * SIZE
    assert quota.take(2 * SIZE)
    assert store.count == 0


def test_an_entry_as_large_as_the_limit_is_kept_and_one_byte_more_is_not() -> None:
    store = MemoryStore(Quota(SIZE))
    assert store.put(an_entry(1, 100), 0)
    assert not store.put(an_entry(2, 101), 0)
    assert keys(store) == [key_of(1)]


def test_an_entry_is_told_until_its_ttl_is_over_and_then_dropped() -> None:
    quota = Quota(LIMIT)
    store = MemoryStore(quota)
    store.put(an_entry(1, stored=1000.0, ttl=60.0), 1000.0)
    assert store.get(key_of(1), 1059.9) is not None
    assert store.get(key_of(1), 1060.0) is None
    assert (store.count, store.bytes_used, quota.used) == (0, 0, 0)
    assert store.evictions["expired"] == 1


def test_what_is_past_its_ttl_is_not_kept() -> None:
    store = MemoryStore(Quota(LIMIT))
    assert not store.put(an_entry(1, stored=1000.0, ttl=60.0), 1060.0)
    assert store.count == 0


def test_a_newer_entry_replaces_the_older_one() -> None:
    quota = Quota(LIMIT)
    store = MemoryStore(quota)
    newer = an_entry(1, 300)
    store.put(an_entry(1, 200), 0)
    assert store.put(newer, 0)
    assert store.get(newer.key, 0) is newer
    assert quota.used == newer.size
    assert store.evictions["replaced"] == 1


def test_the_older_entry_goes_even_if_the_newer_one_does_not_fit() -> None:
    store = MemoryStore(Quota(SIZE))
    store.put(an_entry(1), 0)
    assert not store.put(an_entry(1, LIMIT), 0)
    assert store.get(key_of(1), 0) is None


def test_purging_one_route_or_all() -> None:
    quota = Quota(LIMIT)
    store = MemoryStore(quota)
    for number in range(6):
        store.put(an_entry(number, route="chat" if number % 3 else "code"), 0)
    assert store.purge("code") == 2
    assert store.purge("code") == 0
    assert {each.route for each in store.entries()} == {"chat"}
    assert store.purge(None) == 4
    assert quota.used == 0


def test_a_list_says_what_is_there() -> None:
    store = MemoryStore(Quota(LIMIT))
    entry = an_entry(1, stored=1000.0, ttl=60.0, model="qwen")
    store.put(entry, 1000.0)
    store.get(entry.key, 1001.0)
    store.get(entry.key, 1002.0)
    (summary,) = store.entries()
    assert (summary.key, summary.route, summary.dialect, summary.model) == (entry.key, "chat", "openai", "qwen")
    assert (summary.size, summary.hits, summary.age(1010.0), summary.expires) == (entry.size, 2, 10.0, 1060.0)
    assert summary.age(900.0) == 0.0
    assert summary.fresh(1059.0) and not summary.fresh(1060.0)


def test_entries_may_go_while_they_are_listed() -> None:
    store = MemoryStore(Quota(LIMIT))
    for number in range(3):
        store.put(an_entry(number), 0)
    assert [store.delete(each.key) for each in store.entries()] == [True, True, True]
    assert store.count == 0


def test_memory_has_nowhere_further_to_look_and_nothing_to_wait_for() -> None:
    store: Store = MemoryStore(Quota(LIMIT))
    assert store.fetch(key_of(1), 0) is None
    assert store.close().called
    assert store.dropped == 0
