"""Two proxies without a store: a stream that one of them keeps is read through the other."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Generator

import pytest
import pytest_twisted  # type: ignore[import-untyped]  # ships no types
from twisted.internet import reactor

from tests.integration.bench import error_of, last_error
from tests.integration.caching import KEY
from tests.integration.nodes import GRACE, JSON, STREAM, Nodes, World, is_whole, numbers, words
from txsse.testing import eventually, sleep

OTHER = "Authorization: Bearer another"
NOBODY = "a~" + 22 * "x"


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Generator[Nodes]:
    made = Nodes(tmp_path_factory.mktemp("peers"), "ab", peers=True)
    yield made
    made.stop()


@pytest_twisted.async_yield_fixture()  # type: ignore[untyped-decorator]
async def world(nodes: Nodes) -> AsyncIterator[World]:
    made = World(reactor, nodes)
    await made.upstream.open()
    yield made
    await made.close()


async def test_a_stream_is_read_elsewhere_from_any_cursor_while_it_runs(world: World) -> None:
    client, sid = await world.begin("a", words(25), 5)
    assert sid.startswith("a~")
    whole = await world.read("b", sid)
    rest = await world.read("b", sid, f"Last-Event-ID: {sid}.3")
    last = await world.read("b", sid, query="?starting_after=20")
    live = await world.read("b", sid, query="?from=live")
    for each in (client, whole, rest, last, live):
        await each.complete()
    assert is_whole(whole, 1, 25) and is_whole(rest, 4, 25) and is_whole(last, 21, 25)
    first = numbers(live)[0]
    assert first > 5 and is_whole(live, first, 25)
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


async def test_the_same_request_with_a_cursor_goes_on_elsewhere(world: World) -> None:
    body = words(15)
    _, sid = await world.begin("a", body, 3)
    again = await world.post("b", body, f"Last-Event-ID: {sid}.2")
    await again.complete()
    assert is_whole(again, 3, 15)
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
        await reader.until(lambda reader=reader: numbers(reader))
        state = await world.state("b", sid)
        assert state["id"] == sid and state["state"] == "live"
        answer = await world.call("b", method, STREAM + sid + more)
        assert answer.status == 200
        for each in (client, reader):
            await each.gone()
            assert last_error(each)["code"] == "cancelled"
        assert (await world.state("b", sid))["state"] == "error"
    assert not [each for each in world.upstream.open_connections if each.requests]


async def test_a_reader_elsewhere_is_a_reader(world: World) -> None:
    client, sid = await world.begin("a", words(75), 2)
    reader = await world.read("b", sid)
    await reader.contains(b'"content"')
    client.reset()
    await sleep(world.reactor, 2.5 * GRACE)
    assert world.upstream.open_connections[0].requests
    reader.reset()
    await world.upstream.connections[0].gone(GRACE + 1)


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


async def test_an_idle_connection_that_was_closed_is_no_lost_proxy(tmp_path_factory: pytest.TempPathFactory) -> None:
    nodes = Nodes(tmp_path_factory.mktemp("restarted"), "ab", peers=True)
    world = World(reactor, nodes)
    try:
        await world.upstream.open()
        client, sid = await world.begin("a", words(2, 0))
        await client.complete()
        assert (await world.call("b", "GET", STREAM + sid)).status == 200
        nodes["a"].signal(signal.SIGKILL)
        await eventually(reactor, lambda: nodes["a"].returncode is not None)
        before = world.reactor.seconds()
        answer = await world.call("b", "GET", STREAM + sid)
        assert (answer.status, error_of(answer.body)["code"]) == (502, "owner_lost")
        assert world.reactor.seconds() - before < 1
    finally:
        await world.close()
        nodes.stop()


async def test_who_reads_through_a_proxy_is_told_when_the_other_dies(tmp_path_factory: pytest.TempPathFactory) -> None:
    nodes = Nodes(tmp_path_factory.mktemp("killed"), "ab", peers=True)
    world = World(reactor, nodes)
    try:
        await world.upstream.open()
        _, sid = await world.begin("a", words(1000), 2)
        reader = await world.read("b", sid)
        await reader.until(lambda: len(numbers(reader)) > 3)
        nodes["a"].signal(signal.SIGKILL)
        await reader.gone(1)
        assert last_error(reader)["code"] == "owner_lost"
        assert numbers(reader) == list(range(1, len(numbers(reader)) + 1))
    finally:
        await world.close()
        nodes.stop()


async def test_our_key_goes_with_a_request_that_is_passed_on(tmp_path_factory: pytest.TempPathFactory) -> None: ...
