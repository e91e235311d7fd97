"""Slots, priorities and the other upstream, through the real process."""

from __future__ import annotations

import json

from twisted.internet import reactor

from tests.integration.bench import PLAIN, Bench, error_of
from tests.integration.process import TIMES, route, server, upstream
from txsse.testing import REQUEST, Gate, ScriptedUpstream, UpstreamConnection, answer, eventually, sleep, steps

PATIENT = TIMES.replace('timeout = "300ms"', 'timeout = "60s"')
CONFIG = (
    server()
    + upstream("main", 'probe = { preset = "none" }\nmax_concurrency = 1')
    + upstream("asleep", 'probe = { preset = "tcp", interval = "50ms" }\nfallback = "cloud"', port="closed")
    + upstream("cloud", 'probe = { preset = "none" }', port="cloud")
    + route("first", more=PATIENT.replace("[route.keepalive]", "max_waiting = 2000\n[route.keepalive]"))
    + route("urgent", more="priority = 5\n" + PATIENT)
    + route("impatient", more="hold = { timeout = '100ms' }")
    + route("full", "asleep", "hold = { timeout = '60s', max_waiting = 1, overflow = 'fallback' }")
    + route("other", "asleep", "hold = { timeout = '100ms', commit_after = '60s' }")
    + route()
)


class Counting:
    """A backend with one model: tells how many requests it had at a time, and in which order they came."""

    def __init__(self, gate: Gate | None = None) -> None:
        self.flying = self.most = 0
        self.order: list[str] = []
        self.gate = gate

    async def __call__(self, connection: UpstreamConnection) -> None:
        while not connection.closed:
            request = await connection.request()
            self.order.append(json.loads(request.body)["user"])
            self.flying += 1
            self.most = max(self.most, self.flying)
            if self.gate is not None:
                await self.gate.wait()
            await sleep(reactor, 0.001)
            self.flying -= 1
            connection.send(answer(b"done"))


def ask(user: str) -> bytes:
    return json.dumps({"model": "m", "user": user}).encode()


async def test_a_hundred_requests_on_one_slot_are_answered_one_at_a_time_in_their_order(bench: Bench) -> None:
    backend = Counting()
    await bench.play(backend)
    clients = [await bench.post(ask(str(number)), case="first") for number in range(100)]
    for client in clients:
        assert (await client.complete()).body == b"done"
    assert backend.most == 1
    assert backend.order == [str(number) for number in range(100)]


async def test_the_urgent_go_first_and_a_leaving_client_frees_its_place(bench: Bench) -> None:
    gate = Gate()
    backend = Counting(gate)
    await bench.play(backend)
    running = await bench.post(ask("running"), case="first")
    await eventually(reactor, lambda: backend.order == ["running"], what="the first request")
    clients = {}
    for name, case in (("a", "first"), ("leaves", "first"), ("b", "first"), ("urgent", "urgent")):
        clients[name] = await bench.post(ask(name), case=case)
        await bench.until_waiting(len(clients))
    clients["leaves"].reset()
    await bench.until_waiting(3)
    gate.open()
    for name in ("a", "b", "urgent"):
        assert (await clients[name].complete()).status == 200
    assert (await running.complete()).status == 200
    assert (backend.order, backend.most) == (["running", "urgent", "a", "b"], 1)


async def test_no_slot_in_time_is_told_as_such(bench: Bench) -> None:
    gate = Gate()
    await bench.play(Counting(gate))
    running = await bench.post(ask("running"), case="first")
    await eventually(reactor, lambda: bool(bench.upstream.requests), what="the first request")
    client = await bench.post(ask("late"), case="impatient")
    response = await client.complete()
    assert (response.status, error_of(response.body)["code"]) == (503, "queue_timeout")
    assert response.header("retry-after")
    gate.open()
    assert (await running.complete()).status == 200


async def test_the_other_upstream_answers_when_the_hold_is_over(bench: Bench) -> None:
    cloud = ScriptedUpstream(reactor, steps(REQUEST, answer(b"from the cloud"), repeat=True), port=bench.proxy.ports["cloud"])
    await cloud.open()
    try:
        response = await (await bench.post(PLAIN, case="other")).complete()
        assert (response.status, bytes(response.body)) == (200, b"from the cloud")
        (request,) = cloud.requests
        assert request.body == PLAIN
        assert request.header("host") == f"127.0.0.1:{cloud.port}".encode()
        # One may wait; the next one is over the limit, and is not refused.
        held = await bench.post(PLAIN, case="full")
        await bench.until_waiting(1, "asleep")
        second = await (await bench.post(PLAIN, case="full")).complete()
        assert bytes(second.body) == b"from the cloud"
        held.reset()
        await bench.logged("upstream=cloud")
    finally:
        await cloud.stop()
