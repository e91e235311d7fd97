"""One start for all who wait, and one decision for everything that happens. On a fake clock, with a gate and a process that are played."""

from __future__ import annotations

import errno

import pytest
from twisted.internet.defer import Deferred

from tests.conftest import ExpectedErrors
from tests.upstream.wake.rig import Rig
from txsse.config import model
from txsse.upstream.room import Refusal
from txsse.upstream.state import Event, State
from txsse.upstream.wake.child import Exit
from txsse.upstream.wake.parts import Ended, Result, WakeFailed


def fired(done: Deferred[None]) -> bool:
    return done.called


# -- one start


def test_nothing_runs_before_somebody_comes() -> None:
    rig = Rig()
    rig.clock.advance(100)
    assert (rig.state, rig.processes) == (State.DOWN, [])
    assert rig.starter.at_rest


def test_many_ask_and_one_start_runs() -> None:
    rig = Rig()
    rig.come(100)
    rig.turn()
    rig.come(100)
    rig.turn()
    assert len(rig.processes) == 1
    assert rig.state is State.WAKING
    assert rig.starter.starting
    assert not rig.starter.at_rest


def test_who_comes_and_leaves_in_one_turn_starts_nothing() -> None:
    rig = Rig()
    rig.come()
    rig.leave()
    rig.turn()
    assert rig.processes == []
    assert rig.quiet


def test_a_start_is_over_when_the_probe_passes() -> None:
    rig = Rig()
    rig.come(3)
    rig.turn()
    rig.clock.advance(12.5)
    assert rig.starter.elapsed == 12.5
    rig.probe(Event.PROBE_FAILED, "connection refused")
    rig.probe(Event.PROBE_LOADING, "HTTP 503")
    assert rig.state is State.LOADING
    rig.clock.advance(2.5)
    rig.probe(Event.PROBE_PASSED)
    rig.turn()
    assert rig.ended == [Ended(Result.READY, 15)]
    assert rig.open == 3
    assert rig.changes == [State.WAKING, State.LOADING, State.READY]
    assert rig.starter.elapsed is None
    assert rig.starts.expected("llama") == 15
    assert not rig.starter.starting
    assert rig.quiet


def test_one_that_said_loading_and_then_nothing_is_still_on_its_way() -> None:
    rig = Rig()
    rig.come()
    rig.turn()
    rig.probe(Event.PROBE_LOADING, "HTTP 503")
    rig.probe(Event.PROBE_FAILED, "connection refused")
    assert rig.state is State.WAKING
    assert rig.standing.detail == "connection refused"


def test_the_time_left_is_judged_by_the_last_starts() -> None:
    rig = Rig()
    assert rig.starter.eta is None
    rig.starts.add("llama", 30)
    assert rig.starter.eta == 30
    rig.come()
    rig.turn()
    rig.clock.advance(12)
    assert rig.starter.eta == 18
    rig.clock.advance(60)
    assert rig.starter.eta == 0


def test_a_ready_upstream_is_not_started_again() -> None:
    rig = Rig()
    rig.come_up()
    rig.come(5)
    rig.turn()
    assert len(rig.processes) == 1
    assert rig.open == 6


def test_a_process_that_stops_listening_is_waited_for_and_not_started_again() -> None:
    rig = Rig()
    rig.come_up()
    rig.standing.hear(Event.DISPATCH_REFUSED, "connection refused")
    rig.come()
    rig.turn()
    assert rig.may_probe
    rig.probe(Event.PROBE_FAILED, "connection refused")
    rig.turn()
    assert rig.state is State.DOWN
    assert len(rig.processes) == 1
    assert rig.starter.elapsed is None
    rig.probe(Event.PROBE_PASSED)
    assert rig.open == 2
    assert rig.ended == []


# -- a start that fails


@pytest.mark.parametrize(
    ("how", "words"),
    [(Exit(status=3), "its process exited with status 3"), (Exit(signal=9), "its process was killed by SIGKILL")],
)
def test_the_end_of_its_process_ends_all_waits_at_once_with_its_exit_status(how: Exit, words: str) -> None:
    rig = Rig()
    rig.come(50)
    rig.turn()
    rig.clock.advance(4)
    rig.process.exit(how)
    assert rig.ended == [Ended(Result.FAILED, 4, words)]
    assert rig.waiting == 0
    assert (rig.state, rig.standing.detail) == (State.FAILING, words)
    assert not rig.starter.starting


def test_while_it_cools_down_there_is_a_refusal_with_the_rest_of_the_time() -> None:
    rig = Rig(model.Wake(cooldown=30))
    rig.come()
    rig.turn()
    rig.die(Exit(status=3))
    assert rig.starter.refusal == Refusal("wake_failed", "its process exited with status 3", 30)
    rig.clock.advance(12)
    assert rig.starter.refusal == Refusal("wake_failed", "its process exited with status 3", 18)
    rig.come()
    rig.turn()
    assert (len(rig.processes), rig.waiting) == (1, 0)
    rig.clock.advance(18)
    assert rig.starter.refusal is None
    assert rig.state is State.DOWN
    rig.come()
    rig.turn()
    assert len(rig.processes) == 2


def test_who_waits_though_there_is_a_refusal_does_not_start_it_again() -> None:
    rig = Rig()
    rig.come()
    rig.turn()
    rig.die(Exit(status=3))
    rig.starter.wanted()
    rig.clock.advance(29)
    assert len(rig.processes) == 1


def test_a_process_that_ends_within_the_grace_of_a_start_nobody_waits_for_is_a_failed_start_and_no_more() -> None:
    rig = Rig(model.Wake(cancel_after=10))
    rig.come()
    rig.turn()
    rig.leave()
    rig.clock.advance(5)
    rig.die(Exit(status=3))
    rig.clock.advance(100)
    assert [each.result for each in rig.ended] == [Result.FAILED]
    assert (rig.state, rig.quiet) == (State.DOWN, True)


def test_a_start_can_fail_after_a_late_request_was_refused() -> None:
    rig = Rig()
    rig.come()
    rig.turn()
    rig.probe(Event.PROBE_LOADING, "HTTP 503")
    rig.standing.hear(Event.DISPATCH_REFUSED, "connection refused")
    rig.die(Exit(status=3))
    assert rig.state is State.FAILING


def test_a_successful_start_sets_no_cooldown() -> None:
    rig = Rig()
    rig.come_up()
    rig.finish()
    rig.die(Exit(status=1))
    assert rig.starter.refusal is None
    rig.come()
    rig.turn()
    assert len(rig.processes) == 2


def test_without_a_cooldown_the_next_one_to_come_starts_it_again() -> None:
    rig = Rig(model.Wake(cooldown=0))
    rig.come()
    rig.turn()
    rig.die(Exit(status=3))
    rig.turn()
    assert rig.state is State.DOWN
    rig.come()
    rig.turn()
    assert len(rig.processes) == 2


def test_no_new_process_while_the_rest_of_the_old_ones_group_is_there() -> None:
    rig = Rig(model.Wake(cooldown=0))
    rig.come()
    rig.turn()
    rig.process.exit(Exit(status=3))
    rig.turn()
    rig.come()
    rig.turn()
    assert len(rig.processes) == 1
    assert rig.starter.barred
    rig.process.vanish()
    rig.turn()
    assert len(rig.processes) == 2


def test_a_process_there_cannot_be_is_a_failed_start() -> None:
    rig = Rig()
    rig.cannot_spawn = OSError(errno.EAGAIN, "Resource temporarily unavailable")
    rig.come()
    rig.turn()
    assert rig.ended == [Ended(Result.FAILED, 0, "there can be no new process (Resource temporarily unavailable)")]
    assert rig.starter.at_rest
    rig.cannot_spawn = None
    rig.clock.advance(30)
    rig.come()
    rig.turn()
    assert len(rig.processes) == 1


# -- a process that ends by itself


def test_a_crash_after_it_was_ready_is_no_failed_start_and_who_waits_has_it_started_again() -> None:
    rig = Rig()
    rig.come_up()
    rig.standing.hear(Event.DISPATCH_REFUSED, "connection refused")
    rig.come()
    rig.process.exit(Exit(signal=11))
    assert (rig.state, rig.standing.detail) == (State.DOWN, "its process was killed by SIGSEGV")
    rig.turn()
    assert len(rig.processes) == 1
    rig.process.vanish()
    rig.turn()
    assert len(rig.processes) == 2
    assert rig.ended == []
    rig.probe(Event.PROBE_PASSED)
    assert rig.ended == [Ended(Result.READY, 0)]


# -- nobody waits any more


def test_a_start_nobody_waits_for_is_cancelled_after_its_grace() -> None:
    rig = Rig(model.Wake(cancel_after=10))
    rig.come()
    rig.turn()
    rig.leave()
    rig.turn()
    rig.clock.advance(9.9)
    assert rig.process.asked == []
    rig.clock.advance(0.1)
    assert rig.process.asked == ["stop"]
    assert rig.state is State.STOPPING
    assert rig.ended == [Ended(Result.CANCELLED, 10, "nobody waited any more")]
    rig.die()
    assert (rig.state, rig.starter.refusal) == (State.DOWN, None)
    rig.turn()
    assert rig.quiet


def test_who_comes_back_within_the_grace_has_it_go_on() -> None:
    rig = Rig(model.Wake(cancel_after=10))
    rig.come()
    rig.turn()
    rig.leave()
    rig.turn()
    rig.clock.advance(9)
    rig.come()
    rig.clock.advance(20)
    assert (rig.process.asked, rig.state) == ([], State.WAKING)
    rig.leave()
    rig.turn()
    rig.clock.advance(9.9)
    assert rig.process.asked == []
    rig.clock.advance(0.1)
    assert rig.process.asked == ["stop"]


def test_who_comes_while_a_cancelled_start_ends_gets_a_new_one_when_it_has() -> None:
    rig = Rig(model.Wake(cancel_after=10))
    rig.come()
    rig.turn()
    rig.leave()
    rig.turn()
    rig.clock.advance(10)
    rig.come()
    rig.turn()
    assert (len(rig.processes), rig.starter.barred) == (1, True)
    rig.die()
    rig.turn()
    assert (len(rig.processes), rig.state) == (2, State.WAKING)
    assert rig.waiting == 1


def test_without_cancel_after_it_runs_on_and_is_probed_though_nobody_waits() -> None:
    rig = Rig()
    rig.come()
    rig.turn()
    rig.leave()
    rig.clock.advance(300)
    assert rig.may_probe
    rig.probe(Event.PROBE_PASSED)
    rig.turn()
    assert (rig.state, rig.process.asked) == (State.READY, [])
    assert rig.starts.expected("llama") == 300


# -- nothing to do


def test_an_idle_process_is_stopped_after_its_time() -> None:
    rig = Rig(model.Wake(stop_after_idle=60))
    rig.come_up()
    rig.clock.advance(600)
    assert rig.process.asked == []  # a stream is open
    rig.finish()
    rig.turn()
    rig.clock.advance(59.9)
    assert rig.process.asked == []
    rig.clock.advance(0.2)
    assert rig.process.asked == ["stop"]
    rig.process.exit(Exit(signal=15))
    assert rig.changes == [State.STOPPING]
    rig.process.vanish()
    assert rig.changes == [State.STOPPING, State.DOWN]
    rig.turn()
    assert rig.quiet


def test_requests_in_between_begin_the_time_anew_and_cost_no_timer_each() -> None:
    rig = Rig(model.Wake(stop_after_idle=60))
    rig.come_up()
    rig.finish()
    rig.turn()
    for _ in range(100):
        rig.clock.advance(1)
        rig.come()
        rig.finish()
        rig.turn()
        assert len(rig.clock.getDelayedCalls()) == 1
    rig.clock.advance(59)
    assert rig.process.asked == []
    rig.clock.advance(1)
    assert rig.process.asked == ["stop"]


def test_to_be_told_again_that_nobody_is_there_does_not_begin_the_time_anew() -> None:
    rig = Rig(model.Wake(stop_after_idle=60))
    rig.come_up()
    rig.finish()
    rig.clock.advance(30)
    rig.starter.idle()
    rig.starter.unwanted()
    rig.clock.advance(30)
    assert rig.process.asked == ["stop"]


def test_a_stream_that_is_open_when_the_time_is_up_keeps_it_running() -> None:
    rig = Rig(model.Wake(stop_after_idle=60))
    rig.come_up()
    rig.finish()
    rig.turn()
    rig.clock.advance(30)
    rig.come()
    rig.clock.advance(1000)
    assert (rig.process.asked, rig.quiet) == ([], True)
    rig.finish()
    rig.turn()
    rig.clock.advance(60)
    assert rig.process.asked == ["stop"]


def test_one_that_came_up_for_nobody_is_stopped_too() -> None:
    rig = Rig(model.Wake(stop_after_idle=60))
    rig.come()
    rig.turn()
    rig.leave()
    rig.clock.advance(100)
    rig.probe(Event.PROBE_PASSED)
    rig.turn()
    rig.clock.advance(59)
    assert rig.process.asked == []
    rig.clock.advance(1)
    assert rig.process.asked == ["stop"]


def test_who_comes_while_it_stops_waits_and_has_it_started_again() -> None:
    rig = Rig(model.Wake(stop_after_idle=60))
    rig.come_up()
    rig.finish()
    rig.turn()
    rig.clock.advance(60)
    rig.come()
    rig.turn()
    assert (rig.waiting, rig.may_probe) == (1, False)
    rig.die()
    rig.turn()
    assert len(rig.processes) == 2
    rig.probe(Event.PROBE_PASSED)
    assert rig.open == 1


# -- by hand


def test_by_hand_it_is_started_without_anybody_and_not_cancelled_for_that() -> None:
    rig = Rig(model.Wake(cancel_after=5))
    rig.starter.wake()
    rig.turn()
    rig.clock.advance(100)
    assert (len(rig.processes), rig.process.asked) == (1, [])
    rig.probe(Event.PROBE_PASSED)
    assert rig.ended == [Ended(Result.READY, 100)]


def test_by_hand_it_is_started_while_it_cools_down() -> None:
    rig = Rig()
    rig.come()
    rig.turn()
    rig.die(Exit(status=3))
    rig.starter.wake()
    rig.turn()
    assert (len(rig.processes), rig.state, rig.starter.refusal) == (2, State.WAKING, None)


def test_waking_what_is_ready_does_nothing_also_later() -> None:
    rig = Rig()
    rig.come_up()
    rig.finish()
    rig.starter.wake()
    rig.die()
    rig.turn()
    assert len(rig.processes) == 1


def test_waking_what_comes_back_by_itself_does_nothing_later() -> None:
    rig = Rig()
    rig.come_up()
    rig.standing.hear(Event.DISPATCH_LOADING, "HTTP 503")
    rig.starter.wake()
    rig.come()
    rig.probe(Event.PROBE_PASSED)
    rig.die()
    rig.turn()
    assert len(rig.processes) == 1


def test_by_hand_a_start_is_stopped_and_who_waits_is_told() -> None:
    rig = Rig()
    rig.come(2)
    rig.turn()
    rig.starter.stop()
    assert rig.ended == [Ended(Result.CANCELLED, 0, "it was stopped")]
    assert (rig.waiting, rig.open, rig.state, rig.process.asked) == (0, 0, State.STOPPING, ["stop"])
    rig.die()
    rig.turn()
    assert (rig.state, rig.starter.refusal, len(rig.processes)) == (State.DOWN, None, 1)


def test_by_hand_it_is_stopped_at_once_if_nothing_is_open() -> None:
    rig = Rig(model.Wake(stop_after_idle=60))
    rig.come_up()
    rig.finish()
    rig.turn()
    rig.starter.stop()
    rig.turn()
    assert rig.process.asked == ["stop"]
    rig.die()
    rig.turn()
    assert rig.quiet


def test_what_was_stopped_by_hand_runs_on_when_it_is_started_again() -> None:
    rig = Rig()
    rig.come_up()
    rig.finish()
    rig.starter.stop()
    rig.turn()
    rig.die()
    rig.come_up()
    assert (rig.state, rig.process.asked) == (State.READY, [])


def test_by_hand_open_requests_are_waited_for_and_others_have_it_started_again() -> None:
    rig = Rig()
    rig.come_up()
    rig.starter.stop()
    rig.turn()
    assert (rig.state, rig.process.asked) == (State.STOPPING, [])
    rig.come()
    rig.turn()
    assert (rig.open, rig.waiting) == (1, 1)
    rig.finish()
    rig.turn()
    assert rig.process.asked == ["stop"]
    rig.die()
    rig.turn()
    assert (rig.state, len(rig.processes)) == (State.WAKING, 2)


def test_asked_again_it_stops_at_once_and_a_third_time_it_is_killed() -> None:
    rig = Rig()
    rig.come_up()
    rig.starter.stop()
    rig.turn()
    rig.starter.stop()
    assert rig.process.asked == ["stop"]
    rig.starter.stop()
    assert rig.process.asked == ["stop", "kill"]


def test_stopping_what_does_not_run_does_nothing() -> None:
    rig = Rig()
    rig.starter.stop()
    rig.turn()
    assert (rig.state, rig.quiet) == (State.DOWN, True)


# -- elsewhere: errands


def test_what_is_elsewhere_is_looked_at_before_it_is_woken() -> None:
    rig = Rig(process=False, errands=True)
    rig.come()
    rig.turn()
    assert (rig.errands, rig.may_probe) == ([], True)
    rig.probe(Event.PROBE_PASSED)
    rig.turn()
    assert (rig.errands, rig.open, rig.ended) == ([], 1, [])


def test_one_that_says_loading_needs_no_waking() -> None:
    rig = Rig(process=False, errands=True)
    rig.come()
    rig.probe(Event.PROBE_LOADING, "HTTP 503")
    rig.turn()
    assert (rig.errands, rig.state) == ([], State.LOADING)


def test_errands_are_run_once_and_it_is_not_probed_until_they_are_done() -> None:
    rig = Rig(process=False, errands=True)
    rig.come(10)
    rig.probe(Event.PROBE_FAILED, "connection refused")
    rig.turn()
    rig.come(10)
    rig.turn()
    assert (len(rig.errands), rig.state, rig.may_probe, rig.starter.starting) == (1, State.WAKING, False, False)
    rig.clock.advance(7)
    rig.errands[0].callback(None)
    assert rig.may_probe
    rig.probe(Event.PROBE_FAILED, "connection refused")
    assert rig.state is State.WAKING
    rig.probe(Event.PROBE_PASSED)
    rig.turn()
    assert (rig.open, rig.ended) == (20, [Ended(Result.READY, 7)])
    assert rig.starter.at_rest
    assert rig.quiet


def test_a_failed_errand_is_a_failed_start() -> None:
    rig = Rig(process=False, errands=True)
    rig.come()
    rig.probe(Event.PROBE_FAILED)
    rig.turn()
    rig.errands[0].errback(WakeFailed("wake step 2: HTTP 500"))
    assert rig.ended == [Ended(Result.FAILED, 0, "wake step 2: HTTP 500")]
    assert (rig.waiting, rig.state) == (0, State.FAILING)
    assert rig.starter.refusal == Refusal("wake_failed", "wake step 2: HTTP 500", 30)
    rig.clock.advance(30)
    assert rig.state is State.DOWN


def test_an_errand_with_a_mistake_in_it_is_a_failed_start_and_is_logged(expected_errors: ExpectedErrors) -> None:
    rig = Rig(process=False, errands=True)
    rig.starter.wake()
    rig.turn()
    rig.errands[0].errback(ValueError("somebody's address"))
    assert rig.ended == [Ended(Result.FAILED, 0, "ValueError")]
    assert len(expected_errors.flush(ValueError)) == 1
    rig.clock.advance(30)


def test_what_runs_elsewhere_is_taken_for_down_when_it_is_stopped_and_woken_by_the_next_who_comes() -> None:
    rig = Rig(process=False, errands=True)
    rig.starter.stop()
    assert rig.state is State.UNKNOWN
    rig.come()
    rig.probe(Event.PROBE_PASSED)
    rig.turn()
    rig.starter.stop()
    assert (rig.state, rig.standing.detail) == (State.DOWN, "it was stopped")
    rig.come()
    rig.probe(Event.PROBE_FAILED, "HTTP 200, unexpected body")
    rig.turn()
    assert (len(rig.errands), rig.state) == (1, State.WAKING)


def test_when_all_is_done_and_nobody_waits_the_start_is_over() -> None:
    rig = Rig(process=False, errands=True)
    rig.come()
    rig.probe(Event.PROBE_FAILED)
    rig.turn()
    rig.leave()
    rig.turn()
    assert rig.ended == []  # they have begun, so they are done
    rig.errands[0].callback(None)
    rig.turn()
    assert rig.ended == [Ended(Result.CANCELLED, 0, "nobody waited any more")]
    assert (rig.state, rig.starter.at_rest, rig.quiet) == (State.DOWN, True, True)
    rig.come()
    rig.turn()
    assert len(rig.errands) == 1
    rig.probe(Event.PROBE_FAILED)
    rig.turn()
    assert len(rig.errands) == 2


def test_what_a_probe_found_for_those_who_left_wakes_nothing_for_those_who_come() -> None:
    rig = Rig(process=False, errands=True)
    rig.come()
    rig.probe(Event.PROBE_FAILED)
    rig.leave()
    rig.turn()
    rig.clock.advance(1000)
    rig.come()
    rig.turn()
    assert rig.errands == []


def test_errands_nobody_waits_for_are_cancelled_after_the_grace() -> None:
    rig = Rig(model.Wake(cancel_after=5), process=False, errands=True)
    rig.come()
    rig.probe(Event.PROBE_FAILED)
    rig.turn()
    rig.leave()
    rig.turn()
    rig.clock.advance(5)
    assert rig.cancelled_errands == 1
    assert rig.ended == [Ended(Result.CANCELLED, 5, "nobody waited any more")]
    assert rig.state is State.DOWN


def test_errands_that_cannot_be_cancelled_are_not_listened_to() -> None:
    rig = Rig(process=True, errands=True)
    rig.come()
    rig.turn()
    rig.stubborn = True
    rig.starter.stop()
    assert rig.errands[0].called
    assert (rig.processes, rig.starter.at_rest) == ([], True)


def test_by_hand_errands_are_run_without_looking_first() -> None:
    rig = Rig(process=False, errands=True)
    rig.starter.wake()
    rig.turn()
    assert len(rig.errands) == 1
    rig.errands[0].callback(None)
    rig.turn()
    assert rig.may_probe  # by hand is as good as somebody who waits
    rig.starter.stop()
    assert (rig.ended[-1].result, rig.state) == (Result.CANCELLED, State.DOWN)


def test_errands_come_before_the_process() -> None:
    rig = Rig(process=True, errands=True)
    rig.come()
    rig.turn()
    assert (len(rig.errands), rig.processes, rig.may_probe) == (1, [], False)
    rig.errands[0].callback(None)
    assert (len(rig.processes), rig.may_probe) == (1, True)
    rig.probe(Event.PROBE_PASSED)
    assert rig.open == 1


# -- the end


def test_closing_stops_the_process_whoever_is_served_and_tells_when_it_is_gone() -> None:
    rig = Rig(model.Wake(stop_after_idle=60))
    rig.come_up()
    done = rig.starter.close()
    again = rig.starter.close()
    assert rig.process.asked == ["stop"]
    assert not fired(done)
    rig.process.exit()
    assert not fired(done)
    rig.process.vanish()
    assert fired(done)
    assert fired(again)
    assert rig.quiet


@pytest.mark.parametrize("errands", [False, True])
def test_closing_ends_a_start(errands: bool) -> None:
    rig = Rig(errands=errands)
    rig.come()
    rig.turn()
    done = rig.starter.close()
    assert rig.ended == [Ended(Result.CANCELLED, 0, "the proxy is shutting down")]
    if not errands:
        assert not fired(done)
        rig.die()
    assert fired(done)
    assert rig.cancelled_errands == int(errands)
    rig.come()
    rig.clock.advance(100)
    assert len(rig.processes) == int(not errands)
    assert rig.quiet


def test_closing_what_rests_or_cools_down_is_done_at_once() -> None:
    rig = Rig()
    rig.come()
    rig.turn()
    rig.die(Exit(status=3))
    assert fired(rig.starter.close())
    assert rig.quiet
    assert fired(Rig().starter.close())


def test_closing_while_it_stops_waits_for_the_same_end() -> None:
    rig = Rig()
    rig.come_up()
    rig.finish()
    rig.starter.stop()
    rig.turn()
    rig.come()
    done = rig.starter.close()
    assert rig.process.asked == ["stop"]
    rig.die()
    assert fired(done)
    assert (len(rig.processes), rig.quiet) == (1, True)


def test_a_retired_one_stops_when_nobody_needs_it() -> None:
    rig = Rig()
    rig.come_up()
    rig.starter.retire()
    rig.turn()
    assert rig.process.asked == []
    rig.finish()
    rig.turn()
    assert rig.process.asked == ["stop"]
    rig.die()
    rig.turn()
    assert (rig.state, rig.quiet) == (State.DOWN, True)


def test_a_retired_one_still_starts_for_those_who_wait_there() -> None:
    rig = Rig()
    rig.come()
    rig.starter.retire()
    rig.turn()
    assert len(rig.processes) == 1
    rig.probe(Event.PROBE_PASSED)
    rig.turn()
    assert (rig.open, rig.process.asked) == (1, [])
    rig.finish()
    rig.turn()
    assert rig.process.asked == ["stop"]


def test_a_start_nobody_waits_for_ends_when_it_is_retired() -> None:
    rig = Rig()
    rig.come()
    rig.turn()
    rig.leave()
    rig.turn()
    assert rig.process.asked == []
    rig.starter.retire()
    rig.turn()
    assert rig.process.asked == ["stop"]
