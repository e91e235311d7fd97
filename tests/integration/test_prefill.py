"""The backend is ready but silent: before its response head, and between the head and the first event."""

from __future__ import annotations

import json
import re

import pytest
from twisted.internet import reactor

from tests.integration.bench import ASK, CHAT, DONE, PLAIN, SSE, Bench, ch, error_of, is_cut, last_error
from tests.integration.process import PATIENT, TIMES, route, server, upstream
from tests.timing import BUSY, at_best
from txsse.testing import HANG, LAST_CHUNK, REQUEST, STREAM_HEAD, Gate, answer, chunk, events, head, sleep, steps, stream

K = b": txsse\n"
READY = 'probe = { preset = "none" }\n'
CONFIG = (
    server('cold_start_header = "X-Cold"')
    + upstream(more=READY)
    + upstream("hasty", READY + 'timeouts = { first_byte = "400ms" }')
    + upstream("total", READY + 'timeouts = { total = "250ms" }')
    + upstream("idle", READY + 'timeouts = { idle = "600ms" }')
    + upstream("strict", READY + 'timeouts = { idle = "300ms", first_byte = "200ms", comments_count = false }')
    + route("hasty", "hasty")
    + route("total", "total")
    + route("idle", "idle")
    + route("strict", "strict")
    + route("patient", more=PATIENT)
    + route("event", more=TIMES.replace("heartbeat = 0", "heartbeat = 0\nform = 'event'"))
    + route("none", more=TIMES.replace("heartbeat = 0", "heartbeat = 0\nform = 'none'"))
    + route("heartbeat", more=TIMES.replace("heartbeat = 0", "heartbeat = '250ms'"))
    + route("always", more=TIMES + "[route.stream]\n", to="main").replace("match =", "streaming = 'always'\nmatch =")
    + route("never", more=TIMES).replace("match =", "streaming = 'never'\nmatch =")
    + route()
)


@pytest.mark.parametrize("get", [False, True])
async def test_silence_before_the_head_is_filled_with_keepalives(bench: Bench, get: bool) -> None:
    body = (b"data: 1\n\n",) if get else (ch("a"), DONE)
    gate = Gate()
    await bench.play(steps(REQUEST, gate, stream(*body)))
    began = reactor.seconds()
    client = await (bench.get() if get else bench.post())
    await client.contains(K * 5)
    gate.open()
    response = await client.complete()
    assert response.header("content-type") == b"text/event-stream; charset=utf-8"
    assert response.header("x-cold") == b"false"
    assert response.header("x-txsse-cold-start") is None
    writes = [data for _, data in client.body_reads]
    assert client.reads[0].body == b": txsse\n", "the first keepalive leaves with the head"
    assert 5 <= writes.count(K) <= 1 + (client.reads[-1].at - began - 0.04) / 0.1
    assert client.body == K * writes.count(K) + b"".join(body)


async def test_silence_after_the_head_is_filled_too(bench: Bench) -> None:
    before, after = Gate(), Gate()
    await bench.play(steps(REQUEST, before, STREAM_HEAD, after, chunk(ch("a") + DONE) + LAST_CHUNK))
    client = await bench.post()
    await client.contains(K * 2)
    before.open()
    await client.contains(client.body + K * 2)
    after.open()
    await client.complete()
    assert client.body == K * client.body.count(K) + ch("a") + DONE


async def test_a_head_inside_the_grace_passes_before_the_silence(bench: Bench) -> None:
    fields = ["Content-Type: text/event-stream", "X-Upstream: yes", "Transfer-Encoding: chunked"]
    gate = Gate()
    await bench.play(steps(REQUEST, head("HTTP/1.1 200 OK", fields), gate, chunk(ch("a") + DONE) + LAST_CHUNK))
    client = await bench.post(case="patient")
    await client.contains(K * 2)
    gate.open()
    response = await client.complete()
    assert response.header("x-upstream") == b"yes"
    assert response.header("content-type") == b"text/event-stream"
    assert client.body == K * client.body.count(K) + ch("a") + DONE


async def test_bar_the_first_byte_comes_at_commit_after(bench: Bench) -> None:
    await bench.play(steps(REQUEST, HANG))

    async def measure() -> float:
        client = await bench.client()
        sent: float = reactor.seconds()
        client.post(CHAT, ASK)
        await client.head()
        client.close()
        late = client.reads[0].at - sent
        assert late >= 0.049
        return late

    await at_best(measure, 0.1)


async def test_bar_the_first_event_comes_within_10_ms(bench: Bench) -> None:
    sent: list[float] = []

    async def play(connection) -> None:  # type: ignore[no-untyped-def]
        while True:
            await connection.request()
            await sleep(reactor, 0.12)
            sent.append(reactor.seconds())
            connection.send(stream(ch("a"), DONE))

    await bench.play(play)

    async def measure() -> float:
        client = await bench.post()
        came = await client.contains(ch("a"))
        await client.complete()
        return came - sent[-1]

    await at_best(measure, 0.01)


async def test_a_plain_request_waits_in_silence(bench: Bench) -> None:
    gate = Gate()
    await bench.play(steps(REQUEST, gate, answer(b"{}", "418 Teapot")))
    client = await bench.post(PLAIN)
    await sleep(reactor, 0.25)
    assert client.reads == []
    gate.open()
    assert (await client.complete()).start == b"HTTP/1.1 418 Teapot"


DETECTION = [
    (b'{"stream":true,"model":"test"}', True),
    (b'{"stream":false}', False),
    (b'{"model":"test"}', False),
    (b"", False),
    (b"not json", False),
    (b'{"stream":"true"}', False),
    (b'{"stream":1}', False),
    (b'{"stream":null}', False),
    (b'{"messages":[{"content":"\\"stream\\":true"}]}', False),
    (b'{"metadata":{"stream":true}}', False),
    (b'[{"stream":true}]', False),
    (b'\xef\xbb\xbf{"stream":true}', True),
    (b' \r\n\t{ "stream" : true }\n', True),
    (b'{"stream":true,"stream":false}', False),
    (b'{"stream":false,"stream":true}', True),
    (b'{"\\u0073tream":true}', True),
    (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b',"n":1e999999,"stream":true}', True),
    (b'{"x":"' + b"y" * 300_000 + b'","stream":true}', True),
]


async def test_the_body_decides_whether_a_request_streams(bench: Bench) -> None:
    gate = Gate()
    await bench.play(steps(REQUEST, gate, stream(DONE)))
    clients = [await bench.post(body, f"/{number}{CHAT}", [SSE]) for number, (body, _) in enumerate(DETECTION)]
    for client, (_, streams) in zip(clients, DETECTION, strict=True):
        if streams:
            await client.contains(K)
    await bench.upstream.until(lambda: len(bench.upstream.requests) == len(DETECTION))
    await sleep(reactor, 0.1)
    gate.open()
    for client, (body, streams) in zip(clients, DETECTION, strict=True):
        await client.complete()
        assert client.body.startswith(b": txsse\n") == streams, body
        assert client.response.header("content-type") == (b"text/event-stream; charset=utf-8" if streams else b"text/event-stream"), body
    assert {each.target: bytes(each.body) for each in bench.upstream.requests} == {
        f"/{number}{CHAT}".encode(): body for number, (body, _) in enumerate(DETECTION)
    }


async def test_an_encoded_body_does_not_stream(bench: Bench) -> None:
    await bench.play(steps(REQUEST, 0.12, stream(DONE)))
    client = await bench.post(b'{"stream":true}', headers=["Content-Encoding: gzip"])
    await client.complete()
    assert client.body == DONE


@pytest.mark.parametrize(("case", "body", "streams"), [("always", PLAIN, True), ("never", ASK, False)])
async def test_a_route_can_decide(bench: Bench, case: str, body: bytes, streams: bool) -> None:
    gate = Gate()
    await bench.play(steps(REQUEST, gate, stream(DONE)))
    client = await bench.post(body, case=case)
    await (client.contains(K) if streams else sleep(reactor, 0.12))
    gate.open()
    await client.complete()
    assert client.body.startswith(b": txsse\n") == streams


async def test_the_event_form_is_a_chunk_that_naive_readers_survive(bench: Bench) -> None:
    gate = Gate()
    await bench.play(steps(REQUEST, gate, stream(ch("a"), DONE)))
    client = await bench.post(case="event")
    await client.until(lambda: client.responses and len(client.events) >= 2)
    gate.open()
    await client.complete()
    wanted = (
        rb'data: \{"id":"chatcmpl-txsse-[0-9a-f]+","object":"chat.completion.chunk","created":[0-9]{10},"model":"m",'
        rb'"choices":\[\{"index":0,"delta":\{"content":""\},"finish_reason":null\}\]\}\n\n'
    )
    assert re.fullmatch(rb"(" + wanted + rb"){2,}", client.body.removesuffix(ch("a") + DONE)), client.body
    assert len({json.loads(each.data)["id"] for each in client.events[:-2]}) == 1


async def test_keepalives_can_be_switched_off(bench: Bench) -> None:
    await bench.play(steps(REQUEST, 0.25, stream(ch("a"), DONE)))
    client = await bench.post(case="none")
    await client.complete()
    assert client.body == ch("a") + DONE


async def test_heartbeats_are_slower_than_keepalives_and_end_with_the_first_event(bench: Bench) -> None:
    gate = Gate()
    await bench.play(steps(REQUEST, gate, STREAM_HEAD, chunk(ch("a")), 0.3, chunk(DONE) + LAST_CHUNK))
    client = await bench.post(case="heartbeat")
    await client.until(lambda: client.responses and len(client.events) >= 2)
    assert client.body.count(K) > len(client.events)
    gate.open()
    await client.complete()
    beats = [each for each in client.events if "chatcmpl-txsse-" in each.data]
    assert client.events == [*beats, *client.events[-2:]]
    assert client.events[-2:] == events(ch("a") + DONE)


async def test_no_head_in_time_is_504_before_the_commit(bench: Bench) -> None:
    await bench.play(steps(REQUEST, HANG))
    sent = reactor.seconds()
    client = await bench.post(PLAIN, case="hasty")
    assert (await client.complete()).status == 504
    assert 0.39 <= client.reads[0].at - sent <= 0.4 + BUSY
    assert error_of(client.body)["code"] == "upstream_timeout"
    await bench.upstream.connections[0].gone()


TALKING = STREAM_HEAD + chunk(b": busy\n\n")


@pytest.mark.parametrize(("case", "script"), [("hasty", b""), ("hasty", STREAM_HEAD), ("strict", TALKING)])
async def test_no_first_event_in_time_is_an_error_frame_after_the_commit(bench: Bench, case: str, script: bytes) -> None:
    await bench.play(steps(REQUEST, 0.08, script, HANG))
    sent = reactor.seconds()
    client = await bench.post(case=case)
    await is_cut(client)
    assert (0.19 if case == "strict" else 0.39) <= client.reads[-1].at - sent <= 0.4 + BUSY
    assert last_error(client)["code"] == "upstream_timeout"


@pytest.mark.parametrize("body", [ASK, PLAIN])
async def test_the_total_deadline_covers_everything(bench: Bench, body: bytes) -> None:
    await bench.play(steps(REQUEST, HANG))
    client = await bench.post(body, case="total")
    await client.head()
    if body == PLAIN:
        assert (await client.complete()).status == 504
    else:
        await is_cut(client)
    assert error_of((client.events[-1].data.encode()) if body == ASK else client.body)["code"] == "upstream_timeout"


async def test_bytes_reset_the_idle_timer(bench: Bench) -> None:
    words = [b"data: %s\n\n" % word for word in (b"foo", b"bar", b"baz", b"test")]
    await bench.play(
        steps(REQUEST, STREAM_HEAD + chunk(words[0]), 0.25, chunk(words[1]), 0.25, chunk(words[2]), 0.25, chunk(words[3]) + LAST_CHUNK)
    )
    client = await bench.get(case="idle")
    await client.complete()
    assert client.body.replace(b": txsse\n", b"") == b"".join(words)


async def test_silence_after_bytes_ends_in_a_framed_error(bench: Bench) -> None:
    await bench.play(steps(REQUEST, STREAM_HEAD + chunk(ch("foo")), HANG))
    sent = reactor.seconds()
    client = await bench.post(case="idle")
    await is_cut(client)
    assert client.body.startswith(ch("foo"))
    assert last_error(client)["code"] == "upstream_timeout"
    assert 0.59 <= client.reads[-1].at - sent <= 0.6 + BUSY


async def test_a_response_that_began_is_not_cut_by_the_first_byte_timer(bench: Bench) -> None:
    await bench.play(steps(REQUEST, STREAM_HEAD + chunk(ch("a")), 0.6, chunk(DONE) + LAST_CHUNK))
    client = await bench.post(case="hasty")
    await client.complete()
    assert client.body.replace(b": txsse\n", b"") == ch("a") + DONE


@pytest.mark.parametrize(("case", "lives"), [("idle", True), ("strict", False)])
async def test_comments_of_the_backend_are_a_sign_of_life_unless_told_otherwise(bench: Bench, case: str, lives: bool) -> None:
    busy = chunk(b": OPENROUTER PROCESSING\n\n")
    often: list[bytes | float] = [0.25, busy] * (3 if lives else 40)
    await bench.play(steps(REQUEST, STREAM_HEAD + chunk(ch("a")), *often, chunk(DONE) + LAST_CHUNK))
    client = await bench.post(case=case)
    if lives:
        await client.complete()
    else:
        await is_cut(client)
        assert last_error(client)["code"] == "upstream_timeout"
