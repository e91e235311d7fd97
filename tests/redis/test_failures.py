"""What happens to shared streams when a node or Redis fails: each ends with a code or goes on, and nothing comes twice or out of order."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest
import pytest_twisted  # type: ignore[import-untyped]  # has no types
from twisted.internet import reactor

from tests.redis.conftest import LEASE, OpenLink, StartServer
from tests.redis.node import Node
from tests.redis.server import RedisServer
from tests.redis.streams import Keeper, Reader, a_sid, piece_of
from tests.redis.test_journal import OpenJournal, begin, read, write
from tests.timing import BUSY
from txsse.redis.journal import Journal
from txsse.redis.outbox import MOST_WAITING
from txsse.redis.records import DONE, Batch
from txsse.redis.scripts import APPEND, REAP, bell, lease_key, meta_key, pieces_key
from txsse.redis.shares import Share
from txsse.testing import eventually, sleep

CLOCK: Any = reactor

StartNode = Callable[..., Node]


@pytest.fixture
def start_node() -> Generator[StartNode]:
    """Starts processes that own streams."""
    nodes: list[Node] = []

    def start(redis: RedisServer, *sids: str, interval: float = 0.01) -> Node:
        nodes.append(Node(redis.url, LEASE, interval, *sids))
        return nodes[-1]

    yield start
    for each in nodes:
        pytest_twisted.blockon(each.kill())


@pytest.fixture
def ours(redis: RedisServer, open_journal: OpenJournal) -> Journal:
    return open_journal(redis.url)


@pytest.fixture
def theirs(redis: RedisServer, open_journal: OpenJournal) -> Journal:
    return open_journal(redis.url)


async def followed(ours: Journal, theirs: Journal, keeper: Keeper) -> tuple[Share, Reader]:
    """A stream of ours that is written to and read elsewhere."""
    await eventually(CLOCK, lambda: ours._link.available and theirs._link.available)
    share = await begin(ours, keeper)
    write(share, 5)
    reader = read(theirs, share.sid)
    await reader.until(CLOCK, 5)
    return share, reader


async def begun(journal: Journal, sid: str) -> None:
    """Its owner has written that there is such a stream."""
    while (found := await journal.open(sid)) is None:
        await sleep(CLOCK, 0.01)
    assert found.terminal is None


async def test_the_streams_of_a_killed_node_end_within_its_lease(redis: RedisServer, theirs: Journal, start_node: StartNode) -> None:
    sids = [a_sid() for _ in range(3)]
    node = start_node(redis, *sids)
    await eventually(CLOCK, lambda: "up" in node.said, 60)
    await eventually(CLOCK, lambda: theirs._link.available)
    for sid in sids:
        await begun(theirs, sid)
    readers = [read(theirs, sid) for sid in sids]
    for each in readers:
        await each.until(CLOCK, 20)
    await node.kill()
    began = CLOCK.seconds()
    for each in readers:
        assert await each.end(CLOCK) == "owner_lost"
        assert each.gaps == []
    assert CLOCK.seconds() - began < LEASE + BUSY
    late = read(theirs, sids[0])
    assert await late.end(CLOCK) == "owner_lost"
    assert late.last == readers[0].last
    assert theirs.reaped == 3


async def test_a_stream_of_a_dead_node_that_is_only_looked_up_ends_too(redis: RedisServer, theirs: Journal, start_node: StartNode) -> None:
    sid = a_sid()
    node = start_node(redis, sid)
    await eventually(CLOCK, lambda: "up" in node.said, 60)
    await eventually(CLOCK, lambda: theirs._link.available)
    await begun(theirs, sid)
    await node.kill()
    await sleep(CLOCK, LEASE)
    assert await theirs.open(sid) is not None
    await eventually(CLOCK, lambda: theirs.reaped == 1)
    found = await theirs.open(sid)
    assert found is not None and found.terminal is not None and found.terminal.code == "owner_lost"


async def test_a_node_that_was_frozen_is_fenced_when_it_thaws(redis: RedisServer, theirs: Journal, start_node: StartNode) -> None:
    sids = [a_sid(), a_sid()]
    node = start_node(redis, *sids)
    await eventually(CLOCK, lambda: "up" in node.said, 60)
    await eventually(CLOCK, lambda: theirs._link.available)
    for sid in sids:
        await begun(theirs, sid)
    reader, paused = read(theirs, sids[0]), read(theirs, sids[1], limit=1)
    await reader.until(CLOCK, 10)
    await paused.until(CLOCK, 1)
    node.freeze()
    assert await reader.end(CLOCK) == "owner_lost"
    last = reader.last
    node.thaw()
    await eventually(CLOCK, lambda: all(f"unshared fenced {sid}" in node.said for sid in sids))
    late = read(theirs, sids[0])
    await late.end(CLOCK)
    assert late.last == last
    while not paused.ends:
        paused.follow.resume()
        await sleep(CLOCK, 0.01)
    assert await paused.end(CLOCK) == "owner_lost"


async def test_a_node_that_is_frozen_for_less_than_its_lease_goes_on(redis: RedisServer, theirs: Journal, start_node: StartNode) -> None:
    sid = a_sid()
    node = start_node(redis, sid)
    await eventually(CLOCK, lambda: "up" in node.said, 60)
    await eventually(CLOCK, lambda: theirs._link.available)
    await begun(theirs, sid)
    reader = read(theirs, sid)
    await reader.until(CLOCK, 10)
    node.freeze()
    await sleep(CLOCK, LEASE / 2)
    node.thaw()
    await reader.until(CLOCK, reader.last + 20)
    assert not reader.wrong and not reader.ends


async def test_without_redis_the_owner_goes_on_and_readers_elsewhere_are_told(redis: RedisServer, ours: Journal, theirs: Journal) -> None:
    keeper = Keeper()
    share, reader = await followed(ours, theirs, keeper)
    redis.stop()
    began = CLOCK.seconds()
    write(share, 5)
    assert await reader.end(CLOCK) == "owner_lost"
    assert CLOCK.seconds() - began < 2 * LEASE + BUSY
    assert share.shared
    write(share, 12, MOST_WAITING // 10)
    await eventually(CLOCK, lambda: keeper.losses == ["behind"])
    assert not share.shared
    write(share, 5)
    assert ours.counts.dropped > 0
    redis.start()
    await eventually(CLOCK, lambda: share.outbox.over)


@pytest.mark.parametrize("outage", [0.5, 3.5])
async def test_a_redis_that_was_frozen_has_everything_afterwards(outage: float, redis: RedisServer, ours: Journal, theirs: Journal) -> None:
    keeper = Keeper()
    share, reader = await followed(ours, theirs, keeper)
    redis.freeze()
    for _ in range(50):
        write(share, 1)
        await sleep(CLOCK, outage / 50)
    redis.thaw()
    await eventually(CLOCK, lambda: ours._link.available and theirs._link.available)
    if outage < LEASE:
        await reader.until(CLOCK, 55)
        assert not reader.ends
    else:
        assert await reader.end(CLOCK) == "owner_lost"
        reader = read(theirs, share.sid, reader.last)
    write(share, 1)
    share.finish(DONE)
    assert await reader.end(CLOCK, 10) == ""
    assert (reader.last, reader.gaps, keeper.losses) == (56, [], [])


async def test_a_redis_that_comes_back_empty_ends_what_it_had(redis: RedisServer, ours: Journal, theirs: Journal) -> None:
    keeper = Keeper()
    share, reader = await followed(ours, theirs, keeper)
    redis.stop()
    redis.start()
    write(share, 1)
    assert await reader.end(CLOCK) == "stream_gone"
    await eventually(CLOCK, lambda: keeper.losses == ["gone"])
    write(share, 1)
    share.finish(DONE)
    fresh, again = await followed(ours, theirs, Keeper())
    fresh.finish(DONE)
    assert await again.end(CLOCK) == ""


async def test_a_flushed_redis_ends_what_it_had(redis: RedisServer, ours: Journal, theirs: Journal) -> None:
    keeper = Keeper()
    share, reader = await followed(ours, theirs, keeper)
    await ours._link.command("FLUSHALL")
    assert await reader.end(CLOCK) == "stream_gone"
    write(share, 1)
    await eventually(CLOCK, lambda: keeper.losses == ["gone"])
    assert await theirs.open(share.sid) is None


async def test_evicted_pieces_are_a_gap_and_the_stream_goes_on(redis: RedisServer, ours: Journal, theirs: Journal) -> None:
    share, reader = await followed(ours, theirs, Keeper())
    await ours._link.command("DEL", pieces_key(share.sid))
    late = read(theirs, share.sid)
    await eventually(CLOCK, lambda: late.gaps == [5])
    write(share, 2)
    share.finish(DONE)
    assert [await each.end(CLOCK) for each in (reader, late)] == ["", ""]
    assert (reader.heard, late.heard) == (7, 2)


async def test_an_evicted_stream_is_gone(redis: RedisServer, ours: Journal, theirs: Journal) -> None:
    keeper = Keeper()
    share, reader = await followed(ours, theirs, keeper)
    await ours._link.command("DEL", meta_key(share.sid))
    write(share, 2)
    await eventually(CLOCK, lambda: keeper.losses == ["gone"])
    assert await reader.end(CLOCK) == "stream_gone"


async def test_an_evicted_lease_kills_nobody(redis: RedisServer, ours: Journal, theirs: Journal) -> None:
    share, reader = await followed(ours, theirs, Keeper())
    for _ in range(24):
        await theirs._link.command("DEL", "txsse:n:" + ours.name)
        await sleep(CLOCK, LEASE / 20)
    await reader.until(CLOCK, 5)
    share.finish(DONE)
    assert await reader.end(CLOCK) == ""


async def test_who_is_alive_cannot_be_reaped(redis: RedisServer, ours: Journal, theirs: Journal) -> None:
    share, reader = await followed(ours, theirs, Keeper())
    keys = [meta_key(share.sid), pieces_key(share.sid), lease_key(ours.name)]
    args: list[bytes | str | int] = [ours.name, 60_000, "owner_lost", "", 502, bell(share.sid)]
    assert await theirs._link.run(REAP, keys, args) == b"alive"
    share.finish(DONE)
    assert await reader.end(CLOCK) == ""


async def test_who_could_not_look_gives_the_others_time_to_come_back(redis: RedisServer, ours: Journal, theirs: Journal) -> None:
    share, reader = await followed(ours, theirs, Keeper())
    ours._lease.stop()  # as one that finds its way to Redis later than we do
    await theirs._link.command("DEL", lease_key(ours.name))
    theirs._link._commands.drop()
    await eventually(CLOCK, lambda: not theirs._link.available)
    await eventually(CLOCK, lambda: theirs._link.available)
    await sleep(CLOCK, 1.2 * LEASE)
    share.finish(DONE)
    assert await reader.end(CLOCK) == ""


async def test_a_full_redis_ends_the_sharing_and_not_the_stream(
    start_redis: StartServer, open_journal: OpenJournal, open_link: OpenLink
) -> None:
    redis = start_redis("--maxmemory-policy", "noeviction")
    ours, theirs = open_journal(redis.url), open_journal(redis.url)
    keeper = Keeper()
    share, reader = await followed(ours, theirs, keeper)
    await ours._link.command("CONFIG", "SET", "maxmemory", "1")
    write(share, 12, MOST_WAITING // 10)
    await eventually(CLOCK, lambda: keeper.losses == ["behind"])
    await ours._link.command("CONFIG", "SET", "maxmemory", "0")
    assert await reader.end(CLOCK) == "replay_truncated"


async def test_a_redis_that_was_full_for_longer_than_a_lease_has_everything_afterwards(
    start_redis: StartServer, open_journal: OpenJournal
) -> None:
    redis = start_redis("--maxmemory-policy", "noeviction")
    ours, theirs = open_journal(redis.url), open_journal(redis.url)
    keeper = Keeper()
    share, reader = await followed(ours, theirs, keeper)
    await ours._link.command("CONFIG", "SET", "maxmemory", "1")
    write(share, 5)
    await sleep(CLOCK, 1.5 * LEASE)
    assert await theirs._link.command("EXISTS", lease_key(ours.name)) == 1
    await ours._link.command("CONFIG", "SET", "maxmemory", "0")
    await reader.until(CLOCK, 10)
    share.finish(DONE)
    assert await reader.end(CLOCK) == ""
    assert (reader.gaps, keeper.losses, theirs.reaped) == ([], [], 0)


async def test_what_a_replica_that_took_over_did_not_have_yet_is_a_gap(redis: RedisServer, ours: Journal, theirs: Journal) -> None:
    share, reader = await followed(ours, theirs, Keeper())
    write(share, 2)
    await reader.until(CLOCK, 7)
    await ours._link.command("XDEL", pieces_key(share.sid), "7-0")
    await ours._link.command("HSET", meta_key(share.sid), "n", "5")
    late = read(theirs, share.sid)
    await late.until(CLOCK, 5)
    share.finish(DONE)
    assert [await each.end(CLOCK) for each in (reader, late)] == ["", ""]
    assert (reader.gaps, late.heard, late.gaps) == ([], 5, [2])


async def test_a_message_that_is_lost_is_healed(redis: RedisServer, ours: Journal, theirs: Journal) -> None:
    share, reader = await followed(ours, theirs, Keeper())
    lost = [piece_of(number) for number in (6, 7)]
    ends = Batch.unpack(Batch(6, b"".join(lost), _ends(lost)).pack())
    await ours._link.run(
        APPEND, [meta_key(share.sid), pieces_key(share.sid)], [ours.name, 60_000, 7, 1, ends.pack(), b"a channel of nobody", b""]
    )
    await reader.until(CLOCK, 7)
    write_from(share, 8)
    share.finish(DONE)
    assert await reader.end(CLOCK) == ""
    assert (reader.last, reader.gaps) == (8, [])


async def test_a_message_that_comes_twice_or_late_is_heard_once(redis: RedisServer, ours: Journal, theirs: Journal) -> None:
    share, reader = await followed(ours, theirs, Keeper())
    for first in (3, 7, 6, 6):
        pieces = [piece_of(first)]
        await ours._link.command("PUBLISH", bell(share.sid), Batch(first, pieces[0], _ends(pieces)).pack())
    await ours._link.command("PUBLISH", bell(share.sid), b"nonsense")
    write(share, 5)
    share.finish(DONE)
    assert await reader.end(CLOCK) == ""
    assert reader.last == 10


async def test_a_reader_that_is_ahead_of_the_store_hears_only_what_is_new_to_it(redis: RedisServer, ours: Journal, theirs: Journal) -> None:
    share, reader = await followed(ours, theirs, Keeper())
    ahead = read(theirs, share.sid, 7)
    for _ in range(5):
        write(share, 1)
        await sleep(CLOCK, 0.06)
    await ahead.until(CLOCK, 10)
    assert ahead.heard == 3
    beyond = read(theirs, share.sid, 1000)
    share.finish(DONE)
    assert [await each.end(CLOCK) for each in (reader, ahead, beyond)] == ["", "", ""]
    assert (beyond.heard, beyond.gaps) == (0, [])


async def test_redis_that_refuses_channels_is_read_by_and_by(start_redis: StartServer, open_journal: OpenJournal) -> None:
    redis = start_redis("--user", "default", "on", "nopass", "~*", "resetchannels", "+@all")
    ours, theirs = open_journal(redis.url), open_journal(redis.url)
    await eventually(CLOCK, lambda: ours._link.available and theirs._link.available)
    sid = a_sid()
    assert await read(theirs, sid).end(CLOCK) == "stream_gone"


def _ends(pieces: list[bytes]) -> Any:
    from array import array
    from itertools import accumulate

    return array("I", accumulate(map(len, pieces)))


def write_from(share: Share, number: int) -> None:
    """The owner goes on at that number."""
    share.outbox.last = number - 1
    share.append(piece_of(number))


async def test_in_a_redis_that_evicts_what_it_likes_every_reader_has_an_end(start_redis: StartServer, open_journal: OpenJournal) -> None:
    redis = start_redis("--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru")
    ours, theirs = open_journal(redis.url), open_journal(redis.url)
    await eventually(CLOCK, lambda: ours._link.available and theirs._link.available)
    shares = [await begin(ours, Keeper()) for _ in range(12)]
    readers = [read(theirs, share.sid) for share in shares]
    for _ in range(40):
        for share in shares:
            write(share, 4, 4096)
        await sleep(CLOCK, 0.02)
    for share in shares:
        share.finish(DONE)
    late = [read(theirs, share.sid) for share in shares]
    codes = [await each.end(CLOCK, 20) for each in (*readers, *late)]
    assert set(codes) <= {"", "stream_gone", "owner_lost"}
    for code, each in zip(codes, (*readers, *late), strict=True):
        assert code or each.last == 160, "what is missing was told"
    assert int(redis.do("INFO", "stats").partition("evicted_keys:")[2].split()[0]) > 0
