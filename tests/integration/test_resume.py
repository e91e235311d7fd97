"""Streams outlive their readers: who comes back, with whatever cursor, goes on where it was, and nobody else can."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.bench import DONE, SSE, Bench, error_of, is_cut
from tests.integration.caching import KEY, READY, STOP, also, cache, operate, question, says, told, turns, verdict
from tests.integration.process import TIMES, Proxy, route, server, upstream
from tests.timing import BUSY
from txsse.testing import (
    LAST_CHUNK,
    RESET,
    STREAM_HEAD,
    Gate,
    RecordingClient,
    Response,
    Script,
    UpstreamConnection,
    answer,
    chunk,
    events,
    eventually,
    sleep,
    steps,
    stream,
)

OTHER = "Authorization: Bearer other"
IDS = "X-Txsse-Resume: 1"
JSON = "Accept: application/json"


def resume(more: str = "", mode: str = "auto") -> str:
    """A ``[route.resume]`` table."""
    return f'[route.stream]\nerror_event = true\n[route.resume]\nmode = "{mode}"\n{more}\n'


# Events of 16 KiB lie on a page each.
THREE = 'max_bytes = "51KiB"'
CONFIG = (
    server()
    + upstream(more=READY)
    + upstream("asleep", 'probe = { preset = "tcp", interval = "20ms" }', port="asleep")
    + route("always", more=resume(mode="always"))
    + route("short", more=resume(THREE))
    + route("strict", more=resume(f'{THREE}\non_gap = "error"'))
    + route("nothing", more=resume('max_bytes = "1B"'))
    + route("cancel", more=resume('on_disconnect = "cancel"'))
    + route("grace", more=resume('grace = "1s"'))
    + route("continue", more=resume('on_disconnect = "continue"'))
    + route("orphan", more=resume('on_disconnect = "continue"\nmax_orphan = "400ms"'))
    + route("crowd", more=resume("max_readers = 2"))
    + route("brief", more=resume('ttl = "200ms"'))
    + route("held", "asleep", TIMES.replace('timeout = "300ms"', 'timeout = "20s"') + resume())
    + route("full", "asleep", TIMES.replace("[route.hold]", "[route.hold]\nmax_waiting = 1").replace("300ms", "20s") + resume())
    + route("chunks", more=TIMES + 'form = "event"\n' + resume())
    + route("both", more=resume() + cache())
    + route("large", more=resume('max_bytes = "16MiB"\nmax_readers = 250'))
    + route("lines", more='dialect = "ollama"\n' + resume())
    + route("claude", more='dialect = "anthropic"\n' + resume())
    + route("web", more='cors_origins = ["https://chat.example"]\n' + resume())
    + route("main", more=resume())
    + route("off")
)


def event(number: int, size: int = 0) -> bytes:
    return b"data: d%d%b\n\n" % (number, b"x" * size)


def live(*parts: bytes | Gate) -> Script:
    """Events that come one by one, those after a gate when it is opened; without an end."""
    return steps(STREAM_HEAD, *(part if isinstance(part, Gate) else chunk(part) for part in parts), Gate())


async def ask(bench: Bench, case: str = "main", *headers: str, key: str = KEY) -> RecordingClient:
    """Begin a stream by GET, whose events get ids; returns when its head has come."""
    client = await bench.get("/events", [SSE, *([key] if key else []), *headers], case)
    await client.head()
    return client


async def post(bench: Bench, body: bytes, case: str = "main", *headers: str, key: str = KEY) -> RecordingClient:
    return await bench.post(body, headers=[key, *headers], case=case)


def sid_of(client: RecordingClient) -> str:
    value = client.response.header("x-txsse-stream")
    assert value is not None
    assert re.fullmatch(rb"[A-Za-z0-9_-]{22}", value)
    assert client.response.header("location") == b"/-/streams/" + value
    return value.decode()


async def back(bench: Bench, sid: str, cursor: str | None = None, *headers: str, query: str = "", key: str = KEY) -> RecordingClient:
    """Come back to a stream, with a Last-Event-ID if *cursor* is one."""
    fields = [SSE, *([key] if key else []), *([] if cursor is None else [f"Last-Event-ID: {cursor}"]), *headers]
    client = await bench.get(f"/-/streams/{sid}{query}", fields)
    await client.head()
    return client


async def told_all(bench: Bench, sid: str, cursor: str | None = None, *headers: str, query: str = "", key: str = KEY) -> RecordingClient:
    client = await back(bench, sid, cursor, *headers, query=query, key=key)
    await client.complete()
    return client


async def status(bench: Bench, method: str, target: str, *headers: str, key: str = KEY) -> Response:
    """The answer of a page of ours."""
    client = await bench.client()
    client.request(method, target, headers=[*([key] if key else []), *headers])
    return await client.complete()


async def state(bench: Bench, sid: str, key: str = KEY) -> dict[str, Any]:
    found = await status(bench, "GET", f"/-/streams/{sid}", JSON, key=key)
    assert found.status == 200
    told: dict[str, Any] = json.loads(found.body)
    return told


def numbered(sid: str, *numbers: int, size: int = 0) -> bytes:
    return b"".join(b"id: %b.%d\n%b" % (sid.encode(), number, event(number, size)) for number in numbers)


def seqs(client: RecordingClient, sid: str) -> list[int]:
    """The numbers of the events that came, whose data must agree."""
    found = []
    for each in client.events:
        stream_id, _, number = each.id.partition(".")
        assert (stream_id, each.data.rstrip("x")) == (sid, f"d{number}")
        found.append(int(number))
    return found


async def finished(bench: Bench, count: int, case: str = "main", size: int = 0) -> str:
    """A stream of so many events that is over; its id."""
    await bench.play(turns(stream(*(event(number, size) for number in range(1, count + 1)))))
    client = await ask(bench, case)
    await client.complete()
    return sid_of(client)


# X1, X2: which events


@pytest.mark.parametrize(
    ("cursor", "query"),
    [
        ("{sid}.1", ""),
        (None, "?last_event_id={sid}.1"),
        (None, "?starting_after=1"),
        ("{sid}.1", "?last_event_id={sid}.2&starting_after=2"),
    ],
)
async def test_x1_what_was_missed_is_sent(cursor: str | None, query: str, bench: Bench) -> None:
    sid = await finished(bench, 2)
    client = await told_all(bench, sid, cursor and cursor.format(sid=sid), query=query.format(sid=sid))
    assert client.response.status == 200
    assert client.body == b"id: %b.2\ndata: d2\n\n" % sid.encode()
    assert len(bench.upstream.requests) == 1


@pytest.mark.parametrize(
    ("cursor", "query"), [("earliest", ""), ("0", ""), ("-1", ""), (None, ""), (None, "?starting_after=0"), (None, "?from=earliest")]
)
async def test_x2_all_is_sent_and_then_what_comes(cursor: str | None, query: str, bench: Bench) -> None:
    gate = Gate()
    await bench.play(turns(live(event(1), event(2), gate, event(3))))
    first = await ask(bench)
    await first.contains(event(2))
    sid = sid_of(first)
    second = await back(bench, sid, cursor, query=query)
    await second.contains(event(2))
    assert second.body == numbered(sid, 1, 2)
    head = second.response
    assert [head.header(f"x-stream-{name}") for name in ("state", "first", "last", "gap")] == [b"live", b"1", b"2", None]
    gate.open()
    for client in (first, second):
        await client.contains(event(3))
        assert client.body == numbered(sid, 1, 2, 3)
    assert len(bench.upstream.requests) == 1


async def test_x2_from_live_only_what_comes(bench: Bench) -> None:
    gate = Gate()
    await bench.play(turns(live(event(1), event(2), gate, event(3))))
    first = await ask(bench)
    await first.contains(event(2))
    sid = sid_of(first)
    second = await back(bench, sid, query="?from=live")
    gate.open()
    await second.contains(event(3))
    assert second.body == numbered(sid, 3)


# X3: what is refused


async def test_x3_an_unknown_stream_and_one_that_is_kept_no_more(bench: Bench) -> None:
    missing = await back(bench, "A" * 22)
    await missing.complete()
    assert (missing.response.status, error_of(missing.body)["code"]) == (404, "stream_not_found")
    sid = await finished(bench, 2, "brief")
    while (client := await told_all(bench, sid)).response.status == 200:
        await sleep(bench.reactor, 0.05)
    assert (client.response.status, error_of(client.body)["code"]) == (410, "stream_gone")
    stranger = await told_all(bench, sid, key=OTHER)
    assert stranger.response.status == 404
    asked = len(bench.upstream.requests)
    again = await post(bench, question(), "main", f"Last-Event-ID: {sid}.1")
    await again.complete()
    assert (again.response.status, error_of(again.body)["code"]) == (410, "stream_gone")
    assert len(bench.upstream.requests) == asked, "who has a cursor never gets a new answer"
    assert await bench.metric("txsse_resumes_total", result="gone") >= 2


@pytest.mark.parametrize("cursor", ["undefined", "abc", "{sid}.x", "{sid}.-5", "{sid}", "a" * 200, "{other}.1"])
async def test_x3_what_is_no_cursor_of_this_stream_gets_nothing_replayed(cursor: str, bench: Bench) -> None:
    sid = await finished(bench, 2)
    cursor = cursor.format(sid=sid, other="B" * 22)
    for client in (await told_all(bench, sid, cursor), await told_all(bench, sid, query=f"?last_event_id={cursor}")):
        assert (client.response.status, error_of(client.body)["code"]) == (400, "bad_cursor")


@pytest.mark.parametrize("query", ["last_event_id=a%0d%0ab", "last_event_id=%00", "starting_after=x", "starting_after=-5", "from=here"])
async def test_x3_nor_what_only_a_query_can_hold(query: str, bench: Bench) -> None:
    sid = await finished(bench, 2)
    client = await told_all(bench, sid, query=f"?{query}")
    assert (client.response.status, error_of(client.body)["code"]) == (400, "bad_cursor")


@pytest.mark.parametrize("cursor", ["{sid}.x", "{sid}.-5", "{unknown}.x"])
async def test_x3_nor_does_a_post_with_it_become_a_new_request(cursor: str, bench: Bench) -> None:
    sid = await finished(bench, 2)
    client = await post(bench, question(), "main", f"Last-Event-ID: {cursor.format(sid=sid, unknown='U' * 22)}")
    await client.complete()
    assert (client.response.status, error_of(client.body)["code"]) == (400, "bad_cursor")
    assert len(bench.upstream.requests) == 1


async def test_x3_but_one_with_an_id_of_somebody_elses_is_theirs(bench: Bench) -> None:
    await bench.play(turns(stream(told("hi"))))
    client = await post(bench, question(), "main", "Last-Event-ID: abc")
    await client.complete()
    assert (client.response.status, client.body) == (200, told("hi"))
    assert bench.upstream.requests[-1].header("last-event-id") == b"abc"


async def test_a_get_that_names_a_stream_that_nobody_knows_begins_anew(bench: Bench) -> None:
    await bench.play(turns(stream(event(1)), stream(event(2))))
    unknown = f"{'U' * 22}.7"
    client = await ask(bench, "main", f"Last-Event-ID: {unknown}")
    await client.complete()
    assert (client.response.status, client.body) == (200, b"id: %b.1\n" % sid_of(client).encode() + event(1))
    assert bench.upstream.requests[0].header("last-event-id") == unknown.encode(), "it may be one of a proxy behind us"
    refused = await post(bench, question(), "main", f"Last-Event-ID: {unknown}")
    await refused.complete()
    assert (refused.response.status, error_of(refused.body)["code"]) == (404, "stream_not_found")
    assert len(bench.upstream.requests) == 1


async def test_x3_a_cursor_ahead_of_a_stream_that_runs_waits_for_what_comes(bench: Bench) -> None:
    gate = Gate()
    await bench.play(turns(live(event(1), gate, event(2))))
    first = await ask(bench)
    await first.contains(event(1))
    sid = sid_of(first)
    ahead = await back(bench, sid, f"{sid}.7")
    gate.open()
    await ahead.contains(event(2))
    assert ahead.body == numbered(sid, 2)


# X4, X5: what is not kept


async def test_x4_a_gap_is_told_with_its_size(bench: Bench) -> None:
    sid = await finished(bench, 5, "short", 16384)
    for cursor, gap, first in ((None, b"2", 3), (f"{sid}.2", None, 3), (f"{sid}.1", b"1", 3), (f"{sid}.4", None, 5)):
        client = await told_all(bench, sid, cursor)
        assert client.response.status == 200
        assert client.response.header("x-stream-gap") == gap
        assert [client.response.header(f"x-stream-{name}") for name in ("first", "last")] == [b"3", b"5"]
        assert seqs(client, sid) == [*range(first, 6)]


async def test_x4_or_refused_before_the_head_where_the_route_says_so(bench: Bench) -> None:
    sid = await finished(bench, 5, "strict", 16384)
    for cursor in (None, f"{sid}.1"):
        client = await told_all(bench, sid, cursor)
        assert (client.response.status, error_of(client.body)["code"]) == (410, "stream_gone")
    client = await told_all(bench, sid, f"{sid}.2")
    assert seqs(client, sid) == [3, 4, 5]


@pytest.mark.parametrize("case", ["short", "strict"])
async def test_x4_a_reader_who_falls_behind_is_told_in_the_stream(case: str, bench: Bench) -> None:
    gate, count = Gate(), 1000
    await bench.play(turns(steps(STREAM_HEAD, chunk(event(1)), gate, *(chunk(event(n, 16384)) for n in range(2, count)), LAST_CHUNK)))
    first = await ask(bench, case)
    sid = sid_of(first)
    slow = await bench.client(receive_buffer=65536)
    slow.request("GET", f"/-/streams/{sid}", headers=[SSE, KEY])
    await slow.contains(event(1))
    slow.pause()
    gate.open()
    await first.complete(timeout=60)
    assert seqs(first, sid) == [*range(1, count)]
    slow.resume()
    if case == "short":
        await slow.complete()
        before, _, after = slow.body.partition(b": txsse {")
        found = re.match(rb'"gap":(\d+)}\n', after)
        assert found is not None
        ids = [[int(number) for number in re.findall(rb"id: [^.]+\.(\d+)\n", part)] for part in (before, after)]
        assert ids[0] == [*range(1, len(ids[0]) + 1)]
        assert ids[1] == [*range(ids[1][0], count)]
        assert int(found[1]) == ids[1][0] - ids[0][-1] - 1 > 0
    else:
        await is_cut(slow)
        *whole, last = slow.events
        assert [each.id for each in whole] == [f"{sid}.{number}" for number in range(1, len(whole) + 1)]
        error = error_of(last.data.encode())
        assert (last.type, error["code"]) == ("error", "replay_truncated")
        assert error["first"] == f"{sid}.{len(whole) + 1 + int(str(error['skipped']))}"


async def test_x5_where_nothing_is_kept_only_what_comes_is_sent_and_the_gap_told(bench: Bench) -> None:
    gate = Gate()
    await bench.play(turns(live(event(1), event(2), gate, event(3))))
    first = await ask(bench, "nothing")
    await first.contains(event(2))
    sid = sid_of(first)
    second = await back(bench, sid)
    assert second.response.header("x-stream-gap") == b"2"
    gate.open()
    for client, expected in ((first, (1, 2, 3)), (second, (3,))):
        await client.contains(event(3))
        assert client.body == numbered(sid, *expected)


async def test_x5_and_when_that_is_over_there_is_nothing_to_come_back_to(bench: Bench) -> None:
    sid = await finished(bench, 2, "nothing")
    for cursor in (None, f"{sid}.1"):
        client = await told_all(bench, sid, cursor)
        assert (client.response.status, error_of(client.body)["code"]) == (410, "stream_gone")
    assert (await back(bench, sid, f"{sid}.2")).response.status == 204


# X6, X7, X8: many events, many readers


async def test_x6_twenty_thousand_events_in_one_connection(bench: Bench) -> None:
    count = 20_000
    parts = [b"".join(map(event, range(at, at + 100))) for at in range(1, count, 100)]
    await bench.play(turns(stream(*parts)))
    client = await ask(bench, "large")
    await client.complete(timeout=60)
    sid = sid_of(client)
    again = await told_all(bench, sid)
    assert seqs(again, sid) == [*range(1, count + 1)]
    assert again.body == client.body


async def test_x7_two_hundred_attach_while_an_event_comes_each_millisecond(bench: Bench) -> None:
    count, chance = 1500, random.Random(7)

    async def play(connection: UpstreamConnection) -> None:
        await connection.request()
        connection.send(STREAM_HEAD)
        began = bench.reactor.seconds()
        for number in range(1, count + 1):
            connection.send(chunk(event(number)))
            await sleep(bench.reactor, max(began + number / 1000 - bench.reactor.seconds(), 0))
        connection.send(LAST_CHUNK)

    await bench.play(play)
    first = await ask(bench, "large")
    sid = sid_of(first)
    readers: list[tuple[int, RecordingClient]] = []
    for number in range(200):
        await sleep(bench.reactor, 0.003)
        after = chance.randrange(max(len(first.body) // 46, 1)) if number % 4 else 0
        client = await bench.client()
        client.request("GET", f"/-/streams/{sid}", headers=[SSE, KEY, *([f"Last-Event-ID: {sid}.{after}"] if after else [])])
        readers.append((after, client))
    await first.complete(timeout=60)
    assert seqs(first, sid) == [*range(1, count + 1)]
    for after, client in readers:
        await client.complete(timeout=60)
        assert client.response.status == 200
        assert seqs(client, sid) == [*range(after + 1, count + 1)], after
    assert len(bench.upstream.requests) == 1


async def test_x8_two_readers_with_one_cursor_get_the_same_and_one_leaving_is_nothing_to_the_other(bench: Bench) -> None:
    gates = [Gate(), Gate()]
    await bench.play(turns(live(event(1), event(2), gates[0], event(3), gates[1], event(4))))
    first = await ask(bench)
    await first.contains(event(2))
    sid = sid_of(first)
    one, two = [await back(bench, sid, f"{sid}.1") for _ in range(2)]
    gates[0].open()
    for client in (one, two):
        await client.contains(event(3))
    assert one.body == two.body == numbered(sid, 2, 3)
    one.reset()
    await one.gone()
    gates[1].open()
    await two.contains(event(4))
    assert two.body == numbered(sid, 2, 3, 4)


# X9: leaving


async def streaming(bench: Bench, case: str, *parts: bytes | Gate) -> tuple[UpstreamConnection, RecordingClient, str]:
    """A stream that has told its first event, and its upstream's side."""
    await bench.play(turns(live(event(1), *parts)))
    client = await ask(bench, case)
    await client.contains(event(1))
    return bench.upstream.connections[-1], client, sid_of(client)


async def test_x9_cancel_closes_the_upstream_at_once(bench: Bench) -> None:
    connection, client, sid = await streaming(bench, "cancel")
    client.close()
    await connection.gone()
    assert (await state(bench, sid))["error"]["code"] == "cancelled"


async def test_x9_grace_waits_for_a_reader_to_come_back(bench: Bench) -> None:
    connection, client, sid = await streaming(bench, "grace")
    client.close()
    await sleep(bench.reactor, 0.3)
    assert not connection.closed
    client = await back(bench, sid, f"{sid}.1")
    await sleep(bench.reactor, 1.1)
    assert not connection.closed, "somebody reads it"
    left = bench.reactor.seconds()
    client.close()
    assert 0.9 < await connection.gone() - left < 1 + BUSY
    found = await state(bench, sid)
    assert (found["state"], found["error"]["code"], found["last"]) == ("error", "cancelled", 2)


async def test_x9_continue_runs_to_its_end_and_can_be_replayed(bench: Bench) -> None:
    gate = Gate()
    await bench.play(turns(steps(STREAM_HEAD, chunk(event(1)), gate, chunk(event(2)) + LAST_CHUNK)))
    client = await ask(bench, "continue")
    await client.contains(event(1))
    sid = sid_of(client)
    client.close()
    while (await state(bench, sid))["readers"]:
        await sleep(bench.reactor, 0.01)
    gate.open()
    while (await state(bench, sid))["state"] == "live":
        await sleep(bench.reactor, 0.01)
    assert (await told_all(bench, sid)).body == numbered(sid, 1, 2)


async def test_x9_but_nobody_is_waited_for_for_ever(bench: Bench) -> None:
    connection, client, _ = await streaming(bench, "orphan")
    left = bench.reactor.seconds()
    client.close()
    assert 0.3 < await connection.gone() - left < 0.4 + BUSY


async def test_x9_one_of_two_leaves(bench: Bench) -> None:
    gate = Gate()
    connection, client, sid = await streaming(bench, "cancel", gate, event(2))
    second = await back(bench, sid)
    client.close()
    await client.gone()
    gate.open()
    await second.contains(event(2))
    assert not connection.closed
    second.close()
    await connection.gone()


async def test_x9_leaving_after_the_end_cancels_nothing(bench: Bench) -> None:
    await bench.play(turns(steps(STREAM_HEAD, chunk(event(1) + DONE), Gate())))
    client = await post(bench, question(), "cancel", IDS)
    await client.contains(b"[DONE]")
    client.close()
    sid = sid_of(client)
    while (await state(bench, sid))["state"] == "live":
        await sleep(bench.reactor, 0.02)
    assert (await state(bench, sid))["state"] == "done"


# Ids: who gets them, and in what


async def test_auto_gives_ids_to_those_who_can_use_them(bench: Bench) -> None:
    await bench.play(turns(stream(told("hi"))))
    plain = await post(bench, question())
    await plain.complete()
    assert plain.body == says("hi") + STOP + DONE
    sid = sid_of(plain)
    assert (await told_all(bench, sid)).body.count(b"id: %b." % sid.encode()) == 3, "but can be come back to"
    wanting = await post(bench, question(), "main", IDS)
    await wanting.complete()
    sid = sid_of(wanting)
    assert wanting.body == b"".join(
        b"id: %b.%d\n%b" % (sid.encode(), number, each) for number, each in enumerate((says("hi"), STOP, DONE), 1)
    )
    assert [request.header("x-txsse-resume") for request in bench.upstream.requests] == [None, None]
    refusing = await bench.get("/events", [SSE, KEY, "X-Txsse-Resume: 0"], "main")
    await refusing.complete()
    assert b"id:" not in refusing.body


async def test_always_gives_them_to_all_and_off_to_none(bench: Bench) -> None:
    await bench.play(turns(stream(told("hi"))))
    client = await post(bench, question(), "always")
    await client.complete()
    assert client.body.startswith(b"id: %b.1\n" % sid_of(client).encode())
    for headers in ([IDS], ["Idempotency-Key: k"], ["Prefer: respond-async"]):
        client = await post(bench, question(), "off", *headers)
        await client.complete()
        assert client.body == says("hi") + STOP + DONE
        assert client.response.header("x-txsse-stream") is client.response.header("location") is None


async def test_w24_comments_of_upstream_stand_glued_to_the_next_event(bench: Bench) -> None:
    await bench.play(turns(stream(b"data:1\n\n: OPENROUTER PROCESSING\n\ndata:2\n\n")))
    client = await ask(bench)
    await client.complete()
    sid = sid_of(client).encode()
    assert client.body == b"id: %b.1\ndata:1\n\n: OPENROUTER PROCESSING\nid: %b.2\ndata:2\n\n" % (sid, sid)
    again = await told_all(bench, sid.decode())
    assert again.body == b"id: %b.1\ndata:1\n\nid: %b.2\ndata:2\n\n" % (sid, sid), "comments are not recorded"


async def test_upstreams_own_ids_stay_and_are_cursors(bench: Bench) -> None:
    own = [b"id: a\ndata: 1\n\n", b"id: b\ndata: 2\n\n", b"id: c\ndata: 3\n\n"]
    await bench.play(turns(stream(*own)))
    client = await ask(bench)
    await client.complete()
    sid = sid_of(client)
    assert client.body == b"".join(own)
    assert (await told_all(bench, sid, "b")).body == own[2]
    assert (await told_all(bench, sid, f"{sid}.1")).body == own[1] + own[2]
    assert (await back(bench, sid, "c")).response.status == 204
    assert (await back(bench, sid, "d")).response.status == 400


async def test_where_upstream_gives_ids_to_some_the_others_have_ours_for_those_who_come_back(bench: Bench) -> None:
    parts = [b"id: a\ndata: 1\n\n", b"data: 2\n\n", b"data: 3\n\n"]
    await bench.play(turns(stream(*parts)))
    client = await ask(bench)
    await client.complete()
    sid = sid_of(client)
    assert client.body == b"".join(parts), "what comes after its ids is for upstream to say, to who asks there again"
    rest = b"id: %b.2\n%bid: %b.3\n%b" % (sid.encode(), parts[1], sid.encode(), parts[2])
    assert (await told_all(bench, sid, "a")).body == rest
    assert (await back(bench, sid, f"{sid}.3")).response.status == 204, "so that an EventSource comes to an end"
    knowing = await post(bench, question(), "main", IDS)
    await knowing.complete()
    sid = sid_of(knowing)
    assert [each.id for each in knowing.events] == ["a", f"{sid}.2", f"{sid}.3"]


async def test_an_event_that_is_too_long_to_be_kept_passes_and_ends_the_coming_back(bench: Bench) -> None:
    long = event(2, 3_000_000)
    gate = Gate()
    await bench.play(turns(steps(STREAM_HEAD, chunk(event(1)), chunk(long), gate, chunk(event(3)) + LAST_CHUNK)))
    client = await ask(bench)
    sid = sid_of(client)
    await client.until(lambda: len(client.body) > len(long))
    other = await back(bench, sid)
    await other.complete()
    assert (other.response.status, error_of(other.body)["code"]) == (410, "stream_gone")
    gate.open()
    await client.complete()
    assert [each.data for each in client.events] == [each.data for each in events(event(1) + long + event(3))]


# Ends


async def test_who_has_it_all_is_told_not_to_come_back(bench: Bench) -> None:
    sid = await finished(bench, 2)
    client = await back(bench, sid, f"{sid}.2")
    assert (client.response.status, client.body) == (204, b"")
    assert client.response.header("x-stream-state") == b"done"
    assert client.response.header("x-txsse-stream") == sid.encode()


async def test_an_error_is_the_last_event_and_who_has_it_need_not_come_back(bench: Bench) -> None:
    await bench.play(turns(steps(STREAM_HEAD, chunk(told("hi")[:-14]), 0.05, RESET)))
    client = await post(bench, question(), "main", IDS)
    await is_cut(client)
    sid = sid_of(client)
    last = client.events[-1]
    assert error_of(last.data.encode())["code"] == "upstream_disconnected"
    assert last.id == f"{sid}.{len(client.events)}"
    again = await back(bench, sid, client.events[-2].id)
    await is_cut(again)
    assert [each.id for each in again.events] == [last.id]
    assert again.response.header("x-stream-last") == last.id.rpartition(".")[2].encode()
    assert (await back(bench, sid, last.id)).response.status == 204
    found = await state(bench, sid)
    assert (found["state"], found["error"]["code"]) == ("error", "upstream_disconnected")


async def test_lines_of_json_get_no_ids_not_even_in_an_error(bench: Bench) -> None:
    lines = [b'{"message":{"content":"a"},"done":false}\n', b'{"message":{"content":"b"},"done":false}\n']
    head = STREAM_HEAD.replace(b"text/event-stream", b"application/x-ndjson")
    await bench.play(turns(steps(head, *map(chunk, lines), 0.05, RESET)))
    client = await bench.post(question(), "/api/chat", [KEY, IDS], "lines")
    await is_cut(client)
    again = await back(bench, sid_of(client), query="?starting_after=1")
    await is_cut(again)
    for each, count in ((client, 2), (again, 1)):
        told = each.body.splitlines(keepends=True)
        assert told[:-1] == lines[-count:]
        assert "error" in json.loads(told[-1])


async def test_a_document_can_be_had_again_too(bench: Bench) -> None:
    body = question(stream=False)
    document = b'{"choices":[{"message":{"content":"hi"}}]}'
    await bench.play(turns(answer(document)))
    for _ in range(2):
        client = await post(bench, body, "main", "Idempotency-Key: document")
        await client.complete()
        assert (client.response.status, client.body) == (200, document)
    assert len(bench.upstream.requests) == 1
    again = await told_all(bench, sid_of(client), f"{sid_of(client)}.1")
    assert (again.response.header("content-type"), again.body) == (b"application/json", document)


# Asking again


async def test_an_idempotency_key_leads_to_the_stream_it_made(bench: Bench) -> None:
    gate = Gate()
    await bench.play(turns(live(event(1), gate, event(2))))
    body = question()
    first = await post(bench, body, "main", "Idempotency-Key: k1")
    await first.contains(event(1))
    again = await post(bench, body, "main", "Idempotency-Key: k1")
    await again.contains(event(1))
    assert sid_of(again) == sid_of(first)
    assert again.response.header("x-stream-state") == b"live"
    conflict = await post(bench, also(body, temperature=1), "main", "Idempotency-Key: k1")
    await conflict.complete()
    assert (conflict.response.status, error_of(conflict.body)["code"]) == (422, "idempotency_conflict")
    assert len(bench.upstream.requests) == 1
    for case, key in (("main", OTHER), ("large", KEY)):
        elsewhere = await post(bench, body, case, "Idempotency-Key: k1", key=key)
        await elsewhere.contains(event(1))
        assert sid_of(elsewhere) != sid_of(first), "another credential or route has keys of its own"
    gate.open()
    for client in (first, again):
        await client.contains(event(2))
        assert client.body == event(1) + event(2)


async def test_a_key_of_which_nothing_came_may_be_tried_again(bench: Bench) -> None:
    await bench.play(turns(answer(status="500 No"), stream(told("hi"))))
    body = question()
    for expected in (500, 200):
        client = await post(bench, body, "main", "Idempotency-Key: again")
        await client.complete()
        assert client.response.status == expected
    assert len(bench.upstream.requests) == 2


async def test_the_same_post_with_a_cursor_of_ours_goes_on(bench: Bench) -> None:
    await bench.play(turns(stream(told("hi"))))
    body = question()
    client = await post(bench, body, "main", IDS)
    await client.complete()
    sid = sid_of(client)
    again = await post(bench, body, "main", f"Last-Event-ID: {sid}.1")
    await again.complete()
    assert again.body == b"id: %b.2\n%bid: %b.3\n%b" % (sid.encode(), STOP, sid.encode(), DONE)
    assert len(bench.upstream.requests) == 1


async def test_respond_async_is_answered_at_once_and_runs_on(bench: Bench) -> None:
    gate = Gate()
    await bench.play(turns(steps(STREAM_HEAD, gate, chunk(event(1)) + LAST_CHUNK)))
    body = question()
    client = await post(bench, body, "cancel", "Prefer: respond-async, wait=0", "Idempotency-Key: background")
    response = await client.complete()
    assert (response.status, response.header("preference-applied")) == (202, b"respond-async")
    sid = sid_of(client)
    assert json.loads(response.body)["id"] == sid
    await bench.upstream.until(lambda: bench.upstream.requests)
    assert bench.upstream.requests[0].header("prefer") is None, "a proxy behind us would answer 202 as well"
    again = await post(bench, body, "cancel", "Prefer: respond-async", "Idempotency-Key: background")
    assert (await again.complete()).status == 202
    assert sid_of(again) == sid
    looker = await back(bench, sid)
    looker.close()
    await looker.gone()
    await sleep(bench.reactor, 0.1)
    assert (await state(bench, sid))["state"] == "live", "who looks and leaves does not end it"
    gate.open()
    assert (await told_all(bench, sid)).body == numbered(sid, 1)
    assert len(bench.upstream.requests) == 1


async def test_what_is_said_to_who_comes_back_names_the_model_that_was_asked_for(bench: Bench) -> None:
    await bench.play(turns(live()))
    client = await post(bench, question(model="tiny"), "chunks", "Prefer: respond-async")
    await client.complete()
    reader = await back(bench, sid_of(client))
    await reader.contains(b'"model":"tiny"')


async def test_there_is_one_location(bench: Bench) -> None:
    elsewhere = "Location: /upstreams/own"
    streams = STREAM_HEAD.replace(b"\r\n", f"\r\n{elsewhere}\r\n".encode(), 1)
    await bench.play(turns(steps(streams, chunk(event(1)) + LAST_CHUNK), answer(status="307 Elsewhere", headers=[elsewhere])))
    stream, redirect = await post(bench, question()), await post(bench, question())
    for client in (stream, redirect):
        await client.complete()
    again = await told_all(bench, sid_of(stream))
    ours = b"/-/streams/" + sid_of(stream).encode()
    found = [client.response.header_all("location") for client in (stream, again, redirect)]
    assert found == [[ours], [ours], [b"/upstreams/own"]]


async def test_respond_async_accepts_nothing_that_is_turned_away_at_once(bench: Bench) -> None:
    first = await post(bench, question(), "full", "Prefer: respond-async")
    assert (await first.complete()).status == 202
    second = await post(bench, question(), "full", "Prefer: respond-async")
    assert (await second.complete()).status == 429
    assert error_of(second.body)["code"] == "too_many_waiting"
    assert second.response.header("retry-after") is not None
    assert (await status(bench, "DELETE", f"/-/streams/{sid_of(first)}")).status == 200


# Who may


async def test_a_stream_belongs_to_the_credential_that_made_it(bench: Bench) -> None:
    connection, _, sid = await streaming(bench, "main")
    for key in (OTHER, ""):
        for method, target in (("GET", sid), ("HEAD", sid), ("DELETE", sid), ("POST", f"{sid}/cancel")):
            for headers in ([JSON], [SSE]):
                found = await status(bench, method, f"/-/streams/{target}", *headers, key=key)
                assert found.status == 404
                assert method == "HEAD" or error_of(found.body)["code"] == "stream_not_found"
        client = await post(bench, question(), "main", f"Last-Event-ID: {sid}.1", key=key or "X-No: key")
        assert (await client.complete()).status == 404
    assert not connection.closed


async def test_a_crowd_has_to_wait(bench: Bench) -> None:
    _, _, sid = await streaming(bench, "crowd")
    second = await back(bench, sid)
    third = await told_all(bench, sid)
    assert (third.response.status, error_of(third.body)["code"]) == (429, "too_many_readers")
    assert third.response.header("retry-after") is not None
    second.close()
    await second.gone()
    while (await state(bench, sid))["readers"] > 1:
        await sleep(bench.reactor, 0.01)
    assert (await back(bench, sid)).response.status == 200


async def test_errors_have_the_shape_of_the_stream_that_they_are_about(bench: Bench) -> None:
    sid = await finished(bench, 1, "claude")
    client = await told_all(bench, sid, "undefined")
    assert json.loads(client.body)["type"] == "error"


# How it stands, and its end


async def test_its_state_is_told_to_who_wants_json(bench: Bench) -> None:
    gate = Gate()
    usage = b'data: {"id":"u","model":"m","choices":[],"usage":{"prompt_tokens":11,"completion_tokens":2,"total_tokens":13}}\n\n'
    await bench.play(turns(steps(STREAM_HEAD, chunk(says("hi")), gate, chunk(STOP + usage + DONE) + LAST_CHUNK)))
    client = await post(bench, question(), "main", IDS)
    await client.contains(says("hi"))
    sid = sid_of(client)
    found = await status(bench, "GET", f"/-/streams/{sid}", "Accept: application/json, text/plain")
    told = json.loads(found.body)
    assert {name: told[name] for name in ("id", "state", "first", "last", "readers", "status")} == {
        "id": sid,
        "state": "live",
        "first": 1,
        "last": 1,
        "readers": 1,
        "status": 200,
    }
    assert found.header("content-type") == b"application/json"
    assert found.header("cache-control") == b"no-store"
    assert [found.header(f"x-stream-{name}") for name in ("state", "first", "last")] == [b"live", b"1", b"1"]
    head = await status(bench, "HEAD", f"/-/streams/{sid}")
    assert (head.status, head.header("x-stream-state"), head.header("content-type")) == (200, b"live", b"application/json")
    gate.open()
    await client.complete()
    told = await state(bench, sid)
    assert (told["state"], told["last"], told["readers"]) == ("done", 4, 0)
    assert (told["usage"], told["model"]) == ({"prompt": 11, "completion": 2}, "m")


@pytest.mark.parametrize(("method", "more"), [("DELETE", ""), ("POST", "/cancel")])
async def test_it_is_ended_by_who_made_it(method: str, more: str, bench: Bench) -> None:
    connection, client, sid = await streaming(bench, "main")
    other = await back(bench, sid, f"{sid}.1")
    found = await status(bench, method, f"/-/streams/{sid}{more}")
    assert found.status == 200
    told = json.loads(found.body)
    assert (told["state"], told["error"]["code"]) == ("error", "cancelled")
    await connection.gone()
    for each in (client, other):
        await is_cut(each)
        assert error_of(each.events[-1].data.encode())["code"] == "cancelled"
        assert each.events[-1].id == f"{sid}.2"
    again = await status(bench, method, f"/-/streams/{sid}{more}")
    assert (again.status, json.loads(again.body)["error"]["code"]) == (200, "cancelled")
    await bench.logged(f"stream {sid[:8]}.. of route main is ended by who made it")


@pytest.mark.parametrize(("method", "more", "allowed"), [("PUT", "", b"DELETE, GET, HEAD"), ("GET", "/cancel", b"POST")])
async def test_other_methods_are_told_which_are_right(method: str, more: str, allowed: bytes, bench: Bench) -> None:
    sid = await finished(bench, 1)
    found = await status(bench, method, f"/-/streams/{sid}{more}", JSON)
    assert (found.status, found.header("allow")) == (405, allowed)


async def test_the_operator_sees_and_ends_streams_by_the_beginning_of_their_ids(bench: Bench) -> None:
    connection, client, sid = await streaming(bench, "main")

    async def look(target: str, method: str = "GET") -> Any:
        return json.loads((await operate(bench, target, method)).body)

    (shown,) = [each for each in (await look("/streams"))["streams"] if each["id"] == f"{sid[:8]}.."]
    assert (shown["route"], shown["state"], shown["readers"], shown["upstream"]) == ("main", "live", 1, "ready")
    assert await bench.metric("txsse_streams", state="live") >= 1
    ended = await look(f"/streams/{shown['id']}", "DELETE")
    assert (ended["id"], ended["state"]) == (shown["id"], "error")
    await connection.gone()
    await is_cut(client)
    assert error_of(client.events[-1].data.encode())["code"] == "cancelled"


# Browsers


ORIGIN = "Origin: https://chat.example"


async def test_a_script_of_an_allowed_origin_may_come_back(bench: Bench) -> None:
    await bench.play(
        turns(steps(STREAM_HEAD.replace(b"\r\n\r\n", b"\r\nAccess-Control-Allow-Origin: null\r\n\r\n"), chunk(event(1)), Gate()))
    )
    client = await ask(bench, "web", ORIGIN)
    await client.contains(event(1))
    sid = sid_of(client)
    exposed = client.response.header("access-control-expose-headers")
    assert exposed is not None
    assert b"X-Txsse-Stream" in exposed
    again = await back(bench, sid, None, ORIGIN)
    assert again.response.header_all("access-control-allow-origin") == [b"https://chat.example"]
    preflight = await status(
        bench,
        "OPTIONS",
        f"/-/streams/{sid}",
        ORIGIN,
        "Access-Control-Request-Method: DELETE",
        "Access-Control-Request-Headers: authorization",
        key="",
    )
    assert preflight.status == 204
    assert preflight.header("access-control-allow-origin") == b"https://chat.example"
    assert (preflight.header("access-control-allow-methods"), preflight.header("access-control-allow-headers")) == (
        b"DELETE",
        b"authorization",
    )
    for method in ("GET", "DELETE"):
        found = await status(bench, method, f"/-/streams/{sid}", ORIGIN, JSON)
        assert (found.status, found.header_all("access-control-allow-origin")) == (200, [b"https://chat.example"])
    await is_cut(again)
    over = await back(bench, sid, f"{sid}.2", ORIGIN)
    assert (over.response.status, over.response.header("access-control-allow-origin")) == (204, b"https://chat.example")
    for method in ("GET", "DELETE"):
        missing = await status(bench, method, "/-/streams/" + "A" * 22, ORIGIN)
        assert (missing.status, missing.header("access-control-allow-origin")) == (404, b"https://chat.example")


async def test_scripts_of_other_origins_are_told_nothing(bench: Bench) -> None:
    _, _, sid = await streaming(bench, "web")
    evil = "Origin: https://evil.example"
    preflight = await status(bench, "OPTIONS", f"/-/streams/{sid}", evil, "Access-Control-Request-Method: GET", key="")
    assert preflight.status == 405
    for found in (preflight, (await back(bench, sid, None, evil)).response, await status(bench, "GET", f"/-/streams/{sid}", evil, JSON)):
        assert found.header("access-control-allow-origin") is None


# With the rest of the proxy


async def test_a_held_stream_is_come_back_to_while_its_upstream_is_cold(bench: Bench) -> None:
    first = await post(bench, question(), "held", IDS)
    await first.contains(b": txsse")
    sid = sid_of(first)
    assert (await state(bench, sid))["state"] == "waiting"
    second = await back(bench, sid)
    await second.contains(b": txsse")
    first.close()
    await first.gone()
    cold = bench.upstream.__class__(bench.reactor, turns(stream(told("hi"))), port=bench.proxy.ports["asleep"])
    await cold.open()
    try:
        await second.complete()
        assert [each.id for each in second.events] == [f"{sid}.{number}" for number in (1, 2, 3)]
        assert second.response.header("x-txsse-cold-start") == b"true"
        assert len(cold.requests) == 1
    finally:
        await cold.stop()


async def test_what_is_cached_and_what_can_be_come_back_to_is_one_stream(bench: Bench) -> None:
    gate = Gate()
    await bench.play(turns(steps(STREAM_HEAD, chunk(says("hi")), gate, chunk(STOP + DONE) + LAST_CHUNK)))
    body = question()
    first = await post(bench, body, "both", IDS)
    await first.contains(says("hi"))
    joined = await post(bench, body, "both", IDS)
    await joined.contains(says("hi"))
    assert [verdict(first), verdict(joined)] == ["MISS", "COALESCED"]
    assert sid_of(first) == sid_of(joined)
    gate.open()
    for client in (first, joined):
        await client.complete()
    assert first.body == joined.body
    assert (await told_all(bench, sid_of(first))).body == first.body
    hit = await post(bench, body, "both")
    await hit.complete()
    assert (verdict(hit), hit.body) == ("HIT", says("hi") + STOP + DONE)
    assert len(bench.upstream.requests) == 1


async def test_the_log_tells_no_whole_id(bench: Bench) -> None:
    _, client, sid = await streaming(bench, "grace")
    await told_all(bench, sid, "undefined")
    await told_all(bench, sid, key=OTHER)
    await status(bench, "DELETE", f"/-/streams/{sid}")
    await is_cut(client)
    reader = await back(bench, sid, f"{sid}.1", "X-Request-Id: the-last-one")
    await is_cut(reader)
    line = await bench.logged("request_id=the-last-one")
    assert f"path=/-/streams/{sid[:8]}.." in line
    assert sid not in bench.proxy.log


DRAIN = server('drain = "300ms"') + upstream(more=READY) + route(more=resume('on_disconnect = "cancel"'))


async def test_a_drain_sends_readers_away_who_come_back_each_at_its_own_time(
    own_proxies: Callable[[str], Proxy], request: pytest.FixtureRequest
) -> None:
    from twisted.internet import reactor

    proxy = own_proxies(DRAIN)
    bench = Bench(reactor, proxy)
    try:
        await bench.play(turns(live(event(1))))
        clients = [await ask(bench, "") for _ in range(30)]
        for client in clients:
            await client.contains(event(1))
        asked = bench.reactor.seconds()
        proxy.ask_to_stop()
        for client in clients:
            await is_cut(client)
        retries = set()
        for client in clients:
            found = re.search(rb"\n\nretry: (\d+)\n(?:event: error\n)?data: (.*)\n\n\Z", client.body)
            assert found is not None, client.body
            assert error_of(found[2])["code"] == "shutting_down"
            retries.add(int(found[1]))
        assert len(retries) > 20 and min(retries) >= 1000 and max(retries) <= 5000
        ends = sorted(client.closed_at or 0 for client in clients)
        assert 0.1 < ends[-1] - ends[0] < 0.5 + BUSY, "not all at once"
        await eventually(bench.reactor, lambda: proxy.returncode is not None)
        assert (proxy.returncode, bench.reactor.seconds() - asked < 4 + BUSY) == (0, True)
    finally:
        await bench.close()
