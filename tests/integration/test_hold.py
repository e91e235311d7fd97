"""The backend is not there yet: a closed port that opens, a /health that says 503, an answer that says "loading"."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from statistics import median

import pytest
from twisted.internet import reactor

from tests.integration.bench import ASK, CHAT, DONE, PLAIN, Bench, ch, error_of, is_cut
from tests.integration.process import TIMES, route, server, upstream
from tests.timing import BUSY, at_best
from txsse.testing import (
    HANG,
    REQUEST,
    RecordingClient,
    answer,
    eventually,
    sleep,
    steps,
    stream,
)

LONG = TIMES.replace('timeout = "300ms"', 'timeout = "60s"')
CONFIG = (
    server()
    + upstream()
    + upstream("total", 'probe = { preset = "tcp", interval = "50ms" }\ntimeouts = { total = "200ms" }')
    + route("frame", more=LONG.replace("[route.keepalive]", "status_comments = false\n[route.keepalive]\nform = 'frame'"))
    + route("text", more=LONG.replace("[route.keepalive]", "message = 'Waking {model}.'\nchannel = 'content'\n[route.keepalive]"))
    + route("total", "total", LONG.replace('timeout = "60s"', "timeout = 0"))
    + route("grace", more="hold = { timeout = '60s', commit_after = '60s' }")
    + route("long", more=LONG)
    + route("quick", more="hold = { timeout = '40ms', commit_after = '10ms' }")
    + route("short")
)

STATUS = re.compile(rb': txsse (\{"state":"[a-z_]+","elapsed":[0-9.]+(,"eta":[0-9]+)?(,"position":[0-9]+)?\})\n')


async def down(bench: Bench) -> None:
    """The proxy has found out that the backend is down: an earlier test may have left it for ready."""
    client = await bench.post(PLAIN, case="quick")
    assert (await client.complete()).status == 503


def kept(client: RecordingClient) -> list[tuple[float, bytes]]:
    return [(at, data) for at, data in client.body_reads if data.startswith(b": txsse")]


@pytest.mark.parametrize("get", [False, True])
async def test_a_held_stream_begins_at_the_commit_and_goes_on_when_the_port_opens(bench: Bench, get: bool) -> None:
    await down(bench)
    sent = reactor.seconds()
    client = await (bench.get(case="long") if get else bench.post(case="long"))
    response = await client.head()
    assert response.start == b"HTTP/1.1 200 OK"
    fields = {name: response.header(name) for name in ("content-type", "cache-control", "x-accel-buffering", "x-txsse-cold-start")}
    assert fields == {
        "content-type": b"text/event-stream; charset=utf-8",
        "cache-control": b"no-cache, no-transform",
        "x-accel-buffering": b"no",
        "x-txsse-cold-start": b"true",
    }
    assert response.header("content-encoding") is None
    first = client.reads[0]
    assert STATUS.fullmatch(first.body), "the first keepalive leaves in the same write as the head"
    assert first.at - sent > 0.045
    await client.until(lambda: len(kept(client)) >= 3)
    await bench.play(steps(REQUEST, stream(ch("a"), DONE)))
    await client.complete()
    for _, data in kept(client):
        assert (found := STATUS.fullmatch(data)), data
        assert json.loads(found[1])["state"]
    assert b"".join(data for _, data in client.body_reads[len(kept(client)) :]) == ch("a") + DONE
    assert len(bench.upstream.requests) == 1


async def test_bar_the_first_held_byte_comes_at_commit_after(bench: Bench) -> None:
    await down(bench)

    async def measure() -> float:
        client = await bench.client()
        sent: float = reactor.seconds()
        client.post(CHAT, ASK, ["X-Case: short"])
        await client.head()
        late = client.reads[0].at - sent
        assert late >= 0.049
        return late

    await at_best(measure, 0.1)


async def test_bar_keepalives_keep_their_interval(bench: Bench) -> None:
    await down(bench)

    async def measure() -> float:
        began = reactor.seconds()
        client = await bench.post(case="long")
        await client.until(lambda: client.responses and len(kept(client)) >= 6)
        times = [at for at, _ in kept(client)]
        assert times[5] - began >= 0.54, "the first one after 50 ms, five more after 100 ms each"
        client.reset()
        return median(later - earlier for earlier, later in pairwise(times))

    await at_best(measure, 0.112)


async def test_bar_a_port_that_opens_is_noticed_within_a_probe_interval(bench: Bench) -> None:
    async def measure() -> float:
        await down(bench)
        client = await bench.post(case="long")
        await client.head()
        await bench.play(steps(REQUEST, stream(DONE)))
        opened: float = reactor.seconds()
        await client.complete()
        await bench.upstream.shut()
        for connection in bench.upstream.open_connections:
            connection.reset()
        return client.reads[-1].at - opened

    await at_best(measure, 0.1)


async def test_a_plain_request_is_held_in_silence_and_gets_the_true_status(bench: Bench) -> None:
    await down(bench)
    client = await bench.post(PLAIN, case="long")
    await sleep(reactor, 0.3)
    assert client.reads == []
    await bench.play(steps(REQUEST, answer(b'{"id":1}', "201 Created")))
    response = await client.complete()
    assert response.start == b"HTTP/1.1 201 Created"
    assert client.body == b'{"id":1}'
    assert response.header("x-txsse-cold-start") == b"true"
    assert bytes(bench.upstream.requests[0].body) == PLAIN


async def test_a_backend_that_was_ready_is_no_cold_start(bench: Bench) -> None:
    await bench.play(steps(REQUEST, answer(b"{}"), repeat=True))
    for _ in range(2):  # the first probe ever that succeeds does not count, nor does one that need not be made
        client = await bench.post(PLAIN, case="long")
        assert (await client.complete()).header("x-txsse-cold-start") == b"false"


async def test_a_hold_that_ends_inside_the_grace_leaves_no_trace_but_the_marker(bench: Bench) -> None:
    await down(bench)
    client = await bench.post(case="grace")
    await bench.until_waiting(1)
    fields = ["Content-Type: text/event-stream", "X-Upstream: yes"]
    await bench.play(steps(REQUEST, answer(ch("a") + DONE, "200 Fine", fields)))
    response = await client.complete()
    assert response.start == b"HTTP/1.1 200 Fine"
    assert client.body == ch("a") + DONE
    assert response.header("content-type") == b"text/event-stream"
    assert response.header("x-txsse-cold-start") is not None


async def test_a_stream_that_never_becomes_ready_ends_with_an_error_frame(bench: Bench) -> None:
    await down(bench)
    sent = reactor.seconds()
    client = await bench.post(case="short")
    await is_cut(client)
    assert client.closed_at is not None
    frame_at, frame = client.body_reads[-1]
    assert 0.29 <= frame_at - sent <= 0.3 + BUSY
    assert 0.49 <= client.closed_at - sent <= 0.5 + BUSY, "the connection is closed 200 ms after the frame"
    assert re.fullmatch(
        rb'data: \{"error":\{"message":"[^"]+","type":"server_error","param":null,"code":"readiness_timeout"\}\}\n\n', frame
    ), frame
    assert b"[DONE]" not in client.body
    assert bench.upstream.connections == []


async def test_an_event_stream_that_never_becomes_ready_ends_with_an_error_event(bench: Bench) -> None:
    await down(bench)
    client = await bench.get(case="short")
    await is_cut(client)
    assert re.fullmatch(
        rb'event: error\ndata: \{"type":"error","error":\{"type":"overloaded_error","message":"[^"]+","code":"readiness_timeout"\}\}\n\n',
        client.body_reads[-1][1],
    )


async def test_a_plain_request_that_never_becomes_ready_gets_503_and_retry_after(bench: Bench) -> None:
    await down(bench)
    sent = reactor.seconds()
    client = await bench.post(PLAIN, case="short")
    response = await client.complete()
    assert 0.29 <= client.reads[0].at - sent <= 0.3 + BUSY
    assert response.status == 503
    assert response.header("content-type") == b"application/json"
    assert 1 <= int(response.header("retry-after") or b"0") <= 60
    error = error_of(client.body)
    assert list(error) == ["message", "type", "param", "code"]
    assert (error["type"], error["param"], error["code"]) == ("server_error", None, "readiness_timeout")
    message = str(error["message"])
    assert "main" in message, "names the backend that is pending"
    assert "refused" in message.lower(), "and the last probe's error by name"
    assert "127.0.0.1" not in message
    assert bench.upstream.connections == []


async def test_the_total_deadline_ends_an_endless_hold(bench: Bench) -> None:
    sent = reactor.seconds()
    client = await bench.post(PLAIN, case="total")
    assert (await client.complete()).status == 504
    assert 0.19 <= client.reads[0].at - sent <= 0.2 + BUSY
    assert error_of(client.body)["code"] == "upstream_timeout"


async def test_frames_and_events_can_be_asked_for(bench: Bench) -> None:
    await down(bench)
    client = await bench.post(case="frame")
    await client.until(lambda: client.responses and len(client.body_reads) >= 3)
    assert {data for _, data in client.body_reads} == {b": txsse\n\n"}


@pytest.mark.parametrize(("body", "shown"), [(ASK, True), (ASK[:-1] + b',"tools":[{}]}', False), (ASK[:-1] + b',"n":2}', False)])
async def test_visible_text_is_shown_where_it_can_do_no_harm(bench: Bench, body: bytes, shown: bool) -> None:
    await down(bench)
    client = await bench.post(body, case="text")
    await client.until(lambda: client.responses and len(client.body_reads) >= 2)
    await bench.play(steps(REQUEST, stream(ch("a"), DONE)))
    await client.complete()
    texts = [json.loads(each.data)["choices"][0]["delta"].get("content") for each in client.events[:-1]]
    if shown:
        assert texts[0] == "Waking m."
        assert texts[1:-2] and set(texts[1:-2]) == {"."}
        assert texts[-2:] == ["\n\n---\n\n", "a"]
    else:
        assert texts == ["a"]
    assert client.body.endswith(ch("a") + DONE)


async def test_other_paths_get_no_text(bench: Bench) -> None:
    await down(bench)
    clients = [await bench.get(target, case="text") for target in ("/v1/embeddings", "/health", "/")]
    for client in clients:
        await client.until(lambda client=client: client.responses and len(client.comments) >= 3)  # type: ignore[misc]
        assert client.events == []


async def test_a_backend_that_hangs_after_a_hold_is_not_charged_for_the_wait(bench: Bench) -> None:
    await down(bench)
    client = await bench.post(PLAIN, case="long")
    await sleep(reactor, 0.3)
    await bench.play(steps(REQUEST, 0.1, answer(b"late"), HANG))
    assert (await client.complete()).status == 200
    assert client.body == b"late"


async def test_a_large_body_is_kept_through_the_hold(bench: Bench) -> None:
    await down(bench)
    body = b'{"stream":true,"messages":[{"role":"user","content":"' + b"x" * (10 * 2**20) + b'"}]}'
    before = bench.proxy.memory()
    client = await bench.post(body, case="long")
    await client.head()
    grown = bench.proxy.memory() - before
    assert grown < 32 * 2**20, "bounded by the configured cap"
    await bench.play(steps(REQUEST, stream(DONE)))
    await client.complete()
    await eventually(reactor, lambda: bench.upstream.requests)
    assert bytes(bench.upstream.requests[0].body) == body
