"""The client leaves, in every phase and in every way: the backend hears of it at once, nothing is left behind or logged as an error."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from twisted.internet import reactor

from tests.integration.bench import ASK, CHAT, PLAIN, Bench, ch
from tests.integration.process import TIMES, route, server, upstream
from tests.timing import at_best
from txsse.testing import HANG, REQUEST, STREAM_HEAD, RecordingClient, Script, chunk, eventually, head, request, sleep, steps

LONG = TIMES.replace('timeout = "300ms"', 'timeout = "60s"')
CONFIG = (
    server() + upstream(more='probe = { preset = "none" }\n') + upstream("down", port="nowhere") + route("down", "down", LONG) + route()
)

WAYS: list[Callable[[RecordingClient], None]] = [RecordingClient.close, RecordingClient.half_close, RecordingClient.reset]
WAY_NAMES = ["close", "half-close", "reset"]
CYCLES = 1000
AT_ONCE = 50

# What the backend does until the client leaves, and what the client must have seen before it does.
PHASES: dict[str, tuple[Script, bytes, bytes]] = {
    "before the head, uncommitted": (steps(REQUEST, HANG), PLAIN, b""),
    "before the head, committed": (steps(REQUEST, HANG), ASK, b": txsse\n"),
    "before the first event": (steps(REQUEST, STREAM_HEAD, HANG), ASK, b": txsse\n"),
    "between events": (steps(REQUEST, STREAM_HEAD + chunk(ch("a")), HANG), ASK, ch("a")),
    "inside an event": (steps(REQUEST, STREAM_HEAD + chunk(ch("a") + b"data: {"), HANG), ASK, ch("a")),
    "inside a counted body": (steps(REQUEST, head("HTTP/1.1 200 OK", ["Content-Length: 99"]) + b"half", HANG), PLAIN, b"half"),
}


@pytest.mark.parametrize("leave", WAYS, ids=WAY_NAMES)
@pytest.mark.parametrize("phase", PHASES)
async def test_the_backends_connection_is_closed_within_100_ms(bench: Bench, phase: str, leave: Callable[[RecordingClient], None]) -> None:
    script, body, seen = PHASES[phase]
    await bench.play(script)

    async def measure() -> float:
        client = await bench.post(body)
        connection = await bench.upstream.connection()
        await bench.upstream.until(lambda: connection.requests)
        if seen:
            await client.contains(seen)
        left = reactor.seconds()
        leave(client)
        took = await connection.gone() - left
        await client.gone()
        return took

    await at_best(measure, 0.1)
    assert len(bench.upstream.connections) == len(bench.clients)


@pytest.mark.parametrize("leave", WAYS, ids=WAY_NAMES)
@pytest.mark.parametrize("body", [ASK, PLAIN])
async def test_a_held_request_gives_its_place_back(bench: Bench, body: bytes, leave: Callable[[RecordingClient], None]) -> None:
    client = await bench.post(body, case="down")
    if body == ASK:
        await client.head()
    await bench.until_waiting(1, "down")
    leave(client)
    await client.gone()
    await bench.until_waiting(0, "down")
    await bench.until_metric(0, "txsse_in_flight", route="down")


async def test_the_log_calls_it_client_closed_and_no_error(bench: Bench) -> None:
    await bench.play(steps(REQUEST, STREAM_HEAD + chunk(ch("a")), HANG))
    client = await bench.post(headers=["X-Request-Id: left-1"])
    await client.contains(ch("a"))
    before = await bench.metric("txsse_requests_total", route="main", code="200", outcome="client_closed")
    client.close()
    line = await bench.logged("request_id=left-1")
    assert " outcome=client_closed " in line
    assert " code=- " in line
    assert await bench.metric("txsse_requests_total", route="main", code="200", outcome="client_closed") == before + 1
    assert await bench.metric("txsse_in_flight", route="main") == 0


async def test_no_probe_is_left_running_when_nobody_waits(bench: Bench) -> None:
    await bench.play(steps(HANG))  # the port is not the one of "down": see that nothing comes here either
    client = await bench.post(case="down")
    await client.head()
    client.close()
    await bench.until_waiting(0, "down")
    await sleep(reactor, 0.1)
    idle = bench.proxy.descriptors()
    await sleep(reactor, 0.2)
    assert bench.proxy.descriptors() <= idle
    assert bench.upstream.connections == []


# What is sent, and what must have come before the client leaves.
CYCLED = {
    "connected": (b"", b""),
    "inside the head": (b"POST / HT", b""),
    "inside the body": (request("POST", CHAT, ASK)[:-5], b""),
    "held": (request("POST", CHAT, ASK, ["X-Case: down"]), b": txsse"),
    "held in silence": (request("POST", CHAT, PLAIN, ["X-Case: down"]), b""),
    "streaming": (request("POST", CHAT, ASK), ch("a")),
}


@pytest.mark.parametrize("phase", CYCLED)
async def test_a_thousand_that_come_and_leave_leak_no_descriptor(bench: Bench, phase: str) -> None:
    await bench.play(steps(REQUEST, STREAM_HEAD + chunk(ch("a")), HANG))
    await _cycle(bench, *CYCLED[phase])
    before = bench.proxy.descriptors()
    memory = bench.proxy.memory()
    for _ in range(CYCLES // AT_ONCE):
        await _cycle(bench, *CYCLED[phase])
    await eventually(reactor, lambda: bench.proxy.descriptors() <= before, what="the descriptors")
    assert bench.proxy.memory() - memory < 2 * 2**20, "2 KiB a cycle would be a leak"
    await bench.until_metric(0, "txsse_in_flight")
    await bench.until_metric(0, "txsse_waiting")


async def _cycle(bench: Bench, data: bytes, seen: bytes) -> None:
    clients = [await bench.send(data) for _ in range(AT_ONCE)]
    for client in clients:
        if seen:
            await client.contains(seen)
    if not seen:
        await sleep(reactor, 0.005)  # nothing shows that the proxy has read it
    for number, client in enumerate(clients):
        WAYS[number % len(WAYS)](client)
    for client in clients:
        await client.gone()
        bench.clients.remove(client)


async def test_bar_leaving_is_far_below_the_bound(bench: Bench) -> None:
    await bench.play(steps(REQUEST, STREAM_HEAD + chunk(ch("a")), HANG))

    async def measure() -> float:
        client = await bench.post()
        connection = await bench.upstream.connection()
        await client.contains(ch("a"))
        left = reactor.seconds()
        client.close()
        return await connection.gone() - left

    await at_best(measure, 0.02)


@pytest.mark.parametrize("leave", WAYS, ids=WAY_NAMES)
@pytest.mark.parametrize("more", [1, 100_000])
async def test_requests_that_wait_behind_do_not_hide_that_the_client_left(
    bench: Bench, more: int, leave: Callable[[RecordingClient], None]
) -> None:
    await bench.play(steps(REQUEST, HANG))

    async def measure() -> float:
        client = await bench.post(PLAIN)
        connection = await bench.upstream.connection()
        client.send(request("POST", CHAT, b"x" * more))
        await bench.upstream.until(lambda: connection.requests)
        await sleep(reactor, 0.05)
        left = reactor.seconds()
        leave(client)
        return await connection.gone() - left

    await at_best(measure, 0.1)
    assert len(bench.upstream.requests) == len(bench.clients), "nobody wants the second answer"
