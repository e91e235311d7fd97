"""How a stored answer is told again: at once, at the pace it came, or at a fixed one; verbatim, to readers of any pace."""

from __future__ import annotations

import hashlib
import itertools
import signal
from collections.abc import Callable

import pytest
from twisted.internet import reactor

from tests.integration.bench import CHAT, DONE, Bench, ch, is_cut, last_error
from tests.integration.caching import (
    HI,
    KEY,
    READY,
    STOP,
    ask,
    begin,
    cache,
    document,
    plain,
    question,
    says,
    turns,
    unspoken,
    until_in_flight,
    verdict,
)
from tests.integration.process import TIMES, Proxy, route, server, upstream
from tests.timing import at_best
from txsse.testing import LAST_CHUNK, STREAM_HEAD, RecordingClient, Script, answer, chunk, eventually, head, steps, stream

MIB = 2**20
CONFIG = (
    server()
    + upstream(more=READY)
    + route("original", more=cache('replay = "original"'))
    + route("doubled", more=cache('replay = "original"\nspeed = 2.0'))
    + route("bounded", more=cache('replay = "original"\nmax_gap = "60ms"'))
    + route("fixed", more=cache('replay = "fixed"\ngap = "40ms"'))
    + route("audible", more=TIMES + cache('replay = "fixed"\ngap = "250ms"'))
    + route("large", more=cache('max_entry = "16MiB"'))
    + route("main", more=cache())
    + route()
)
WORDS = [says(each) for each in ("This ", "is a ", "cached ", "streaming ", "response", ".")]
GAPS = [0.1, 0.03, 0.13, 0.05]
PACED = [ch("a"), ch("b"), ch("c"), ch("d"), STOP + DONE]
TOLERANCE = 0.02
"""Seconds by which a write may be late."""
TRIES = 30


def paced() -> Script:
    """An answer whose pieces come with the pauses of ``GAPS`` between them."""
    parts: list[bytes | float] = [STREAM_HEAD + chunk(PACED[0])]
    for gap, piece in zip(GAPS, PACED[1:], strict=True):
        parts += [gap, chunk(piece)]
    return steps(*parts, LAST_CHUNK)


def gaps(client: RecordingClient) -> list[float]:
    """Between the reads that brought something of the answer."""
    times = [at for at, data in client.body_reads if data]
    return [later - earlier for earlier, later in itertools.pairwise(times)]


async def keeps_pace(bench: Bench, case: str, wanted: Callable[[float], float]) -> None:
    """Each gap is told again as *wanted* of what it was. One miss on a busy machine says nothing."""
    await bench.play(turns(paced()))
    seen = []
    for _ in range(TRIES):
        body = question()
        miss, hit = await ask(bench, body, case=case), await ask(bench, body, case=case)
        assert [verdict(miss), verdict(hit)] == ["MISS", "HIT"]
        assert miss.body == hit.body == b"".join(PACED)
        was, told = gaps(miss), gaps(hit)
        if near(told, [each for each in map(wanted, was) if each]):
            return
        seen.append((was, told))
    raise AssertionError(seen)


def near(told: list[float], wanted: list[float]) -> bool:
    return len(told) == len(wanted) and all(abs(one - other) <= TOLERANCE for one, other in zip(told, wanted, strict=True))


async def test_c22_word_for_word(bench: Bench) -> None:
    await bench.play(turns(stream(*WORDS, STOP, DONE)))
    body = question()
    miss, hit = await ask(bench, body, case="main"), await ask(bench, body, case="main")
    assert verdict(hit) == "HIT"
    assert hit.body == miss.body == b"".join(WORDS) + STOP + DONE
    assert len(hit.events) == 8
    assert sum(each.data == "[DONE]" for each in hit.events) == 1


async def test_instant_is_one_write(bench: Bench) -> None:
    await keeps_pace(bench, "main", lambda gap: 0)


async def test_original_keeps_the_gaps(bench: Bench) -> None:
    await keeps_pace(bench, "original", lambda gap: gap)


async def test_original_at_double_speed(bench: Bench) -> None:
    await keeps_pace(bench, "doubled", lambda gap: gap / 2)


async def test_original_waits_no_longer_than_max_gap(bench: Bench) -> None:
    await keeps_pace(bench, "bounded", lambda gap: min(gap, 0.06))


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
async def test_fixed_tells_event_by_event_however_they_came(bench: Bench, end: bytes) -> None:
    events = [each.replace(b"\n", end) for each in (*PACED[:4], STOP, DONE)]
    await bench.play(turns(stream(b"".join(events))))
    body = question()
    await ask(bench, body, case="fixed")
    hits: list[RecordingClient] = []
    while not hits or (not near(gaps(hits[-1]), [0.04] * 5) and len(hits) < TRIES):
        hits.append(await ask(bench, body, case="fixed"))
        assert hits[-1].body == b"".join(events)
    assert near(gaps(hits[-1]), [0.04] * 5), [gaps(each) for each in hits]
    assert [data for _, data in hits[-1].body_reads if data] == events


async def test_fixed_tells_line_by_line(bench: Bench) -> None:
    lines = [b'{"message":{"content":"%d"},"done":false}\n' % number for number in range(3)]
    lines.append(b'{"message":{"content":""},"done":true,"done_reason":"stop"}\n')
    top = head("HTTP/1.1 200 OK", ["Content-Type: application/x-ndjson", "Transfer-Encoding: chunked"])
    await bench.play(turns(top + chunk(b"".join(lines)) + LAST_CHUNK))
    body = question()
    await ask(bench, body, case="fixed", target="/api/chat")

    async def together() -> float:
        """How many of them, at most, were read in one go."""
        hit = await ask(bench, body, case="fixed", target="/api/chat")
        assert hit.body == b"".join(lines)
        return max(data.count(b"\n") for _, data in hit.body_reads)

    await at_best(together, 1)


async def test_a_document_is_told_at_once(bench: Bench) -> None:
    await bench.play(turns(answer(document())))
    body = plain()
    await ask(bench, body, case="fixed")
    hit = await ask(bench, body, case="fixed")
    assert (verdict(hit), hit.body) == ("HIT", document())
    assert len(hit.reads) == 1


async def test_a_long_pause_of_a_replay_is_filled_like_any_other(bench: Bench) -> None:
    await bench.play(turns(stream(ch("a") + HI)))
    body = question()
    await ask(bench, body, case="audible")
    hit = await ask(bench, body, case="audible")
    assert unspoken(hit) == ch("a") + HI
    assert hit.body.startswith(ch("a") + b": txsse\n")
    assert not hit.body.endswith(b": txsse\n")


async def test_each_is_told_at_its_own_time(bench: Bench) -> None:
    await bench.play(turns(stream(b"".join(PACED))))
    body = question()
    await ask(bench, body, case="fixed")

    async def how_much_later() -> float:
        """One that begins later ends later: how much less than that."""
        first = await begin(bench, body, case="fixed")
        await first.contains(PACED[1])
        second = await begin(bench, body, case="fixed")
        await first.complete()
        await second.complete()
        assert first.body == second.body == b"".join(PACED)
        assert first.body_reads[0][0] < second.body_reads[0][0]
        return first.reads[-1].at - second.reads[-1].at

    await at_best(how_much_later, -0.02)


@pytest.mark.parametrize("leave", [RecordingClient.close, RecordingClient.half_close, RecordingClient.reset])
async def test_who_leaves_a_replay_ends_it(bench: Bench, leave: Callable[[RecordingClient], None]) -> None:
    await bench.play(turns(stream(b"".join(PACED))))
    body = question()
    await ask(bench, body, case="fixed")
    before = await bench.metric("txsse_requests_total", route="fixed", outcome="client_closed")
    client = await begin(bench, body, case="fixed")
    await client.contains(PACED[0])
    leave(client)
    await until_in_flight(bench, 0, "fixed")
    assert await bench.metric("txsse_requests_total", route="fixed", outcome="client_closed") == before + 1


async def test_a_reader_that_stops_gets_the_rest_when_it_goes_on(bench: Bench) -> None:
    await bench.play(turns(stream(*[says("x" * 16_000)] * 800, STOP + DONE)))
    body = question()
    whole = await ask(bench, body, case="large")
    await until_in_flight(bench, 0, "large")
    before = bench.proxy.memory()
    stuck = [await bench.client(keep=False, receive_buffer=65536) for _ in range(4)]
    for client in stuck:
        client.pause()
        client.post(CHAT, body, [KEY, "X-Case: large"])
    await until_in_flight(bench, len(stuck), "large")
    quick = await ask(bench, body, case="large")
    assert (verdict(quick), quick.body) == ("HIT", whole.body)
    assert bench.proxy.memory() - before < 25 * MIB, "they share what is stored"
    for client in stuck:
        client.resume()
    for client in stuck:
        await client.complete()
        assert client.digest.digest() == hashlib.sha256(whole.body).digest()
    assert len(bench.upstream.requests) == 1


async def test_a_purge_does_not_break_a_replay(bench: Bench) -> None:
    await bench.play(turns(stream(b"".join(PACED))))
    body = question()
    await ask(bench, body, case="fixed")
    client = await begin(bench, body, case="fixed")
    await client.contains(PACED[0])
    await bench.send(
        b"DELETE /cache HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", bench.proxy.ports["admin"]
    )
    await eventually(reactor, lambda: bench.clients[-1].responses)
    await client.complete()
    assert client.body == b"".join(PACED)
    assert verdict(await ask(bench, body, case="fixed")) == "MISS"


async def test_a_second_signal_cuts_a_replay_with_an_error(own_proxies: Callable[[str], Proxy]) -> None:
    bench = Bench(reactor, own_proxies(server() + upstream(more=READY) + route(more=cache('replay = "fixed"\ngap = "10s"'))))
    await bench.play(turns(stream(b"".join(PACED))))
    body = question()
    await ask(bench, body)
    client = await begin(bench, body)
    await client.contains(PACED[0])
    bench.proxy.signal(signal.SIGTERM)
    await eventually(reactor, lambda: "drain" in bench.proxy.log)
    assert not client.closed
    bench.proxy.signal(signal.SIGTERM)
    await is_cut(client)
    assert last_error(client)["code"] == "shutting_down"
    await bench.close()
