"""Predictions as their clients see them: over sockets, by a proxy in a process of its own, with everything that is around them."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet import reactor

from tests.integration.bench import DONE, SSE, Bench
from tests.integration.caching import READY, says
from tests.integration.process import Proxy, server, upstream
from txsse.testing import LAST_CHUNK, REQUEST, STREAM_HEAD, RecordingClient, ScriptedUpstream, answer, chunk, eventually, head, steps

ASYNC = "Prefer: respond-async"


def predictions(name: str, more: str = "", to: str = "main") -> str:
    match = f'match = {{ path = "/v1/chat/completions", header = {{ X-Case = "{name}" }} }}'
    return f'[[route]]\nkind = "predictions"\nname = "{name}"\nupstream = "{to}"\n{match}\n{more}\n'


CONFIG = (
    server()
    + upstream(more=READY)
    + upstream("narrow", READY + "max_concurrency = 1\n")
    + predictions("narrow", to="narrow")
    + predictions("main")
    + '[[route]]\nupstream = "main"\n'
    + '[webhooks]\nallow = ["http://127.0.0.1:$hook/"]\n'
)
WORDS = [says("On"), says("ions"), says(" bloom")]
ANSWER = steps(REQUEST, STREAM_HEAD + chunk(b"".join(WORDS) + DONE) + LAST_CHUNK)
OUTPUT = ["On", "ions", " bloom"]


async def ask(bench: Bench, method: str, path: str, *headers: str, case: str = "main", body: Any = None) -> RecordingClient:
    client = await bench.client()
    data = b"" if body is None else json.dumps(body).encode()
    client.request(method, path, data, headers=["Content-Type: application/json", f"X-Case: {case}", *headers])
    return client


async def document(client: RecordingClient) -> Any:
    return json.loads(bytes((await client.complete()).body))


def told(client: RecordingClient) -> list[tuple[str, Any]]:
    return [(each.type, json.loads(each.data)) for each in client.events]


GIVEN: dict[str, Any] = {"input": {"messages": []}}


async def test_a_stream_cut_in_the_middle_goes_on_where_it_was(bench: Bench) -> None:
    await bench.upstream.open()
    client = await ask(bench, "PUT", "/predictions/cut", SSE, ASYNC, body=GIVEN)
    model = await bench.upstream.connection()
    request = await model.request()
    assert json.loads(request.body) == {"messages": [], "stream": True}
    model.send(STREAM_HEAD + chunk(WORDS[0]))
    await client.contains(b'"On"')
    assert [name for name, _ in told(client)] == ["start", "output"]
    client.reset()
    model.send(chunk(WORDS[1]))
    again = await ask(bench, "GET", "/predictions/cut", SSE, f"Last-Event-ID: {client.events[-1].id}")
    await again.contains(b'"ions"')
    model.send(chunk(WORDS[2] + DONE) + LAST_CHUNK)
    await again.complete()
    assert [data.get("chunk") for _, data in told(again)] == ["ions", " bloom", None]
    assert told(again)[-1][1]["output"] == OUTPUT
    assert [int(each.id.rpartition(".")[2]) for each in again.events] == [3, 4, 5]
    retry = await ask(bench, "PUT", "/predictions/cut", body=GIVEN)
    assert (await document(retry))["output"] == OUTPUT
    assert len(bench.upstream.requests) == 1, "a retry makes no second run"


async def test_news_by_webhook(bench: Bench) -> None:
    await bench.play(ANSWER)
    receiver = ScriptedUpstream(reactor, steps(REQUEST, answer(b"ok")), port=bench.proxy.ports["hook"])
    await receiver.open()
    try:
        url = f"http://127.0.0.1:{receiver.port}/news"
        client = await ask(
            bench, "POST", "/predictions", ASYNC, body={**GIVEN, "webhook": url, "webhook_events_filter": ["start", "completed"]}
        )
        created = await document(client)
        assert client.response.status == 202 and created["status"] == "starting"
        await receiver.until(lambda: len(receiver.requests) == 2)
        first, last = (json.loads(request.body) for request in receiver.requests)
        assert (first["id"], first["status"]) == (created["id"], "starting")
        location = (client.response.header("location") or b"").decode()
        assert last == await document(await ask(bench, "GET", location))
        assert last["output"] == OUTPUT
    finally:
        await receiver.stop()
    refused = await ask(bench, "POST", "/predictions", body={**GIVEN, "webhook": "http://127.0.0.1:1/"})
    assert (await document(refused))["detail"][0]["loc"] == ["body", "webhook"]


@pytest.mark.parametrize("fields", [[], [SSE]])
async def test_who_leaves_ends_the_upstreams_work(bench: Bench, fields: list[str]) -> None:
    await bench.upstream.open()
    client = await ask(bench, "POST", "/predictions", *fields, body=GIVEN)
    model = await bench.upstream.connection()
    await model.request()
    model.send(STREAM_HEAD + chunk(WORDS[0]))
    client.close()
    await model.gone()


async def test_slots(bench: Bench) -> None:
    await bench.upstream.open()
    client = await ask(bench, "POST", "/predictions", SSE, case="narrow", body=GIVEN)
    model = await bench.upstream.connection()
    await model.request()
    refused = await ask(bench, "POST", "/predictions", case="narrow", body=GIVEN)
    assert (await document(refused))["code"] == "at_capacity" and refused.response.status == 409
    assert (await document(await ask(bench, "GET", "/health-check", case="narrow")))["status"] == "BUSY"
    assert (await document(await ask(bench, "GET", "/health-check")))["status"] == "READY"
    assert await bench.metric("txsse_rejections_total", reason="at_capacity") == 1
    model.send(STREAM_HEAD + chunk(DONE) + LAST_CHUNK)
    await client.complete()


async def test_a_large_input(bench: Bench) -> None:
    await bench.play(ANSWER)
    image = "x" * 3_000_000
    client = await ask(bench, "POST", "/predictions", body={"input": {"image": image}})
    assert (await document(client))["output"] == OUTPUT
    assert json.loads(bench.upstream.requests[-1].body) == {"image": image, "stream": True}


async def test_the_other_routes_are_as_they_were(bench: Bench) -> None:
    await bench.play(steps(REQUEST, answer(b"theirs", "404 Not Found"), repeat=True))
    for path in ("/predictions/one/more/segments", "/predictionss", "/v1/chat/completions"):
        client = await ask(bench, "GET", path)
        assert (await client.complete()).body == b"theirs"
    index = await ask(bench, "GET", "/", case="other")
    assert (await index.complete()).body == b"theirs"
    elsewhere = await ask(bench, "GET", "/predictions/one", case="other")
    assert (await elsewhere.complete()).body == b"theirs"


async def test_a_drain_waits_for_predictions_and_their_last_webhook(own_proxies: Callable[[str], Proxy]) -> None:
    proxy = own_proxies(CONFIG)
    bench = Bench(reactor, proxy)
    receiver = ScriptedUpstream(reactor, steps(REQUEST, answer(b"ok")), port=proxy.ports["hook"])
    await receiver.open()
    try:
        await bench.upstream.open()
        hooked = {**GIVEN, "webhook": f"http://127.0.0.1:{receiver.port}/", "webhook_events_filter": ["completed"]}
        await document(await ask(bench, "POST", "/predictions", ASYNC, body=hooked))
        model = await bench.upstream.connection()
        await model.request()
        proxy.signal(signal.SIGTERM)
        await bench.logged("draining")
        model.send(STREAM_HEAD + chunk(b"".join(WORDS) + DONE) + LAST_CHUNK)
        await receiver.until(lambda: receiver.requests)
        assert json.loads(receiver.requests[0].body)["output"] == OUTPUT
        await eventually(bench.reactor, lambda: proxy.returncode == 0)
    finally:
        await receiver.stop()
        await bench.close()


async def test_a_key_is_asked_for_before_the_body(own_proxies: Callable[[str], Proxy], tmp_path: Any) -> None:
    keys = tmp_path / "keys"
    keys.write_text("ann:" + "0" * 64 + "\n")
    proxy = own_proxies(server() + f'[auth]\nkeys_file = "{keys}"\n' + upstream(more=READY) + predictions("main"))
    bench = Bench(reactor, proxy)
    try:
        fields = ["Host: h", "X-Case: main", "Content-Length: 100"]
        client = await bench.send(head("POST /predictions HTTP/1.1", fields))
        assert (await client.complete()).status == 401
    finally:
        await bench.close()
