"""Predictions on nodes that share a Redis; and what becomes of them when that, or one of the nodes, fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator

import pytest

from tests.integration.bench import SSE
from tests.integration.nodes import LEASE, Nodes, World, shared
from tests.integration.predicting import ASYNC, ROUTE, ask, begin, document, given, is_whole, numbers, output, seen, told, until_status
from tests.redis.server import RedisServer
from tests.timing import BUSY
from txsse.testing import eventually, sleep

OTHER = "Authorization: Bearer another"


@pytest.fixture(scope="module")
def redis(start_redis: Callable[[], RedisServer]) -> RedisServer:
    return start_redis()


@pytest.fixture(scope="module")
def nodes(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Generator[Nodes]:
    made = Nodes(tmp_path_factory.mktemp("nodes"), "abc", more=shared(redis), first=ROUTE)
    yield made
    made.stop()


async def test_a_client_that_comes_back_to_another_node_finds_all_of_it(world: World) -> None:
    client = await begin(world, "a", "all", given(40, halt=20), 5)
    client.reset()
    cursor = client.events[3].id
    rest = await ask(world, "b", "GET", "/all", SSE, f"Last-Event-ID: {cursor}")
    whole = await ask(world, "b", "GET", "/all", SSE)
    after = await ask(world, "b", "GET", "/all?starting_after=20", SSE)
    waits = await ask(world, "b", "PUT", "/all", body={"input": {}})
    again = await ask(world, "b", "POST", "", SSE, f"Last-Event-ID: {cursor}", body=given(40, halt=20))
    now = await document(world, "b", "all")
    assert now["status"] == "processing" and now["output"] == output(len(now["output"])) and 1 < len(now["output"]) < 40
    await rest.head()
    world.gate.open()
    for each in (rest, whole, after, waits, again):
        await each.complete()
    assert is_whole(rest, 5, 40) and is_whole(whole, 1, 40) and is_whole(after, 21, 40) and is_whole(again, 5, 40)
    assert rest.response.header("x-stream-state") == b"live"
    here = await document(world, "a", "all")
    assert here["output"] == output(40)
    assert here == await document(world, "b", "all") == json.loads(waits.body) == told(rest)[-1]
    late = await ask(world, "c", "GET", "/all?last_event_id=" + rest.events[-2].id, SSE)
    await late.complete()
    assert is_whole(late, 42, 40) and late.response.header("x-stream-state") == b"done"
    done = await ask(world, "c", "GET", "/all", SSE, f"Last-Event-ID: {rest.events[-1].id}")
    assert (await done.complete()).status == 204
    for fields in ((), (SSE,)):
        put = await ask(world, "c", "PUT", "/all", *fields, body=given(40, halt=20))
        await put.complete()
        assert is_whole(put, 1, 40) if fields else json.loads(put.body) == here
    assert world.asked == 1


async def test_one_without_an_id_of_its_clients_and_whom_it_belongs_to(world: World) -> None:
    client = await ask(world, "a", "POST", "", ASYNC, body=given(3, 0))
    created = json.loads(bytes((await client.complete()).body))
    found = await until_status(world, "b", created["id"], "succeeded")
    assert found["output"] == output(3)
    assert (await document(world, "b", created["id"], OTHER))["code"] == "stream_not_found"
    theirs = await ask(world, "b", "PUT", "/" + created["id"], body=given(1, 0), key=OTHER)
    assert json.loads((await theirs.complete()).body)["output"] == output(1)


async def test_it_is_canceled_from_another_node(world: World) -> None:
    client = await begin(world, "a", "cancel", given(1000))
    reader = await ask(world, "b", "GET", "/cancel", SSE)
    await seen(reader)
    canceled = await ask(world, "b", "POST", "/cancel/cancel")
    assert (await canceled.complete()).body == b"{}"
    for each in (client, reader):
        await each.complete()
        assert told(each)[-1]["status"] == "canceled"
        assert numbers(each) == list(range(1, len(each.events) + 1))
    assert (await until_status(world, "b", "cancel", "canceled"))["output"]
    await world.upstream.until(lambda: not world.upstream.open_connections)


async def test_of_two_at_the_same_moment_one_is_made(world: World) -> None:
    both = [await ask(world, node, "PUT", "/moment", SSE, body=given(5)) for node in "ab"]
    for client in both:
        await client.complete()
        assert is_whole(client, 1, 5)
    assert world.asked == 1


async def test_a_request_that_came_to_nothing_leaves_its_id_to_others(world: World) -> None:
    refused = await ask(world, "a", "PUT", "/nothing", body={})
    assert (await refused.complete()).status == 422
    client = await ask(world, "b", "PUT", "/nothing", SSE, body=given(2, 0))
    await client.complete()
    assert is_whole(client, 1, 2)


async def test_a_long_one_is_told_elsewhere_in_order_to_its_document(world: World) -> None:
    client = await ask(world, "a", "PUT", "/long", SSE, body=given(10_000, 0))
    await client.complete(timeout=60)
    reader = await ask(world, "b", "GET", "/long", SSE)
    await reader.complete(timeout=60)
    assert is_whole(client, 1, 10_000) and is_whole(reader, 1, 10_000)
    assert (await document(world, "c", "long"))["output"] == output(10_000)


async def test_who_follows_it_elsewhere_follows_it(world: World) -> None:
    client = await ask(world, "a", "PUT", "/follow", SSE, body=given(1000))
    await seen(client)
    reader = await ask(world, "b", "GET", "/follow", SSE)
    await seen(reader)
    await sleep(world.reactor, 0.3)  # nothing shows that its node has been told
    client.reset()
    await sleep(world.reactor, 1)
    assert world.upstream.open_connections
    reader.reset()
    await until_status(world, "b", "follow", "canceled")
    await world.upstream.until(lambda: not world.upstream.open_connections)


# -- when something fails


async def test_what_nodes_made_that_die_or_stand_still_has_failed(world: World) -> None:
    await begin(world, "a", "killed", given(1000), 4)
    await begin(world, "a", "asked-for", given(1000))
    frozen = await begin(world, "c", "frozen", given(50, 0.2), 4)
    readers = [await ask(world, "b", "GET", f"/{id}", SSE) for id in ("killed", "frozen")]
    waits = await ask(world, "b", "PUT", "/killed", body=given(1000))
    for each in readers:
        await seen(each, 4)
    world.nodes.freeze("c")
    await world.nodes.kill("a")
    began = world.reactor.seconds()
    for reader, id in zip(readers, ("killed", "frozen"), strict=True):
        await reader.complete(timeout=LEASE + BUSY)
        last = told(reader)[-1]
        assert reader.events[-1].type == "completed"
        assert reader.events[-1].id == reader.events[-2].id, "it has none of its own"
        assert last["status"] == "failed" and last["error"].startswith("owner_lost: ")
        assert numbers(reader) == list(range(1, len(reader.events)))
        assert last["output"] == output(len(reader.events) - 2)
        assert await document(world, "b", id) == last
        again = await ask(world, "b", "GET", f"/{id}", SSE, f"Last-Event-ID: {reader.events[-2].id}")
        await again.complete()
        assert told(again) == [last]
    assert (await until_status(world, "b", "asked-for", "failed"))["error"].startswith("owner_lost: ")
    assert world.reactor.seconds() - began < LEASE + 1 + BUSY
    assert json.loads((await waits.complete()).body) == told(readers[0])[-1]
    assert world.asked == 3, "it is not made a second time"
    world.nodes.thaw("c")
    await frozen.complete(timeout=60)
    assert is_whole(frozen, 1, 50), "who follows it where it is made goes on"
    world.nodes.start("a")


async def test_who_follows_it_where_it_is_made_does_not_notice_that_redis_fails(world: World, redis: RedisServer) -> None:
    client = await begin(world, "a", "flushed", given(60), 4)
    reader = await ask(world, "b", "GET", "/flushed", SSE)
    await seen(reader, 4)
    redis.do("FLUSHALL")
    await reader.complete()
    assert (reader.events[-1].type, told(reader)[-1]["code"]) == ("error", "stream_gone")
    assert numbers(reader) == list(range(1, len(reader.events)))
    assert (await document(world, "b", "flushed"))["code"] == "stream_not_found"
    redis.stop()
    refused = await ask(world, "b", "GET", "/flushed")
    assert (await refused.complete()).status == 503
    assert json.loads(refused.body)["code"] == "upstream_unavailable"
    alone = await ask(world, "a", "PUT", "/alone", SSE, body=given(3, 0))
    await alone.complete()
    assert is_whole(alone, 1, 3)
    await client.complete()
    assert is_whole(client, 1, 60)
    redis.start()
    await begin(world, "a", "after", given(1000), 4)
    while "code" in (found := await document(world, "b", "after")):
        await sleep(world.reactor, 0.02)
    assert found["status"] == "processing"
    last = await ask(world, "b", "GET", "/after", SSE)
    await seen(last)
    world.nodes["a"].ask_to_stop()
    await last.complete()
    assert last.events[-1].type == "completed" and told(last)[-1]["status"] == "failed", "a drain ends it, and says so"
    assert await document(world, "b", "after") == told(last)[-1]
    await eventually(world.reactor, lambda: world.nodes["a"].returncode is not None)
    world.nodes.start("a")
