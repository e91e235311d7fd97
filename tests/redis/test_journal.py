"""Streams that two processes share over a real Redis: what one writes, the other reads."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted  # type: ignore[import-untyped]  # has no types
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from tests.redis.conftest import LEASE, OpenLink
from tests.redis.server import RedisServer
from tests.redis.streams import Keeper, Reader, a_meta, a_sid, piece_of
from tests.timing import at_best
from txsse.redis.journal import Found, Journal
from txsse.redis.records import DONE, Terminal
from txsse.redis.scripts import meta_key, pieces_key
from txsse.redis.shares import Share
from txsse.testing import eventually, sleep

CLOCK: Any = reactor

OpenJournal = Callable[..., Journal]


@pytest.fixture
def pair(redis: RedisServer, open_journal: OpenJournal) -> tuple[Journal, Journal]:
    """The journals of two processes, both with a Redis."""
    both = open_journal(redis.url), open_journal(redis.url)
    up = eventually(CLOCK, lambda: all(each._link.available for each in both))
    pytest_twisted.blockon(Deferred.fromCoroutine(up))
    return both


async def begin(journal: Journal, keeper: Keeper | None = None, **meta: Any) -> Share:
    """A stream that can be found."""
    share = journal.create(a_sid(), a_meta(**meta), keeper or Keeper())
    await eventually(CLOCK, lambda: not share.outbox.waiting)
    return share


def write(share: Share, count: int, size: int = 0) -> None:
    for number in range(share.outbox.last + 1, share.outbox.last + count + 1):
        share.append(piece_of(number, size))


def read(journal: Journal, sid: str, after: int = 0, **options: Any) -> Reader:
    reader = Reader(after, **options)
    reader.follow = journal.follow(sid, after, reader)
    return reader


async def test_a_reader_elsewhere_hears_what_is_written_and_how_it_ends(pair: tuple[Journal, Journal]) -> None:
    ours, theirs = pair
    share = await begin(ours)
    write(share, 3)
    reader = read(theirs, share.sid)
    await reader.until(CLOCK, 3)

    async def measure() -> float:
        began = CLOCK.seconds()
        write(share, 1)
        await reader.until(CLOCK, share.outbox.last)
        took: float = CLOCK.seconds() - began
        return took

    await at_best(measure, 0.1)
    write(share, 1)
    last = share.outbox.last
    share.finish(DONE)
    share.finish(Terminal("upstream_error"))
    write(share, 1)
    assert await reader.end(CLOCK) == ""
    assert (reader.last, reader.gaps) == (last, [])
    assert theirs.followed == 0
    assert len(ours._shares) == 0


async def test_who_comes_late_hears_all_of_it(pair: tuple[Journal, Journal]) -> None:
    ours, theirs = pair
    share = await begin(ours)
    for _ in range(200):
        write(share, 100, 20)
        await sleep(CLOCK, 0)
    share.finish(Terminal("upstream_timeout", "It was silent for too long.", 504))
    await eventually(CLOCK, lambda: share.outbox.over)
    reader = read(theirs, share.sid)
    assert await reader.end(CLOCK) == "upstream_timeout"
    assert reader.ends == [Terminal("upstream_timeout", "It was silent for too long.", 504)]
    assert (reader.last, reader.gaps) == (20_000, [])
    part = read(theirs, share.sid, 19_990)
    await part.end(CLOCK)
    assert part.heard == 10


async def test_whoever_attaches_while_events_arrive_misses_none_and_gets_none_twice(pair: tuple[Journal, Journal]) -> None:
    ours, theirs = pair
    share = await begin(ours)
    pick = random.Random(7)
    readers: list[Reader] = []

    def go_on() -> None:
        write(share, 1)
        if share.outbox.last % 5 == 0:
            readers.append(read(theirs, share.sid, pick.randrange(share.outbox.last)))

    writing = LoopingCall(go_on)
    writing.start(0.001)
    await eventually(CLOCK, lambda: len(readers) >= 200)
    writing.stop()
    share.finish(DONE)
    for each in readers:
        assert await each.end(CLOCK) == ""
        assert (each.last, each.gaps) == (share.outbox.last, [])


async def test_a_reader_that_pauses_costs_nothing_and_goes_on_where_it_was(pair: tuple[Journal, Journal]) -> None:
    ours, theirs = pair
    share = await begin(ours)
    reader = read(theirs, share.sid, limit=10)
    write(share, 10)
    await reader.until(CLOCK, 10)
    other = read(theirs, share.sid)
    for _ in range(20):
        write(share, 100, 50)
        await sleep(CLOCK, 0.005)
    await other.until(CLOCK, 2010)
    assert reader.last == 10
    assert not reader.follow.cursor._ready
    share.finish(DONE)
    while not reader.ends:
        reader.follow.resume()
        await sleep(CLOCK, 0.005)
    assert await reader.end(CLOCK) == ""
    assert (reader.last, reader.gaps) == (2010, [])


async def test_a_reader_that_stops_hears_nothing_more(pair: tuple[Journal, Journal]) -> None:
    ours, theirs = pair
    share = await begin(ours)
    write(share, 1)
    first, second = read(theirs, share.sid), read(theirs, share.sid)
    await first.until(CLOCK, 1)
    await second.until(CLOCK, 1)
    first.follow.stop()
    first.follow.stop()
    write(share, 1)
    share.finish(DONE)
    await second.end(CLOCK)
    assert (first.last, first.ends) == (1, [])


async def test_what_is_not_kept_any_more_is_a_gap_of_known_size(redis: RedisServer, open_journal: OpenJournal) -> None:
    ours, theirs = open_journal(redis.url, keep=64 * 1024), open_journal(redis.url)
    share = await begin(ours)
    for _ in range(100):
        write(share, 30, 200)
        await sleep(CLOCK, 0)
    await eventually(CLOCK, lambda: not share.outbox.waiting)
    reader = read(theirs, share.sid)
    await reader.until(CLOCK, 3000)
    assert len(reader.gaps) == 1
    assert reader.gaps[0] + reader.heard == 3000
    assert 64 * 1024 <= sum(reader.pages) < 80 * 1024


async def test_what_a_stream_is_can_be_looked_up(pair: tuple[Journal, Journal]) -> None:
    ours, theirs = pair
    meta = a_meta()
    share = ours.create(a_sid(), meta, Keeper())
    write(share, 2)
    await eventually(CLOCK, lambda: not share.outbox.waiting)
    assert await theirs.open(share.sid) == Found(meta, 2, None)
    end = Terminal("cancelled", "It was cancelled.", 499)
    share.finish(end)
    await eventually(CLOCK, lambda: share.outbox.over)
    assert await theirs.open(share.sid) == Found(meta, 2, end)
    assert await theirs.open(a_sid()) is None
    assert "01" * 32 not in repr(meta) and "scope" not in repr(meta)


async def test_a_stream_that_is_not_there_is_gone(pair: tuple[Journal, Journal]) -> None:
    assert await read(pair[1], a_sid()).end(CLOCK) == "stream_gone"


async def test_a_finished_stream_stays_for_its_ttl(redis: RedisServer, pair: tuple[Journal, Journal], open_link: OpenLink) -> None:
    share = await begin(pair[0], ttl=0.05)
    write(share, 1)
    share.finish(DONE)
    await eventually(CLOCK, lambda: share.outbox.over)
    await sleep(CLOCK, 0.06)
    assert await pair[1].open(share.sid) is None
    assert await pair[1]._link.command("EXISTS", meta_key(share.sid), pieces_key(share.sid)) == 0


async def test_a_reader_elsewhere_can_end_a_stream(pair: tuple[Journal, Journal]) -> None:
    ours, theirs = pair
    keeper = Keeper()
    share = await begin(ours, keeper)
    assert await theirs.cancel(share.sid) is True
    await eventually(CLOCK, lambda: keeper.cancels)
    share.finish(Terminal("cancelled"))
    await eventually(CLOCK, lambda: share.outbox.over)
    assert await theirs.cancel(share.sid) is False
    assert await theirs.cancel(a_sid()) is False


async def test_a_cancel_whose_message_is_lost_is_found_with_the_next_pieces(pair: tuple[Journal, Journal]) -> None:
    ours, theirs = pair
    keeper = Keeper()
    share = await begin(ours, keeper)
    ours._link.unsubscribe(b"txsse:k:" + ours.name.encode())
    await theirs.cancel(share.sid)
    write(share, 1)
    await eventually(CLOCK, lambda: keeper.cancels == 1)


async def test_the_owner_knows_whether_anybody_reads_elsewhere(redis: RedisServer, pair: tuple[Journal, Journal]) -> None:
    ours, theirs = pair
    keeper = Keeper()
    share = await begin(ours, keeper)
    first, second = read(theirs, share.sid), read(theirs, share.sid)
    await eventually(CLOCK, lambda: keeper.counts == [1])
    await sleep(CLOCK, 1.5 * LEASE)  # longer than it is believed without being told again
    assert share.readers == 1
    first.follow.stop()
    second.follow.stop()
    await eventually(CLOCK, lambda: keeper.counts == [1, 0])
    assert share.readers == 0


async def test_readers_of_a_process_that_dies_are_forgotten(pair: tuple[Journal, Journal]) -> None:
    ours, theirs = pair
    keeper = Keeper()
    share = await begin(ours, keeper)
    read(theirs, share.sid)
    await eventually(CLOCK, lambda: keeper.counts == [1])
    await theirs._link.close()
    await eventually(CLOCK, lambda: keeper.counts == [1, 0], 3 * LEASE)


async def test_a_journal_that_closes_writes_what_it_has_and_leaves_no_lease(redis: RedisServer, open_journal: OpenJournal) -> None:
    ours, theirs = open_journal(redis.url), open_journal(redis.url)
    ended, open_ended = await begin(ours), await begin(ours)
    readers = read(theirs, ended.sid), read(theirs, open_ended.sid)
    write(ended, 10)
    write(open_ended, 10)
    ended.finish(DONE)
    began = CLOCK.seconds()
    await ours.close()
    assert await readers[0].end(CLOCK) == ""
    assert readers[0].last == 10
    assert await readers[1].end(CLOCK) == "owner_lost"
    assert readers[1].last == 10
    assert CLOCK.seconds() - began < LEASE


async def test_where_what_is_kept_begins_is_known(redis: RedisServer, open_journal: OpenJournal) -> None:
    ours, theirs = open_journal(redis.url, keep=1), open_journal(redis.url)
    await eventually(CLOCK, lambda: ours._link.available and theirs._link.available)
    share = await begin(ours)
    found = await theirs.open(share.sid)
    assert found is not None and (found.first, found.last) == (1, 0)
    for _ in range(300):  # Redis trims whole nodes of a hundred entries
        write(share, 1, 9000)
        await eventually(CLOCK, lambda: not share.outbox.waiting)
    found = await theirs.open(share.sid)
    assert found is not None and found.last == 300
    assert 1 < found.first <= 300
    reader = read(theirs, share.sid, found.first - 1)
    await reader.until(CLOCK, 300)
    assert reader.gaps == []


async def test_a_stream_is_read_at_once(pair: tuple[Journal, Journal]) -> None:
    ours, theirs = pair
    assert await theirs.read(a_sid(), 0, 1) is None
    share = await begin(ours)
    write(share, 3)
    await eventually(CLOCK, lambda: not share.outbox.waiting)
    share.append(piece_of(4))
    share.finish(DONE)
    await eventually(CLOCK, lambda: not share.outbox.waiting)
    found = await theirs.read(share.sid, 2, 1)
    assert found is not None and (found.last, found.terminal) == (4, DONE)
    assert [batch.first for batch in found.batches] == [1]
    rest = await theirs.read(share.sid, 3, 8)
    assert rest is not None and [batch.pieces() for batch in rest.batches] == [[piece_of(4)]]
