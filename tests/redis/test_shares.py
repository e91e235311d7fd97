"""The streams that a process shares, with a Redis that is made up: when it is written to, and what becomes of what it cannot take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest
from twisted.internet.task import Clock

from tests.redis.lines import FakeLine
from tests.redis.streams import Keeper, a_meta
from txsse.redis.errors import CommandRefused, Unavailable
from txsse.redis.link import Argument, RedisLink
from txsse.redis.outbox import BATCH, MOST_WAITING
from txsse.redis.records import DONE, Batch, Head
from txsse.redis.scripts import APPEND, CREATE, FINISH
from txsse.redis.shares import LONGEST_GOODBYE, LOOK_INTERVAL, TICK, Shares


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def line() -> FakeLine:
    return FakeLine()


@pytest.fixture
def shares(line: FakeLine, clock: Clock) -> Shares:
    return Shares(cast(RedisLink, line), clock, "node.1", 1024 * 1024)


def batch_of(args: Sequence[Argument]) -> Batch:
    packed = args[4]
    assert isinstance(packed, bytes)
    return Batch.unpack(packed)


def test_pieces_wait_for_each_other_but_not_long(shares: Shares, line: FakeLine, clock: Clock) -> None:
    share = shares.create("sid", a_meta(), Keeper())
    line.answer(CREATE)
    share.append(b"one")
    clock.advance(TICK / 2)
    share.append(b"two")
    assert not line.asked
    clock.advance(TICK / 2)
    share.append(b"three")
    batch = batch_of(line.answer(APPEND))
    assert (batch.first, batch.data) == (1, b"onetwo")
    assert not line.asked
    clock.advance(TICK)
    assert batch_of(line.answer(APPEND)).data == b"three"
    assert shares.counts.batches == 2


def test_the_head_goes_with_the_first_pieces_or_before_them(shares: Shares, line: FakeLine, clock: Clock) -> None:
    head = Head(200, [(b"Content-Language", b"de")])
    share = shares.create("sid", a_meta(), Keeper())
    share.begin(head)
    line.answer(CREATE)
    args = line.answer(APPEND)
    assert (args[2], args[4], args[6]) == (0, b"", head.pack())
    share.append(b"one")
    clock.advance(TICK)
    assert line.answer(APPEND)[6] == ""
    quick = shares.create("quick", a_meta(), Keeper())
    quick.begin(head)
    quick.append(b"one")
    line.answer(CREATE)
    args = line.answer(APPEND)
    assert (batch_of(args).data, args[6]) == (b"one", head.pack())
    ended = shares.create("ended", a_meta(), Keeper())
    ended.begin(head)
    ended.finish(DONE)
    line.answer(CREATE)
    assert line.answer(APPEND)[6] == head.pack()
    line.answer(FINISH)
    assert len(shares) == 2


def test_a_full_batch_does_not_wait(shares: Shares, line: FakeLine) -> None:
    share = shares.create("sid", a_meta(), Keeper())
    line.answer(CREATE)
    share.append(b"x" * BATCH)
    share.append(b"y" * BATCH)
    share.append(b"z")
    assert batch_of(line.answer(APPEND)).data == b"x" * BATCH
    assert batch_of(line.answer(APPEND)).data == b"y" * BATCH


def test_the_end_does_not_wait(shares: Shares, line: FakeLine) -> None:
    share = shares.create("sid", a_meta(), Keeper())
    line.answer(CREATE)
    share.append(b"one")
    share.finish(DONE)
    line.answer(APPEND)
    line.answer(FINISH)
    assert len(shares) == 0


@pytest.mark.parametrize("error", [Unavailable("too slow"), CommandRefused("OOM command not allowed")])
def test_what_failed_is_not_tried_again_before_there_is_reason_to(error: Exception, shares: Shares, line: FakeLine, clock: Clock) -> None:
    share = shares.create("sid", a_meta(), Keeper())
    line.answer(CREATE, error)
    for _ in range(10):
        share.append(b"one")
        clock.advance(TICK)
    assert not line.asked
    shares.push_all()
    line.answer(CREATE)
    assert batch_of(line.answer(APPEND)).data == b"one" * 10
    assert shares.counts.failures == 1


def test_nothing_is_sent_while_there_is_no_redis(shares: Shares, line: FakeLine, clock: Clock) -> None:
    line.available = False
    share = shares.create("sid", a_meta(), Keeper())
    share.append(b"one")
    clock.advance(TICK)
    assert not line.asked
    line.available = True
    shares.push_all()
    line.answer(CREATE)
    assert batch_of(line.answer(APPEND)).data == b"one"


@pytest.mark.parametrize(("reply", "why"), [(b"fenced", "fenced"), (b"gone", "gone")])
def test_a_stream_that_is_not_ours_any_more_is_let_go(reply: bytes, why: str, shares: Shares, line: FakeLine, clock: Clock) -> None:
    keeper = Keeper()
    share = shares.create("sid", a_meta(), keeper)
    line.answer(CREATE)
    share.append(b"one")
    clock.advance(TICK)
    line.answer(APPEND, reply)
    assert not keeper.losses
    clock.advance(0)
    assert keeper.losses == [why]
    assert not share.shared and len(shares) == 0
    share.append(b"two")
    share.finish(DONE)
    clock.advance(TICK)
    assert not line.asked and not clock.getDelayedCalls()


def test_the_owner_is_told_from_outside_of_its_call(shares: Shares, line: FakeLine, clock: Clock) -> None:
    keeper = Keeper()
    share = shares.create("sid", a_meta(), keeper)
    share.append(b"x" * MOST_WAITING)
    share.append(b"x")
    share.append(b"x")
    assert not keeper.losses
    clock.advance(0)
    assert keeper.losses == ["behind"]
    assert shares.counts.unshared == 1
    line.answer(CREATE)
    assert line.answer(FINISH)[2] == "replay_truncated"
    clock.advance(0)
    assert keeper.losses == ["behind"]


def test_a_silent_stream_is_looked_at_once_in_a_while(shares: Shares, line: FakeLine, clock: Clock) -> None:
    keeper = Keeper()
    shares.create("sid", a_meta(), keeper)
    line.answer(CREATE)
    clock.advance(LOOK_INTERVAL - 1)
    shares.look()
    assert not line.asked
    clock.advance(1)
    shares.look()
    assert line.answer(APPEND, b"cancel")[2] == 0
    assert keeper.cancels == 1
    shares.look(at_all=True)
    line.answer(APPEND, b"cancel")
    assert keeper.cancels == 1


def test_what_is_over_does_not_wait_for_ever(shares: Shares, line: FakeLine, clock: Clock) -> None:
    line.available = False
    running, over = (shares.create(sid, a_meta(), Keeper()) for sid in ("one", "two"))
    running.append(b"one")
    over.append(b"two")
    clock.advance(TICK)
    over.finish(DONE)
    over.finish(DONE)
    clock.advance(LONGEST_GOODBYE - 1)
    shares.expire()
    assert len(shares) == 2
    clock.advance(1.1)
    shares.expire()
    assert len(shares) == 1 and shares.waiting
    shares.close()
    assert len(shares) == 0 and not clock.getDelayedCalls()
