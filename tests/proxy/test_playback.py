"""What was stored, told again: byte for byte, at the pace that the route asks for, to clients that read at theirs."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from tests.exchange.scripts import DONE, EVENT, LINE
from tests.fakes import FakeBackend, Seat, bound
from txsse.clock import Alarms
from txsse.config import model
from txsse.dialects import DIALECTS
from txsse.dialects.usage import Usage
from txsse.errors import ProxyError
from txsse.interfaces import Failed
from txsse.proxy.playback import Playback, Stored
from txsse.proxy.subscription import MOST_AT_ONCE
from txsse.recordings.entry import Entry
from txsse.recordings.numbering import Ids
from txsse.wire.http1 import ResponseHead

BIG = b"data: " + b"x" * 30_000 + b"\n\n"


def entry_of(pieces: list[bytes], times: list[float] | None = None, *, streamed: bool = True, dialect: str = "openai-chat") -> Entry:
    ends = array("I", accumulate(map(len, pieces)))
    when = array("f", times or [0.0] * len(pieces))
    headers = [(b"Content-Type", DIALECTS[dialect].content_type if streamed else b"application/json")]
    return Entry(b"k" * 32, "llama", dialect, streamed, headers, b"".join(pieces), ends, when, 0.0, 60.0, Usage(3, 4), "tiny")


class Bench:
    """A reader of an entry, at a time that is no round number."""

    def __init__(self, entry: Entry, *, began: float = 1000.1, dialect: str = "openai-chat", **cache: Any) -> None:
        self.clock = Clock()
        self.clock.advance(began)
        self.began = began
        keepalive = model.Keepalive(interval=0.5, commit_after=0.05, heartbeat=0)
        route = bound(model.Route(name="llama", keepalive=keepalive, cache=model.Cache(mode="all", **cache)), FakeBackend())
        stored = Stored(entry, Alarms(self.clock), route.config.cache)
        self.seat = Seat(self.clock, route, stored, commits=entry.streamed, dialect=dialect)
        self.seat.reader.cache = "hit"

    def begin(self) -> Bench:
        self.seat.begin()
        return self

    def pause(self) -> None:
        """The client's socket is full."""
        self.seat.downstream.unsent = 1
        self.seat.reader.client_paused()

    def resume(self) -> None:
        self.seat.downstream.unsent = 0
        self.seat.reader.client_resumed()

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.005)):
            self.clock.advance(0.005)

    @property
    def told(self) -> list[tuple[float, bytes]]:
        """What was written, and after how many seconds."""
        return [(time - self.began, data) for time, data in self.seat.downstream.writes]

    @property
    def body(self) -> bytes:
        return self.seat.downstream.body

    @property
    def over(self) -> bool:
        return self.seat.downstream.end == "finish" and self.seat.outcome == "ok"


def test_at_once() -> None:
    bench = Bench(entry_of([EVENT, EVENT + DONE], [0.0, 9.0])).begin()
    assert bench.over
    assert bench.told == [(0.0, EVENT + EVENT + DONE)]
    assert bench.seat.downstream.packets == [EVENT + EVENT + DONE]  # with the head
    assert bench.seat.downstream.status == 200
    assert bench.seat.downstream.header(b"content-type") == DIALECTS["openai-chat"].content_type
    assert bench.seat.downstream.header(b"content-length") is None
    assert (bench.seat.reader.tally.usage, bench.seat.reader.tally.model) == (Usage(3, 4), "tiny")


@pytest.mark.parametrize("replay", ["instant", "original", "fixed"])
def test_a_document_has_a_length_and_no_pace(replay: str) -> None:
    bench = Bench(entry_of([b'{"a":', b"1}"], [0.0, 9.0], streamed=False), replay=replay).begin()
    assert bench.over
    assert bench.told == [(0.0, b'{"a":1}')]
    assert bench.seat.downstream.header(b"content-length") == b"7"


def test_as_it_came() -> None:
    bench = Bench(entry_of([EVENT, EVENT, EVENT, DONE], [0.0, 0.2, 0.2, 0.3]), replay="original").begin()
    bench.wait(0.6)
    assert [time for time, _ in bench.told] == pytest.approx([0.0, 0.2, 0.3], abs=0.015)
    assert [data for _, data in bench.told] == [EVENT, EVENT + EVENT, DONE]
    assert all(time >= due for (time, _), due in zip(bench.told, [0.0, 0.2, 0.3], strict=True))
    assert bench.over


def test_twice_as_fast_and_never_still_for_long() -> None:
    bench = Bench(entry_of([EVENT, EVENT, DONE], [0.0, 0.4, 100.0]), replay="original", speed=2.0, max_gap=0.3).begin()
    bench.wait(0.7)
    assert [time for time, _ in bench.told] == pytest.approx([0.0, 0.2, 0.5], abs=0.02)
    assert bench.over


def test_times_that_go_back_are_no_wait() -> None:
    bench = Bench(entry_of([EVENT, EVENT, EVENT, DONE], [0.0, 0.3, 0.1, 0.2]), replay="original").begin()
    bench.wait(0.6)
    assert bench.seat.downstream.packets == [EVENT, EVENT + EVENT, DONE]
    assert [time for time, _ in bench.told] == pytest.approx([0.0, 0.3, 0.4], abs=0.02)
    assert bench.over


def test_event_by_event() -> None:
    ends = [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n"]
    events = [b"data: %d" % number + end for number, end in enumerate(ends)]
    bench = Bench(entry_of([b"".join(events) + DONE]), replay="fixed", gap=0.1).begin()
    bench.wait(0.6)
    assert [data for _, data in bench.told] == [*events, DONE]
    assert [time for time, _ in bench.told] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4], abs=0.02)
    assert bench.over


def test_line_by_line() -> None:
    lines = [b'{"response":"a"}\n', b'{"done":true}']
    bench = Bench(entry_of([b"".join(lines)], dialect="ollama"), dialect="ollama", replay="fixed", gap=0.1).begin()
    bench.wait(0.3)
    assert [data for _, data in bench.told] == lines
    assert bench.over


def test_in_a_long_pause_the_reader_speaks() -> None:
    bench = Bench(entry_of([EVENT, DONE], [0.0, 1.2]), replay="original").begin()
    bench.wait(1.5)
    assert [data for _, data in bench.told] == [EVENT, LINE, LINE, DONE]
    assert [time for time, _ in bench.told] == pytest.approx([0.0, 0.5, 1.0, 1.2], abs=0.07)
    assert bench.seat.owner.keepalives == ["gap", "gap"]


# -- a client that reads slowly, or not at all


def test_a_client_that_does_not_read_is_told_nothing_and_then_all_that_is_due() -> None:
    bench = Bench(entry_of([EVENT, EVENT, EVENT, DONE], [0.0, 0.1, 0.2, 5.0]), replay="original", max_gap=60).begin()
    bench.pause()
    bench.wait(1)
    assert bench.body == EVENT
    bench.resume()
    assert bench.body == EVENT * 3
    bench.resume()
    bench.wait(4.5)
    assert bench.body.replace(LINE, b"") == EVENT * 3 + DONE
    assert bench.over


def test_a_full_socket_stops_it_between_two_pieces() -> None:
    bench = Bench(entry_of([BIG] * 20))

    bench.begin()
    told = len(bench.body)
    assert 0 < told < 2 * MOST_AT_ONCE
    bench.seat.downstream.on_write = bench.pause
    bench.wait(0.1)
    after_one_more = len(bench.body)
    assert told < after_one_more <= told + MOST_AT_ONCE
    bench.wait(1)
    assert len(bench.body) == after_one_more
    while not bench.seat.owner.ended:
        bench.resume()
    assert bench.body == BIG * 20


def test_a_client_that_was_paused_when_it_came() -> None:
    bench = Bench(entry_of([EVENT, DONE]))
    bench.seat.reader.paused = True
    bench.begin()
    assert bench.body == b""
    bench.seat.reader.client_resumed()
    assert bench.body == EVENT + DONE
    assert bench.over


class Listener:
    """A follower that writes down what it is told."""

    asked = answered = joined = False
    after = 0
    numbers = Ids.NONE

    def __init__(self) -> None:
        self.told: list[bytes] = []

    def response_started(self, head: ResponseHead) -> None:
        self.told.append(b"head")

    def body_received(self, data: bytes) -> None:
        self.told.append(data)

    def response_ended(self) -> None:
        self.told.append(b"end")

    def cork(self) -> None: ...

    def uncork(self) -> None: ...

    def dispatch_failed(self, failed: Failed) -> None:
        raise AssertionError

    in_step = False

    def lend(self, audience: object) -> Callable[[bytes], None]:
        raise AssertionError

    def passed(self, count: int, now: float) -> None:
        raise AssertionError

    def broke(self) -> None:
        raise AssertionError

    def go_on(self, *, cold: bool) -> None:
        raise AssertionError

    def given_up(self, error: ProxyError) -> None:
        raise AssertionError


def playback_of(entry: Entry, clock: Clock, **cache: Any) -> tuple[Playback, Listener]:
    listener = Listener()
    return Stored(entry, Alarms(clock), model.Cache(**cache)).subscribe(listener), listener


def test_calls_are_legal_at_any_time() -> None:
    playback, listener = playback_of(entry_of([EVENT, DONE]), Clock())
    playback.pause()
    playback.resume()
    assert listener.told == []
    playback.start()
    assert listener.told == [b"head", EVENT + DONE, b"end"]
    for call in (playback.pause, playback.resume, playback.resume, playback.abort, playback.abort, playback.start):
        call()
    assert len(listener.told) == 3
    playback, listener = playback_of(entry_of([EVENT, DONE]), Clock())
    playback.abort()
    playback.start()
    assert listener.told == []


def test_while_it_is_paused_no_clock_runs_for_it() -> None:
    clock = Clock()
    playback, listener = playback_of(entry_of([EVENT, DONE], [0.0, 1.0]), clock, replay="original")
    playback.start()
    playback.pause()
    clock.pump([0.1] * 3)
    assert clock.getDelayedCalls() == []
    clock.advance(5)
    assert listener.told == [b"head", EVENT]
    playback.resume()
    assert listener.told == [b"head", EVENT, DONE, b"end"]


def test_what_has_become_due_meanwhile_is_told_in_pieces_that_a_socket_takes() -> None:
    clock = Clock()
    playback, listener = playback_of(entry_of([BIG] * 10, [0.1 * number for number in range(10)]), clock, replay="original")
    playback.start()
    playback.pause()
    clock.advance(5)
    playback.resume()
    assert listener.told == [b"head", BIG, *[BIG * 2] * 4, BIG, b"end"]


@pytest.mark.parametrize("replay", ["instant", "original"])
def test_a_client_that_leaves_midway(replay: str) -> None:
    bench = Bench(entry_of([BIG] * 10, [0.3 * number for number in range(10)]), replay=replay).begin()
    bench.seat.downstream.gone = True
    bench.seat.reader.client_gone()
    told = bench.body
    bench.wait(1)
    assert (bench.body, bench.seat.outcome) == (told, "client_closed")
    assert bench.clock.getDelayedCalls() == []


@given(
    pieces=st.lists(st.integers(1, 40_000), min_size=1, max_size=12),
    times=st.lists(st.floats(0, 0.5, width=32), min_size=12, max_size=12),
    replay=st.sampled_from(["instant", "original", "fixed"]),
    stops=st.lists(st.integers(0, 10), max_size=6),
)
def test_it_is_always_all_of_it_once_and_in_order(pieces: list[int], times: list[float], replay: str, stops: list[int]) -> None:
    parts = [b"data: " + bytes([97 + number]) * size + b"\n\n" for number, size in enumerate(pieces)]
    entry = entry_of(parts, list(accumulate(times[: len(parts)])))
    bench = Bench(entry, replay=replay, gap=0.05).begin()
    for steps in stops:
        bench.pause()
        told = bench.body
        bench.wait(steps * 0.05)
        assert bench.body == told
        bench.resume()
        bench.wait(0.03)
        assert entry.body.startswith(bench.body.replace(LINE, b""))
    bench.wait(7)
    assert bench.body.replace(LINE, b"") == entry.body
    assert bench.over
    assert bench.clock.getDelayedCalls() == []
