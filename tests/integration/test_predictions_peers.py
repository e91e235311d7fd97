"""Predictions on two proxies without a store: whatever is asked of one that the other made is answered by that."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from twisted.internet import reactor

from tests.integration.bench import DONE, SSE
from tests.integration.caching import READY, STOP, says, turns
from tests.integration.nodes import Nodes, World
from tests.integration.predicting import ASYNC, ROUTE, ask, begin, document, given, is_whole, numbers, output, seen, told, until_status
from tests.integration.process import Proxy, server, upstream
from txsse.logs import shown
from txsse.testing import RecordingClient, ScriptedUpstream, answer, eventually, stream

OTHER = "Authorization: Bearer another"


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Generator[Nodes]:
    made = Nodes(tmp_path_factory.mktemp("peers"), "ab", peers=True, first=ROUTE)
    yield made
    made.stop()


async def test_a_client_that_comes_back_to_the_other_proxy_finds_all_of_it(world: World) -> None:
    client = await begin(world, "a", "all", given(40, halt=20), 5)
    client.reset()
    cursor = client.events[3].id
    assert cursor.startswith("a~")
    rest = await ask(world, "b", "GET", "/all", SSE, f"Last-Event-ID: {cursor}")
    after = await ask(world, "b", "GET", "/all?starting_after=3", SSE)
    waits = await ask(world, "b", "PUT", "/all", body=given(40, halt=20))
    again = await ask(world, "b", "POST", "", SSE, f"Last-Event-ID: {cursor}", body=given(40, halt=20))
    now = await document(world, "b", "all")
    assert now["status"] == "processing" and now["output"] == output(len(now["output"]))
    world.gate.open()
    for each in (rest, after, waits, again):
        await each.complete()
    assert is_whole(rest, 5, 40) and is_whole(after, 4, 40) and is_whole(again, 5, 40)
    here = await document(world, "a", "all")
    assert here == json.loads(waits.body) == await document(world, "b", "all") == told(rest)[-1]
    done = await ask(world, "b", "GET", "/all", SSE, f"Last-Event-ID: {rest.events[-1].id}")
    assert (await done.complete()).status == 204
    assert world.asked == 1


async def test_one_without_an_id_of_its_clients_and_whom_it_belongs_to(world: World) -> None:
    client = await ask(world, "a", "POST", "", ASYNC, body=given(3, 0))
    created = json.loads(bytes((await client.complete()).body))
    assert created["id"].startswith("a~")
    found = await until_status(world, "b", created["id"], "succeeded")
    assert found["output"] == output(3)
    for id in (created["id"], "a~" + 32 * "0", "b~" + 32 * "0", "nobody"):
        assert (await document(world, "b", id, OTHER))["code"] == "stream_not_found", id


async def test_it_is_canceled_through_the_other_proxy(world: World) -> None:
    client = await begin(world, "a", "cancel", given(1000))
    reader = await ask(world, "b", "GET", "/cancel", SSE)
    await seen(reader)
    canceled = await ask(world, "b", "POST", "/cancel/cancel")
    assert (await canceled.complete()).body == b"{}"
    for each in (client, reader):
        await each.complete()
        assert told(each)[-1]["status"] == "canceled"
        assert numbers(each) == list(range(1, len(each.events) + 1))
    await world.upstream.until(lambda: not world.upstream.open_connections)


async def test_the_predictions_of_a_proxy_that_is_gone_have_failed(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    request.node.proxies = nodes = Nodes(tmp_path, "ab", peers=True, first=ROUTE)
    world = World(reactor, nodes)
    try:
        await world.upstream.open()
        await begin(world, "a", "killed", given(1000))
        created = await ask(world, "a", "POST", "", ASYNC, body=given(1000))
        id = json.loads(bytes((await created.complete()).body))["id"]
        reader = await ask(world, "b", "GET", "/killed", SSE)
        waits = await ask(world, "b", "PUT", "/killed", body=given(1000))
        await seen(reader, 3)
        await nodes.kill("a")
        await reader.complete()
        last = told(reader)[-1]
        assert (reader.events[-1].type, last["id"], last["status"]) == ("completed", "killed", "failed")
        assert last["error"].startswith("owner_lost: ")
        assert numbers(reader) == list(range(1, len(reader.events)))
        for client, status, code in (
            (waits, 502, "owner_lost"),
            (await ask(world, "b", "GET", "/" + id), 502, "owner_lost"),
            (await ask(world, "b", "GET", "/" + id, SSE), 502, "owner_lost"),
            (await ask(world, "b", "GET", "/killed", SSE, f"Last-Event-ID: {reader.events[-2].id}"), 502, "owner_lost"),
            (await ask(world, "b", "GET", "/killed"), 503, "upstream_unavailable"),
        ):
            assert ((await client.complete()).status, json.loads(client.body)["code"]) == (status, code)
        alone = await ask(world, "b", "PUT", "/alone", SSE, body=given(3, 0))
        await alone.complete()
        assert is_whole(alone, 1, 3)
        await eventually(reactor, lambda: f"/predictions/{shown(id)}" in nodes["b"].log)
        assert id not in nodes["b"].log
    finally:
        await world.close()
        nodes.stop()


async def test_another_server_at_the_address_of_a_proxy_has_none_whatever_it_says(own_proxies: Callable[[str], Proxy]) -> None:
    other = ScriptedUpstream(reactor, turns(answer(b"It works!")))
    await other.open()
    peers = f'node = "a"\npeers = {{ a = "http://127.0.0.1:$listen", b = "http://127.0.0.1:{other.port}" }}'
    proxy = own_proxies(server(peers) + upstream(more=READY) + ROUTE)
    model = ScriptedUpstream(reactor, turns(stream(says("a") + STOP + DONE)), port=proxy.ports["main"])
    await model.open()
    client = await RecordingClient.connect(reactor, proxy.port)
    client.request("PUT", "/predictions/one", json.dumps(given(1)).encode(), headers=["Content-Type: application/json"])
    response = await client.complete()
    assert json.loads(response.body)["output"] == ["a"]
    assert response.header("x-txsse-route") is None
    assert len(model.requests) == len(other.requests) == 1
    for each in (other, model):
        await each.stop()
