"""What the front refuses, over the wire: each row of the error table that a client can bring about by itself."""

from __future__ import annotations

import pytest
from twisted.internet import reactor

from tests.integration.bench import ASK, CHAT, PLAIN, Bench, error_of
from tests.integration.process import PATIENT, route, server, upstream
from tests.timing import BUSY
from txsse.testing import HANG, LAST_CHUNK, REQUEST, RecordingClient, answer, chunk, head, sleep, steps

CONFIG = (
    server(
        """max_connections = 12
max_head = "1KiB"
max_body = "4KiB"
max_buffered = "10KiB"
header_timeout = "1s"
body_timeout = "1s"
idle_timeout = "1s\""""
    )
    + upstream(more='probe = { preset = "none" }\n')
    + upstream("down", port="nowhere")
    + route("room", "down", PATIENT.replace("[route.keepalive]", "max_waiting = 2\n[route.keepalive]"))
    + route("down", "down")
    + '[[route]]\nupstream = "main"\nmatch = { path = "/v1/**" }\n[[route]]\nupstream = "main"\nmatch = { path = "/" }\n'
)


async def refused(bench: Bench, data: bytes, status: int, code: str, type_: str = "invalid_request_error") -> RecordingClient:
    """*data* gets an error of ours and never reaches the backend."""
    client = await bench.send(data)
    response = await client.complete()
    assert response.status == status, client.received
    assert response.header("content-type") == b"application/json"
    assert response.header("x-request-id")
    error = error_of(response.body)
    assert list(error) == ["message", "type", "param", "code"]
    assert (error["code"], error["type"], error["param"]) == (code, type_, None)
    retry = response.header("retry-after")
    assert (retry is not None) == (status in (429, 503))
    assert bench.upstream.requests == []
    return client


MALFORMED = {
    "no request line": b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "length and chunks": b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a signed length": b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\na",
    "chunks on 1.0": b"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "a control byte in a field": b"GET / HTTP/1.1\r\nHost: h\r\nX: a\x00b\r\n\r\n",
    "a bare CR in a field": b"GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n",
    "a space before the colon": b"GET / HTTP/1.1\r\nHost : h\r\n\r\n",
    "a folded line": b"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n",
    "dot segments": b"GET /a/../b HTTP/1.1\r\nHost: h\r\n\r\n",
    "encoded dot segments": b"GET /a/%2e%2e/b HTTP/1.1\r\nHost: h\r\n\r\n",
    "an encoded NUL": b"GET /a%00b HTTP/1.1\r\nHost: h\r\n\r\n",
    "an encoded backslash": b"GET /a%5cb HTTP/1.1\r\nHost: h\r\n\r\n",
    "a bad chunk": head("POST / HTTP/1.1", ["Host: h", "Transfer-Encoding: chunked"]) + b"zz\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_malformed_requests_are_400_and_the_end_of_the_connection(bench: Bench, name: str) -> None:
    await bench.play(steps(REQUEST, answer()))
    client = await refused(bench, MALFORMED[name], 400, "bad_request")
    await client.gone()


@pytest.mark.parametrize("line", ["CONNECT h:1 HTTP/1.1", "TRACE / HTTP/1.1"])
async def test_methods_that_are_no_use_here_are_405(bench: Bench, line: str) -> None:
    await refused(bench, head(line, ["Host: h:1"]), 405, "bad_request")


async def test_another_expectation_is_417(bench: Bench) -> None:
    await refused(bench, head("POST / HTTP/1.1", ["Host: h", "Expect: 200-ok", "Content-Length: 1"]) + b"x", 417, "bad_request")


async def test_a_head_too_large_is_431(bench: Bench) -> None:
    client = await refused(bench, head("GET / HTTP/1.1", ["Host: h", "X: " + "y" * 1100]), 431, "head_too_large")
    await client.gone()


async def test_a_head_too_large_is_noticed_before_its_end(bench: Bench) -> None:
    await refused(bench, b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"y" * 1100, 431, "head_too_large")


async def test_a_body_declared_too_large_is_413_at_the_head(bench: Bench) -> None:
    await refused(bench, head("POST / HTTP/1.1", ["Host: h", "Content-Length: 5000"]), 413, "body_too_large")
    await refused(bench, head("POST / HTTP/1.1", ["Host: h", "Content-Length: 5000", "Expect: 100-continue"]), 413, "body_too_large")


async def test_a_body_that_grows_too_large_is_413_while_it_comes(bench: Bench) -> None:
    data = head("POST / HTTP/1.1", ["Host: h", "Transfer-Encoding: chunked"]) + chunk(b"x" * 3000) + chunk(b"x" * 3000)
    await refused(bench, data, 413, "body_too_large")


async def test_a_client_that_is_still_sending_can_read_its_413(bench: Bench) -> None:
    client = await bench.send(head("POST / HTTP/1.1", ["Host: h", "Content-Length: 20000000"]))
    client.send(b"x" * 20_000_000)
    assert (await client.complete()).status == 413


async def drip(client: RecordingClient) -> None:
    """Send a byte now and then until there is an answer."""
    for _ in range(100):
        if client.reads:
            return
        await sleep(reactor, 0.06)
        client.send(b"y")


async def test_bytes_that_drip_do_not_extend_the_head(bench: Bench) -> None:
    began = reactor.seconds()
    client = await bench.send(b"GET / HTTP/1.1\r\nHost: h\r\nX: ")
    await drip(client)
    response = await client.complete()
    assert 0.99 <= client.reads[0].at - began <= 1 + BUSY
    assert response.status == 408
    assert error_of(response.body)["code"] == "request_timeout"
    await client.gone()


async def test_a_slow_body_is_408(bench: Bench) -> None:
    began = reactor.seconds()
    client = await bench.send(head("POST / HTTP/1.1", ["Host: h", "Content-Length: 1000"]) + b"x")
    await drip(client)
    assert (await client.complete()).status == 408
    assert 0.99 <= client.reads[0].at - began <= 1 + BUSY
    await client.gone()


async def test_an_idle_connection_is_closed_without_a_word(bench: Bench) -> None:
    await bench.play(steps(REQUEST, answer(b"ok")))
    began = reactor.seconds()
    client = await bench.post(PLAIN)
    await client.complete()
    size = len(client.received)
    assert await client.gone() == "fin"
    assert client.closed_at is not None
    assert 0.99 <= client.closed_at - began <= 1 + BUSY
    assert len(client.received) == size


async def test_all_bodies_together_are_bounded(bench: Bench) -> None:
    half = head("POST / HTTP/1.1", ["Host: h", "Content-Length: 4000"]) + b"x" * 3990
    for _ in range(2):
        await bench.send(half)
    client = await bench.send(half)
    response = await client.complete()
    assert response.status == 503
    assert response.header("retry-after")
    assert error_of(response.body)["code"] == "too_many_connections"


async def test_one_connection_too_many_gets_503_at_once(bench: Bench) -> None:
    crowd = [await bench.send(b"GET / HT") for _ in range(12)]
    client = await bench.send(head("GET / HTTP/1.1", ["Host: h"]))
    assert (await client.complete()).status == 503
    assert client.response.header("retry-after")
    assert error_of(client.body)["code"] == "too_many_connections"
    await client.gone()
    for each in crowd:
        each.reset()
        await each.gone()
    await bench.play(steps(REQUEST, answer(b"ok")))
    client = await bench.post(PLAIN)
    assert (await client.complete()).status == 200


async def test_no_route_is_404(bench: Bench) -> None:
    client = await refused(bench, head("GET /nowhere HTTP/1.1", ["Host: h"]), 404, "no_route")
    bench.upstream.script = steps(REQUEST, answer(b"ok"))
    await bench.upstream.open()
    client.post(CHAT, PLAIN)
    assert (await client.complete(2)).status == 200


async def test_a_full_waiting_room_is_429_before_any_stream_byte(bench: Bench) -> None:
    for _ in range(2):
        await bench.post(case="room")
    await bench.until_waiting(2, "down")
    client = await bench.post(case="room")
    response = await client.complete()
    assert response.status == 429
    assert 1 <= int(response.header("retry-after") or b"0") <= 60
    assert error_of(client.body)["code"] == "too_many_waiting"
    assert error_of(client.body)["type"] == "rate_limit_error"


async def test_a_bad_request_behind_a_good_one_is_answered_after_it(bench: Bench) -> None:
    await bench.play(steps(REQUEST, 0.05, answer(b"ok")))
    client = await bench.send(head("GET /v1/a HTTP/1.1", ["Host: h"]) + b"nonsense\r\n\r\n")
    await client.complete(2)
    assert [each.status for each in client.responses] == [200, 400]
    await client.gone()


async def test_a_chunked_body_with_trailers_is_one_request(bench: Bench) -> None:
    await bench.play(steps(REQUEST, answer(b"ok"), HANG))
    data = head("POST / HTTP/1.1", ["Host: h", "Transfer-Encoding: chunked"]) + chunk(ASK) + LAST_CHUNK[:-2] + b"X-Trailer: y\r\n\r\n"
    client = await bench.send(data)
    assert (await client.complete()).status == 200
    assert bytes(bench.upstream.requests[0].body) == ASK
