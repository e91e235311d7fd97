"""A stream under way that falls silent: between events, inside an event, between the bytes of a line end."""

from __future__ import annotations

from itertools import pairwise
from math import inf
from statistics import median

import pytest
from twisted.internet import reactor

from tests.integration.bench import DONE, Bench, ch
from tests.integration.process import PATIENT, route, server, upstream
from tests.timing import BUSY, at_best
from txsse.testing import CLOSE, HANG, LAST_CHUNK, REQUEST, STREAM_HEAD, Gate, UpstreamConnection, chunk, head, sleep, steps

CONFIG = (
    server()
    + upstream(more='probe = { preset = "none" }\n')
    + route("hasty")
    + route("small", more=PATIENT + "[route.stream]\nhold_bytes = 64\n")
    + route("frame", more=PATIENT.replace("heartbeat = 0", "heartbeat = 0\nform = 'frame'"))
    + route("event", more=PATIENT.replace("heartbeat = 0", "heartbeat = 0\nform = 'event'"))
    + route(more=PATIENT)
)
K = b": txsse\n"

# (first piece, second piece): the pause is inside an event, and nothing may be written into it.
STALLS = [
    (b'data: {"a":', b"1}\n\n"),
    (b"data: a\r", b"\n\r\n"),
    (b"data: a\r\n", b"data: b\r\n\r\n"),
    (b"data: a\n", b"\n"),
    (b"data: \xe2\x80", b"\xa6\n\n"),
    (b"event: x\nid: 7\nda", b"ta: 1\n\n"),
]


async def test_a_stall_inside_an_event_is_bridged_before_it(bench: Bench) -> None:
    gate = Gate()

    async def play(connection: UpstreamConnection) -> None:
        first, second = STALLS[int((await connection.request()).target[1:])]
        await steps(STREAM_HEAD + chunk(b"data: 0\n\n" + first), gate, chunk(second) + LAST_CHUNK)(connection)

    await bench.play(play)
    clients = [await bench.get(f"/{number}") for number in range(len(STALLS))]
    for client in clients:
        await client.contains(K * 2)
    gate.open()
    for client, (first, second) in zip(clients, STALLS, strict=True):
        await client.complete()
        assert client.body == b"data: 0\n\n" + K * client.body.count(K) + first + second
        assert client.body_reads[-1][1] == first + second, "the event arrives in one piece"


async def test_each_keepalive_is_a_write_of_its_own_at_the_interval(bench: Bench) -> None:
    async def measure() -> float:
        gate = Gate()
        bench.upstream.script = steps(REQUEST, STREAM_HEAD + chunk(ch("a")), gate, chunk(ch("b")), 0.05, chunk(DONE) + LAST_CHUNK, CLOSE)
        began: float = reactor.seconds()
        client = await bench.post()
        await client.until(lambda: client.responses and client.body.count(K) >= 5)
        gate.open()
        await client.complete()
        times, writes = zip(*client.body_reads, strict=True)
        kept = client.body.count(K)
        assert kept <= (times[-1] - began) / 0.099
        assert client.body == ch("a") + K * kept + ch("b") + DONE
        if writes != (ch("a"), *[K] * kept, ch("b"), DONE):
            return inf  # we were too busy to read them one by one
        gap: float = median(later - earlier for earlier, later in pairwise(times[: kept + 1]))
        return gap

    await bench.play(steps(HANG))
    await at_best(measure, 0.112)


async def test_comments_of_the_backend_pass_as_they_are_and_reset_our_timer(bench: Bench) -> None:
    theirs = b": OPENROUTER PROCESSING\n\n"
    again: list[bytes | float] = [0.06, chunk(theirs)] * 4
    await bench.play(steps(REQUEST, STREAM_HEAD + chunk(ch("a")), *again, chunk(DONE) + LAST_CHUNK, repeat=True))

    async def ours() -> float:
        """How often we spoke: not at all, if none of theirs was late."""
        client = await bench.post()
        await client.complete()
        assert client.body.replace(K, b"") == ch("a") + theirs * 4 + DONE
        return client.body.count(K)

    await at_best(ours, 0)


@pytest.mark.parametrize("case", ["", "frame"])
async def test_after_an_id_no_keepalive_has_a_blank_line(bench: Bench, case: str) -> None:
    gate = Gate()
    await bench.play(steps(REQUEST, STREAM_HEAD + chunk(b"id: 1\ndata: a\n\n"), gate, chunk(b"data: b\n\n") + LAST_CHUNK))
    client = await bench.get(case=case)
    await client.contains(K * 2)
    gate.open()
    await client.complete()
    assert client.body == b"id: 1\ndata: a\n\n" + K * client.body.count(K) + b"data: b\n\n"


async def test_frames_have_their_blank_line_while_no_id_has_passed(bench: Bench) -> None:
    gate, frame = Gate(), b": txsse\n\n"
    await bench.play(steps(REQUEST, STREAM_HEAD + chunk(b"data: a\n\n"), gate, chunk(b"data: b\n\n") + LAST_CHUNK))
    client = await bench.get(case="frame")
    await client.contains(frame * 2)
    gate.open()
    await client.complete()
    assert client.body == b"data: a\n\n" + frame * client.body.count(frame) + b"data: b\n\n"


async def test_crlf_cut_between_its_bytes_is_one_line_end(bench: Bench) -> None:
    pieces = [b"data: a\r", b"\n\r", b"\ndata: b\r\n\r\n"]
    await bench.play(steps(REQUEST, STREAM_HEAD + chunk(pieces[0]), 0.15, chunk(pieces[1]), 0.15, chunk(pieces[2]) + LAST_CHUNK))
    client = await bench.get()
    await client.complete()
    assert [each.data for each in client.events] == ["a", "b"]
    assert client.body.replace(K, b"") == b"".join(pieces)
    assert b"\n: txsse\n\r" not in client.body
    assert b"\r: txsse" not in client.body


async def test_lone_cr_streams_get_their_keepalives_too(bench: Bench) -> None:
    gate = Gate()
    await bench.play(steps(REQUEST, STREAM_HEAD + chunk(b"data: a\r\rdata: b\r\r"), gate, chunk(b"data: c\r\r") + LAST_CHUNK))
    client = await bench.get()
    await client.contains(K)
    gate.open()
    await client.complete()
    assert [each.data for each in client.events] == ["a", "b", "c"]
    assert client.body.replace(K, b"") == b"data: a\r\rdata: b\r\rdata: c\r\r"


async def test_the_byte_order_mark_is_dropped_only_when_we_wrote_first(bench: Bench) -> None:
    bom, gate = b"\xef\xbb\xbf", Gate()
    await bench.play(
        steps(
            REQUEST,
            STREAM_HEAD + chunk(bom + b"data: 1\n\n") + LAST_CHUNK,
            REQUEST,
            gate,
            STREAM_HEAD + chunk(bom + b"data: 1\n\n") + LAST_CHUNK,
        )
    )
    client = await bench.client()
    client.request("GET", "/e", headers=["Accept: text/event-stream"])
    assert bytes((await client.complete()).body) == bom + b"data: 1\n\n"
    client.request("GET", "/e", headers=["Accept: text/event-stream", "X-Case: hasty"])
    await client.head(2)
    await client.contains(K)
    gate.open()
    assert bytes((await client.complete(2)).body) == K * client.body.count(K) + b"data: 1\n\n"


async def test_an_event_past_the_hold_bound_goes_out_as_it_comes_without_keepalives(bench: Bench) -> None:
    gate, then = Gate(), Gate()
    await bench.play(
        steps(REQUEST, STREAM_HEAD + chunk(b"data: " + b"x" * 100), gate, chunk(b"y\n\n"), then, chunk(b"data: z\n\n") + LAST_CHUNK)
    )
    client = await bench.get(case="small")
    await client.contains(b"x" * 100)
    await sleep(reactor, 0.25)
    assert client.body == b"data: " + b"x" * 100
    gate.open()
    await client.contains(K)
    then.open()
    await client.complete()
    assert client.body == b"data: " + b"x" * 100 + b"y\n\n" + K * client.body.count(K) + b"data: z\n\n"


async def test_a_clean_end_emits_the_tail(bench: Bench) -> None:
    tail = b'data: {"id":"chatcmpl-frag","usage":{"total_tokens":8}}'
    await bench.play(steps(REQUEST, STREAM_HEAD + chunk(b"data: 1\n\n" + tail) + LAST_CHUNK))
    client = await bench.get()
    await client.complete()
    assert client.body == b"data: 1\n\n" + tail


async def test_after_the_terminal_event_there_are_no_keepalives_and_the_rest_has_a_second(bench: Bench) -> None:
    late = b": late\n\n"
    await bench.play(steps(REQUEST, STREAM_HEAD + chunk(ch("a") + DONE), 0.3, chunk(late)))
    sent = reactor.seconds()
    client = await bench.post()
    await client.complete()
    assert client.body == ch("a") + DONE + late
    assert 0.99 <= client.reads[-1].at - sent <= 1 + BUSY


async def test_a_counted_or_encoded_stream_is_relayed_untouched(bench: Bench) -> None:
    body = b"data: 1\n\ndata: {"
    typed, gates = ["Content-Type: text/event-stream"], (Gate(), Gate())
    await bench.play(
        steps(
            REQUEST,
            head("HTTP/1.1 200 OK", [*typed, f"Content-Length: {len(body) + 3}"]) + body,
            gates[0],
            b"}\n\n",
            REQUEST,
            head("HTTP/1.1 200 OK", [*typed, "Content-Encoding: gzip", "Transfer-Encoding: chunked"]) + chunk(body),
            gates[1],
            chunk(b"}\n\n") + LAST_CHUNK,
        )
    )
    client = await bench.client()
    for number, gate in enumerate(gates, 1):
        client.request("GET", "/e", headers=["Accept: text/event-stream"])
        await client.head(number)
        await client.contains(body)  # not held back
        await sleep(reactor, 0.15)
        gate.open()
        assert bytes((await client.complete(number)).body) == body + b"}\n\n"
