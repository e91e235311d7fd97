"""The backend fails and nothing was sent to the client yet: a true status, or the backend's own answer."""

from __future__ import annotations

import pytest

from tests.integration.bench import ASK, PLAIN, Bench, ch, error_of, is_cut
from tests.integration.process import CALM, route, server, upstream
from txsse.testing import CLOSE, LAST_CHUNK, REQUEST, RESET, STREAM_HEAD, Script, UpstreamConnection, answer, chunk, head, steps

READY = 'probe = { preset = "none" }\n'
CONFIG = server() + upstream(more=READY) + route(more=CALM)


def assert_error(body: bytes | bytearray, code: str, type_: str = "server_error") -> None:
    error = error_of(body)
    assert list(error) == ["message", "type", "param", "code"], "the shape of OpenAI's errors"
    assert (error["type"], error["param"], error["code"]) == (type_, None, code)
    assert isinstance(error["message"], str) and error["message"]
    assert "127.0.0.1" not in error["message"]


@pytest.mark.parametrize("body", [ASK, PLAIN])
async def test_refused_is_502(bench: Bench, body: bytes) -> None:
    client = await bench.post(body)
    response = await client.complete()
    assert response.start == b"HTTP/1.1 502 Bad Gateway"
    assert response.header("content-type") == b"application/json"
    assert_error(client.body, "upstream_unavailable")


@pytest.mark.parametrize("last", [RESET, CLOSE])
@pytest.mark.parametrize("body", [ASK, PLAIN])
async def test_a_fresh_connection_that_dies_before_the_head_is_502_and_not_asked_twice(bench: Bench, body: bytes, last: Script) -> None:
    await bench.play(steps(REQUEST, last))  # type: ignore[arg-type]  # a Step
    client = await bench.post(body)
    assert (await client.complete()).status == 502
    assert_error(client.body, "upstream_unavailable")
    assert len(bench.upstream.requests) == 1


async def test_a_second_request_after_a_reset_is_served_on_the_same_client_connection(bench: Bench) -> None:
    await bench.play(steps(REQUEST, RESET))
    client = await bench.post(PLAIN)
    await client.complete()
    bench.upstream.script = steps(REQUEST, answer(b"ok"))
    client.post("/v1/chat/completions", PLAIN)
    assert bytes((await client.complete(2)).body) == b"ok"


BAD_HEADS = [
    b"HTTP/1.1 abc\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nBad Header: x\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"y" * 2_000_000,
]


@pytest.mark.parametrize("data", BAD_HEADS, ids=[repr(data[:30]) for data in BAD_HEADS])
async def test_a_head_that_is_no_head_is_502(bench: Bench, data: bytes) -> None:
    await bench.play(steps(REQUEST, data))
    client = await bench.post()
    assert (await client.complete()).status == 502
    assert_error(client.body, "upstream_invalid")
    await bench.upstream.connections[0].gone()


@pytest.mark.parametrize("target", ["/v1/embeddings", "/events"])
async def test_a_plain_get_or_event_stream_has_the_same_shape(bench: Bench, target: str) -> None:
    client = await bench.get(target)
    assert (await client.complete()).status == 502
    assert_error(client.body, "upstream_unavailable")


@pytest.mark.parametrize("status", ["400 Bad", "401 Unauthorized", "404 Not Found", "429 Too Many", "500 Oops", "502 Bad Gateway"])
@pytest.mark.parametrize("kind", ["application/json", "text/html"])
async def test_the_backends_own_error_passes_untouched(bench: Bench, status: str, kind: str) -> None:
    body = b'{"error":{"message":"no"}}' if kind == "application/json" else b"<html>no</html>"
    await bench.play(steps(REQUEST, answer(body, status, [f"Content-Type: {kind}"])))
    client = await bench.post()
    response = await client.complete()
    assert response.start.decode() == f"HTTP/1.1 {status}"
    assert response.header("content-type") == kind.encode()
    assert client.body == body


async def test_json_although_a_stream_was_asked_for_passes_untouched(bench: Bench) -> None:
    await bench.play(steps(REQUEST, answer(b'{"object":"chat.completion"}')))
    client = await bench.post()
    assert (await client.complete()).header("content-type") == b"application/json"
    assert client.body == b'{"object":"chat.completion"}'


@pytest.mark.parametrize("last", [RESET, CLOSE])
async def test_a_counted_body_that_is_cut_short_is_cut_short(bench: Bench, last: Script) -> None:
    typed = head("HTTP/1.1 200 OK", ["Content-Type: application/json", "Content-Length: 100"])
    await bench.play(steps(REQUEST, typed + b'{"half":', 0.02, last))  # type: ignore[arg-type]  # a Step
    client = await bench.post(PLAIN)
    await is_cut(client)
    assert client.body == b'{"half":'


async def test_a_close_delimited_body_ends_with_the_backends_fin_and_not_with_its_reset(bench: Bench) -> None:
    bare = head("HTTP/1.1 200 OK", ["Content-Type: application/json"])
    await bench.play(steps(REQUEST, bare + b"{}", CLOSE))
    client = await bench.post(PLAIN)
    assert bytes((await client.complete()).body) == b"{}"
    bench.upstream.script = steps(REQUEST, bare + b"{}", 0.05, RESET)
    client = await bench.post(PLAIN)
    await is_cut(client)


# After the backend's own head was relayed, in the dialect of chat: an error frame, then the cut.


@pytest.mark.parametrize("last", [RESET, CLOSE])
async def test_a_stream_that_dies_ends_with_an_error_frame_and_a_cut(bench: Bench, last: Script) -> None:
    await bench.play(steps(REQUEST, STREAM_HEAD + chunk(ch("a")), 0.02, last))  # type: ignore[arg-type]  # a Step
    client = await bench.post()
    await is_cut(client)
    assert client.body.startswith(ch("a") + b'data: {"error":{"message":"')
    assert client.body.endswith(b'","type":"server_error","param":null,"code":"upstream_disconnected"}}\n\n')
    assert len(client.events) == 2


async def test_a_stream_that_dies_inside_an_event_leaves_no_half_of_it(bench: Bench) -> None:
    await bench.play(steps(REQUEST, STREAM_HEAD + chunk(ch("a") + b'data: {"id":'), 0.02, RESET))
    client = await bench.post()
    await is_cut(client)
    assert b'"id":data' not in client.body
    assert client.body.startswith(ch("a") + b'data: {"error":{')
    assert error_of(client.events[-1].data.encode())["code"] == "upstream_disconnected"


async def test_a_plain_event_stream_that_dies_is_only_cut(bench: Bench) -> None:
    await bench.play(steps(REQUEST, STREAM_HEAD + chunk(b"data: 1\n\ndata: {"), 0.02, RESET))
    client = await bench.get()
    await is_cut(client)
    assert client.body == b"data: 1\n\n"


async def test_past_the_hold_bound_a_death_is_only_cut(bench: Bench) -> None:
    begun = b"data: " + b"x" * 70_000
    await bench.play(steps(REQUEST, STREAM_HEAD + chunk(begun), 0.05, RESET))
    client = await bench.post()
    await is_cut(client)
    assert client.body == begun


@pytest.mark.parametrize("bad", [b"zz\r\n", b"5\r\nhelloXX\r\n", b"-5\r\n", b"ffffffffffffffffff\r\n"])
async def test_a_bad_chunk_is_told_apart_from_a_death(bench: Bench, bad: bytes) -> None:
    await bench.play(steps(REQUEST, STREAM_HEAD + chunk(ch("a")) + bad))
    client = await bench.post()
    await is_cut(client)
    assert client.body.startswith(ch("a"))
    assert error_of(client.events[-1].data.encode())["code"] == "upstream_invalid"


async def test_a_clean_end_without_done_passes_and_is_counted(bench: Bench) -> None:
    before = await bench.metric("txsse_streams_unterminated_total")
    await bench.play(steps(REQUEST, STREAM_HEAD + chunk(ch("a")) + LAST_CHUNK))
    client = await bench.post()
    await client.complete()
    assert client.body == ch("a")
    assert await bench.metric("txsse_streams_unterminated_total") == before + 1


async def test_a_pooled_connection_that_dies_is_asked_once_more_and_no_oftener(bench: Bench) -> None:
    async def play(connection: UpstreamConnection) -> None:
        await connection.request()
        if connection is bench.upstream.connections[0]:
            connection.send(answer(b"first"))
            await connection.request()
        connection.reset()

    await bench.play(play)
    client = await bench.post(PLAIN)
    assert bytes((await client.complete()).body) == b"first"
    client.post("/v1/chat/completions", PLAIN)
    assert (await client.complete(2)).status == 502
    assert len(bench.upstream.requests) == 3
