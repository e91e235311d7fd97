from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Iterable

import pytest
import pytest_twisted  # type: ignore[import-untyped]  # ships no types
from twisted.internet import reactor
from twisted.internet.error import ConnectionRefusedError

from txsse.demo import DemoBackend, DemoService, DemoSettings
from txsse.demo.bodies import LOADING
from txsse.testing import RecordingClient, eventually, sleep

QUICK = DemoSettings(wake_seconds=0.0, pace=0.001, text="one two three four")
CHAT = "/v1/chat/completions"
STREAM = b'{"stream":true,"model":"m","messages":[]}'


@pytest_twisted.async_yield_fixture()  # type: ignore[untyped-decorator]
async def backend() -> AsyncIterator[DemoBackend]:
    demo = DemoBackend(reactor, QUICK)
    await demo.listen()
    yield demo
    await demo.stop()


async def ask(backend: DemoBackend, method: str, target: str, body: bytes = b"", headers: Iterable[str] = ()) -> RecordingClient:
    client = await RecordingClient.connect(reactor, backend.port)
    client.request(method, target, body, headers)
    return client


async def stream(backend: DemoBackend, fail: str = "", *more: str) -> RecordingClient:
    return await ask(backend, "POST", CHAT, STREAM, [f"X-Demo-Fail: {fail}", *more] if fail else more)


def words(client: RecordingClient) -> str:
    chunks = [json.loads(event.data) for event in client.events if event.data != "[DONE]"]
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)


async def test_a_stream_speaks_word_by_word_and_ends_with_done(backend: DemoBackend) -> None:
    client = await stream(backend)
    response = await client.complete()
    assert (response.status, response.header("content-type"), response.chunked) == (200, b"text/event-stream", True)
    assert words(client) == "one two three four"
    assert len(client.events) == 6
    last, done = client.events[-2:]
    assert json.loads(last.data)["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    assert "usage" not in json.loads(last.data)
    assert done.data == "[DONE]"


async def test_without_a_stream_the_answer_is_one_json(backend: DemoBackend) -> None:
    client = await ask(backend, "POST", CHAT, b'{"messages":[],"model":"m"}')
    response = await client.complete()
    assert response.header("content-type") == b"application/json"
    assert json.loads(client.body)["choices"][0]["message"]["content"] == "one two three four"


async def test_health_and_models_answer_when_awake(backend: DemoBackend) -> None:
    client = await ask(backend, "GET", "/health")
    assert bytes((await client.complete()).body) == b'{"status":"ok"}'
    client.request("GET", "/v1/models")
    assert json.loads((await client.complete(2)).body)["data"][0]["id"] == "demo"


async def test_plain_events_have_ids_resume_and_stop_with_204(backend: DemoBackend) -> None:
    client = await ask(backend, "GET", "/events", headers=["Last-Event-ID: 2"])
    await client.complete()
    assert [(event.id, event.data) for event in client.events] == [("3", "three"), ("4", "four")]
    client.request("GET", "/events", headers=["Last-Event-ID: 4"])
    assert (await client.complete(2)).status == 204


async def test_asleep_it_says_loading_everywhere_until_the_time_is_up() -> None:
    backend = DemoBackend(reactor, DemoSettings(wake_seconds=0.3))
    await backend.listen()
    await sleep(reactor, 0.31)  # nobody has knocked: it sleeps on
    client = await ask(backend, "GET", "/health")
    response = await client.complete()
    assert (response.status, bytes(response.body)) == (503, LOADING)
    client.request("POST", CHAT, STREAM)
    assert (await client.complete(2)).status == 503
    await eventually(reactor, lambda: backend.awake)
    client.request("GET", "/health")
    assert (await client.complete(3)).status == 200
    await backend.stop()
    await client.gone()


async def test_from_start_it_wakes_by_itself() -> None:
    backend = DemoBackend(reactor, DemoSettings(wake_seconds=0.02, from_start=True))
    await backend.listen()
    assert not backend.awake
    await eventually(reactor, lambda: backend.awake)
    await backend.stop()


async def test_a_closed_backend_opens_its_port_when_awake() -> None:
    backend = DemoBackend(reactor, DemoSettings(wake_seconds=0.3, closed=True))
    port = await backend.listen()
    with pytest.raises(ConnectionRefusedError):
        await RecordingClient.connect(reactor, port)
    await eventually(reactor, lambda: backend.awake)
    await sleep(reactor, 0.01)
    client = await ask(backend, "GET", "/health")
    assert (await client.complete()).status == 200
    await backend.stop()
    await client.gone()


async def test_stopped_before_it_opened_it_never_opens() -> None:
    backend = DemoBackend(reactor, DemoSettings(wake_seconds=30, closed=True))
    port = await backend.listen()
    await backend.stop()
    with pytest.raises(ConnectionRefusedError):
        await RecordingClient.connect(reactor, port)


async def test_the_service_listens_from_start_to_stop_on_a_port_known_before() -> None:
    service = DemoService(reactor, QUICK)
    service.startService()
    client = await RecordingClient.connect(reactor, service.port)
    assert service.url == service.backend.url
    await service.stopService()
    await client.gone()
    with pytest.raises(ConnectionRefusedError):
        await RecordingClient.connect(reactor, service.port)


async def test_silences_come_where_they_were_asked_for(backend: DemoBackend) -> None:
    client = await RecordingClient.connect(reactor, backend.port)
    began = client.post(CHAT, STREAM, ["X-Demo-Prefill: 0.04", "X-Demo-First: 0.03", "X-Demo-Gap: 0.02", "X-Demo-Stall: 0.05"])
    await client.head()
    assert client.reads[0].at - began >= 0.04
    await client.complete()
    times = [at for at, _ in client.body_reads]
    assert times[0] - began >= 0.07
    pauses = sorted(later - earlier for earlier, later in itertools.pairwise(times))
    assert pauses[-1] >= 0.04  # inside the event in the middle
    assert words(client) == "one two three four"


@pytest.mark.parametrize(("fail", "status", "kind"), [("status=429", 429, "invalid_request_error"), ("status", 500, "server_error")])
async def test_it_fails_with_a_status_in_json(backend: DemoBackend, fail: str, status: int, kind: str) -> None:
    client = await stream(backend, fail)
    response = await client.complete()
    assert (response.status, json.loads(client.body)["error"]["type"]) == (status, kind)
    assert response.header("retry-after") == (b"7" if status == 429 else None)


async def test_it_fails_with_an_html_page(backend: DemoBackend) -> None:
    client = await ask(backend, "POST", f"{CHAT}?fail=html%3D502", STREAM)
    response = await client.complete()
    assert (response.status, response.header("content-type")) == (502, b"text/html")


async def test_it_answers_json_to_a_stream_request(backend: DemoBackend) -> None:
    for client in (await stream(backend, "json200"), await ask(backend, "GET", "/events?fail=json200")):
        response = await client.complete()
        assert (response.status, response.header("content-type")) == (200, b"application/json")
        assert json.loads(client.body)


async def test_it_resets_before_the_head(backend: DemoBackend) -> None:
    client = await stream(backend, "reset")
    assert await client.gone() == "reset"
    assert client.received == b""


@pytest.mark.parametrize(("fail", "whole"), [("die-in-event", False), ("die-between-events", True)])
async def test_it_dies_in_the_stream(backend: DemoBackend, fail: str, whole: bool) -> None:
    client = await stream(backend, fail)
    assert await client.gone() == "fin"
    assert words(client) == "one two"
    assert client.body.endswith(b"\n\n") is whole
    assert not client.response.complete


async def test_it_ends_without_done(backend: DemoBackend) -> None:
    client = await stream(backend, "no-done")
    await client.complete()
    assert words(client) == "one two three four"
    assert b"[DONE]" not in client.body


@pytest.mark.parametrize(
    ("fail", "heads", "end"),
    [("hang-before-head", 0, None), ("hang-after-head", 1, b""), ("hang-mid-event", 1, b'"object":')],
)
async def test_it_hangs_until_the_client_leaves(backend: DemoBackend, fail: str, heads: int, end: bytes | None) -> None:
    client = await stream(backend, fail)
    await client.until(lambda: len(client.responses) == heads and (not end or end in client.body))
    await sleep(reactor, 0.05)
    assert len(client.responses) == heads
    if heads:
        assert not client.response.complete
        assert (end or b"") in client.body
        assert client.body.endswith(b"\n\n") is False
    client.close()
    await client.gone()
    await eventually(reactor, lambda: not backend._factory.protocols)


async def test_it_says_loading_so_many_times_on_the_data_path(backend: DemoBackend) -> None:
    statuses = []
    for _ in range(4):
        client = await stream(backend, "loading=2")
        statuses.append((await client.complete()).status)
    assert statuses == [503, 503, 200, 503]


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [("GET", "/nowhere", b"", 404), ("POST", CHAT, b"{", 400), ("POST", CHAT, b"[]", 400), ("POST", f"{CHAT}?fail=explode", STREAM, 400)],
)
async def test_nonsense_is_refused_in_openai_shape(backend: DemoBackend, method: str, target: str, body: bytes, status: int) -> None:
    client = await ask(backend, method, target, body)
    assert (await client.complete()).status == status
    assert json.loads(client.body)["error"]["type"] == "invalid_request_error"
