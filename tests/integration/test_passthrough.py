"""A backend that answers at once: what passes is what the backend said, and what the backend gets is what the client said."""

from __future__ import annotations

import pytest
from twisted.internet import reactor

from tests.integration.bench import ASK, CHAT, DONE, PLAIN, SSE, Bench, ch
from tests.integration.process import CALM, route, server, upstream
from tests.timing import at_best
from txsse.testing import LAST_CHUNK, REQUEST, STREAM_HEAD, Gate, UpstreamConnection, answer, chunk, head, sleep, steps, stream

CONFIG = server() + upstream() + route(more=CALM)

HELLO = b'data: {"id":"chatcmpl-123","choices":[{"delta":{"content":"Hello"}}]}\n\n' + DONE


@pytest.mark.parametrize(
    "body",
    [
        ASK,
        b'{ "model":"openai/gpt-4o-mini",\t"stream": true , "max_tokens":1e3,"provider":"openai", "x":"\\u00e9","x":1}\n',
        b'{"stream":false,"stream":true}',
    ],
)
async def test_a_warm_stream_is_byte_identical_and_so_is_the_request(bench: Bench, body: bytes) -> None:
    fields = ["Content-Type: text/event-stream; charset=UTF-8", "X-Upstream: yes", "Set-Cookie: a=1", "Set-Cookie: b=2"]
    await bench.play(steps(REQUEST, head("HTTP/1.1 200 Fine", [*fields, "Transfer-Encoding: chunked"]) + chunk(HELLO) + LAST_CHUNK))
    client = await bench.post(body)
    response = await client.complete()
    assert response.start == b"HTTP/1.1 200 Fine"
    assert client.body == HELLO
    assert [value for name in ("content-type", "x-upstream") for value in response.header_all(name)] == [
        b"text/event-stream; charset=UTF-8",
        b"yes",
    ]
    assert response.header_all("set-cookie") == [b"a=1", b"b=2"]
    assert response.header("x-txsse-cold-start") == b"false"
    (seen,) = bench.upstream.requests
    assert bytes(seen.body) == body
    assert seen.target == CHAT.encode()


@pytest.mark.parametrize(
    "status", ["202 Accepted", "299 Odd", "400 Bad Request", "401 Unauthorized", "404 Not Found", "410 Gone", "429 Slow"]
)
@pytest.mark.parametrize("body", [ASK, PLAIN])
async def test_an_answer_inside_the_grace_passes_with_its_own_status(bench: Bench, status: str, body: bytes) -> None:
    error = b'{"error":{"message":"upstream missing","type":"invalid_request_error"}}'
    await bench.play(steps(REQUEST, answer(error, status, ["Content-Type: application/json", "Retry-After: 7"])))
    client = await bench.post(body)
    response = await client.complete()
    assert response.start.decode() == f"HTTP/1.1 {status}"
    assert client.body == error
    assert response.header("content-type") == b"application/json"
    assert response.header("retry-after") == b"7"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_an_answer_without_a_body_passes(bench: Bench, status: str) -> None:
    await bench.play(steps(REQUEST, head(f"HTTP/1.1 {status}", ["X-Upstream: yes"]), repeat=True))
    client = await bench.post()
    assert (await client.complete()).start.decode() == f"HTTP/1.1 {status}"
    assert client.response.header("x-upstream") == b"yes"
    client.request("GET", "/again")
    assert (await client.complete(2)).start.decode() == f"HTTP/1.1 {status}"


async def test_a_503_that_does_not_speak_of_loading_passes(bench: Bench) -> None:
    await bench.play(steps(REQUEST, answer(b"overloaded", "503 Busy", ["Content-Type: text/plain"])))
    client = await bench.post(PLAIN)
    assert (await client.complete()).start == b"HTTP/1.1 503 Busy"
    assert client.body == b"overloaded"


async def test_hop_by_hop_fields_stay_on_their_hop(bench: Bench) -> None:
    fields = ["Content-Type: application/json", "Connection: X-Upstream-Hop", "X-Upstream-Hop: secret", "X-Upstream: openai"]
    await bench.play(steps(REQUEST, answer(b'{"ok":true}', "202 Accepted", fields)))
    sent = [
        "Connection: X-Debug, keep-alive",
        "X-Debug: secret",
        "TE: trailers",
        "Proxy-Authorization: Basic eA==",
        "Keep-Alive: timeout=5",
    ]
    kept = ["OpenAI-Beta: responses=v1", "X-Request-ID: req_123", "Authorization: Bearer sk-1", "X-Txsse-Resume: 1"]
    client = await bench.post(PLAIN, "/p/responses?api-version=2026-03-10", [*sent, *kept])
    response = await client.complete()
    assert (response.status, client.body) == (202, b'{"ok":true}')
    assert response.header("x-upstream") == b"openai"
    assert response.header("x-upstream-hop") is None
    assert response.header("x-request-id") == b"req_123"
    (seen,) = bench.upstream.requests
    assert seen.target == b"/p/responses?api-version=2026-03-10"
    for name in ("x-debug", "te", "proxy-authorization", "keep-alive", "x-txsse-resume"):
        assert seen.header(name) is None, name
    assert seen.header("openai-beta") == b"responses=v1"
    assert seen.header("x-request-id") == b"req_123"
    assert seen.header("authorization") == b"Bearer sk-1"
    via = seen.header("via")
    assert via is not None and via.startswith(b"1.1 txsse-")
    assert seen.header("host") == f"127.0.0.1:{bench.upstream.port}".encode()
    assert seen.header("x-forwarded-host") == b"test.example"
    assert seen.header("x-forwarded-for") == b"127.0.0.1"
    assert seen.header("x-forwarded-proto") == b"http"


@pytest.mark.parametrize("target", ["/a%2fb/%C3%A9?x=%20&y", "/a//b?", "/v1/models?q=a%2Fb%00", "/*'()!$&,;=:@~"])
async def test_targets_go_upstream_byte_for_byte(bench: Bench, target: str) -> None:
    await bench.play(steps(REQUEST, answer()))
    client = await bench.get(target, [])
    assert (await client.complete()).status == 200
    assert bench.upstream.requests[0].target == target.encode()


async def test_an_absolute_target_replaces_the_host(bench: Bench) -> None:
    await bench.play(steps(REQUEST, answer()))
    client = await bench.send(b"GET http://other.example/x?y HTTP/1.1\r\nHost: test.example\r\n\r\n")
    assert (await client.complete()).status == 200
    assert bench.upstream.requests[0].target == b"/x?y"
    assert bench.upstream.requests[0].header("x-forwarded-host") == b"other.example"


@pytest.mark.parametrize(("body", "coding"), [(ASK, b"identity"), (PLAIN, b"br, gzip")])
async def test_only_a_stream_is_asked_for_without_compression(bench: Bench, body: bytes, coding: bytes) -> None:
    await bench.play(steps(REQUEST, stream(DONE)))
    client = await bench.post(body, headers=["Accept-Encoding: br, gzip"])
    await client.complete()
    assert bench.upstream.requests[0].header_all("accept-encoding") == [coding]


async def test_the_first_event_is_read_before_the_second_is_sent(bench: Bench) -> None:
    gate = Gate()
    await bench.play(steps(REQUEST, STREAM_HEAD, chunk(b'data: {"id":"1"}\n\n'), gate, chunk(b'data: {"id":"2"}\n\n'), LAST_CHUNK))
    client = await bench.get()
    await client.contains(b'data: {"id":"1"}\n\n')
    assert client.body == b'data: {"id":"1"}\n\n'
    gate.open()
    await client.complete()
    assert client.body == b'data: {"id":"1"}\n\ndata: {"id":"2"}\n\n'


async def test_three_events_are_three_reads(bench: Bench) -> None:
    events = [b"data: %d\n\n" % number for number in range(3)]
    gates = Gate(), Gate()
    await bench.play(steps(REQUEST, STREAM_HEAD + chunk(events[0]), gates[0], chunk(events[1]), gates[1], chunk(events[2]) + LAST_CHUNK))
    client = await bench.get()
    for event, gate in zip(events, gates, strict=False):
        await client.contains(event)
        gate.open()
    await client.complete()
    assert [data for _, data in client.body_reads] == events


@pytest.mark.parametrize("name", ["text/event-stream-foo", "text/html"])
async def test_what_is_no_event_stream_is_not_aligned_to_frames(bench: Bench, name: str) -> None:
    gate = Gate()
    typed = head("HTTP/1.1 200 OK", [f"Content-Type: {name}", "Transfer-Encoding: chunked"])
    await bench.play(steps(REQUEST, typed + chunk(b"data: {"), gate, chunk(b"}\n\n") + LAST_CHUNK))
    client = await bench.get()
    await client.contains(b"data: {")
    gate.open()
    await client.complete()
    assert client.body == b"data: {}\n\n"


@pytest.mark.parametrize("name", ["text/event-stream;charset=UTF-8", "text/event-stream;", "Text/Event-Stream"])
async def test_a_stream_nobody_asked_for_is_aligned_to_frames(bench: Bench, name: str) -> None:
    gate = Gate()
    typed = head("HTTP/1.1 200 OK", [f"Content-Type: {name}", "Transfer-Encoding: chunked"])
    await bench.play(steps(REQUEST, typed + chunk(b"data: 1\n\ndata: {"), gate, chunk(b"}\n\n") + LAST_CHUNK))
    client = await bench.post(PLAIN, "/mcp", [f"{SSE}, application/json"])
    await client.contains(b"data: 1\n\n")
    assert client.body == b"data: 1\n\n"
    gate.open()
    await client.complete()
    assert client.body == b"data: 1\n\ndata: {}\n\n"


@pytest.mark.parametrize(("body", "streams"), [(ASK, True), (PLAIN, False)])
async def test_a_chunked_request_arrives_whole(bench: Bench, body: bytes, streams: bool) -> None:
    await bench.play(steps(REQUEST, stream(DONE)))
    pieces = b"".join(chunk(body[at : at + 7]) for at in range(0, len(body), 7))
    client = await bench.send(
        head(f"POST {CHAT} HTTP/1.1", ["Host: h", "Transfer-Encoding: chunked", "Accept-Encoding: gzip"]) + pieces + LAST_CHUNK
    )
    assert (await client.complete()).status == 200
    (seen,) = bench.upstream.requests
    assert bytes(seen.body) == body
    assert seen.header("accept-encoding") == (b"identity" if streams else b"gzip")


async def test_a_client_of_http_1_0_gets_a_body_that_ends_with_the_connection(bench: Bench) -> None:
    await bench.play(steps(REQUEST, stream(ch("a"), DONE)))
    client = await bench.send(head(f"POST {CHAT} HTTP/1.0", [f"Content-Length: {len(ASK)}"]) + ASK)
    assert await client.gone() == "fin"
    assert client.response.header("transfer-encoding") is None
    assert client.body == ch("a") + DONE


async def test_a_head_request_gets_a_head(bench: Bench) -> None:
    await bench.play(steps(REQUEST, head("HTTP/1.1 200 OK", ["Content-Length: 1234"]), REQUEST, answer(b"ok")))
    client = await bench.client()
    client.request("HEAD", "/x")
    assert (await client.complete()).header("content-length") == b"1234"
    client.request("GET", "/y")
    assert bytes((await client.complete(2)).body) == b"ok"


async def test_pipelined_requests_are_answered_in_order(bench: Bench) -> None:
    await bench.play(steps(REQUEST, 0.02, answer(b"one"), REQUEST, answer(b"two"), REQUEST, answer(b"three")))
    client = await bench.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % number for number in range(3)))
    await client.complete(3)
    assert [bytes(each.body) for each in client.responses] == [b"one", b"two", b"three"]
    assert [each.target for each in bench.upstream.requests] == [b"/0", b"/1", b"/2"]
    assert len(bench.upstream.requests) == 3


async def test_expect_100_continue_is_answered_before_the_body(bench: Bench) -> None:
    await bench.play(steps(REQUEST, answer(b"ok")))
    client = await bench.send(head("POST /x HTTP/1.1", ["Host: h", "Expect: 100-continue", "Content-Length: 4"]))
    assert (await client.head()).status == 100
    client.send(b"body")
    assert (await client.complete(2)).status == 200
    assert bytes(bench.upstream.requests[0].body) == b"body"


async def test_interim_answers_do_not_disturb(bench: Bench) -> None:
    early = head("HTTP/1.1 103 Early Hints", ["Link: </x>"]) + head("HTTP/1.1 100 Continue")
    await bench.play(steps(REQUEST, early, 0.02, answer(b"ok")))
    client = await bench.post(PLAIN)
    await client.until(lambda: client.responses and client.response.status == 200)
    assert bytes((await client.complete(len(client.responses))).body) == b"ok"


async def test_trailers_do_not_end_up_in_the_body(bench: Bench) -> None:
    await bench.play(steps(REQUEST, STREAM_HEAD + chunk(DONE) + b"0\r\nX-Sum: 1\r\n\r\n", REQUEST, answer(b"next")))
    client = await bench.post()
    assert bytes((await client.complete()).body) == DONE
    client.post(CHAT, PLAIN)
    assert bytes((await client.complete(2)).body) == b"next"
    assert len([each for each in bench.upstream.connections if each.requests]) == 1, "the connection is used again"


async def test_bar_events_pass_within_milliseconds(bench: Bench) -> None:
    sent: list[float] = []
    count = 50

    async def play(connection: UpstreamConnection) -> None:
        await connection.request()
        sent.clear()
        connection.send(STREAM_HEAD)
        for number in range(count):
            sent.append(reactor.seconds())
            connection.send(chunk(b"data: %02d\n\n" % number))
            await sleep(reactor, 0.008)
        connection.send(LAST_CHUNK)

    async def measure() -> float:
        """No Nagle, no tick: none waits for anything. How far the half and nine in ten are from their bounds."""
        client = await bench.get()
        await client.complete()
        came = [at for at, data in client.body_reads for _ in range(len(data) // len(b"data: 00\n\n"))]
        late = sorted(there - here for there, here in zip(came, sent, strict=True))
        return max(late[count // 2] / 0.003, late[count * 9 // 10] / 0.01)

    await bench.play(play)
    await at_best(measure, 1)
