"""One exchange at work: the machine's timers on a clock, its actions on fake neighbours, and nothing left behind."""

from __future__ import annotations

import gc
import re
import weakref
from itertools import pairwise
from typing import Any

import attrs
import pytest
from twisted.internet.task import Clock

from tests.conftest import ExpectedErrors
from tests.exchange.scripts import DONE, EVENT, LINE
from tests.fakes import FakeDispatch, Stage
from txsse.config import model
from txsse.exchange import actions as act
from txsse.interfaces import Failed, Fault
from txsse.proxy.conductor import Conductor
from txsse.upstream.room import Refusal, Waiter

REFUSED = Failed(Fault.UNREACHABLE, "connection refused")


def route(**changes: Any) -> model.Route:
    """Fast times: 100 ms between keepalives, a grace of 50 ms."""
    keepalive = model.Keepalive(interval=0.1, commit_after=0.05, heartbeat=0)
    hold = model.Hold(commit_after=0.05, timeout=5)
    return attrs.evolve(model.Route(name="llama", keepalive=keepalive, hold=hold), **changes)


def upstream(**timeouts: Any) -> model.Upstream:
    return model.Upstream(name="llama", url="http://127.0.0.1:1", timeouts=model.Timeouts(**timeouts))


def gaps(stage: Stage) -> list[float]:
    times = stage.downstream.times
    return [later - earlier for earlier, later in pairwise(times)]


# -- time


def test_committed_after_the_grace_then_a_keepalive_each_interval() -> None:
    stage = Stage(route()).begin()
    stage.wait(0.045)
    assert stage.downstream.status == 0
    stage.wait(1.2)
    assert stage.downstream.status == 200
    assert 0.05 - 1e-9 <= stage.downstream.times[0] <= 0.06
    assert set(stage.downstream.body.splitlines(keepends=True)) == {LINE}
    assert all(0.1 <= gap <= 0.1101 for gap in gaps(stage))
    assert len(gaps(stage)) >= 10
    assert stage.owner.keepalives == ["first_byte"] * len(stage.downstream.times)
    stage.conductor.client_gone()


@pytest.mark.parametrize("interval", [0.25, 1, 15])
def test_keepalives_are_late_by_a_tenth_at_most(interval: float) -> None:
    stage = Stage(route(keepalive=model.Keepalive(interval=interval, commit_after=0.05, heartbeat=0))).begin()
    stage.wait(interval * 8)
    assert len(gaps(stage)) >= 7
    assert all(interval <= gap <= interval * 1.1 for gap in gaps(stage))
    stage.conductor.client_gone()


def test_the_interval_counts_from_the_last_byte_written() -> None:
    stage = Stage(route()).begin()
    stage.answer()
    for _ in range(20):
        stage.wait(0.07)
        stage.body(EVENT)
    assert stage.downstream.body == EVENT * 20
    stage.wait(0.3)
    written = stage.downstream.writes[19:]
    assert [data for _, data in written] == [EVENT, LINE, LINE]
    assert 0.1 <= written[1][0] - written[0][0] <= 0.1101
    assert stage.owner.keepalives == ["gap"] * 2
    stage.conductor.client_gone()


def test_a_warm_stream_gets_no_byte_of_ours() -> None:
    stage = Stage(route()).begin()
    stage.wait(0.04)
    stage.answer()
    stage.body(EVENT, EVENT[:5], EVENT[5:], DONE)
    stage.ended()
    assert stage.downstream.body == EVENT + EVENT + DONE
    assert stage.downstream.end == "finish"
    assert stage.outcome == "ok"
    assert stage.backend.in_flight == 0


def test_no_keepalive_while_the_client_is_not_reading() -> None:
    stage = Stage(route()).begin()
    stage.wait(0.06)
    stage.downstream.unsent = 1
    stage.wait(2)
    assert stage.downstream.body == LINE
    read_again = stage.clock.seconds()
    stage.downstream.unsent = 0
    stage.wait(0.5)
    assert stage.downstream.times[1] >= read_again + 0.09
    assert stage.downstream.times[1] <= read_again + 0.12
    stage.conductor.client_gone()


def test_no_heartbeat_while_the_client_is_not_reading() -> None:
    stage = Stage(route(keepalive=model.Keepalive(interval=60, commit_after=0.05, heartbeat=0.2))).begin()
    stage.wait(0.3)
    assert stage.downstream.body.count(b"data:") == 1
    stage.downstream.unsent = 1
    stage.wait(2)
    assert stage.downstream.body.count(b"data:") == 1
    stage.downstream.unsent = 0
    stage.wait(0.1)
    assert stage.downstream.body.count(b"data:") == 2
    stage.conductor.client_gone()


def test_idle_counts_from_upstreams_last_byte() -> None:
    stage = Stage(route(), upstream(idle=0.5)).begin()
    stage.answer()
    for _ in range(10):
        stage.body(EVENT)
        stage.wait(0.45)
    assert not stage.downstream.end
    last = stage.clock.seconds() - 0.45
    stage.wait(0.5)
    assert stage.outcome == "timeout"
    assert b'"code":"upstream_timeout"' in stage.downstream.body
    error_at = stage.downstream.times[-1]
    assert last + 0.5 <= error_at <= last + 0.55


def test_idle_is_not_counted_while_the_client_has_us_paused() -> None:
    stage = Stage(route(), upstream(idle=0.5)).begin()
    stage.answer()
    stage.body(EVENT)
    stage.downstream.unsent = 1
    stage.conductor.client_paused()
    assert stage.backend.last.paused
    stage.wait(5)
    assert not stage.downstream.end
    stage.downstream.unsent = 0
    stage.conductor.client_resumed()
    assert not stage.backend.last.paused
    stage.wait(0.45)
    assert not stage.owner.ended
    stage.wait(0.4)
    assert stage.outcome == "timeout"


def test_upstreams_comments_keep_it_alive_only_where_they_count() -> None:
    for count, ends in ((True, 0), (False, 1)):
        stage = Stage(route(), upstream(idle=0.5, comments_count=count)).begin()
        stage.answer()
        stage.body(EVENT)
        for _ in range(15):
            stage.wait(0.1)
            if not stage.downstream.end and not stage.backend.last.aborted:
                stage.body(b": ping\n\n")
        assert len(stage.owner.ended) == ends
        stage.conductor.client_gone()


def test_the_head_alone_is_not_the_first_byte() -> None:
    stage = Stage(route(), upstream(first_byte=0.5)).begin()
    stage.answer()
    stage.wait(0.8)
    assert stage.outcome == "timeout"


def test_total_counts_from_the_head_of_the_request() -> None:
    clock = Clock()
    clock.advance(50)
    stage = Stage(route(), upstream(total=0.5), streaming=False, clock=clock)
    stage.request.began -= 0.3
    assert stage.conductor._machine is not None
    stage.conductor._machine._began = stage.request.began
    stage.begin()
    stage.wait(0.19)
    assert not stage.owner.ended
    stage.wait(0.05)
    assert stage.downstream.status == 504
    assert stage.backend.last.aborted


# -- the end of a failure


def test_the_cut_comes_200_ms_after_the_frame_has_left_our_buffer() -> None:
    stage = Stage(route()).begin()
    stage.wait(0.06)
    stage.downstream.unsent = 100
    stage.failed(Failed(Fault.RESET, "connection reset"))
    assert b'"code":"upstream_unavailable"' in stage.downstream.body
    stage.wait(1)
    assert stage.downstream.alive
    left_at = stage.clock.seconds()
    stage.downstream.unsent = 0
    stage.wait(0.5)
    assert stage.downstream.end == "cut"
    assert 0.2 <= stage.downstream.ended_at - left_at <= 0.23
    assert not stage.downstream.body.endswith(DONE)


def test_a_client_that_leaves_before_the_cut_ends_it() -> None:
    stage = Stage(route()).begin()
    stage.wait(0.06)
    stage.failed(Failed(Fault.RESET, "connection reset"))
    stage.downstream.gone = True
    stage.conductor.client_gone()
    assert stage.outcome == "upstream_error"
    stage.wait(1)
    assert stage.clock.getDelayedCalls() == []


# -- holding


def test_held_refused_again_and_served() -> None:
    stage = Stage(route(), ready=False).begin()
    assert stage.route.room.waiting == 1
    stage.wait(0.06)
    assert stage.downstream.status == 200
    assert stage.downstream.header(b"cold") == b"true"
    assert re.fullmatch(rb': txsse \{"state":"down","elapsed":0\.[01]\}\n', stage.downstream.body)
    stage.backend.open()
    assert (stage.route.room.waiting, stage.backend.in_flight) == (0, 1)
    stage.failed(REFUSED)
    assert (stage.route.room.waiting, stage.backend.in_flight) == (1, 0)
    assert stage.backend.gate.marks == [("down", "connection refused")]
    assert stage.backend.last.body == b'{"stream":true}'
    stage.backend.open()
    stage.answer()
    stage.body(EVENT + DONE)
    stage.ended()
    assert stage.downstream.body.endswith(b"\n" + EVENT + DONE)
    assert stage.outcome == "ok"
    assert len(stage.backend.dispatches) == 2
    assert stage.conductor.tally.hold == pytest.approx(0.06)


def test_a_loading_answer_goes_back_to_hold_with_the_body_kept() -> None:
    stage = Stage(route(), streaming=False).begin()
    stage.answer(503, b"application/json")
    stage.body(b'{"error":{"message":"Loading', b' model"}}')
    assert not stage.downstream.forgotten
    stage.ended()
    assert stage.backend.gate.marks == [("loading", "HTTP 503, loading")]
    assert stage.downstream.status == 0
    stage.backend.open()
    assert stage.backend.last.body == b'{"stream":true}'
    stage.answer(200, b"application/json", (b"Content-Length", b"2"))
    stage.body(b"{}")
    stage.ended()
    assert (stage.downstream.status, stage.downstream.body) == (200, b"{}")


def test_a_loading_answer_is_read_up_to_4_kib_and_its_connection_dropped() -> None:
    stage = Stage(route(), streaming=False).begin()
    first = stage.backend.last
    stage.answer(503, b"application/json")
    stage.body(b"loading ", b"x" * 4088)
    assert first.aborted
    assert stage.route.room.waiting == 1
    assert stage.backend.in_flight == 0
    stage.conductor.client_gone()


def test_a_stale_connection_is_tried_once_more_on_a_fresh_one() -> None:
    stage = Stage(route()).begin()
    stage.failed(Failed(Fault.STALE, "kept-alive connection closed"))
    assert [each.fresh for each in stage.backend.dispatches] == [False, True]
    assert stage.backend.in_flight == 1
    stage.conductor.client_gone()
    assert stage.backend.in_flight == 0


def test_a_full_waiting_room_refuses_before_any_byte() -> None:
    stage = Stage(route(hold=model.Hold(max_waiting=1)), ready=False)
    stage.route.room.waiting = 1
    stage.begin()
    assert stage.downstream.status == 429
    assert stage.owner.refused[0].code == "too_many_waiting"
    assert stage.route.room.waiting == 1
    assert stage.backend.gate.waiters == []


def test_a_wait_that_is_in_vain_ends_the_hold() -> None:
    stage = Stage(route(), ready=False).begin()
    stage.backend.gate.waiters[0].turned_away(Refusal("upstream_invalid", "bad certificate"))
    assert stage.owner.refused[0].code == "upstream_invalid"
    assert stage.route.room.waiting == 0


def test_ready_at_the_very_moment_of_waiting() -> None:
    stage = Stage(route(), ready=False)
    enter = stage.backend.gate.enter

    def opening(waiter: Waiter, priority: int, since: float) -> None:
        enter(waiter, priority, since)
        stage.backend.open()

    stage.backend.gate.enter = opening  # type: ignore[method-assign]  # a gate that opens meanwhile
    stage.begin()
    assert len(stage.backend.dispatches) == 1
    assert stage.route.room.waiting == 0
    stage.conductor.client_gone()


def test_a_dispatch_that_fails_before_it_returns() -> None:
    def refuse_once(dispatch: FakeDispatch) -> None:
        if len(stage.backend.dispatches) == 1:
            dispatch.receiver.dispatch_failed(REFUSED)

    stage = Stage(route())
    stage.backend.on_dispatch = refuse_once
    stage.begin()
    assert stage.conductor.held
    assert stage.backend.in_flight == 0
    stage.backend.open()
    assert stage.backend.in_flight == 1
    stage.conductor.client_gone()


# -- the client leaves


def _held(stage: Stage) -> None:
    pass


def _sent(stage: Stage) -> None:
    stage.backend.open()


def _committed(stage: Stage) -> None:
    stage.backend.open()
    stage.wait(0.06)


def _streaming(stage: Stage) -> None:
    stage.backend.open()
    stage.answer()
    stage.body(EVENT, b"data: ha")


def _judging(stage: Stage) -> None:
    stage.backend.open()
    stage.answer(503, b"application/json")
    stage.body(b"half")


def _plain(stage: Stage) -> None:
    stage.backend.open()
    stage.answer(404, b"application/json")
    stage.body(b"half")


@pytest.mark.parametrize("phase", [_held, _sent, _committed, _streaming, _judging, _plain])
@pytest.mark.parametrize("leave", ["client_gone", "client_stalled"])
def test_who_leaves_takes_everything_along(phase: Any, leave: str) -> None:
    stage = Stage(route(), ready=False).begin()
    phase(stage)
    getattr(stage.conductor, leave)()
    assert stage.outcome == "client_closed"
    assert stage.backend.gate.waiters == []
    assert all(each.aborted for each in stage.backend.dispatches)
    assert (stage.route.room.waiting, stage.backend.in_flight) == (0, 0)
    assert stage.downstream.end == ("abort" if leave == "client_stalled" else "")
    assert stage.downstream.forgotten
    for late in ("client_gone", "client_stalled", "client_paused", "client_resumed", "shut_down"):
        getattr(stage.conductor, late)()
    stage.wait(2)
    assert stage.clock.getDelayedCalls() == []
    assert len(stage.owner.ended) == 1


def test_a_client_that_leaves_while_we_write_to_it() -> None:
    stage = Stage(route()).begin()
    stage.answer()
    stage.downstream.on_write = stage.conductor.client_gone
    stage.body(EVENT)
    assert stage.outcome == "client_closed"
    assert stage.backend.dispatches[0].aborted


def test_a_client_paused_before_the_dispatch_pauses_it() -> None:
    stage = Stage(route(), ready=False).begin()
    stage.conductor.client_paused()
    stage.backend.open()
    assert stage.backend.last.paused
    stage.conductor.client_resumed()
    assert not stage.backend.last.paused
    stage.conductor.client_gone()


# -- bodies


def test_the_requests_body_is_forgotten_once_a_head_is_relayed() -> None:
    stage = Stage(route()).begin()
    stage.wait(0.06)  # committed, but it may have to be sent again
    assert not stage.downstream.forgotten
    stage.answer()
    assert stage.downstream.forgotten
    assert stage.request.body == b""
    assert stage.conductor.tally.bytes_in == 15
    stage.conductor.client_gone()


@pytest.mark.parametrize(
    ("method", "status", "has_body"),
    [(b"GET", 200, True), (b"HEAD", 200, False), (b"GET", 204, False), (b"GET", 304, False), (b"GET", 205, True)],
)
def test_which_answers_have_a_body(method: bytes, status: int, has_body: bool) -> None:
    stage = Stage(route(), streaming=False, method=method).begin()
    stage.answer(status, b"text/plain", (b"Content-Length", b"2"))
    assert stage.downstream.has_body is has_body
    if has_body:
        stage.body(b"ok")
    stage.ended()
    assert stage.downstream.end == "finish"
    assert stage.downstream.body == (b"ok" if has_body else b"")


def test_the_end_hands_out_what_was_kept_back() -> None:
    stage = Stage(route(), dialect="sse").begin()
    stage.answer()
    stage.body(EVENT, b"data: last")
    assert stage.downstream.body == EVENT
    stage.ended()
    assert stage.downstream.body == EVENT + b"data: last"
    assert stage.downstream.end == "finish"


def test_each_read_is_one_write() -> None:
    stage = Stage(route()).begin()
    stage.answer()
    stage.body(EVENT * 3, EVENT)
    assert [data for _, data in stage.downstream.writes] == [EVENT * 3, EVENT]
    stage.conductor.client_gone()


def test_the_separator_and_upstreams_first_bytes() -> None:
    stage = Stage(route(hold=model.Hold(commit_after=0.05, message="Hi", channel="content", separator="|")), ready=False).begin()
    stage.wait(0.06)
    stage.backend.open()
    stage.answer()
    stage.body(b"\xef\xbb\xbf" + EVENT)
    first, separator, event = (data for _, data in stage.downstream.writes)
    assert b'"content":"Hi"' in first
    assert b'"content":"|"' in separator
    assert event == EVENT
    stage.conductor.client_gone()


def test_after_the_terminal_event_upstream_has_a_second() -> None:
    stage = Stage(route()).begin()
    stage.answer()
    stage.body(EVENT + DONE)
    stage.wait(0.9)
    assert stage.downstream.body == EVENT + DONE
    assert stage.downstream.alive
    stage.wait(0.2)
    assert stage.downstream.end == "finish"
    assert stage.backend.dispatches[0].aborted
    assert stage.outcome == "ok"


def test_the_stall_timeout_is_the_routes() -> None:
    assert Stage(route(stream=model.Stream(stall_timeout=7))).downstream.stall_timeout == 7


# -- bugs and leaks


def test_a_bug_of_ours_aborts_and_does_not_hang(expected_errors: ExpectedErrors) -> None:
    stage = Stage(route())
    stage.owner.broken = True
    stage.begin()
    assert stage.downstream.end == "abort"
    assert stage.owner.ended == [act.Done("upstream_error", "internal")]
    assert len(expected_errors.flush(ZeroDivisionError)) == 1
    assert stage.backend.in_flight == 0
    stage.wait(2)
    assert stage.clock.getDelayedCalls() == []


def test_a_bug_while_held_and_committed_leaves_the_gate(expected_errors: ExpectedErrors) -> None:
    stage = Stage(route(), ready=False).begin()
    stage.wait(0.06)
    stage.owner.broken = True
    stage.backend.open()
    assert stage.downstream.end == "abort"
    assert (stage.route.room.waiting, stage.backend.in_flight, stage.backend.gate.waiters) == (0, 0, [])
    assert len(expected_errors.flush(ZeroDivisionError)) == 1


def test_an_event_that_cannot_be_is_such_a_bug(expected_errors: ExpectedErrors) -> None:
    stage = Stage(route()).begin()
    stage.conductor._drive(act.Finish())  # type: ignore[arg-type]  # no event at all
    assert stage.downstream.end == "abort"
    assert stage.backend.dispatches[0].aborted
    assert len(expected_errors.flush()) == 1


def _lives(stage: Stage, which: int) -> None:
    stage.wait(0.06)
    stage.backend.open()
    if which == 0:
        stage.answer()
        stage.body(EVENT + DONE)
        stage.ended()
    elif which == 1:
        stage.conductor.client_gone()
    elif which == 2:
        stage.failed(Failed(Fault.RESET, "reset"))
        stage.wait(0.5)
    else:
        stage.answer(500, b"text/html")
        stage.body(b"<h1>no")
        stage.ended()
        stage.wait(0.5)


def test_exchanges_are_freed_by_their_last_reference_and_not_by_the_collector() -> None:
    gc.collect()
    before = sum(isinstance(each, Conductor) for each in gc.get_objects())
    gc.disable()
    try:
        left: list[weakref.ref[Any]] = []
        for number in range(40):
            stage = Stage(route(), ready=False).begin()
            conductor = stage.conductor
            _lives(stage, number % 4)
            assert len(stage.owner.ended) == 1
            parts: list[Any] = [conductor._owner, *stage.backend.dispatches, stage.downstream]
            left += [weakref.ref(each) for each in parts]
            for dispatch in stage.backend.dispatches:
                dispatch.receiver = None  # type: ignore[assignment]  # as a connection does after the last word
            stage.backend.on_dispatch = lambda dispatch: None
            del stage, conductor, dispatch, parts
        assert [each() for each in left if each() is not None] == []
        assert sum(isinstance(each, Conductor) for each in gc.get_objects()) == before
    finally:
        gc.enable()
