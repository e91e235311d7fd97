"""One upstream stream and many readers: each gets all of it, once, in order, at its own pace; and nobody's trouble is another's."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ExpectedErrors
from tests.exchange.scripts import DONE, EVENT, LINE
from tests.exchange.test_relay import BOM, Listener, cuts, streams
from tests.fakes import Hall, Seat
from txsse.config import model
from txsse.dialects import DIALECTS
from txsse.exchange.relay import Phase, StreamRelay
from txsse.exchange.table import State
from txsse.interfaces import Failed, Fault
from txsse.proxy.conductor import Conductor
from txsse.proxy.subscription import MOST_AT_ONCE, Follower, Subscription
from txsse.upstream.room import Refusal
from txsse.wire.http1 import ResponseHead

UNREACHABLE = Failed(Fault.UNREACHABLE, "connection refused")
RESET = Failed(Fault.RESET, "reset")
TRUNCATED = Failed(Fault.TRUNCATED, "connection closed inside the response")
COLD = model.Upstream(name="llama", url="http://127.0.0.1:1", fallback="other")
LOADING = b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}'
BIG = b"data: " + b"x" * 4090 + b"\n\n"


def route(**changes: Any) -> model.Route:
    """Fast times: 100 ms between keepalives, a grace of 50 ms."""
    keepalive = model.Keepalive(interval=0.1, commit_after=0.05, heartbeat=0)
    hold = model.Hold(commit_after=0.05, timeout=5)
    return attrs.evolve(model.Route(name="llama", keepalive=keepalive, hold=hold), **changes)


def ended_well(*seats: Seat) -> bool:
    return all((seat.downstream.end, seat.outcome) == ("finish", "ok") for seat in seats)


# -- one after the other


def test_a_late_reader_gets_what_there_is_at_once_and_then_what_comes() -> None:
    hall = Hall()
    first = hall.seat(asked=True)
    hall.answer()
    hall.body(EVENT, EVENT)
    second = hall.seat()
    assert second.downstream.status == 200
    assert second.downstream.packets == [EVENT + EVENT]  # with the head
    hall.body(EVENT + DONE)
    assert second.downstream.packets == [EVENT + EVENT, EVENT + DONE]
    hall.ended()
    assert first.downstream.body == second.downstream.body == EVENT * 3 + DONE
    assert ended_well(first, second)
    assert len(hall.backend.dispatches) == 1
    assert hall.watcher.complete == [EVENT * 3 + DONE]
    assert (hall.watcher.over, hall.quota.used, hall.backend.gate.taken) == (1, 0, 0)


def test_a_reader_that_comes_after_the_end_of_a_stream_that_somebody_still_reads() -> None:
    hall = Hall()
    slow = hall.seat(asked=True)
    slow.reader.client_paused()
    hall.answer()
    hall.body(EVENT + DONE)
    hall.ended()
    late = hall.seat()
    assert (late.downstream.body, late.outcome) == (EVENT + DONE, "ok")
    slow.reader.client_resumed()
    assert (slow.downstream.body, slow.outcome) == (EVENT + DONE, "ok")
    assert hall.quota.used == 0


def test_only_the_one_who_asked_gets_what_is_between_him_and_upstream() -> None:
    hall = Hall()
    first, second = hall.seat(asked=True), hall.seat()
    hall.answer(200, b"text/event-stream", (b"Set-Cookie", b"a=b"), (b"X-Request-Id", b"7"), (b"X-Model", b"tiny"))
    late = hall.seat()
    for seat, told in ((first, b"a=b"), (second, None), (late, None)):
        assert seat.downstream.header(b"set-cookie") == told
        assert seat.downstream.header(b"x-model") == b"tiny"
        seat.reader.client_gone()


def test_a_byte_order_mark_reaches_those_to_whom_nothing_of_ours_was_said() -> None:
    hall = Hall(route())
    early, late = hall.seat(asked=True), hall.seat(commits=True)
    hall.wait(0.2)
    hall.answer()
    hall.body(b"\xef\xbb\xbf" + EVENT + DONE)
    hall.ended()
    assert early.downstream.body == b"\xef\xbb\xbf" + EVENT + DONE
    assert late.downstream.body.endswith(b"\n" + EVENT + DONE)
    assert b"\xef\xbb\xbf" not in late.downstream.body


def test_each_reader_is_kept_alive_by_itself() -> None:
    hall = Hall(route())
    first = hall.seat(asked=True, commits=True)
    hall.wait(0.08)
    second = hall.seat(commits=True)
    hall.wait(0.5)
    first_times, second_times = first.downstream.times, second.downstream.times
    assert first.downstream.body == LINE * len(first_times)
    assert len(first_times) >= 5
    assert len(second_times) >= 4
    assert not set(first_times) & set(second_times)
    hall.answer()
    hall.body(EVENT)
    hall.wait(0.3)  # a gap: upstream says nothing, each reader does
    hall.body(DONE)
    hall.ended()
    for seat in (first, second):
        assert seat.downstream.body.replace(LINE, b"").replace(b"\n\n\n", b"\n\n").strip() == (EVENT + DONE).strip()
        assert seat.downstream.body.split(EVENT)[1].startswith(LINE)
    assert hall.owner.keepalives == []
    assert ended_well(first, second)


# -- waiting


def test_all_wait_with_the_run_and_go_on_with_it() -> None:
    hall = Hall(route(), ready=False)
    first, second = hall.seat(asked=True, commits=True), hall.seat(commits=True)
    hall.wait(0.3)
    assert len(hall.backend.gate.waiters) == 1
    assert first.downstream.status == second.downstream.status == 200
    assert hall.backend.dispatches == []
    hall.backend.open()
    assert len(hall.backend.dispatches) == 1
    hall.answer()
    hall.body(EVENT + DONE)
    hall.ended()
    assert ended_well(first, second)
    assert all(seat.reader.cold for seat in (first, second))
    assert all(seat.reader.tally.hold == pytest.approx(0.3, abs=0.01) for seat in (first, second))


@pytest.mark.parametrize("loading", [False, True])
def test_a_dispatch_that_meets_a_loading_upstream_puts_everybody_back_to_hold(loading: bool) -> None:
    hall = Hall(route())
    first, second = hall.seat(asked=True, commits=True), hall.seat()
    if loading:
        hall.answer(503, b"application/json")
        hall.body(LOADING)
        hall.ended()
    else:
        hall.backend.gate.state = hall.backend.gate.state.DOWN
        hall.failed(UNREACHABLE)
    assert first.reader.held
    assert second.reader.held
    third = hall.seat()
    assert third.reader.held
    hall.wait(0.2)
    assert (first.downstream.status, second.downstream.status) == (200, 0)
    hall.backend.open()
    assert not any(seat.reader.held for seat in (first, second, third))
    assert len(hall.backend.dispatches) == 2
    hall.answer()
    hall.body(EVENT + DONE)
    hall.ended()
    assert ended_well(first, second, third)
    assert second.downstream.body == third.downstream.body == EVENT + DONE


def test_each_reader_waits_as_long_as_its_own_hold_lasts() -> None:
    hall = Hall(route(), ready=False)
    first = hall.seat(asked=True)
    hall.wait(3)
    second = hall.seat()
    hall.wait(2.3)
    assert (first.downstream.status, first.code) == (503, "readiness_timeout")
    assert second.reader.held
    assert len(hall.backend.gate.waiters) == 1
    hall.wait(3)
    assert second.code == "readiness_timeout"
    assert (hall.backend.gate.waiters, hall.watcher.over) == ([], 1)


def test_a_refusal_at_the_gate_is_everybodys() -> None:
    hall = Hall(route(), ready=False)
    first, second, committed = hall.seat(asked=True), hall.seat(), hall.seat(commits=True)
    hall.wait(0.1)
    (waiter,) = hall.backend.gate.waiters
    hall.backend.gate.waiters.clear()
    waiter.turned_away(Refusal("wake_failed", "it did not start"))
    for seat in (first, second):
        assert (seat.downstream.status, seat.code, seat.downstream.end) == (503, "wake_failed", "finish")
    hall.wait(0.5)
    assert b'"code":"wake_failed"' in committed.downstream.body
    assert (committed.code, committed.downstream.end) == ("wake_failed", "cut")
    assert hall.watcher.over == 1


def test_a_fallback_that_is_loading_too_is_no_reason_to_wait_again() -> None:
    hall = Hall(route(hold=model.Hold(commit_after=0.05, timeout=0.2)), upstream=COLD, ready=False, fallback=True)
    first, committed = hall.seat(asked=True), hall.seat(commits=True)
    hall.wait(0.3)
    assert len(hall.backend.dispatches) == 0
    dispatch = hall.fallback.last
    dispatch.receiver.response_started(ResponseHead(503, b"", b"HTTP/1.1", [(b"Content-Type", b"application/json")]))
    dispatch.receiver.body_received(LOADING)
    dispatch.receiver.response_ended()
    hall.wait(0.5)
    assert (first.downstream.status, first.downstream.body, first.downstream.end) == (503, LOADING, "finish")
    assert (committed.code, committed.downstream.end) == ("upstream_error", "cut")


# -- failures


def test_a_failure_before_the_head_refuses_everybody_in_its_own_terms() -> None:
    hall = Hall(route())
    first, second, committed = hall.seat(asked=True), hall.seat(), hall.seat(commits=True)
    hall.wait(0.1)
    hall.failed(RESET)
    hall.wait(0.5)
    assert [seat.downstream.status for seat in (first, second, committed)] == [502, 502, 200]
    assert [seat.downstream.end for seat in (first, second, committed)] == ["finish", "finish", "cut"]
    assert {seat.code for seat in (first, second, committed)} == {"upstream_unavailable"}
    assert len(hall.backend.dispatches) == 1
    assert not hall.run.joinable
    assert hall.watcher.complete == []


def test_a_failure_before_anybody_reads() -> None:
    """The dispatch fails before it returns."""
    hall = Hall()
    hall.backend.on_dispatch = lambda dispatch: dispatch.receiver.dispatch_failed(RESET)
    seat = hall.seat(asked=True)
    assert (seat.downstream.status, seat.code) == (502, "upstream_unavailable")
    assert (hall.watcher.over, hall.backend.gate.taken) == (1, 0)


def test_upstreams_own_error_reaches_everybody_with_its_status() -> None:
    hall = Hall(route())
    first, second, committed = hall.seat(asked=True), hall.seat(), hall.seat(commits=True)
    hall.wait(0.1)
    hall.answer(400, b"application/json")
    hall.body(b'{"error":{"message":"no such thing","type":"invalid_request_error"}}')
    hall.ended()
    hall.wait(0.5)
    assert first.downstream.status == second.downstream.status == 400
    assert first.downstream.body == second.downstream.body == b'{"error":{"message":"no such thing","type":"invalid_request_error"}}'
    assert ended_well(first, second)
    assert (committed.code, committed.downstream.end) == ("upstream_error", "cut")
    assert b'"message":"no such thing"' in committed.downstream.body


def test_a_stream_that_breaks_off_does_so_for_everybody_after_all_that_came() -> None:
    hall = Hall()
    first, slow = hall.seat(asked=True), hall.seat()
    slow.reader.client_paused()
    hall.answer()
    hall.body(EVENT, EVENT + b"data: hal")
    hall.failed(TRUNCATED)
    hall.wait(0.5)
    late = slow
    assert late.downstream.body == b""
    late.reader.client_resumed()
    hall.wait(0.5)
    for seat in (first, slow):
        assert seat.downstream.body.startswith(EVENT + EVENT + b'data: {"error":')
        assert (seat.code, seat.downstream.end) == ("upstream_disconnected", "cut")
    assert (hall.watcher.complete, hall.quota.used) == ([], 0)


def test_a_bug_in_the_run_is_no_silence_for_its_readers(expected_errors: ExpectedErrors) -> None:
    hall = Hall()
    hall.owner.broken = True
    seat = hall.seat(asked=True)
    assert (seat.downstream.status, seat.code, hall.watcher.over) == (502, "cancelled", 1)
    assert len(expected_errors.flush(ZeroDivisionError)) == 1


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("at", ["body", "end"])
def test_a_bug_in_one_reader_is_not_the_others(at: str, behind: bool, expected_errors: ExpectedErrors) -> None:
    hall = Hall()
    seats = [hall.seat(asked=True), hall.seat(), hall.seat()]
    broken = seats[1]

    def break_down() -> None:
        raise ZeroDivisionError("a bug")

    hall.answer()
    if behind:
        broken.reader.client_paused()
    if at == "body":
        broken.downstream.on_write = break_down
    hall.body(EVENT, EVENT + b"data: the last")
    if at == "end":
        broken.downstream.on_write = break_down  # what upstream left without its blank line comes with the end
    hall.ended()
    if behind:
        broken.reader.client_resumed()
    assert (broken.downstream.end, broken.code) == ("abort", "internal")
    assert ended_well(seats[0], seats[2])
    assert seats[0].downstream.body == seats[2].downstream.body == EVENT + EVENT + b"data: the last"
    assert len(hall.watcher.complete) == 1
    assert (hall.quota.used, hall.backend.gate.taken) == (0, 0)
    assert len(expected_errors.flush(ZeroDivisionError)) == 1


# -- leaving


PHASES = ["held", "sent", "streaming", "paused", "trailing"]


def _bring(hall: Hall, phase: str, seats: list[Seat]) -> None:
    if phase == "held":
        return
    hall.backend.open()
    if phase == "sent":
        return
    hall.answer()
    hall.body(EVENT)
    if phase == "paused":
        for seat in seats:
            seat.reader.client_paused()
    if phase == "trailing":
        hall.body(DONE)


@pytest.mark.parametrize("how", ["gone", "stalled", "shut down"])
@pytest.mark.parametrize("phase", PHASES)
def test_the_last_one_out_ends_the_run(phase: str, how: str) -> None:
    hall = Hall(route(), ready=False)
    seats = [hall.seat(asked=True), hall.seat()]
    _bring(hall, phase, seats)
    for number, seat in enumerate(seats):
        if number == 1 and phase != "trailing":
            assert hall.watcher.over == 0
        if how == "gone":
            seat.downstream.gone = True
            seat.reader.client_gone()
        elif how == "stalled":
            seat.reader.client_stalled()
        else:
            seat.reader.shut_down()
    if phase == "trailing":
        assert not hall.backend.last.aborted
        hall.wait(1.1)
    assert (hall.watcher.over, hall.quota.used) == (1, 0)
    assert all(dispatch.aborted for dispatch in hall.backend.dispatches)
    assert (hall.backend.gate.taken, hall.backend.gate.waiters, hall.backend.in_flight, hall.route.room.waiting) == (0, [], 0, 0)
    assert hall.watcher.complete == ([EVENT + DONE] if phase == "trailing" else [])
    hall.wait(1)
    assert len(seats[0].owner.ended) == len(seats[1].owner.ended) == 1


@pytest.mark.parametrize("phase", PHASES)
def test_the_one_who_asked_leaves_and_the_others_do_not_notice(phase: str) -> None:
    hall = Hall(route(), ready=False)
    leader, second, third = seats = [hall.seat(asked=True), hall.seat(), hall.seat()]
    _bring(hall, phase, seats)
    leader.downstream.gone = True
    leader.reader.client_gone()
    third.downstream.gone = True
    third.reader.client_gone()
    for needed in PHASES[PHASES.index(phase) :]:
        if needed == "held":
            hall.backend.open()
        elif needed == "sent":
            hall.answer()
            hall.body(EVENT)
    if phase == "paused":
        second.reader.client_resumed()
    if phase != "trailing":
        hall.body(EVENT + DONE)
    hall.ended()
    assert second.downstream.body == EVENT + (b"" if phase == "trailing" else EVENT) + DONE
    assert ended_well(second)
    assert hall.quota.used == 0


def test_who_hangs_up_on_the_last_word_has_been_told_all_and_the_answer_is_kept() -> None:
    hall = Hall()
    seat = hall.seat(asked=True)
    hall.answer()
    usage = b'data: {"model":"tiny","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n'
    hall.body(EVENT, usage + DONE)
    seat.downstream.gone = True
    seat.reader.client_gone()
    assert seat.outcome == "ok"
    found = seat.reader.tally.usage
    assert found is not None
    assert (found.prompt, found.completion, seat.reader.tally.model) == (3, 4, "tiny")
    hall.ended()
    assert hall.watcher.complete == [EVENT + usage + DONE]
    assert hall.run.usage() == (found, "tiny")


def test_who_has_been_sent_an_error_reads_no_more_while_that_leaves() -> None:
    """Its client may take long to read it."""
    hall = Hall(route())
    seat = hall.seat(asked=True, commits=True)
    hall.answer()
    hall.body(EVENT)
    seat.downstream.unsent = 100
    seat.reader.shut_down()
    assert seat.owner.ended == []
    assert (hall.backend.last.aborted, hall.watcher.over, hall.quota.used) == (True, 1, 0)
    seat.downstream.unsent = 0
    hall.wait(0.5)
    assert (seat.code, seat.downstream.end) == ("shutting_down", "cut")


# -- pace


def test_upstream_waits_only_if_nobody_is_live_and_much_is_still_to_be_read() -> None:
    hall = Hall(limit=40_000)
    first, second = hall.seat(asked=True), hall.seat()
    hall.answer()
    first.reader.client_paused()
    hall.body(*[BIG] * 6)
    assert not hall.backend.last.paused  # the other one reads
    second.reader.client_paused()
    assert hall.backend.last.paused
    hall.body(BIG)  # had been read from the socket already
    first.reader.client_resumed()
    assert first.downstream.body == BIG * 7
    assert not hall.backend.last.paused
    first.reader.client_paused()
    assert hall.backend.last.paused
    second.reader.client_gone()
    assert hall.backend.last.paused
    first.reader.client_resumed()
    assert not hall.backend.last.paused
    first.reader.client_gone()


def test_upstream_goes_on_until_half_of_the_recording_is_full() -> None:
    hall = Hall(limit=40_000)
    seat = hall.seat(asked=True)
    hall.answer()
    seat.reader.client_paused()
    for number in range(6):
        assert hall.backend.last.paused == (number == 5)
        hall.body(BIG)
    seat.reader.client_gone()


def test_what_one_reader_is_handed_may_concern_another() -> None:
    hall = Hall()
    seats = [hall.seat(asked=True), hall.seat(), hall.seat()]
    hall.answer()
    first, second, third = (each.follower for each in hall.run.audience.live)
    by_follower: dict[Follower, Seat] = {seat.reader: seat for seat in seats}

    def concern() -> None:
        by_follower[second].reader.client_paused()
        by_follower[third].downstream.gone = True
        by_follower[third].reader.client_gone()

    by_follower[first].downstream.on_write = concern
    hall.body(EVENT)
    by_follower[first].downstream.on_write = lambda: None
    by_follower[second].reader.client_resumed()
    hall.body(DONE)
    hall.ended()
    assert by_follower[first].downstream.body == by_follower[second].downstream.body == EVENT + DONE
    assert by_follower[third].downstream.body == b""
    assert hall.quota.used == 0


def test_a_reader_that_leaves_while_upstream_waits_for_it_alone() -> None:
    hall = Hall(limit=10_000)
    first, second = hall.seat(asked=True), hall.seat()
    hall.answer()
    first.reader.client_paused()
    hall.body(BIG, BIG)
    second.reader.client_paused()
    assert hall.backend.last.paused
    second.reader.client_resumed()
    first.reader.client_gone()
    assert not hall.backend.last.paused
    second.reader.client_gone()


def test_a_slow_reader_is_cut_off_where_others_go_on() -> None:
    hall = Hall(limit=20_000)
    fast, slow = hall.seat(asked=True), hall.seat()
    hall.answer()
    hall.body(EVENT)
    slow.reader.client_paused()
    hall.body(*[BIG] * 20)
    assert hall.quota.used <= 20_000
    assert not hall.run.joinable
    slow.reader.client_resumed()
    hall.wait(0.5)
    assert slow.downstream.body.startswith(EVENT + b'data: {"error":')
    assert (slow.code, slow.downstream.end) == ("replay_truncated", "cut")
    hall.body(DONE)
    hall.ended()
    assert fast.downstream.body == EVENT + BIG * 20 + DONE
    assert ended_well(fast)
    assert hall.quota.used == 0


@pytest.mark.parametrize(("limit", "space"), [(20_000, 1 << 20), (1 << 20, 20_000), (100, 1 << 20), (1 << 20, 0)])
def test_who_is_alone_is_never_cut_off(limit: int, space: int) -> None:
    hall = Hall(limit=limit, space=space)
    seat = hall.seat(asked=True)
    hall.answer()
    for number in range(40):
        if number % 5 == 2:
            seat.reader.client_paused()
        if number % 5 == 4:
            assert hall.backend.last.paused or hall.quota.used < limit / 2
            seat.reader.client_resumed()
        hall.body(BIG)
    assert hall.quota.used <= min(limit, space)
    hall.body(DONE)
    hall.ended()
    seat.reader.client_resumed()
    assert seat.downstream.body == BIG * 40 + DONE
    assert ended_well(seat)
    assert hall.quota.used == 0


def test_a_late_reader_with_a_slow_client_is_not_handed_all_of_it_at_once() -> None:
    """The front learns to whom it may tell of a full socket when the reader has begun, and not before."""
    hall = Hall()
    first = hall.seat(asked=True)
    hall.answer()
    hall.body(*[BIG] * 100)
    late = hall.seat()
    assert MOST_AT_ONCE <= len(late.downstream.body) <= MOST_AT_ONCE + 2 * 16384
    late.reader.client_paused()
    told = len(late.downstream.body)
    hall.wait(0.1)
    hall.body(BIG)
    assert len(late.downstream.body) == told
    late.reader.client_resumed()
    assert late.downstream.body == BIG * 101
    other = hall.seat()
    hall.wait(0.01)
    assert other.downstream.body == BIG * 101
    for seat in (first, late, other):
        seat.reader.client_gone()


def test_a_reader_may_leave_between_what_it_was_handed_first_and_the_rest() -> None:
    hall = Hall()
    first = hall.seat(asked=True)
    hall.answer()
    hall.body(*[BIG] * 100)
    late = hall.seat()
    late.downstream.gone = True
    late.reader.client_gone()
    hall.wait(0.1)
    assert late.outcome == "client_closed"
    first.reader.client_gone()
    assert hall.quota.used == 0


# -- memory


def _lives(hall: Hall, seats: list[Seat], which: int) -> None:
    hall.backend.open()
    if which == 0:
        hall.answer()
        hall.body(EVENT + DONE)
        hall.ended()
    elif which == 1:
        hall.answer()
        hall.body(EVENT)
        for seat in seats:
            seat.reader.client_gone()
    elif which == 2:
        hall.failed(RESET)
        hall.wait(0.5)
    elif which == 3:
        hall.answer()
        hall.body(*[BIG] * 40)
        seats[1].reader.client_paused()
        hall.body(*[BIG] * 10)
        hall.failed(RESET)
        seats[1].reader.client_resumed()
        hall.wait(0.5)
    else:
        hall.failed(UNREACHABLE)
        hall.wait(6)


def test_runs_and_readers_are_freed_by_their_last_reference_and_not_by_the_collector() -> None:
    gc.collect()
    kinds = (Conductor, Subscription)
    before = sum(isinstance(each, kinds) for each in gc.get_objects())
    gc.disable()
    try:
        left: list[weakref.ref[Any]] = []
        for number in range(20):
            hall = Hall(route(), ready=False, limit=100_000)
            seats = [hall.seat(asked=True), hall.seat(), hall.seat(commits=True)]
            hall.wait(0.06)
            _lives(hall, seats, number % 5)
            assert [len(seat.owner.ended) for seat in seats] == [1, 1, 1]
            assert hall.watcher.over == 1
            left += [weakref.ref(each) for each in (hall.owner, hall.watcher, hall.run.route, *(seat.owner for seat in seats))]
            for dispatch in hall.backend.dispatches:
                dispatch.receiver = None  # type: ignore[assignment]  # as a connection does after the last word
            hall.backend.on_dispatch = lambda dispatch: None
            del hall, seats, dispatch
        assert [each() for each in left if each() is not None] == []
        assert sum(isinstance(each, kinds) for each in gc.get_objects()) == before
    finally:
        gc.enable()


# -- what a reader need not look at again

whole_events = st.sampled_from([EVENT, b"data: x\n\ndata: y\n\n", b"data: x\r\n\r\n", b"event: a\ndata: x\n\n", DONE, b": ping\n"])
whole_lines = st.sampled_from(
    [b'{"message":{}}\n', b'{"a":1}\n{"b":2}\n', b'{"done":true}\n', b" ", b"{", b"}\n", b'{"a":' + b" " * 80, b"\n"]
)
reads = st.one_of(
    st.lists(whole_events, max_size=12),
    st.builds(cuts, streams, st.lists(st.integers(0, 400), max_size=40)),
    st.builds(
        lambda before, stream, at: before + cuts(stream, at), st.lists(whole_events, max_size=4), streams, st.lists(st.integers(0, 400))
    ),
    st.just([BOM + EVENT, EVENT]),
)


said = st.one_of(
    st.tuples(st.sampled_from(["openai-chat", "sse"]), reads), st.tuples(st.just("ollama"), st.lists(whole_lines, max_size=12))
)


@given(said=said, hold_bytes=st.sampled_from([16, 64, 65536]))
def test_what_a_reader_does_not_look_at_again_would_have_changed_nothing(said: tuple[str, list[bytes]], hold_bytes: int) -> None:
    """Whatever comes: it writes, allows and has seen what two relays do of which the second looks at all that the first lets through."""
    dialect, pieces = said
    hall = Hall(route(stream=model.Stream(hold_bytes=hold_bytes)), dialect=dialect)
    early = hall.seat(asked=True)
    hall.answer(kind=DIALECTS[dialect].content_type)
    first, second = (Listener(dialect=dialect, hold_bytes=hold_bytes) for _ in range(2))
    for number, piece in enumerate(filter(None, pieces)):
        hall.body(piece)
        second.feed(first.feed(piece))
        if number == 3:
            late = hall.seat()
            late.reader.client_gone()
        relay = early.reader._relay
        assert isinstance(relay, StreamRelay) and early.reader._machine is not None
        assert early.downstream.body == second.out
        assert (relay.may_speak(), relay.started) == (second.relay.may_speak(), second.relay.started)
        assert (early.reader._machine.state is State.TRAILING) == (Phase.TERMINAL in second.phases)
    second.feed(first.relay.end())
    hall.ended()
    assert early.downstream.body.startswith(second.end())
