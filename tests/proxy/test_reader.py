"""A reader towards its own client: it speaks, fails and ends as any exchange does, whatever it reads."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from tests.exchange.scripts import DONE, EVENT, LINE
from tests.fakes import Hall, Seat
from txsse.config import model
from txsse.dialects.usage import Usage
from txsse.errors import ProxyError
from txsse.exchange.table import State
from txsse.proxy.reader import cache_notes

USAGE = b'data: {"model":"tiny","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n'
DOCUMENT = b'{"object":"chat.completion","model":"tiny","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}'


def route(**changes: Any) -> model.Route:
    """Fast times: 100 ms between keepalives, a grace of 50 ms."""
    keepalive = model.Keepalive(interval=0.1, commit_after=0.05, heartbeat=0)
    hold = model.Hold(commit_after=0.05, timeout=5)
    return attrs.evolve(model.Route(name="llama", keepalive=keepalive, hold=hold), **changes)


@pytest.mark.parametrize(
    ("result", "reason", "age", "notes"),
    [
        ("hit", "", 3.9, [(b"X-Txsse-Cache", b"HIT"), (b"Age", b"3")]),
        ("miss", "", None, [(b"X-Txsse-Cache", b"MISS")]),
        ("uncacheable", "method", None, [(b"X-Txsse-Cache", b"UNCACHEABLE; reason=method")]),
    ],
)
def test_what_a_client_is_told_of_the_cache(result: str, reason: str, age: float | None, notes: list[tuple[bytes, bytes]]) -> None:
    assert cache_notes(result, reason, age) == notes


@pytest.mark.parametrize("asked", [False, True])
def test_who_asked_hears_that_the_answer_is_not_kept(asked: bool) -> None:
    hall = Hall()
    first, second = hall.seat(asked=True), hall.seat()
    hall.answer(200, b"text/event-stream", (b"Cache-Control", b"no-store"))
    seat = first if asked else second
    assert seat.reader.notes == ([(b"X-Txsse-Cache", b"UNCACHEABLE; reason=no_store")] if asked else [])
    first.reader.client_gone()
    second.reader.client_gone()


def test_the_prompt_counts_with_everybody_who_brought_it_as_long_as_it_may_be_sent_again() -> None:
    """Whoever leaves, what the run keeps is in somebody's account."""
    hall = Hall()
    first, second, third = hall.seat(asked=True), hall.seat(), hall.seat()
    first.reader.client_gone()
    assert (first.downstream.forgotten, second.downstream.forgotten, third.downstream.forgotten) == (True, False, False)
    assert hall.run.request.body == b'{"stream":true}'
    hall.answer()
    assert second.downstream.forgotten and third.downstream.forgotten
    assert (hall.run.request.body, second.reader.request.body) == (b"", b"")
    second.reader.client_gone()
    third.reader.client_gone()


def test_each_commits_after_its_own_grace() -> None:
    hall = Hall(route())
    first = hall.seat(asked=True, commits=True)
    hall.wait(0.03)
    second = hall.seat(commits=True)
    hall.wait(0.03)
    assert (first.downstream.status, second.downstream.status) == (200, 0)
    hall.answer()
    assert second.downstream.status == 200
    assert first.downstream.header(b"cold") == b"false"
    assert second.downstream.header(b"cold") is None  # that is upstream's
    hall.body(EVENT + DONE)
    hall.ended()
    assert first.downstream.body == LINE + EVENT + DONE
    assert second.downstream.body == EVENT + DONE


def test_what_is_no_stream_is_none_for_those_who_were_promised_one() -> None:
    hall = Hall(route())
    first, committed = hall.seat(asked=True), hall.seat(commits=True)
    hall.wait(0.1)
    hall.answer(200, b"application/json")
    hall.body(DOCUMENT)
    hall.ended()
    hall.wait(0.5)
    assert (first.downstream.body, first.outcome) == (DOCUMENT, "ok")
    assert (committed.code, committed.downstream.end) == ("upstream_invalid", "cut")


def test_json_is_kept_alive_by_blanks() -> None:
    hall = Hall(route(keepalive=model.Keepalive(interval=0.1, commit_after=0.05, json="whitespace")))
    first = hall.seat(asked=True, streaming=False, pads=True, body=b"{}")
    second = hall.seat(streaming=False, pads=True, body=b"{}")
    hall.wait(0.3)
    hall.answer(200, b"application/json")
    hall.body(DOCUMENT)
    hall.ended()
    for seat in (first, second):
        assert seat.downstream.body.startswith(b" ")
        assert seat.downstream.body.lstrip() == DOCUMENT
        assert seat.outcome == "ok"
    assert hall.watcher.complete == [DOCUMENT]


@pytest.mark.parametrize("stream", [False, True])
def test_tokens_are_those_of_what_is_read(stream: bool) -> None:
    hall = Hall()
    first, second = hall.seat(asked=True), hall.seat()
    hall.answer(200, b"text/event-stream" if stream else b"application/json")
    hall.body(EVENT + USAGE + DONE if stream else DOCUMENT)
    hall.ended()
    for seat in (first, second):
        assert (seat.reader.tally.usage, seat.reader.tally.model) == (Usage(3, 4), "tiny")


def test_it_tells_of_the_runs_wait_with_its_own_time() -> None:
    hall = Hall(route(), ready=False)
    first = hall.seat(asked=True)
    hall.wait(2)
    second = hall.seat()
    hall.wait(1)
    assert first.reader.hold_status().elapsed == pytest.approx(3)
    assert second.reader.hold_status().elapsed == pytest.approx(1)
    assert first.reader.hold_status().detail == "connection refused"
    first.reader.client_gone()
    second.reader.client_gone()


def test_a_reader_has_no_patience_with_its_upstream_but_that_of_its_own_request() -> None:
    timeouts = model.Timeouts(first_byte=0.3, idle=0.3, total=2)
    hall = Hall(route(), model.Upstream(name="llama", url="http://127.0.0.1:1", timeouts=timeouts))
    first = hall.seat(asked=True)
    hall.answer()
    for _ in range(8):
        hall.body(EVENT)
        hall.wait(0.2)
    late = hall.seat()
    for _ in range(3):
        hall.body(EVENT)
        hall.wait(0.2)
    assert b'"code":"upstream_timeout"' in first.downstream.body
    assert late.downstream.body.replace(LINE, b"") == EVENT * 11
    hall.wait(0.8)  # silence, which is for the run to end
    assert first.code == "upstream_timeout"
    assert late.code == "upstream_timeout"
    assert hall.backend.last.aborted


@pytest.mark.parametrize("phase", [State.HELD, State.SENT, State.STREAMING, State.TRAILING])
def test_the_drain_is_over(phase: State) -> None:
    hall = Hall(route(), ready=False)
    first, committed = hall.seat(asked=True), hall.seat(commits=True)
    hall.wait(0.1)
    if phase is not State.HELD:
        hall.backend.open()
    if phase in (State.STREAMING, State.TRAILING):
        hall.answer()
        hall.body(EVENT)
    if phase is State.TRAILING:
        hall.body(DONE)
    for seat in (first, committed):
        seat.reader.shut_down()
    hall.wait(1.5)
    if phase is State.TRAILING:
        assert [first.outcome, committed.outcome] == ["ok", "ok"]
    else:
        assert [first.code, committed.code] == ["shutting_down", "shutting_down"]
        assert committed.downstream.end == "cut"
    assert (hall.watcher.over, hall.backend.gate.taken, hall.quota.used) == (1, 0, 0)


class Scripted:
    """A source that says what the test makes it say."""

    held = False
    most_at_once = 65536

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.follower: Any = None

    def __getattr__(self, name: str) -> Any:
        def note(*args: Any) -> Any:
            self.calls.append(name)
            return self if name == "subscribe" else (None, "")

        return note


def seat_of(source: Any) -> Seat:
    hall = Hall(route())
    return Seat(hall.clock, hall.route, source)


def test_what_it_asks_of_a_source() -> None:
    source = Scripted()
    seat = seat_of(source).begin()
    assert source.calls == ["join", "subscribe", "start"]
    seat.reader.client_paused()
    seat.reader.client_resumed()
    assert source.calls[3:] == ["pause", "resume"]
    seat.reader.client_gone()
    assert source.calls[5:] == ["abort", "leave", "leave"]
    assert seat.outcome == "client_closed"


def test_a_source_that_has_failed_already() -> None:
    source = Scripted()
    source.held = True
    seat = seat_of(source).begin()
    assert source.calls == ["join", "wait"]
    seat.reader.given_up(ProxyError("wake_failed", "No."))
    assert source.calls[2:] == ["leave", "stop_waiting", "leave"]
    assert (seat.downstream.status, seat.code) == (503, "wake_failed")
