"""The backend fails and the client has a 200 of ours: one error frame in the dialect's own form, and no clean end."""

from __future__ import annotations

import json

import pytest
from twisted.internet import reactor

from tests.integration.bench import ASK, CHAT, DONE, Bench, ch, error_of, is_cut, last_error
from tests.integration.process import CALM, TIMES, route, server, upstream
from tests.timing import BUSY
from txsse.testing import (
    CLOSE,
    HANG,
    LAST_CHUNK,
    REQUEST,
    RESET,
    STREAM_HEAD,
    Gate,
    RecordingClient,
    Script,
    UpstreamConnection,
    answer,
    chunk,
    head,
    steps,
)

READY = 'probe = { preset = "none" }\n'
CONFIG = (
    server()
    + upstream(more=READY)
    + route("done", more=TIMES + "[route.stream]\nerror_end = 'done'\n")
    + route("event", more=TIMES + "[route.stream]\nerror_event = true\n")
    + route("calm", more=CALM)
    + route("require", more=TIMES + "[route.stream]\nrequire_done = true\n")
    + route()
)
K = b": txsse\n"


async def committed(bench: Bench, *script: bytes | float | Gate | object, get: bool = False, case: str = "") -> RecordingClient:
    """A client that has a committed head before the backend says what *script* says."""
    gate = Gate()
    await bench.play(steps(REQUEST, gate, *script))  # type: ignore[arg-type]  # steps
    client = await (bench.get(case=case) if get else bench.post(ASK, case=case))
    await client.contains(K)
    gate.open()
    return client


async def all_committed(bench: Bench, answers: list[bytes]) -> list[RecordingClient]:
    """A client for each of these answers, which come when all have a committed head."""
    gate = Gate()

    async def play(connection: UpstreamConnection) -> None:
        number = (await connection.request()).target.split(b"/")[1]
        await gate.wait()
        connection.send(answers[int(number)])

    await bench.play(play)
    clients = [await bench.post(ASK, f"/{number}{CHAT}") for number in range(len(answers))]
    for client in clients:
        await client.contains(K)
    gate.open()
    return clients


def only_frame(client: RecordingClient, prefix: bytes = b"") -> bytes:
    """What came after the keepalives: exactly one frame."""
    frame = client.body.replace(K, b"")
    assert frame.startswith(prefix)
    frame = frame.removeprefix(prefix)
    assert frame.endswith(b"\n\n")
    assert frame.count(b"\n\n") == 1, frame
    return frame


async def test_a_json_error_becomes_a_frame_that_keeps_its_members(bench: Bench) -> None:
    body = b'{"error":{"message":"too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded","x":[1]}}'
    statuses = [400, 401, 404, 429, 500, 503]
    for client, status in zip(await all_committed(bench, [answer(body, f"{each} Bad") for each in statuses]), statuses, strict=True):
        await is_cut(client)
        assert only_frame(client) == (
            b'data: {"error":{"message":"too long","type":"invalid_request_error","param":"messages",'
            b'"code":"context_length_exceeded","x":[1],"status":%d}}\n\n' % status
        )


async def test_an_error_without_a_code_gets_one(bench: Bench) -> None:
    client = await committed(bench, answer(b'{"error":{"message":"no","type":"server_busy"}}', "429 Slow"))
    await is_cut(client)
    assert last_error(client) == {"message": "no", "type": "server_busy", "code": "upstream_error", "status": 429}


@pytest.mark.parametrize(
    "body", [b'{"error":"no such model"}', b'{"object":"error","message":"no such model","type":"NotFound","code":404}']
)
async def test_other_shapes_of_errors_are_brought_into_one(bench: Bench, body: bytes) -> None:
    client = await committed(bench, answer(body, "404 Not Found"))
    await is_cut(client)
    error = last_error(client)
    assert error["message"] == "no such model"
    assert error["status"] == 404
    assert isinstance(error["code"], str)
    assert isinstance(error["type"], str)


@pytest.mark.parametrize("get", [False, True])
async def test_an_html_error_becomes_text_that_is_bounded(bench: Bench, get: bool) -> None:
    page = b'<html><body>\r\n<h1>502 "Bad" Gateway</h1>\r\ndata: x\n\n</body></html>' + b"z" * 100_000
    client = await committed(bench, answer(page, "502 Bad Gateway", ["Content-Type: text/html"]), get=get)
    await is_cut(client)
    assert len(only_frame(client)) < 8192
    error = last_error(client)
    assert error["status"] == 502
    assert error["code"] == "upstream_error"
    assert "Bad" in str(error["message"])
    assert len(client.events) == 1


NO_STREAMS = [
    answer(b'{"object":"chat.completion"}'),
    answer(b"hello", headers=["Content-Type: text/plain"]),
    head("HTTP/1.1 200 OK", ["Content-Type: text/event-stream", "Content-Encoding: gzip", "Transfer-Encoding: chunked"])
    + chunk(b"\x1f\x8b")
    + LAST_CHUNK,
    b"SSH-2.0-OpenSSH_9.2\r\n",
    answer(b"", "302 Found", ["Location: /login"]),
]


async def test_what_is_no_stream_after_the_commit_is_an_error_and_never_relayed(bench: Bench) -> None:
    clients = await all_committed(bench, NO_STREAMS)
    for client in clients:
        await is_cut(client)
        for raw in (b"chat.completion", b"hello", b"\x1f\x8b", b"SSH"):
            assert raw not in client.body
        error = error_of(only_frame(client).removeprefix(b"data: "))
        assert error["code"] == ("upstream_invalid" if client is not clients[-1] else error["code"])
        assert error["type"] == "server_error"


async def test_a_plain_stream_gets_an_error_event(bench: Bench) -> None:
    client = await committed(bench, answer(b'{"error":{"message":"no","type":"x","code":7}}', "500 Oops"), get=True)
    await is_cut(client)
    frame = only_frame(client)
    assert frame.startswith(b'event: error\ndata: {"type":"error","error":{')
    assert last_error(client) == {"type": "x", "message": "no", "code": "7", "status": 500}


@pytest.mark.parametrize("last", [RESET, CLOSE])
async def test_a_death_before_the_head(bench: Bench, last: Script) -> None:
    client = await committed(bench, last)
    await is_cut(client)
    only_frame(client)
    assert last_error(client)["code"] == "upstream_unavailable"


@pytest.mark.parametrize("get", [False, True])
async def test_a_death_inside_an_event_drops_its_half(bench: Bench, get: bool) -> None:
    client = await committed(bench, STREAM_HEAD + chunk(ch("a") + b'data: {"id":'), 0.03, RESET, get=get)
    await is_cut(client)
    only_frame(client, ch("a"))
    assert last_error(client)["code"] == "upstream_disconnected"


async def test_the_cut_comes_200_ms_after_the_frame(bench: Bench) -> None:
    client = await committed(bench, RESET)
    since = reactor.seconds()
    await is_cut(client)
    assert client.closed_at is not None
    assert 0.18 <= client.closed_at - since <= 0.2 + BUSY


async def test_error_end_done_ends_cleanly(bench: Bench) -> None:
    client = await committed(bench, answer(b'{"error":{"message":"no"}}', "500 Oops"), case="done")
    await client.complete()
    assert client.body.endswith(b'"status":500}}\n\n' + DONE)
    assert client.body.count(b"data: ") == 2


async def test_error_end_done_never_hides_a_truncation(bench: Bench) -> None:
    """The frame tells it; the clean end is what the option asks for."""
    client = await committed(bench, STREAM_HEAD + chunk(ch("a")), 0.03, RESET, case="done")
    await client.complete()
    assert json.loads(client.events[-2].data)["error"]["code"] == "upstream_disconnected"
    assert client.events[-1].data == "[DONE]"


async def test_a_204_after_the_commit_is_a_clean_end(bench: Bench) -> None:
    client = await committed(bench, head("HTTP/1.1 204 No Content"))
    await client.complete()
    assert client.body.replace(K, b"") == b""


async def test_a_clean_end_without_done_is_an_error_where_it_is_required(bench: Bench) -> None:
    client = await committed(bench, STREAM_HEAD + chunk(ch("a")) + LAST_CHUNK, case="require")
    await is_cut(client)
    only_frame(client, ch("a"))
    assert last_error(client)["code"] == "upstream_disconnected"


async def test_a_death_after_done_is_no_failure(bench: Bench) -> None:
    client = await committed(bench, STREAM_HEAD + chunk(ch("a") + DONE), 0.03, RESET)
    await client.complete()
    assert client.body.replace(K, b"") == ch("a") + DONE


async def test_an_error_event_after_the_backends_own_head_where_it_is_asked_for(bench: Bench) -> None:
    await bench.play(steps(REQUEST, STREAM_HEAD + chunk(b"data: 1\n\n"), 0.03, RESET))
    client = await bench.get(case="event")
    await is_cut(client)
    only_frame(client, b"data: 1\n\n")
    assert client.events[-1].type == "error"


async def test_metrics_and_log_know_the_failure(bench: Bench) -> None:
    before = await bench.metric("txsse_stream_errors_total", code="upstream_error")
    client = await bench.post(headers=["X-Request-Id: failed-1"], case="calm")
    await client.complete()
    client = await committed(bench, answer(b"{}", "500 Oops"), HANG)
    await is_cut(client)
    assert await bench.metric("txsse_stream_errors_total", code="upstream_error") == before + 1
    line = await bench.logged("request_id=failed-1")
    assert " status=502 " in line
    assert " code=upstream_unavailable " in line
    assert " outcome=upstream_error " in line
