"""What takes long to show: a Redis that is gone or stands still for good, and a peer that stands still."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList

from tests.integration.bench import error_of, last_error
from tests.integration.nodes import STREAM, Nodes, World, is_whole, numbers, words
from tests.redis.server import RedisServer
from txsse.proxy.peers import TIMEOUTS

TOLD: Final = 20.0
"""Seconds after which who reads elsewhere must have heard that Redis is gone."""
WORDS: Final = 1000
"""At 20 ms each: a stream of 20 s."""


async def all_failures(reactor: Any, folder: Path) -> None:
    """All at once.

    :raises AssertionError: something was not as it should be.
    """
    cases: list[Callable[[Any, Path], Awaitable[None]]] = [redis_is_gone, redis_stands_still, peer_stands_still]
    running: list[Deferred[None]] = []
    for case in cases:
        place = folder / case.__name__
        place.mkdir()
        running.append(Deferred.fromCoroutine(case(reactor, place)))  # type: ignore[arg-type]  # a coroutine is what it gives
    ends: list[tuple[bool, Any]] = await DeferredList(running, consumeErrors=True)  # each has put away what it started by then
    for succeeded, found in ends:
        if not succeeded:
            found.raiseException()


async def redis_is_gone(reactor: Any, folder: Path) -> None:
    await _without_redis(reactor, folder, RedisServer.stop)


async def redis_stands_still(reactor: Any, folder: Path) -> None:
    await _without_redis(reactor, folder, RedisServer.freeze)


async def _without_redis(reactor: Any, folder: Path, fail: Callable[[RedisServer], None]) -> None:
    redis = RedisServer(folder)
    try:
        await _followers_end(World(reactor, Nodes(folder, "ab", more=f'[store]\nkind = "redis"\nurl = "{redis.url}"\n')), redis, fail)
    finally:
        redis.stop()


async def _followers_end(world: World, redis: RedisServer, fail: Callable[[RedisServer], None]) -> None:
    try:
        await world.upstream.open()
        client, sid = await world.begin("a", words(WORDS), 3)
        reader = await world.read("b", sid)
        await reader.until(lambda: len(numbers(reader)) > 3)
        fail(redis)
        late = await world.call("b", "GET", STREAM + sid)
        assert late.status == 503, late
        during = await world.post("a", words(3, 0))
        await during.complete()
        assert is_whole(during, 1, 3)
        await reader.gone(TOLD)
        assert last_error(reader)["code"] == "owner_lost"
        assert numbers(reader) == list(range(1, len(numbers(reader)) + 1))
        await client.complete(timeout=60)
        assert is_whole(client, 1, WORDS)
    finally:
        world.nodes.stop()
        await world.close()


async def peer_stands_still(reactor: Any, folder: Path) -> None:
    world = World(reactor, Nodes(folder, "ab", peers=True))
    try:
        await world.upstream.open()
        _, sid = await world.begin("a", words(100_000), 3)
        reader = await world.read("b", sid)
        await reader.until(lambda: len(numbers(reader)) > 3)
        world.nodes.freeze("a")
        late = await world.client("b")
        late.request("GET", STREAM + sid, headers=["Accept: application/json", "Authorization: Bearer one"])
        answer = await late.complete(timeout=TIMEOUTS.first_byte + 5)
        assert (answer.status, error_of(answer.body)["code"]) == (504, "upstream_timeout")
        await reader.gone(TIMEOUTS.idle + 5)
        assert last_error(reader)["code"] == "upstream_timeout"
        assert numbers(reader) == list(range(1, len(numbers(reader)) + 1))
    finally:
        world.nodes.thaw("a")
        world.nodes.stop()
        await world.close()
