"""A client that stops reading: the backend stops too, memory stays where it was, and afterwards nothing is missing."""

from __future__ import annotations

import hashlib

import pytest
from twisted.internet import reactor

from tests.integration.bench import SSE, Bench, ch
from tests.integration.process import TIMES, route, server, upstream
from tests.timing import BUSY
from txsse.testing import HANG, LAST_CHUNK, REQUEST, STREAM_HEAD, Script, UpstreamConnection, chunk, eventually, head, sleep, steps

MIB = 2**20
CONFIG = (
    server()
    + upstream(more='probe = { preset = "none" }\n')
    + route("stuck", more=TIMES + "[route.stream]\nstall_timeout = '1s'\n")
    + route()
)
EVENT = b"data: " + b"x" * 16_000 + b"\n\n"


def flood(total: int, typed: str = "text/event-stream") -> Script:
    """At least *total* bytes of events, as fast as the proxy takes them."""

    async def play(connection: UpstreamConnection) -> None:
        await connection.request()
        connection.send(head("HTTP/1.1 200 OK", [f"Content-Type: {typed}", "Transfer-Encoding: chunked"]))
        block = chunk(EVENT * 8)
        for _ in range(total // (len(EVENT) * 8) + 1):
            await connection.writable()
            connection.send(block)
        connection.send(LAST_CHUNK)

    return play


def expected(total: int) -> tuple[int, str]:
    count = (total // (len(EVENT) * 8) + 1) * 8
    return len(EVENT) * count, hashlib.sha256(EVENT * count).hexdigest()


async def at_rest(connection: UpstreamConnection) -> int:
    """Wait until the backend has stood still for 300 ms; returns the bytes it has sent. Its first pause is not that: the kernel's buffers
    on the way to the client still fill and grow."""
    for _ in range(20):
        sent = connection.sent
        await sleep(reactor, 0.3)
        if connection.paused and connection.sent == sent:
            return sent
    raise AssertionError(f"the backend goes on: {connection!r}")


async def test_200_mib_through_a_client_that_sleeps_for_5_seconds(bench: Bench) -> None:
    await bench.play(flood(4 * MIB))
    warm = await bench.client(keep=False)
    warm.request("GET", "/", headers=[SSE])
    await warm.complete()

    total = 200 * MIB
    bench.upstream.script = flood(total)
    bench.upstream.connections[0].close()
    client = await bench.client(keep=False, receive_buffer=256 * 1024)
    before = bench.proxy.memory()
    client.request("GET", "/", headers=[SSE])
    await client.until(lambda: client.responses and client.response.size > 16 * MIB)
    client.pause()
    connection = bench.upstream.connections[-1]
    sent = await at_rest(connection)
    await sleep(reactor, 5)
    assert connection.sent - sent < MIB, "the backend could go on"
    assert bench.proxy.memory() - before < MIB
    client.resume()
    await client.complete(timeout=120)
    assert (client.response.size, client.digest.hexdigest()) == expected(total)
    assert bench.proxy.memory() - before < MIB


@pytest.mark.parametrize("typed", ["text/event-stream", "application/octet-stream"])
async def test_many_stuck_readers_cost_little_each(bench: Bench, typed: str) -> None:
    await bench.play(flood(64 * MIB, typed))
    before = bench.proxy.memory()
    clients = [await bench.client(receive_buffer=65536) for _ in range(8)]
    for client in clients:
        client.pause()
        client.request("GET", "/", headers=[SSE])
    await bench.upstream.until(lambda: len([each for each in bench.upstream.connections if each.paused]) == 8)
    await sleep(reactor, 0.3)
    assert bench.proxy.memory() - before < 8 * MIB
    assert all(each.sent < 32 * MIB for each in bench.upstream.connections)


async def test_a_stuck_reader_gets_no_keepalives(bench: Bench) -> None:
    await bench.play(steps(REQUEST, STREAM_HEAD + chunk(EVENT * 1000), 0.5, chunk(EVENT) + LAST_CHUNK))
    client = await bench.client(receive_buffer=65536)
    client.pause()
    client.request("GET", "/", headers=[SSE])
    await at_rest(await bench.upstream.connection())
    before = await bench.metric("txsse_keepalives_total")
    await sleep(reactor, 0.4)
    assert await bench.metric("txsse_keepalives_total") <= before + 1
    client.resume()
    await client.complete()
    assert client.body.replace(b": txsse\n", b"") == EVENT * 1001


async def test_a_reader_that_takes_nothing_for_stall_timeout_is_cut_off(bench: Bench) -> None:
    await bench.play(flood(64 * MIB))
    client = await bench.client(receive_buffer=65536)
    client.pause()
    client.request("GET", "/", headers=[SSE, "X-Case: stuck"])
    connection = await bench.upstream.connection()
    await eventually(reactor, lambda: connection.paused)
    since = reactor.seconds()
    gone = await connection.gone()
    assert 0.8 <= gone - since <= 1 + BUSY
    client.resume()
    await client.gone()
    assert not client.response.complete


async def test_a_reader_that_is_only_slow_is_not(bench: Bench) -> None:
    total = 6 * MIB
    await bench.play(flood(total))
    client = await bench.client(keep=False, receive_buffer=65536)
    client.request("GET", "/", headers=[SSE, "X-Case: stuck"])
    for _ in range(7):
        client.pause()
        await sleep(reactor, 0.2)
        client.resume()
        await sleep(reactor, 0.002)
    await client.complete(timeout=60)
    assert (client.response.size, client.digest.hexdigest()) == expected(total)


async def test_an_idle_stream_does_not_count_as_stuck(bench: Bench) -> None:
    await bench.play(steps(REQUEST, STREAM_HEAD + chunk(ch("a")), 1.3, chunk(ch("b")), LAST_CHUNK, HANG))
    client = await bench.post(case="stuck")
    await client.complete()
    assert client.body.replace(b": txsse\n", b"") == ch("a") + ch("b")


async def test_a_client_that_sends_on_while_it_waits_is_bounded(bench: Bench) -> None:
    await bench.play(steps(REQUEST, HANG))
    client = await bench.get("/", [])
    await bench.upstream.until(lambda: bench.upstream.requests)
    before = bench.proxy.memory()
    client.send(head("GET /next HTTP/1.1", ["Host: h"]) * 1_000_000)
    await sleep(reactor, 0.5)
    assert bench.proxy.memory() - before < 2 * MIB
