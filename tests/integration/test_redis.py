"""Two proxies that share streams and answers through a Redis; and what happens when that, or one of them, fails."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from pathlib import Path
from statistics import median

import pytest
import pytest_twisted  # type: ignore[import-untyped]  # ships no types
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests.integration.bench import CHAT, DONE, error_of, last_error
from tests.integration.caching import KEY, STOP, question, says
from tests.integration.nodes import (
    GRACE,
    JSON,
    LEASE,
    NUMBERED,
    STREAM,
    Nodes,
    World,
    is_whole,
    numbers,
    shared,
    sid_of,
    unspoken,
    words,
)
from tests.redis.server import RedisServer
from tests.timing import BUSY, at_best
from tests.upstream.certificates import Authority, names
from txsse.redis.scripts import readers_key
from txsse.testing import (
    LAST_CHUNK,
    REQUEST,
    STREAM_HEAD,
    Gate,
    RecordingClient,
    UpstreamConnection,
    answer,
    chunk,
    eventually,
    free_port,
    head,
    sleep,
    steps,
)

NOBODY = "b~" + 22 * "x"
OTHER = "Authorization: Bearer another"
CACHED = "X-Txsse-Cache: 1"
FROZEN = 2.5


@pytest.fixture(scope="module")
def redis(start_redis: Callable[[], RedisServer]) -> RedisServer:
    return start_redis()


@pytest.fixture(scope="module")
def nodes(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Generator[Nodes]:
    made = Nodes(tmp_path_factory.mktemp("nodes"), "abc", more=shared(redis))
    yield made
    made.stop()


# -- while all is well


async def test_a_stream_is_read_elsewhere_from_any_cursor_while_it_runs(world: World) -> None:
    client, sid = await world.begin("a", words(25, halt=10), 5)
    here = await world.read("a", sid, f"Last-Event-ID: {sid}.3")
    whole = await world.read("b", sid)
    rest = await world.read("b", sid, f"Last-Event-ID: {sid}.3")
    ahead = await world.read("b", sid, query="?starting_after=20")
    await whole.contains(b'"content":"10"')
    live = await world.read("b", sid, query="?from=live")
    for each in (here, rest, ahead, live):
        await each.head()
    world.gate.open()
    for each in (client, here, whole, rest, ahead, live):
        await each.complete()
    assert is_whole(whole, 1, 25) and is_whole(rest, 4, 25) and is_whole(ahead, 21, 25)
    assert unspoken(rest) == unspoken(here)
    assert is_whole(live, 11, 25)
    head = rest.response
    assert head.header("x-stream-state") == b"live" and head.header("x-stream-first") == b"1"
    assert (head.header("content-type") or b"").startswith(b"text/event-stream")
    assert world.asked == 1


async def test_a_stream_that_is_over_is_read_elsewhere(world: World) -> None:
    client, sid = await world.begin("a", words(5, 0))
    await client.complete()
    await told_elsewhere(world, sid, "done")
    again = await world.read("b", sid, f"Last-Event-ID: {sid}.2")
    await again.complete()
    assert is_whole(again, 3, 5)
    for cursor in ("", f"?last_event_id={sid}.7", "?from=live"):
        answer = await world.call("b", "GET", STREAM + sid + cursor)
        assert (answer.status, answer.header("x-stream-state")) == (200 if not cursor else 204, b"done")
    assert world.asked == 1


async def told_elsewhere(world: World, sid: str, state: str, node: str = "b") -> None:
    """Wait until the other node knows of it."""
    while (found := await world.state(node, sid)).get("state") != state:
        assert found.get("state") != "error", found
        await sleep(world.reactor, 0.01)


async def test_the_same_request_with_a_cursor_goes_on_elsewhere(world: World) -> None:
    body = words(15)
    _, sid = await world.begin("a", body, 3)
    again = await world.post("b", body, f"Last-Event-ID: {sid}.2")
    await again.complete()
    assert is_whole(again, 3, 15)
    assert world.asked == 1


async def test_a_get_that_names_a_stream_that_nobody_knows_begins_anew(world: World) -> None:
    world.upstream.script = steps(REQUEST, STREAM_HEAD + chunk(says("1")) + LAST_CHUNK)
    client = await world.client("b")
    client.request("GET", "/events", headers=["Accept: text/event-stream", KEY, f"Last-Event-ID: {NOBODY}.3"])
    await client.complete()
    assert client.body == b"id: %b.1\n" % sid_of(client).encode() + says("1")


async def test_a_request_that_must_not_be_made_twice_is_made_once(world: World) -> None:
    body, key = words(15), "Idempotency-Key: once"
    client, sid = await world.begin("a", body, 2, key)
    again = await world.post("b", body, key)
    await again.complete()
    assert is_whole(again, 1, 15) and sid_of(again) == sid
    await client.complete()
    late = await world.post("c", body, key)
    await late.complete()
    assert is_whole(late, 1, 15)
    other = await world.call("c", "POST", CHAT, key, body=words(1))
    assert (other.status, error_of(other.body)["code"]) == (422, "idempotency_conflict")
    strangers = await world.post("b", body, key, key=OTHER)
    await strangers.complete()
    assert sid_of(strangers) != sid
    assert world.asked == 2


async def test_so_is_one_that_joined_another_under_its_key(world: World) -> None:
    body, key = words(15, halt=5), "Idempotency-Key: joined"
    client, sid = await world.begin("a", body, 2, CACHED)
    await told_elsewhere(world, sid, "live")
    joined = await world.post("a", body, CACHED, key)
    await joined.until(lambda: numbers(joined))
    assert (joined.response.header("x-txsse-cache"), sid_of(joined)) == (b"COALESCED", sid)
    again = await world.post("b", body, key)  # the claim was sent to Redis before this
    await again.until(lambda: numbers(again))
    world.gate.open()
    for each in (client, joined, again):
        await each.complete()
        assert is_whole(each, 1, 15) and sid_of(each) == sid
    late = await world.post("c", body, key)
    await late.complete()
    assert is_whole(late, 1, 15) and sid_of(late) == sid
    assert world.asked == 1


async def test_of_two_at_the_same_moment_one_is_made(world: World) -> None:
    body, key = words(5), "Idempotency-Key: same moment"
    both = [await world.client(node) for node in "ab"]
    for client in both:
        client.post(CHAT, body, ["Content-Type: application/json", NUMBERED, KEY, key])
    for client in both:
        await client.complete()
        assert is_whole(client, 1, 5)
    assert world.asked == 1


async def test_a_request_that_came_to_nothing_is_made_again(world: World) -> None:
    async def refuses(connection: UpstreamConnection) -> None:
        await connection.request()
        connection.send(answer(b'{"error":"no"}', "429 Too Many Requests"))

    world.upstream.script = refuses
    body, key = words(2, 0), "Idempotency-Key: again"
    refused = await world.post("a", body, key)
    assert (await refused.complete()).status == 429
    world.upstream.script = world.tell
    client = await world.post("b", body, key)
    await client.complete()
    assert is_whole(client, 1, 2)


async def test_it_belongs_to_who_made_it(world: World) -> None:
    body = words(5)
    client, sid = await world.begin("a", body)
    for method, target in (("GET", STREAM + sid), ("DELETE", STREAM + sid), ("POST", STREAM + sid + "/cancel")):
        answer = await world.call("b", method, target, key=OTHER)
        assert (answer.status, error_of(answer.body)["code"]) == (404, "stream_not_found"), method
    assert (await world.call("b", "GET", STREAM + sid, JSON, key=OTHER)).status == 404
    again = await world.post("b", body, f"Last-Event-ID: {sid}.1", key=OTHER)
    assert (await again.complete()).status == 404
    await client.complete()
    assert is_whole(client, 1, 5)


async def test_its_state_is_told_elsewhere_and_it_is_ended_from_there(world: World) -> None:
    for method, more in (("DELETE", ""), ("POST", "/cancel")):
        client, sid = await world.begin("a", words(1000), 2)
        reader = await world.read("b", sid, f"Last-Event-ID: {sid}.1")
        await reader.contains(b"content")
        state = await world.state("b", sid)
        assert state["id"] == sid and state["state"] == "live"
        assert (await world.call("b", method, STREAM + sid + more)).status == 200
        for each in (client, reader):
            await each.gone()
            assert last_error(each)["code"] == "cancelled"
        assert numbers(reader)[-1] == numbers(client)[-1], "the error is an event, and has a number"
        assert (await world.call("b", "GET", STREAM + sid, f"Last-Event-ID: {sid}.{numbers(reader)[-1]}")).status == 204
        assert (await world.state("b", sid))["state"] == "error"
    await world.upstream.until(lambda: not world.upstream.open_connections)


async def known_to_be_read(world: World, redis: RedisServer, *sids: str) -> None:
    """Their owner knows that they are read elsewhere: a moment after Redis, which is all that can be seen."""
    for sid in sids:
        await eventually(world.reactor, lambda sid=sid: redis.do("ZCARD", readers_key(sid)).strip() == "1")  # type: ignore[misc]
    await sleep(world.reactor, 0.3)


async def test_a_reader_elsewhere_is_a_reader(world: World, redis: RedisServer) -> None:
    client, sid = await world.begin("a", words(1000), 2)
    reader = await world.read("b", sid)
    await known_to_be_read(world, redis, sid)
    client.reset()
    await sleep(world.reactor, 2.5 * GRACE)
    assert not world.upstream.connections[0].closed
    reader.reset()
    await world.upstream.connections[0].gone()


async def test_readers_elsewhere_are_counted(world: World) -> None:
    _, sid = await world.begin("a", words(1000), 2)
    for _ in range(6):
        reader = await world.read("b", sid)
        await reader.contains(b"content")
    answer = await world.call("b", "GET", STREAM + sid)
    assert (answer.status, error_of(answer.body)["code"]) == (429, "too_many_readers")
    reader.reset()
    await reader.gone()
    again = await world.read("b", sid)
    await again.contains(b"content")
    await world.call("b", "DELETE", STREAM + sid)


async def test_a_cursor_of_the_upstreams_own_is_found_elsewhere(world: World) -> None:
    async def with_ids(connection: UpstreamConnection) -> None:
        await connection.request()
        connection.send(STREAM_HEAD)
        for name in ("one", "two", "three"):
            connection.send(chunk(b"id: %b\ndata: {}\n\n" % name.encode()))
        await sleep(reactor, 0.5)
        connection.send(chunk(DONE))
        connection.close()

    world.upstream.script = with_ids
    client = await world.post("a", question())
    await client.contains(b"three")
    sid = sid_of(client)
    await eventually_last(world, sid, 3)
    again = await world.read("b", sid, "Last-Event-ID: two")
    await again.contains(b"[DONE]")
    assert unspoken(again) == b"id: three\ndata: {}\n\nid: %b.4\n" % sid.encode() + DONE
    answer = await world.call("b", "GET", STREAM + sid, "Last-Event-ID: four")
    assert (answer.status, error_of(answer.body)["code"]) == (400, "bad_cursor")


async def eventually_last(world: World, sid: str, last: int) -> None:
    while (await world.state("b", sid)).get("last") != last:
        await sleep(world.reactor, 0.01)


async def test_resuming_elsewhere_is_quick(world: World) -> None:
    """A tenth of a second between what a direct reader hears and what one elsewhere does, at most; half of it is a batch's wait."""

    async def measure() -> float:
        client, sid = await world.begin("a", words(15, 0.05), 3)
        began: float = world.reactor.seconds()
        reader = await world.read("b", sid)
        late = await reader.contains(b'"content":"3"') - began
        await client.complete()
        await reader.complete()
        lags = [at(reader, number) - at(client, number) for number in range(5, 15)]
        return max(late, median(lags))

    await at_best(measure, 0.1)


def at(client: RecordingClient, number: int) -> float:
    """When the word of this number came."""
    word = b'"content":"%d"' % number
    return next(time for time, data in client.body_reads if word in data)


async def test_a_long_stream_is_read_elsewhere_in_order_on_one_connection(world: World) -> None:
    count = 6_000  # of 160 bytes each: no more than may wait for a Redis that hesitates
    client, sid = await world.begin("a", words(count, 0))
    await client.complete(timeout=60)
    await told_elsewhere(world, sid, "done")
    for node in "ab":
        reader = await world.read(node, sid)
        await reader.complete(timeout=60)
        assert is_whole(reader, 1, count)


async def found_in_cache(world: World, node: str, body: bytes, is_there: bool) -> None:
    """Wait until the node finds the answer, or finds it no more."""
    only = "Cache-Control: only-if-cached"
    while ((await world.call(node, "POST", CHAT, CACHED, only, body=body)).status == 200) != is_there:
        await sleep(world.reactor, 0.01)


async def test_answers_are_shared(world: World) -> None:
    body = words(3, 0)
    first = await world.post("a", body, CACHED)
    await first.complete()
    assert first.response.header("x-txsse-cache") == b"MISS"

    async def verdict(node: str) -> bytes | None:
        again = await world.post(node, body, CACHED)
        await again.complete()
        assert again.body.endswith(DONE)
        return again.response.header("x-txsse-cache")

    await found_in_cache(world, "b", body, True)
    assert await verdict("b") == b"HIT"
    assert world.asked == 1
    purged = await world.operate("a", "DELETE", "/cache")
    assert purged.status == 200, purged
    await found_in_cache(world, "b", body, False)
    assert await verdict("b") == b"MISS"
    assert world.asked == 2


async def test_a_hit_is_come_back_to_where_it_was_told(world: World) -> None:
    body = words(3, 0)
    for verdict in (b"MISS", b"HIT"):
        client, sid = await world.begin("a", body, 3, CACHED)
        await client.complete()
        assert client.response.header("x-txsse-cache") == verdict
    again = await world.read("a", sid, f"Last-Event-ID: {sid}.1")
    await again.complete()
    assert is_whole(again, 2, 3)
    assert (await world.call("b", "GET", STREAM + sid)).status == 404


async def test_what_is_under_way_during_a_purge_at_another_node_is_not_stored(world: World) -> None:
    async def stop_in_the_middle(connection: UpstreamConnection) -> None:
        while True:
            asked = json.loads(bytes((await connection.request()).body))
            connection.send(STREAM_HEAD + chunk(says("1")))
            if "waits" in asked:
                await purged.wait()
            connection.send(chunk(STOP) + chunk(DONE) + LAST_CHUNK)

    world.upstream.script = stop_in_the_middle
    body, purged = question(waits=True), Gate()
    await (await world.post("b", question(), CACHED)).complete()
    client = await world.post("b", body, CACHED)
    await client.contains(b'"content":"1"')
    await world.operate("a", "DELETE", "/cache")
    while json.loads(bytes((await world.operate("b", "GET", "/cache")).body))["count"]:
        await sleep(world.reactor, 0.01)
    purged.open()
    await client.complete()
    again = await world.post("b", body, CACHED)
    await again.complete()
    assert again.response.header("x-txsse-cache") == b"MISS"


async def test_what_is_shared_is_shown(world: World) -> None:
    _, sid = await world.begin("a", words(1000), 2)
    reader = await world.read("b", sid)
    await reader.contains(b"content")
    found = {node: json.loads(bytes((await world.operate(node, "GET", "/status")).body))["redis"] for node in "ab"}
    assert found["a"]["up"] and found["a"]["owned"] >= 1
    assert found["b"]["up"] and found["b"]["followed"] >= 1
    metrics = bytes((await world.operate("b", "GET", "/metrics")).body)
    assert b"txsse_redis_up 1.0\n" in metrics and b'txsse_shared_streams{role="followed"}' in metrics
    await world.call("b", "DELETE", STREAM + sid)


async def test_a_stream_of_which_nothing_but_the_head_has_come_is_read_elsewhere(world: World) -> None:
    async def slowly(connection: UpstreamConnection) -> None:
        await connection.request()
        fields = ["Content-Type: text/event-stream; of=a", "Content-Language: de", "Set-Cookie: a=b", "Transfer-Encoding: chunked"]
        connection.send(head("HTTP/1.1 206 Partial", fields))
        await until_read.wait()
        connection.send(chunk(b"data: 1\n\n") + chunk(DONE) + LAST_CHUNK)

    until_read = Gate()
    world.upstream.script = slowly
    client = await world.post("a", question())
    here = await client.head()
    reader = await world.read("b", sid_of(client))
    there = await reader.head()
    assert not reader.events
    assert there.status == here.status == 206
    for name in ("content-type", "content-language", "cache-control", "x-accel-buffering"):
        assert there.header(name) == here.header(name), name
    assert there.header("content-language") == b"de" and there.header("set-cookie") is None
    until_read.open()
    await reader.complete()
    assert unspoken(reader) == unspoken(client)


# -- when something fails


@pytest.fixture
def own(
    request: pytest.FixtureRequest, start_redis: Callable[..., RedisServer], tmp_path: Path
) -> Generator[Callable[[str], tuple[World, RedisServer]]]:
    """Starts nodes and a Redis that belong to one test alone."""
    worlds: list[World] = []

    def start(names: str) -> tuple[World, RedisServer]:
        redis = start_redis()
        worlds.append(World(reactor, Nodes(tmp_path, names, more=shared(redis))))
        request.node.proxies = worlds[-1].nodes
        return worlds[-1], redis

    yield start
    for each in worlds:
        pytest_twisted.blockon(Deferred.fromCoroutine(each.close()))
        each.nodes.stop()


@pytest.fixture(scope="module")
def fragile_nodes(start_redis: Callable[[], RedisServer], tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[Nodes, RedisServer]]:
    redis = start_redis()
    nodes = Nodes(tmp_path_factory.mktemp("fragile"), "ab", more=shared(redis))
    yield nodes, redis
    nodes.stop()


@pytest_twisted.async_yield_fixture()  # type: ignore[untyped-decorator]
async def fragile(request: pytest.FixtureRequest, fragile_nodes: tuple[Nodes, RedisServer]) -> AsyncIterator[tuple[World, RedisServer]]:
    """Whatever is done to this Redis, all is well again at the end of the test."""
    request.node.proxies = nodes = fragile_nodes[0]
    redis = fragile_nodes[1]
    world = World(reactor, nodes)
    await world.upstream.open()
    yield world, redis
    await world.close()


def longest_silence(client: RecordingClient) -> float:
    """Seconds between two reads."""
    times = [time for time, _ in client.body_reads]
    return max(after - before for before, after in itertools.pairwise(times))


async def flush(world: World, redis: RedisServer) -> None:
    redis.do("FLUSHALL")


async def restart(world: World, redis: RedisServer) -> None:
    redis.stop()
    await sleep(world.reactor, 0.5)
    redis.start()


async def freeze(world: World, redis: RedisServer) -> None:
    redis.freeze()
    await sleep(world.reactor, FROZEN)
    redis.thaw()


async def demote(world: World, redis: RedisServer) -> None:
    """It takes no writes, as after a failover."""
    redis.do("REPLICAOF", "127.0.0.1", str(free_port()))
    await eventually(world.reactor, lambda: all("(it refused us: READONLY" in node.log for node in world.nodes))
    redis.do("REPLICAOF", "NO", "ONE")


@pytest.mark.parametrize(("failure", "ends"), [(flush, {"stream_gone"}), (restart, {"stream_gone"}), (freeze, {""}), (demote, {""})])
async def test_direct_readers_do_not_notice_that_redis_fails_and_the_others_end_or_go_on(
    fragile: tuple[World, RedisServer], failure: Callable[[World, RedisServer], Awaitable[None]], ends: set[str]
) -> None:
    world, redis = fragile
    client, sid = await world.begin("a", words(150), 5)
    reader = await world.read("b", sid)
    await reader.until(lambda: len(numbers(reader)) > 5)
    await failure(world, redis)
    during = await world.post("a", words(3, 0))
    await client.complete()
    await during.complete()
    assert is_whole(client, 1, 150) and is_whole(during, 1, 3)
    assert longest_silence(client) < FROZEN - 0.5
    await reader.until(lambda: reader.closed or reader.response.complete)
    got = numbers(reader)
    assert got == list(range(1, len(got) + 1))
    assert ("" if is_whole(reader, 1, 150) else last_error(reader)["code"]) in ends
    _, sid = await world.begin("a", words(20), 3)  # and all is well again
    again = await world.read("b", sid, f"Last-Event-ID: {sid}.1")
    await again.complete()
    assert is_whole(again, 2, 20)


@pytest.fixture
def start_tls(start_redis: Callable[..., RedisServer], tmp_path: Path) -> Callable[..., World]:
    """Starts a Redis whose certificate a private authority has issued, and nodes that may be told of that (*trusting*). They are a user of
    theirs there, with the rights that the documentation names."""

    def start(nodes: str, *, trusting: bool) -> World:
        authority = Authority(tmp_path)
        _, file = authority.issue("redis", names("localhost"))
        port, store = free_port(), '[store]\nkind = "redis"\n'
        who = ["--tls-cert-file", file, "--tls-key-file", file, "--tls-auth-clients", "no", "--tls-ca-cert-file", authority.ca_file]
        who += ["--user", "default", "off", "--user", "txsse", "on", ">s3cret", "~txsse:*", "&txsse:*", "+@all", "-@admin", "-@dangerous"]
        start_redis("--tls-port", str(port), *who)
        store += f'url = "rediss://txsse:s3cret@localhost:{port}"\n' + (f'ca_file = "{authority.ca_file}"\n' if trusting else "")
        return World(reactor, Nodes(tmp_path, nodes, more=store))

    return start


async def test_over_tls_a_redis_of_a_private_authority_is_shared(start_tls: Callable[..., World]) -> None:
    world = start_tls("ab", trusting=True)
    try:
        await world.upstream.open()
        await eventually(reactor, lambda: all("Redis is there" in node.log for node in world.nodes))
        client, sid = await world.begin("a", words(15), 2)
        reader = await world.read("b", sid)
        await reader.complete()
        assert is_whole(reader, 1, 15)
        body = words(3, 0)
        for node, verdict in (("a", b"MISS"), ("b", b"HIT")):
            client = await world.post(node, body, CACHED)
            await client.complete()
            assert client.response.header("x-txsse-cache") == verdict
            await found_in_cache(world, "b", body, True)
        assert world.asked == 2
        for node in "ab":
            assert json.loads(bytes((await world.operate(node, "GET", "/status")).body))["redis"]["refusals"] == {}
            assert "s3cret" not in world.nodes[node].log
    finally:
        await world.close()
        world.nodes.stop()


async def test_a_redis_that_cannot_show_its_certificate_is_not_used(start_tls: Callable[..., World]) -> None:
    world = start_tls("a", trusting=False)
    try:
        await world.upstream.open()
        client, _ = await world.begin("a", words(3, 0))
        await client.complete()
        assert is_whole(client, 1, 3)
        await eventually(reactor, lambda: "Redis cannot be used (certificate not trusted" in world.nodes["a"].log)
        found = json.loads(bytes((await world.operate("a", "GET", "/status")).body))["redis"]
        assert "s3cret" not in json.dumps(found)
        assert not found["up"] and found["trouble"].startswith("certificate not trusted")
        answer = await world.call("a", "GET", STREAM + NOBODY)
        assert (answer.status, error_of(answer.body)["code"]) == (503, "upstream_unavailable")
        assert answer.header("retry-after") is not None
    finally:
        await world.close()
        world.nodes.stop()


async def test_a_node_that_shuts_down_waits_for_readers_elsewhere_and_then_tells_them(
    own: Callable[[str], tuple[World, RedisServer]],
) -> None:
    world, redis = own("ab")
    await world.upstream.open()
    short, soon = await world.begin("a", words(15, halt=5), 2)
    long, late = await world.begin("a", words(1000), 2)
    readers = [await world.read("b", sid) for sid in (soon, late)]
    await known_to_be_read(world, redis, soon, late)
    short.reset()
    long.reset()
    world.nodes["a"].ask_to_stop()
    await eventually(reactor, lambda: "draining" in world.nodes["a"].log)
    world.gate.open()
    await readers[0].complete()
    assert is_whole(readers[0], 1, 15)
    await readers[1].gone()
    assert last_error(readers[1])["code"] == "shutting_down"
    assert numbers(readers[1]) == list(range(1, len(numbers(readers[1])) + 1))
    again = await world.call("b", "GET", STREAM + late, f"Last-Event-ID: {late}.{len(numbers(readers[1]))}")
    assert again.status == 204, "the error was its last event"
    await eventually(world.reactor, lambda: world.nodes["a"].returncode is not None)


async def test_the_streams_of_nodes_that_die_or_stand_still_end(own: Callable[[str], tuple[World, RedisServer]]) -> None:
    world, _ = own("abc")
    await world.upstream.open()
    body, key = words(1000), "Idempotency-Key: lost"
    _, sid = await world.begin("a", body, 3, key)
    frozen, other = await world.begin("c", words(50, 0.2), 3)
    followers = [await world.read("b", sid), await world.read("b", other)]
    for each in followers:
        await each.until(lambda each=each: len(numbers(each)) > 3)  # type: ignore[misc]
    world.nodes.freeze("c")
    await world.nodes.kill("a")
    began = world.reactor.seconds()
    for each, name in zip(followers, (sid, other), strict=True):
        await each.gone(LEASE + BUSY)
        assert last_error(each)["code"] == "owner_lost"
        last = len(numbers(each))
        assert numbers(each) == list(range(1, last + 1))
        answer = await world.call("b", "GET", STREAM + name, f"Last-Event-ID: {name}.{last}")
        assert (answer.status, error_of(answer.body)["code"]) == (502, "owner_lost")
    assert world.reactor.seconds() - began < LEASE + BUSY
    again = await world.post("b", body, key)
    await again.contains(b"content")
    assert sid_of(again) != sid, "a stream that is lost is no answer to the same request"
    again.reset()
    world.nodes.thaw("c")
    await frozen.complete(timeout=60)
    assert is_whole(frozen, 1, 50), "who reads it where it is goes on"
    _, sid = await world.begin("c", words(10), 3)
    again = await world.read("b", sid)
    await again.complete()
    assert is_whole(again, 1, 10)
