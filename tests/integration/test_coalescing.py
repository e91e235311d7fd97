"""Identical requests in flight share one stream of the backend: from its first byte to its end, whatever becomes of each of them."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_twisted  # type: ignore[import-untyped]  # ships no types
from twisted.internet import reactor

from tests.integration.bench import DONE, Bench, ch, error_of, is_cut, last_error
from tests.integration.caching import (
    HI,
    READY,
    STOP,
    ask,
    begin,
    bodies,
    cache,
    document,
    operate,
    plain,
    question,
    says,
    told,
    turns,
    unspoken,
    until_in_flight,
    verdict,
)
from tests.integration.process import TIMES, Proxy, route, server, upstream
from txsse.testing import (
    HANG,
    LAST_CHUNK,
    RESET,
    STREAM_HEAD,
    Gate,
    RecordingClient,
    Script,
    UpstreamConnection,
    answer,
    chunk,
    eventually,
    head,
    steps,
    stream,
)

MIB = 2**20
PATIENT = TIMES.replace('timeout = "300ms"', 'timeout = "60s"')
TEXT = 'message = "Waking {model}"\nchannel = "content"\n[route.keepalive]'
CONFIG = (
    server()
    + upstream(more=READY)
    + upstream("asleep", 'probe = { preset = "tcp", interval = "20ms" }')
    + upstream("loads", 'probe = { preset = "llamacpp", interval = "20ms" }')
    + upstream("one", READY + "max_concurrency = 1")
    + upstream("hasty", READY + 'timeouts = { first_byte = "150ms" }')
    + route("asleep", "asleep", PATIENT.replace("[route.keepalive]", "max_waiting = 1\n[route.keepalive]") + cache())
    + route("impatient", "asleep", TIMES + cache())
    + route("one", "one", cache())
    + route("hasty", "hasty", TIMES + cache())
    + route("quick", more=TIMES + cache())
    + route("told", "asleep", PATIENT.replace("[route.keepalive]", TEXT) + cache())
    + route("json", more=TIMES + 'json = "whitespace"\n' + cache())
    + route("loads", "loads", PATIENT + cache())
    + route("small", more=cache('max_entry = "16KiB"'))
    + route("large", more=cache('max_entry = "16MiB"'))
    + route("stuck", more='stream = { stall_timeout = "300ms" }\n' + cache('max_entry = "64KiB"'))
    + route("apart", more=cache("coalesce = false"))
    + route("main", more=cache())
    + route()
)
EVENTS = [ch(f"event {number}") for number in range(10)]
WAYS: list[Callable[[RecordingClient], None]] = [RecordingClient.close, RecordingClient.half_close, RecordingClient.reset]
WAY_NAMES = ["close", "half-close", "reset"]


async def together(bench: Bench, count: int, body: bytes, case: str = "main") -> list[RecordingClient]:
    """So many clients that ask the same and are all being answered."""
    clients = [await begin(bench, body, case=case) for _ in range(count)]
    await until_in_flight(bench, count, case)
    return clients


def results_of(clients: list[RecordingClient]) -> dict[str, int]:
    said = [verdict(each) for each in clients]
    return {each: said.count(each) for each in said}


def gated(*steps_: bytes | float | Gate | Any) -> Script:
    """An answer whose head comes at once."""
    return steps(STREAM_HEAD, *steps_)


# From the first byte on


async def test_a_hundred_that_wait_for_a_cold_backend_cost_it_one_request(bench: Bench) -> None:
    clients = await together(bench, 100, question(), "asleep")
    for client in clients:
        await client.until(lambda client=client: client.responses and client.body.count(b": txsse {") >= 2)  # type: ignore[misc]
    assert await bench.metric("txsse_waiting", upstream="asleep") == 1, "it is one that waits, not a hundred"
    await bench.play(turns(stream(*EVENTS, STOP, DONE)))
    for client in clients:
        await client.complete()
    assert len(bench.upstream.requests) == 1
    assert results_of(clients) == {"MISS": 1, "COALESCED": 99}
    assert {unspoken(each) for each in clients} == {b"".join(EVENTS) + STOP + DONE}
    for client in clients:
        assert client.response.header("x-txsse-cold-start") == b"true"
        states = [each for each in client.comments if each.startswith('txsse {"state":"')]
        assert len(states) >= 2, "each is kept alive by its own clock"


async def test_each_waits_as_long_as_it_would_alone(bench: Bench) -> None:
    first = await begin(bench, body := question(), case="impatient")
    await first.contains(b": txsse")
    await first.until(lambda: first.body.count(b": txsse") >= 3)
    second = await begin(bench, body, case="impatient")
    await is_cut(first)
    assert last_error(first)["code"] == "readiness_timeout"
    assert not second.closed, "its time is not over"
    await is_cut(second)
    assert last_error(second)["code"] == "readiness_timeout"
    assert [verdict(first), verdict(second)] == ["MISS", "COALESCED"]
    assert await bench.metric("txsse_waiting", upstream="asleep") == 0


async def test_c16_a_late_joiner_gets_what_was_missed_at_once_and_then_goes_along(bench: Bench) -> None:
    gates = [Gate() for _ in EVENTS]
    parts = [each for gate, event in zip(gates, EVENTS, strict=True) for each in (gate, chunk(event))]
    await bench.play(turns(gated(*parts, chunk(STOP + DONE) + LAST_CHUNK)))
    body = question()
    clients = await together(bench, 50, body)
    for gate in gates[:5]:
        gate.open()
    for client in clients:
        await client.contains(EVENTS[4])
    late = [await begin(bench, body, case="main") for _ in range(50)]
    for client in late:
        await client.contains(EVENTS[4])
        assert client.body_reads[0][1] == b"".join(EVENTS[:5]), "the head and all that was missed come in one piece"
    for gate, event in zip(gates[5:], EVENTS[5:], strict=True):
        gate.open()
        for client in (*clients, *late):
            await client.contains(event)
    for client in (*clients, *late):
        await client.complete()
    assert bodies([*clients, *late]) == {b"".join(EVENTS) + STOP + DONE}
    assert results_of([*clients, *late]) == {"MISS": 1, "COALESCED": 99}
    assert len(bench.upstream.requests) == 1
    assert verdict(await ask(bench, body, case="main")) == "HIT"


async def test_documents_are_shared_too(bench: Bench) -> None:
    gate = Gate()
    await bench.play(turns(steps(gate, answer(document()))))
    clients = await together(bench, 10, body := plain())
    gate.open()
    for client in clients:
        await client.complete()
    assert bodies(clients) == {document()}
    assert {each.response.header("content-length") for each in clients} == {b"%d" % len(document())}
    assert results_of(clients) == {"MISS": 1, "COALESCED": 9}
    assert verdict(await ask(bench, body, case="main")) == "HIT"


async def test_what_is_meant_for_the_first_is_not_told_to_others(bench: Bench) -> None:
    gate = Gate()
    fields = ["Content-Type: text/event-stream", "Transfer-Encoding: chunked", "Set-Cookie: s=1", "X-Request-Id: theirs", "X-Else: y"]
    await bench.play(turns(steps(gate, head("HTTP/1.1 200 OK", fields) + chunk(HI) + LAST_CHUNK)))
    first, second = await together(bench, 2, question())
    gate.open()
    for client in (first, second):
        await client.complete()
        assert client.response.header("x-else") == b"y"
    if verdict(first) == "COALESCED":
        first, second = second, first
    assert first.response.header("set-cookie") == b"s=1" and first.response.header("x-request-id") == b"theirs"
    assert second.response.header("set-cookie") is None and second.response.header("x-request-id") != b"theirs"


async def test_what_is_not_the_same_is_not_shared(bench: Bench) -> None:
    gate = Gate()
    await bench.play(steps_each(gate, stream(HI)))
    body = question()
    clients = [
        await begin(bench, body, case="main"),
        await begin(bench, body, case="main", key="Authorization: Bearer two"),
        await begin(bench, body, case="main", key=""),
        await begin(bench, body, "Cache-Control: no-store", case="main"),
        await begin(bench, body, "X-Txsse-Cache: 0", case="main"),
        await begin(bench, question(), case="main"),
        await begin(bench, body, case="apart"),
        await begin(bench, body, case="apart"),
    ]
    await bench.upstream.until(lambda: len(bench.upstream.requests) == len(clients))
    gate.open()
    for client in clients:
        await client.complete()
    assert [verdict(each).split(";")[0] for each in clients] == ["MISS", "MISS", "UNCACHEABLE", "BYPASS", "BYPASS", "MISS", "MISS", "MISS"]


def steps_each(*script: Any) -> Script:
    """The same answer for every request, however many are under way."""
    return turns(steps(*script))


async def test_no_cache_asks_anew_and_only_if_cached_does_not_wait(bench: Bench) -> None:
    gate = Gate()
    await bench.play(turns(gated(chunk(EVENTS[0]), gate, chunk(told("1")) + LAST_CHUNK), stream(told("2"))))
    body = question()
    first = await begin(bench, body, case="main")
    await first.contains(EVENTS[0])
    refused = await ask(bench, body, "Cache-Control: only-if-cached", case="main")
    assert (refused.response.status, error_of(refused.body)["code"]) == (504, "cache_miss")
    anew = await ask(bench, body, "Cache-Control: no-cache", case="main")
    assert (verdict(anew), anew.body) == ("BYPASS", told("2"))
    gate.open()
    await first.complete()
    assert first.body == EVENTS[0] + told("1")
    assert len(bench.upstream.requests) == 2


async def test_they_take_one_slot(bench: Bench) -> None:
    gate = Gate()
    await bench.play(turns(gated(gate, chunk(HI) + LAST_CHUNK)))
    clients = await together(bench, 5, question(), "one")
    other = await begin(bench, question(), case="one")
    await until_in_flight(bench, 6, "one")
    assert await bench.metric("txsse_waiting", upstream="one") == 1
    gate.open()
    for client in (*clients, other):
        await client.complete()
        assert client.body == HI
    assert len(bench.upstream.requests) == 2


async def test_each_is_kept_alive_through_a_silence(bench: Bench) -> None:
    gate = Gate()
    await bench.play(turns(gated(chunk(EVENTS[0]), gate, chunk(HI) + LAST_CHUNK)))
    clients = await together(bench, 3, question(), "quick")
    for client in clients:
        await client.until(lambda client=client: client.responses and client.body.count(b": txsse\n") >= 2)  # type: ignore[misc]
    gate.open()
    for client in clients:
        await client.complete()
        assert unspoken(client) == EVENTS[0] + HI
        assert client.body.startswith(EVENTS[0])


# Who leaves


@pytest.mark.parametrize("leave", WAYS, ids=WAY_NAMES)
async def test_the_first_leaves_and_the_others_go_on(bench: Bench, leave: Callable[[RecordingClient], None]) -> None:
    gate = Gate()
    await bench.play(turns(gated(chunk(EVENTS[0]), gate, chunk(HI) + LAST_CHUNK)))
    body = question()
    first = await begin(bench, body, case="main")
    await first.contains(EVENTS[0])
    others = [await begin(bench, body, case="main") for _ in range(3)]
    for client in others:
        await client.contains(EVENTS[0])
    leave(first)
    await until_in_flight(bench, 3, "main")
    late = await begin(bench, body, case="main")
    await late.contains(EVENTS[0])
    assert len(bench.upstream.open_connections) == 1
    gate.open()
    for client in (*others, late):
        await client.complete()
    assert bodies([*others, late]) == {EVENTS[0] + HI}
    assert results_of([*others, late]) == {"COALESCED": 4}
    assert len(bench.upstream.requests) == 1
    assert verdict(await ask(bench, body, case="main")) == "HIT"


SILENCES: dict[str, tuple[Any, ...]] = {
    "before the head": (HANG,),
    "before the first event": (STREAM_HEAD, HANG),
    "between events": (STREAM_HEAD + chunk(EVENTS[0]), HANG),
    "inside an event": (STREAM_HEAD + chunk(EVENTS[0] + b"data: {"), HANG),
}


@pytest.mark.parametrize("leave", WAYS, ids=WAY_NAMES)
@pytest.mark.parametrize("silence", SILENCES)
async def test_the_last_one_out_ends_the_backends_work(bench: Bench, silence: str, leave: Callable[[RecordingClient], None]) -> None:
    await bench.play(turns(steps(*SILENCES[silence]), stream(HI)))
    body = question()
    clients = await together(bench, 3, body)
    connection = await bench.upstream.connection()
    await bench.upstream.until(lambda: connection.requests)
    for client in clients[:-1]:
        leave(client)
    await until_in_flight(bench, 1, "main")
    assert not connection.closed
    leave(clients[-1])
    await connection.gone()
    again = await ask(bench, body, case="main")
    assert (verdict(again), again.body) == ("MISS", HI)
    await until_in_flight(bench, 0, "main")
    assert await bench.metric("txsse_cache_flights") == 0


async def test_the_last_one_out_of_a_wait_ends_it(bench: Bench) -> None:
    clients = await together(bench, 3, question(), "asleep")
    for client in clients:
        await client.contains(b": txsse")
    assert await bench.metric("txsse_waiting", upstream="asleep") == 1
    for client in clients:
        client.close()
    await until_in_flight(bench, 0, "asleep")
    assert await bench.metric("txsse_waiting", upstream="asleep") == 0
    await bench.play(turns(stream(HI)))
    assert unspoken(await ask(bench, question(), case="asleep")) == HI
    assert len(bench.upstream.requests) == 1, "nobody wanted the first one any more"


async def test_who_leaves_after_the_last_word_leaves_a_whole_answer(bench: Bench) -> None:
    gate = Gate()
    await bench.play(turns(gated(chunk(HI), gate, LAST_CHUNK)))
    client = await begin(bench, body := question(), case="main")
    await client.contains(DONE)
    client.close()
    await until_in_flight(bench, 0, "main")
    gate.open()
    again = await ask(bench, body, case="main")
    assert (verdict(again) in ("HIT", "COALESCED"), again.body) == (True, HI)
    assert len(bench.upstream.requests) == 1


async def test_tokens_are_charged_although_the_first_has_left(bench: Bench) -> None:
    gate = Gate()
    usage = b'data: {"model":"left-1","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7}}\n\n'
    await bench.play(turns(gated(chunk(EVENTS[0]), gate, chunk(STOP + usage + DONE) + LAST_CHUNK)))
    body = question()
    clients = [await begin(bench, body, case="main") for _ in range(3)]
    for client in clients:
        await client.contains(EVENTS[0])
    clients[0].close()
    await until_in_flight(bench, 2, "main")
    gate.open()
    for client in clients[1:]:
        await client.complete()
    counted = [await bench.metric("txsse_tokens_total", model="left-1", kind=kind) for kind in ("prompt", "completion", "cached")]
    assert counted == [5, 7, 12]


# What each is told in its own way


async def test_a_message_is_for_those_who_wait_and_is_not_stored(bench: Bench) -> None:
    clients = await together(bench, 2, body := question(), "told")
    for client in clients:
        await client.contains(b"Waking m")
    await bench.play(turns(stream(HI)))
    for client in clients:
        await client.complete()
        assert client.body.endswith(HI) and client.body.count(b"Waking m") == 1
    hit = await ask(bench, body, case="told")
    assert (verdict(hit), hit.body) == ("HIT", HI)


async def test_documents_are_padded_for_each_and_stored_without(bench: Bench) -> None:
    gate = Gate()
    await bench.play(turns(steps(gate, answer(document()))))
    clients = await together(bench, 2, body := plain(), "json")
    for client in clients:
        await client.contains(b" ")
    gate.open()
    for client in clients:
        await client.complete()
        assert client.body.lstrip() == document()
    hit = await ask(bench, body, case="json")
    assert (verdict(hit), hit.body) == ("HIT", document())


async def test_a_backend_that_still_loads_has_all_wait_on(bench: Bench) -> None:
    gate, loaded, asked = Gate(), Gate(), 0

    async def play(connection: UpstreamConnection) -> None:
        nonlocal asked
        while not connection.closed:
            request = await connection.request()
            if request.target == b"/health":
                connection.send(answer(b'{"status":"ok"}') if loaded.is_open or not gate.is_open else answer(LOADING, "503 Later"))
                continue
            asked += 1
            if asked == 1:
                await gate.wait()
                connection.send(answer(LOADING, "503 Later"))
            else:
                connection.send(stream(HI))

    await bench.play(play)
    clients = await together(bench, 2, question(), "loads")
    gate.open()
    for client in clients:
        await client.contains(b'"state":"loading"')
    loaded.open()
    for client in clients:
        await client.complete()
        assert unspoken(client) == HI
    assert asked == 2


LOADING = b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}'


# What goes wrong


ERROR = b'{"error":{"message":"no memory left","type":"server_error","code":"oom"}}'


async def test_an_error_before_the_first_event_reaches_all_with_its_status(bench: Bench) -> None:
    gate = Gate()
    await bench.play(turns(steps(gate, answer(ERROR, "500 Oops")), stream(HI)))
    clients = await together(bench, 10, body := question())
    gate.open()
    for client in clients:
        await client.complete()
        assert client.response.start == b"HTTP/1.1 500 Oops"
    assert bodies(clients) == {ERROR}
    assert len(bench.upstream.requests) == 1
    again = await ask(bench, body, case="main")
    assert (verdict(again), again.body) == ("MISS", HI)


async def test_an_error_after_the_commit_reaches_all_as_a_frame(bench: Bench) -> None:
    gate = Gate()
    await bench.play(turns(steps(gate, answer(ERROR, "500 Oops")), stream(HI)))
    clients = await together(bench, 10, body := question(), "quick")
    for client in clients:
        await client.contains(b": txsse\n")
    gate.open()
    for client in clients:
        await is_cut(client)
        assert last_error(client) == {"message": "no memory left", "type": "server_error", "code": "oom", "status": 500}
    assert len(bench.upstream.requests) == 1
    assert unspoken(await ask(bench, body, case="quick")) == HI


async def test_a_reset_before_the_head_reaches_all_and_is_asked_once(bench: Bench) -> None:
    gate = Gate()
    await bench.play(turns(steps(gate, RESET), stream(HI)))
    clients = await together(bench, 10, body := question())
    gate.open()
    for client in clients:
        await client.complete()
        assert client.response.status == 502
        assert error_of(client.body)["code"] == "upstream_unavailable"
    assert len(bench.upstream.requests) == 1
    assert (await ask(bench, body, case="main")).body == HI


async def test_no_first_event_in_time_is_told_to_all(bench: Bench) -> None:
    await bench.play(turns(steps(HANG)))
    clients = await together(bench, 3, question(), "hasty")
    for client in clients:
        await is_cut(client)
        assert last_error(client)["code"] == "upstream_timeout"
    assert len(bench.upstream.requests) == 1
    assert bench.upstream.open_connections == []


@pytest.mark.parametrize("tail", [b"", b"data: {"])
async def test_a_backend_that_dies_is_told_to_all_and_nothing_is_stored(bench: Bench, tail: bytes) -> None:
    gate = Gate()
    await bench.play(turns(gated(chunk(EVENTS[0]) + (chunk(tail) if tail else b""), gate, RESET), stream(HI)))
    body = question()
    clients = await together(bench, 5, body)
    for client in clients:
        await client.contains(EVENTS[0])
    late = await begin(bench, body, case="main")
    await late.contains(EVENTS[0])
    gate.open()
    for client in (*clients, late):
        await is_cut(client)
        assert client.body.startswith(EVENTS[0] + b"data: {"), "what is not whole was not sent"
        assert last_error(client)["code"] == "upstream_disconnected"
        assert len(client.events) == 2
    again = await ask(bench, body, case="main")
    assert (verdict(again), again.body) == ("MISS", HI)


async def test_json_after_the_commit_is_an_error_for_all(bench: Bench) -> None:
    gate = Gate()
    await bench.play(turns(steps(gate, answer(document()))))
    clients = await together(bench, 2, question(), "quick")
    for client in clients:
        await client.contains(b": txsse")
    gate.open()
    for client in clients:
        await is_cut(client)
        assert last_error(client)["code"] == "upstream_invalid"


async def test_death_inside_an_event_too_long_to_hold_cuts_all_without_a_word(bench: Bench) -> None:
    gate, part = Gate(), b'data: {"x":"' + b"z" * 100_000
    await bench.play(turns(gated(chunk(EVENTS[0] + part), gate, RESET)))
    first = await begin(bench, body := question(), case="quick")
    await first.until(lambda: first.responses and len(first.body) == len(EVENTS[0] + part))
    second = await begin(bench, body, case="quick")
    await second.until(lambda: second.responses and len(second.body) == len(EVENTS[0] + part))
    gate.open()
    for client in (first, second):
        await is_cut(client)
        assert client.body == EVENTS[0] + part


# Who is slow


def flood(pieces: int, size: int = 16_000) -> tuple[Script, bytes]:
    """A whole answer of so many large events, as fast as it is taken; and its bytes."""
    events = [says("x" * size)] * pieces + [STOP + DONE]

    async def play(connection: UpstreamConnection) -> None:
        connection.send(STREAM_HEAD)
        for each in events:
            await connection.writable()
            connection.send(chunk(each))
        connection.send(LAST_CHUNK)

    return play, b"".join(events)


async def slow(bench: Bench, body: bytes, case: str) -> RecordingClient:
    """A client that does not read."""
    client = await bench.client(receive_buffer=65536)
    client.pause()
    client.post("/v1/chat/completions", body, ["Content-Type: application/json", "Authorization: Bearer one", f"X-Case: {case}"])
    return client


async def test_who_does_not_read_harms_nobody_and_has_all_of_it_later(bench: Bench) -> None:
    script, whole = flood(600)
    stuck, quick = await one_stuck(bench, "large", script, 3)
    for client in quick:
        await client.complete()
        assert client.body == whole
    stuck.resume()
    await stuck.complete()
    assert stuck.body == whole
    assert len(bench.upstream.requests) == 1


async def test_two_paces(bench: Bench) -> None:
    script, whole = flood(200)
    await bench.play(turns(script))
    body = question()
    limping = await bench.client(receive_buffer=65536)
    limping.post("/v1/chat/completions", body, ["Authorization: Bearer one", "X-Case: large"])
    await limping.head()
    limping.pause()
    quick = await ask(bench, body, case="large")
    while not limping.response.complete:
        count = len(limping.reads)
        limping.resume()
        await limping.until(lambda count=count: len(limping.reads) > count)  # type: ignore[misc]
        limping.pause()
    assert quick.body == limping.body == whole


async def test_who_is_too_slow_for_the_bound_is_told_so_and_nobody_else_is_harmed(bench: Bench) -> None:
    script, whole = flood(600)
    stuck, quick = await one_stuck(bench, "small", script, 1)
    for client in quick:
        await client.complete(timeout=60)
        assert client.body == whole
    stuck.resume()
    await is_cut(stuck)
    assert last_error(stuck)["code"] == "replay_truncated"
    assert len(bench.upstream.requests) == 1


async def test_who_takes_nothing_for_stall_timeout_is_cut_off_alone(bench: Bench) -> None:
    script, whole = flood(600)
    stuck, quick = await one_stuck(bench, "stuck", script, 1)
    for client in quick:
        await client.complete(timeout=60)
        assert client.body == whole
    await until_in_flight(bench, 0, "stuck")
    stuck.resume()
    await is_cut(stuck)


async def test_alone_it_holds_the_backend_up(bench: Bench) -> None:
    script, _ = flood(4000)
    await bench.play(turns(script))
    stuck = await slow(bench, question(), "small")
    connection = await bench.upstream.connection()
    await eventually(reactor, lambda: connection.paused)
    late = await slow(bench, question(), "small")
    stuck.reset()
    late.reset()
    await connection.gone()
    assert connection.sent < 32 * MIB
    await until_in_flight(bench, 0, "small")


async def one_stuck(bench: Bench, case: str, script: Script, readers: int) -> tuple[RecordingClient, list[RecordingClient]]:
    """A client that does not read, and some that do, before a backend that begins when they are all there."""
    gate = Gate()

    async def play(connection: UpstreamConnection) -> None:
        await gate.wait()
        await script(connection)

    await bench.play(turns(play))
    body = question()
    stuck = await slow(bench, body, case)
    await until_in_flight(bench, 1, case)
    quick = [await begin(bench, body, case=case) for _ in range(readers)]
    await until_in_flight(bench, 1 + readers, case)
    gate.open()
    return stuck, quick


async def test_overflow_breaks_nobody_and_no_one_else_joins(bench: Bench) -> None:
    gates = [Gate() for _ in range(3)]
    large = [says(str(number) * 9000) for number in range(3)]
    parts = [each for gate, event in zip(gates, large, strict=True) for each in (chunk(event), gate)]
    await bench.play(turns(gated(*parts, chunk(STOP + DONE) + LAST_CHUNK), stream(told("2")), stream(told("3"))))
    body = question()
    first = await begin(bench, body, case="small")
    await first.contains(large[0])
    second = await begin(bench, body, case="small")
    await second.contains(large[0])
    gates[0].open()
    for client in (first, second):
        await client.contains(large[1])
    third = await ask(bench, body, case="small")
    assert (verdict(third), third.body) == ("MISS", told("2")), "what is not whole any more cannot be joined"
    for gate in gates[1:]:
        gate.open()
    for client in (first, second):
        await client.complete()
    assert bodies([first, second]) == {b"".join(large) + STOP + DONE}
    again = await ask(bench, body, case="small")
    assert (verdict(again), again.body) == ("HIT", told("2")), "the one that went over the bound replaces nothing"
    assert len(bench.upstream.requests) == 2


# The operator


async def test_flights_are_shown_and_a_purge_breaks_none(bench: Bench) -> None:
    gate = Gate()
    await bench.play(turns(gated(chunk(EVENTS[0]), gate, chunk(HI) + LAST_CHUNK)))
    clients = await together(bench, 2, question())
    assert await bench.metric("txsse_cache_flights") == 1
    assert (await operate(bench, "/cache", "DELETE")).status == 200
    gate.open()
    for client in clients:
        await client.complete()
        assert client.body == EVENTS[0] + HI
    await until_in_flight(bench, 0, "main")
    assert await bench.metric("txsse_cache_flights") == 0


async def test_the_tokens_of_one_stream_are_counted_once(bench: Bench) -> None:
    gate = Gate()
    usage = b'data: {"model":"shared-1","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7}}\n\n'
    await bench.play(turns(gated(gate, chunk(says("a") + STOP + usage + DONE) + LAST_CHUNK)))
    clients = await together(bench, 3, question())
    gate.open()
    for client in clients:
        await client.complete()
    counted = [await bench.metric("txsse_tokens_total", model="shared-1", kind=kind) for kind in ("prompt", "completion", "cached")]
    assert counted == [5, 7, 24]


@pytest_twisted.async_yield_fixture()  # type: ignore[untyped-decorator]
async def own(own_proxies: Callable[[str], Proxy]) -> AsyncIterator[Bench]:
    made = Bench(reactor, own_proxies(server("drain = '20s'") + CONFIG.removeprefix(server())))
    yield made
    await made.close()


async def test_a_drain_lets_streams_finish_and_a_second_signal_tells_all(own: Bench) -> None:
    gate = Gate()
    await own.play(turns(gated(chunk(EVENTS[0]), gate, chunk(HI) + LAST_CHUNK), gated(chunk(EVENTS[1]), HANG)))
    ending, hanging = await together(own, 2, question()), [await begin(own, question(), case="main")]
    for client in ending:
        await client.contains(EVENTS[0])
    await hanging[0].contains(EVENTS[1])
    own.proxy.signal(signal.SIGTERM)
    await eventually(reactor, lambda: "drain" in own.proxy.log)
    gate.open()
    for client in ending:
        await client.complete()
        assert client.body == EVENTS[0] + HI
    own.proxy.signal(signal.SIGTERM)
    for client in hanging:
        await is_cut(client)
        assert last_error(client)["code"] == "shutting_down"
    await eventually(reactor, lambda: own.proxy.returncode is not None)
    assert own.proxy.returncode == 0


async def test_a_reload_leaves_a_flight_alone_and_nobody_joins_it(own: Bench) -> None:
    gate = Gate()
    await own.play(turns(gated(chunk(EVENTS[0]), gate, chunk(HI) + LAST_CHUNK)))
    clients = await together(own, 2, body := question())
    for client in clients:
        await client.contains(EVENTS[0])
    own.proxy.ports["second"]
    own.proxy.configure(server("drain = '20s'") + CONFIG.removeprefix(server()).replace("$main", "$second"))
    own.proxy.signal(signal.SIGHUP)
    await own.logged("reloaded")
    other = await ask(own, body, case="main")
    assert other.response.status == 502, "nobody listens where it is sent now"
    gate.open()
    for client in clients:
        await client.complete()
        assert client.body == EVENTS[0] + HI
