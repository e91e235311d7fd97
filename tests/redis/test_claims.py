"""Claims: of all who make one, one has it; it leads to a stream that is there; and it can be given up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet import reactor

from tests.redis.conftest import OpenLink
from tests.redis.server import RedisServer
from tests.redis.streams import Keeper, a_meta, a_sid
from tests.timing import BUSY
from txsse.redis.claims import Claimed, Claims
from txsse.redis.journal import Journal
from txsse.redis.link import RedisLink
from txsse.testing import eventually, sleep

CLOCK: Any = reactor
KEY = b"k" * 32


def claimed(body: bytes = b"\1\2") -> Claimed:
    return Claimed(a_sid(), body)


@pytest.fixture
def link(redis: RedisServer, open_link: OpenLink) -> RedisLink:
    return open_link(redis.url)


async def two(link: RedisLink) -> tuple[Claims, Claims]:
    await eventually(CLOCK, lambda: link.available)
    return Claims(link, "one"), Claims(link, "two")


async def test_the_first_one_has_it_and_the_others_are_told(link: RedisLink) -> None:
    one, two_ = await two(link)
    first, second = claimed(), claimed()
    assert await one.claim(KEY, first, a_meta()) is None
    assert await two_.claim(KEY, second, a_meta()) == first
    assert await one.claim(KEY, second, a_meta()) == first
    assert await two_.claim(b"o" * 32, second, a_meta()) is None


async def test_its_stream_is_there_with_it(redis: RedisServer, link: RedisLink, open_journal: Callable[..., Journal]) -> None:
    journal = open_journal(redis.url)
    await eventually(CLOCK, lambda: journal._link.available)
    one, _ = await two(link)
    first = claimed()
    await one.claim(KEY, first, a_meta(route="mine"))
    found = await journal.open(first.sid)
    assert found is not None and (found.meta.route, found.last, found.terminal) == ("mine", 0, None)
    assert await journal.open(claimed().sid) is None


async def test_it_may_give_way_to_one_who_knows_what_it_says(link: RedisLink) -> None:
    one, two_ = await two(link)
    first, second, third = claimed(), claimed(), claimed()
    await one.claim(KEY, first, a_meta())
    assert await two_.claim(KEY, second, a_meta(), first) is None
    assert await one.claim(KEY, third, a_meta(), first) == second


async def test_it_is_given_up_or_stands_for_a_while_by_the_one_who_has_it(link: RedisLink) -> None:
    one, two_ = await two(link)
    first, second, third = claimed(), claimed(), claimed()
    await one.claim(KEY, first, a_meta())
    two_.settle(KEY, second, 0)
    assert await two_.claim(KEY, second, a_meta()) == first
    one.settle(KEY, first, 0)
    assert await two_.claim(KEY, second, a_meta()) is None
    two_.settle(KEY, second, 0.05)
    while (whose := await one.claim(KEY, third, a_meta())) is not None:
        assert whose == second
        await sleep(CLOCK, 0.02)


async def test_nobody_waits_for_a_redis_that_is_away(redis: RedisServer, link: RedisLink) -> None:
    one, _ = await two(link)
    redis.freeze()
    began = CLOCK.seconds()
    assert await one.claim(KEY, claimed(), a_meta()) is None
    assert CLOCK.seconds() - began < 0.5 + BUSY
    redis.stop()
    await eventually(CLOCK, lambda: not link.available)
    assert await one.claim(KEY, claimed(), a_meta()) is None
    one.settle(KEY, claimed(), 0)


async def test_what_somebody_else_has_written_there_is_no_claim(link: RedisLink) -> None:
    one, _ = await two(link)
    for text in (b"nonsense", b"a b c", b"\xff zz"):
        await link.command("SET", f"txsse:i:{KEY.hex()}", text)
        assert await one.claim(KEY, claimed(), a_meta()) is None


async def test_who_cannot_wait_lets_it_lead_to_its_stream_with_it(
    redis: RedisServer, link: RedisLink, open_journal: Callable[..., Journal]
) -> None:
    journal = open_journal(redis.url)
    await eventually(CLOCK, lambda: journal._link.available)
    one, two_ = await two(link)
    first, second = claimed(), claimed()
    assert await two_.find(KEY) is None
    for each in (first, second):
        share = journal.create(each.sid, a_meta(), Keeper(), lead=one.lead(KEY, each))
        await eventually(CLOCK, lambda share=share: not share.outbox.waiting)  # type: ignore[misc]
    assert await two_.find(KEY) == first, "it led there already"
    assert int(redis.do("PTTL", f"txsse:i:{KEY.hex()}")) > 0
