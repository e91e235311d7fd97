"""Several servers behind one upstream: requests are spread, one that dies is left out and comes back; a reload adds and removes."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest_twisted  # type: ignore[import-untyped]  # ships no types
from twisted.internet import reactor

from tests.integration.bench import ASK, DONE, PLAIN, Bench, ch, is_cut, last_error
from tests.integration.process import TIMES, Proxy, route, server, upstream
from txsse.testing import (
    LAST_CHUNK,
    STREAM_HEAD,
    Gate,
    ScriptedUpstream,
    UpstreamConnection,
    answer,
    chunk,
    eventually,
    head,
    sleep,
)

PATIENT = TIMES.replace('timeout = "300ms"', 'timeout = "60s"')
PROBE = 'probe = { preset = "tcp", interval = "50ms" }\n'
URLS = '[[upstream]]\nname = "{}"\nurls = [{}]\nprobe = {{ preset = "tcp", interval = "50ms" }}\n'
CONFIG = server() + URLS.format("main", '"http://127.0.0.1:$one", "http://127.0.0.1:$two", "http://127.0.0.1:$three"') + route(more=PATIENT)
SOON = 20.0  # seconds in which a server that came back has to have its share


class Replicas:
    """The servers of the upstream, all open.

    :ivar gate: requests that come while there is one wait for it, streams after their first event.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.gate: Gate | None = None
        self.all = [ScriptedUpstream(reactor, self._serve, port=bench.proxy.ports[name]) for name in ("one", "two", "three")]

    async def _serve(self, connection: UpstreamConnection) -> None:
        while True:
            request = await connection.request()
            streams, gate = request.body == ASK, self.gate
            if streams:
                connection.send(STREAM_HEAD + chunk(ch("a")))
            if gate is not None:
                await gate.wait()
            connection.send(chunk(DONE) + LAST_CHUNK if streams else answer(b"ok"))

    async def open(self) -> None:
        for each in self.all:
            await each.open()
        await self.until(lambda: all(each.requests for each in self.all))
        self.forget()

    async def ask(self) -> None:
        """One request, which is answered without a wait for readiness."""
        client = await self.bench.post(PLAIN)
        response = await client.complete()
        assert (response.status, bytes(client.body)) == (200, b"ok")
        assert response.header("x-txsse-cold-start") == b"false"
        client.close()

    async def until(self, condition: Callable[[], object]) -> None:
        """One request after the other until the condition is true."""
        end = reactor.seconds() + SOON
        while not condition():
            assert reactor.seconds() < end, [len(each.requests) for each in self.all]
            await self.ask()

    def forget(self) -> None:
        for each in self.all:
            each.requests.clear()

    async def kill(self, number: int) -> None:
        """Nobody listens there any more, and what was open is reset."""
        killed = self.all[number]
        await killed.stop()
        killed.connections.clear()

    async def states(self) -> dict[str, str]:
        """Those of the servers, by the names of their ports."""
        return {name: each["state"] for name, each in zip(("one", "two", "three"), (await self.status())["servers"], strict=True)}

    async def status(self) -> Any:
        """What ``/status`` says of the upstream."""
        client = await self.bench.send(
            head("GET /status HTTP/1.1", ["Host: localhost", "Connection: close"]), self.bench.proxy.ports["admin"]
        )
        return json.loads(bytes((await client.complete()).body))["upstreams"]["main"]

    async def close(self) -> None:
        for each in self.all:
            await each.stop()


@pytest_twisted.async_yield_fixture()  # type: ignore[untyped-decorator]
async def replicas(bench: Bench) -> AsyncIterator[Replicas]:
    made = Replicas(bench)
    await made.open()
    yield made
    await made.close()


async def test_requests_are_spread_and_each_server_is_sent_its_own_host(replicas: Replicas) -> None:
    for _ in range(30):
        await replicas.ask()
    assert [len(each.requests) for each in replicas.all] == [10, 10, 10]
    for each in replicas.all:
        assert {request.header("host") for request in each.requests} == {b"127.0.0.1:%d" % each.port}


async def test_the_least_busy_takes_it(replicas: Replicas) -> None:
    gate = replicas.gate = Gate()
    clients = [await replicas.bench.post(PLAIN) for _ in range(6)]
    await eventually(reactor, lambda: [len(each.requests) for each in replicas.all] == [2, 2, 2], what="two each")
    assert [each["in_flight"] for each in (await replicas.status())["servers"]] == [2, 2, 2]
    gate.open()
    for client in clients:
        await client.complete()


async def test_one_that_dies_is_left_out_and_takes_part_again_when_it_is_back(replicas: Replicas) -> None:
    gate = replicas.gate = Gate()
    streams = [await replicas.bench.post() for _ in replicas.all]
    for stream in streams:
        await stream.contains(ch("a"))
    assert [len(each.requests) for each in replicas.all] == [1, 1, 1]
    replicas.gate = None
    await replicas.kill(1)
    replicas.forget()

    for _ in range(20):
        await replicas.ask()
    assert [bool(each.requests) for each in replicas.all] == [True, False, True]
    assert await replicas.states() == {"one": "ready", "two": "down", "three": "ready"}
    assert (await replicas.status())["state"] == "ready"

    await eventually(reactor, lambda: any(stream.closed for stream in streams), what="the end of the stream that was lost")
    (lost,) = (stream for stream in streams if stream.closed)
    await is_cut(lost)
    assert last_error(lost)["code"] == "upstream_disconnected"
    gate.open()
    for stream in streams:
        if stream is not lost:
            await stream.complete()
            assert stream.body.endswith(DONE)

    await replicas.all[1].open()
    await replicas.until(lambda: replicas.all[1].requests)
    assert await replicas.states() == {"one": "ready", "two": "ready", "three": "ready"}
    replicas.forget()
    for _ in range(30):
        await replicas.ask()
    assert [len(each.requests) for each in replicas.all] == [10, 10, 10]


async def test_when_all_are_gone_requests_wait_for_the_first_that_comes_back(replicas: Replicas) -> None:
    for number in range(3):
        await replicas.kill(number)
    replicas.forget()
    held = await replicas.bench.post()
    await held.head()
    await eventually(reactor, lambda: b'"state":"down"' in held.body, what="a status comment")
    await replicas.all[2].open()
    await held.complete()
    assert held.body.endswith(ch("a") + DONE)
    assert await replicas.states() == {"one": "down", "two": "down", "three": "ready"}


async def test_an_idle_proxy_asks_nobody(replicas: Replicas) -> None:
    await replicas.kill(0)
    await replicas.until(lambda: len(replicas.all[1].requests) > 2)
    await replicas.all[0].open()
    await sleep(reactor, 0.3)
    assert replicas.all[0].connections == []


# -- a reload


async def test_a_reload_adds_and_removes_upstreams_routes_and_urls_and_leaves_streams_alone(own_proxies: Callable[[str], Proxy]) -> None:
    old, more = upstream("old", PROBE, "one") + route("old", "old", PATIENT), upstream("more", PROBE, "two")
    bench = Bench(reactor, own_proxies(server() + old + more + route("more", "more", PATIENT)))
    replicas = Replicas(bench)
    for each in replicas.all:
        await each.open()
    gate = replicas.gate = Gate()
    streams = [await bench.post(case="old"), await bench.post(case="more")]
    for stream in streams:
        await stream.contains(ch("a"))
    assert (await (await bench.post(PLAIN, case="new")).complete()).status == 404

    replicas.gate = None
    new, more = (
        upstream("new", PROBE, "three") + route("new", "new", PATIENT),
        URLS.format("more", '"http://127.0.0.1:$two", "http://127.0.0.1:$three"'),
    )
    bench.proxy.configure(server() + new + more + route("more", "more", PATIENT))
    bench.proxy.signal(signal.SIGHUP)
    await bench.logged("reloaded: 2 upstreams, 2 routes")
    assert (await (await bench.post(PLAIN, case="old")).complete()).status == 404
    assert (await (await bench.post(PLAIN, case="new")).complete()).status == 200
    replicas.forget()
    for _ in range(10):
        assert (await (await bench.post(PLAIN, case="more")).complete()).status == 200
    assert all(replicas.all[number].requests for number in (1, 2)), "the server that was added takes part"

    assert not any(stream.closed for stream in streams)
    gate.open()
    for stream in streams:
        await stream.complete()
        assert stream.body.replace(b": txsse\n", b"") == ch("a") + DONE
    await bench.close()
    await replicas.close()
