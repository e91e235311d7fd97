"""Two proxies without a store: a stream that one of them keeps is read through the other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
import pytest_twisted  # type: ignore[import-untyped]  # ships no types
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tests.integration.bench import CHAT, error_of, last_error
from tests.integration.caching import KEY
from tests.integration.nodes import GRACE, JSON, NUMBERED, STREAM, Nodes, World, is_whole, numbers, sid_of, words
from tests.timing import BUSY
from txsse.testing import sleep

OTHER = "Authorization: Bearer another"
NOBODY = "a~" + 22 * "x"


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Generator[Nodes]:
    made = Nodes(tmp_path_factory.mktemp("peers"), "ab", peers=True)
    yield made
    made.stop()


@pytest.fixture
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Callable[..., World]]:
    """Starts nodes that belong to one test alone, with this configuration besides."""
    worlds: list[World] = []

    def start(more: str = "") -> World:
        worlds.append(World(reactor, Nodes(tmp_path, "ab", peers=True, more=more)))
        request.node.proxies = worlds[-1].nodes
        return worlds[-1]

    yield start
    for each in worlds:
        pytest_twisted.blockon(Deferred.fromCoroutine(each.close()))
        each.nodes.stop()


async def test_a_stream_is_read_elsewhere_from_any_cursor_while_it_runs(world: World) -> None:
    client, sid = await world.begin("a", words(25, halt=10), 5)
    assert sid.startswith("a~")
    whole = await world.read("b", sid)
    rest = await world.read("b", sid, f"Last-Event-ID: {sid}.3")
    last = await world.read("b", sid, query="?starting_after=5")
    await whole.contains(b'"content":"10"')
    live = await world.read("b", sid, query="?from=live")
    for each in (rest, last, live):
        await each.head()
    world.gate.open()
    for each in (client, whole, rest, last, live):
        await each.complete()
    assert is_whole(whole, 1, 25) and is_whole(rest, 4, 25) and is_whole(last, 6, 25)
    assert is_whole(live, 11, 25)
    assert whole.response.header("x-stream-state") == b"live"
    assert world.asked == 1


async def test_a_stream_that_is_over_is_read_elsewhere(world: World) -> None:
    client, sid = await world.begin("a", words(5, 0))
    await client.complete()
    again = await world.read("b", sid, f"Last-Event-ID: {sid}.2")
    await again.complete()
    assert is_whole(again, 3, 5)
    assert (await world.call("b", "GET", STREAM + sid, f"Last-Event-ID: {sid}.7")).status == 204
    assert world.asked == 1


async def test_what_a_cache_told_is_read_elsewhere(world: World) -> None:
    body, cached = words(5, 0), "X-Txsse-Cache: 1"
    first, _ = await world.begin("a", body, 5, cached)
    await first.complete()
    hit, sid = await world.begin("a", body, 5, cached)
    assert hit.response.header("x-txsse-cache") == b"HIT"
    again = await world.read("b", sid, f"Last-Event-ID: {sid}.2")
    await again.complete()
    assert is_whole(again, 3, 5)
    assert world.asked == 1


async def test_the_same_request_with_a_cursor_goes_on_elsewhere(world: World) -> None:
    body = words(15)
    _, sid = await world.begin("a", body, 3)
    again = await world.post("b", body, f"Last-Event-ID: {sid}.2")
    await again.complete()
    assert is_whole(again, 3, 15)
    assert world.asked == 1


async def test_a_request_that_must_not_be_made_twice_is_made_once(world: World) -> None:
    body, key = words(15), "Idempotency-Key: once"
    client, sid = await world.begin("a", body, 2, key)
    again = await world.post("b", body, key)
    await again.complete()
    assert is_whole(again, 1, 15) and sid_of(again) == sid
    await client.complete()
    late = await world.post("b", body, key)
    await late.complete()
    assert is_whole(late, 1, 15)
    other = await world.call("b", "POST", CHAT, key, body=words(1))
    assert (other.status, error_of(other.body)["code"]) == (422, "idempotency_conflict")
    background = await world.call("b", "POST", CHAT, key, "Prefer: respond-async", body=body)
    assert (background.status, background.header("x-txsse-stream")) == (202, sid.encode())
    strangers = await world.post("b", body, key, key=OTHER)
    await strangers.complete()
    assert sid_of(strangers).startswith("b~")
    assert world.asked == 2


async def test_of_two_at_the_same_moment_at_one_proxy_one_is_made(world: World) -> None:
    body, both = words(5), [await world.client("b") for _ in range(2)]
    for client in both:
        client.post(CHAT, body, ["Content-Type: application/json", NUMBERED, KEY, "Idempotency-Key: same moment"])
    for client in both:
        await client.complete()
        assert is_whole(client, 1, 5)
    assert world.asked == 1


async def test_only_a_proxy_hears_whether_a_key_is_known_and_only_of_its_clients(world: World) -> None:
    key, route = "Idempotency-Key: secret", STREAM + "?claim=main"
    client, sid = await world.begin("a", words(2, 0), 1, key)
    known = await world.call("a", "GET", route, "X-Txsse-Hop: b", key)
    assert (known.status, known.header("x-txsse-known")) == (204, b"1")
    assert all(sid.encode() not in value for _, value in known.headers)
    for asked in ((route, key), (route, "X-Txsse-Hop: b"), (STREAM + "?claim=other", "X-Txsse-Hop: b", key)):
        assert (await world.call("a", "GET", *asked)).status == 404, asked
    strangers = await world.call("a", "GET", route, "X-Txsse-Hop: b", key, key=OTHER)
    assert (strangers.status, strangers.header("x-txsse-known")) == (204, None)
    await client.complete()


async def test_a_proxy_that_stands_still_does_not_hold_a_request_up(own: Callable[..., World]) -> None:
    world = own()
    await world.upstream.open()
    world.nodes.freeze("a")
    body = words(3, 0)
    for _ in range(2):
        client = await world.post("b", body, "Idempotency-Key: alone")
        await client.complete()
        assert is_whole(client, 1, 3)
    world.nodes.thaw("a")
    assert world.asked == 1


async def test_it_belongs_to_who_made_it(world: World) -> None:
    body = words(5)
    client, sid = await world.begin("a", body)
    for method, target in (("GET", STREAM + sid), ("DELETE", STREAM + sid), ("POST", STREAM + sid + "/cancel")):
        answer = await world.call("b", method, target, key=OTHER)
        assert answer.status == 404, method
        assert error_of(answer.body)["code"] == "stream_not_found"
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
        answer = await world.call("b", method, STREAM + sid + more)
        assert answer.status == 200
        for each in (client, reader):
            await each.gone()
            assert last_error(each)["code"] == "cancelled", each.received[-1500:]
        assert (await world.state("b", sid))["state"] == "error"
    await world.upstream.until(lambda: not [each for each in world.upstream.open_connections if each.requests])


async def test_a_reader_elsewhere_is_a_reader(world: World) -> None:
    client, sid = await world.begin("a", words(1000), 2)
    reader = await world.read("b", sid)
    await reader.contains(b'"content"')
    while (await world.state("a", sid))["readers"] != 2:
        await sleep(world.reactor, 0.01)
    client.reset()
    await sleep(world.reactor, 2.5 * GRACE)
    assert world.upstream.open_connections[0].requests
    reader.reset()
    await world.upstream.connections[0].gone()


async def test_who_comes_back_with_a_cursor_of_another_stream_is_told_so(world: World) -> None:
    client, sid = await world.begin("a", words(2, 0))
    await client.complete()
    answer = await world.call("b", "GET", STREAM + sid, f"Last-Event-ID: {NOBODY}.1")
    assert answer.status == 400
    assert error_of(answer.body)["code"] == "bad_cursor"
    for sid in (NOBODY, "b~" + NOBODY[2:], "c~" + NOBODY[2:], NOBODY[2:]):
        assert (await world.call("b", "GET", STREAM + sid)).status == 404, sid


async def test_no_request_is_passed_on_twice(world: World) -> None:
    """Whoever says that it comes from a proxy is answered here."""
    client, sid = await world.begin("a", words(2, 0))
    await client.complete()
    assert (await world.call("b", "GET", STREAM + sid, "X-Txsse-Hop: a")).status == 404
    assert (await world.call("a", "GET", STREAM + sid, "X-Txsse-Hop: b")).status == 200


async def test_a_proxy_that_is_gone_is_missed_at_once(own: Callable[..., World]) -> None:
    world = own()
    await world.upstream.open()
    _, sid = await world.begin("a", words(1000), 2)
    assert (await world.call("b", "GET", STREAM + sid, JSON)).status == 200  # over a connection that is kept
    reader = await world.read("b", sid)
    await reader.until(lambda: len(numbers(reader)) > 3)
    await world.nodes.kill("a")
    await reader.gone()
    assert last_error(reader)["code"] == "owner_lost"
    assert numbers(reader) == list(range(1, len(numbers(reader)) + 1))
    before = world.reactor.seconds()
    for more in ("", "?from=live"):
        answer = await world.call("b", "GET", STREAM + sid + more)
        assert (answer.status, error_of(answer.body)["code"]) == (502, "owner_lost")
    assert world.reactor.seconds() - before < BUSY


async def test_our_key_goes_with_what_is_passed_on(own: Callable[..., World], tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"one:{hashlib.sha256(b'one').hexdigest()}\n")
    world = own(f'[auth]\nkeys_file = "{keys}"\n')
    await world.upstream.open()
    body = words(5, 0)
    client, sid = await world.begin("a", body)
    await client.complete()
    assert (await world.call("b", "GET", STREAM + sid)).status == 200
    again = await world.post("b", body, f"Last-Event-ID: {sid}.1")
    await again.complete()
    assert is_whole(again, 2, 5)
    assert (await world.call("b", "GET", STREAM + sid, key=OTHER)).status == 401
    assert [request.header("authorization") for request in world.upstream.requests] == [None]
