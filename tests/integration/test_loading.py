"""The backend is up but not ready, or was: /health says 503, an answer says "loading", a connection dies before its answer."""

from __future__ import annotations

import pytest
from twisted.internet import reactor

from tests.integration.bench import ASK, CHAT, DONE, PLAIN, Bench, ch
from tests.integration.process import TIMES, route, server, upstream
from txsse.testing import LAST_CHUNK, REQUEST, STREAM_HEAD, Gate, Script, UpstreamConnection, answer, chunk, sleep, steps, stream

LONG = TIMES.replace('timeout = "300ms"', 'timeout = "60s"')
CONFIG = (
    server()
    + upstream()
    + upstream("health", 'probe = { preset = "llamacpp", interval = "50ms" }')
    + route("health", "health", LONG)
    + route(more=LONG)
)

LOADING = answer(b'{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}', "503 Service Unavailable")


def health(ready: list[bool], script: Script) -> Script:
    """``/health`` says 503 until *ready* is true; every other request is the script's."""

    async def play(connection: UpstreamConnection) -> None:
        while True:
            request = await connection.request()
            if request.target == b"/health":
                connection.send(answer(b'{"status":"ok"}') if ready else LOADING)
            else:
                await script(connection)

    return play


async def test_an_open_port_that_is_still_loading_is_held(bench: Bench) -> None:
    ready: list[bool] = []
    await bench.play(health(ready, steps(STREAM_HEAD + chunk(ch("a") + DONE) + LAST_CHUNK)))
    began = reactor.seconds()
    client = await bench.post(case="health")
    plain = await bench.post(PLAIN, case="health")
    await client.head()
    await bench.upstream.until(lambda: len(bench.upstream.requests) >= 5)
    asked = [each.target for each in bench.upstream.requests]
    assert set(asked) == {b"/health"}
    assert len(asked) <= 2 + (reactor.seconds() - began) / 0.05, "one shared probe, not one per request"
    ready.append(True)
    await client.complete()
    assert client.body.endswith(ch("a") + DONE)
    assert client.response.header("x-txsse-cold-start") == b"true"
    assert (await plain.complete()).header("x-txsse-cold-start") == b"true"
    told = len(bench.upstream.requests)
    await sleep(reactor, 0.15)
    assert len(bench.upstream.requests) == told, "nobody waits, nobody probes"
    warm = await bench.post(case="health")
    await warm.complete()
    assert bench.upstream.requests[-1].target == CHAT.encode()
    assert len(bench.upstream.requests) == told + 1, "a warm request costs no probe"


@pytest.mark.parametrize("body", [ASK, PLAIN])
async def test_a_loading_answer_goes_back_to_hold_and_is_never_relayed(bench: Bench, body: bytes) -> None:
    answers = [LOADING, LOADING, stream(ch("a"), DONE)]

    async def play(connection: UpstreamConnection) -> None:
        while True:
            await connection.request()
            connection.send(answers.pop(0))

    await bench.play(play)
    client = await bench.post(body)
    await client.complete()
    assert b"Loading" not in client.received
    assert client.body.endswith(ch("a") + DONE)
    assert [bytes(each.body) for each in bench.upstream.requests] == [body] * 3
    assert answers == []


async def test_a_loading_answer_after_the_commit_goes_back_to_hold(bench: Bench) -> None:
    answers = [LOADING, stream(ch("a"), DONE)]
    gate = Gate()

    async def play(connection: UpstreamConnection) -> None:
        while True:
            await connection.request()
            await gate.wait()
            connection.send(answers.pop(0))

    await bench.play(play)
    client = await bench.post()
    await client.head()
    gate.open()
    await client.complete()
    assert client.response.header("content-type") == b"text/event-stream; charset=utf-8"
    assert b"Loading" not in client.received
    assert client.body.endswith(ch("a") + DONE)


async def test_a_refused_dispatch_goes_back_to_hold(bench: Bench) -> None:
    await bench.play(steps(REQUEST, answer()))
    warm = await bench.post(PLAIN)
    await warm.complete()
    await bench.upstream.shut()
    bench.upstream.connections[-1].reset()
    client = await bench.post(PLAIN)
    await sleep(reactor, 0.1)
    assert client.reads == []
    await bench.play(steps(REQUEST, answer(b"again")))
    assert (await client.complete()).status == 200
    assert client.body == b"again"


async def test_a_pooled_connection_that_died_is_replaced_once(bench: Bench) -> None:
    def kept_alive(connection: UpstreamConnection) -> Script:
        first = connection is next(each for each in bench.upstream.connections if each.requests)
        return steps(answer(b"one"), REQUEST) if first else steps(answer(b"two"))

    async def play(connection: UpstreamConnection) -> None:
        await connection.request()
        await kept_alive(connection)(connection)
        if len(connection.requests) == 2:
            connection.reset()

    await bench.play(play)
    for expected in (b"one", b"two"):
        client = await bench.post(PLAIN)
        assert (await client.complete()).status == 200
        assert client.body == expected
    assert len(bench.upstream.requests) == 3
