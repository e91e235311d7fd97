"""The gate: who waits, who asks, and when. All on a fake clock, with a probe that the test answers."""

from __future__ import annotations

import attrs
import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tests.conftest import ExpectedErrors
from tests.upstream.waiting import TurnedAway, wait
from txsse.config import model
from txsse.testing import pump
from txsse.upstream.gate import GRACE, RELEASED_PER_TURN, REMEMBERED, Gate
from txsse.upstream.lookout import Verdict
from txsse.upstream.room import Refusal
from txsse.upstream.state import State

READY = Verdict(True)
REFUSED = Verdict(False, detail="connection refused")
LOADING = Verdict(False, loading=True, detail="HTTP 503")
INTERVAL = 0.25


class Turns(Clock):
    """A clock of which one ``advance`` is one turn, as a reactor's: what a call schedules runs in the next one at the earliest."""

    def advance(self, amount: float) -> None:
        self.rightNow += amount
        for call in sorted(self.calls, key=lambda call: call.getTime()):
            if call.active() and call.getTime() <= self.rightNow:
                self.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)


class ScriptedProbe:
    """A probe that gives ``verdict``, or with ``None`` waits until the test answers."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.verdict: Verdict | None = None
        self.started: list[float] = []
        self.cancelled = 0
        self.pending: list[Deferred[Verdict]] = []

    def __call__(self) -> Deferred[Verdict]:
        self.started.append(self.clock.seconds())
        if self.verdict is not None:
            return succeed(self.verdict)
        probing: Deferred[Verdict] = Deferred(self._cancel)
        self.pending.append(probing)
        return probing

    def _cancel(self, probing: Deferred[Verdict]) -> None:
        self.cancelled += 1
        self.pending.remove(probing)

    def answer(self, verdict: Verdict) -> None:
        self.pending.pop(0).callback(verdict)


def _noted(failure: Failure, seen: list[BaseException]) -> None:
    assert failure.value is not None
    seen.append(failure.value)


class Rig:
    def __init__(self, loopback: bool = True, config: model.Probe | None = None) -> None:
        self.clock = Turns()
        self.clock.advance(1000)
        self.probe = ScriptedProbe(self.clock)
        self.changes: list[tuple[State, State, str]] = []
        self.gate = Gate(self.clock, self.probe, config or model.Probe(), loopback, lambda *change: self.changes.append(change))

    def wait(self) -> Deferred[None]:
        """A waiter that swallows its own cancelling, as its owner would."""
        waiter = wait(self.gate)
        waiter.addErrback(lambda failure: None if failure.check(CancelledError) else failure)
        return waiter

    def turn(self) -> None:
        self.clock.advance(0)

    def make_ready(self) -> None:
        """Through one wait, as the first request would."""
        self.probe.verdict = READY
        self.wait()
        self.turn()
        assert self.gate.ready
        self.probe.verdict = None
        self.probe.started.clear()
        self.changes.clear()

    @property
    def quiet(self) -> bool:
        return not self.clock.getDelayedCalls() and not self.probe.pending


def test_nobody_is_asked_before_somebody_waits() -> None:
    rig = Rig()
    pump(rig.clock, 10)
    assert rig.probe.started == []
    assert rig.gate.state is State.UNKNOWN
    assert not rig.gate.ready


def test_the_first_to_wait_has_the_upstream_asked_at_once_and_is_let_through() -> None:
    rig = Rig()
    rig.probe.verdict = READY
    waiter = rig.wait()
    rig.turn()
    assert rig.probe.started == [1000]
    assert waiter.called
    assert rig.gate.ready
    assert not rig.gate.cold
    assert rig.changes == [(State.UNKNOWN, State.READY, "")]
    assert rig.quiet


def test_who_waits_while_it_is_ready_does_not_wait_and_costs_no_probe() -> None:
    rig = Rig()
    rig.make_ready()
    assert all(wait(rig.gate).called for _ in range(1000))
    pump(rig.clock, 60, 1)
    assert rig.probe.started == []
    assert rig.quiet


def test_one_probe_serves_all_who_wait() -> None:
    rig = Rig()
    waiters = [rig.wait() for _ in range(100)]
    rig.turn()
    waiters += [rig.wait() for _ in range(100)]
    rig.turn()
    assert len(rig.probe.started) == 1
    assert rig.gate.waiting == 200
    rig.probe.answer(READY)
    assert all(waiter.called for waiter in waiters)
    assert rig.gate.waiting == 0


def test_a_port_that_opens_is_noticed_within_an_interval_and_50_ms() -> None:
    for opens in range(0, 500, 7):
        rig = Rig()
        rig.probe.verdict = REFUSED
        waiter = rig.wait()
        pump(rig.clock, opens / 1000)
        rig.probe.verdict = READY
        before = rig.clock.seconds()
        while not waiter.called:
            rig.clock.advance(0.005)
        assert rig.clock.seconds() - before <= INTERVAL + 0.05
        assert rig.gate.cold


def test_the_interval_is_measured_from_start_to_start() -> None:
    rig = Rig()
    rig.wait()
    rig.turn()
    rig.clock.advance(0.2)
    rig.probe.answer(REFUSED)
    rig.clock.advance(0.05)
    assert rig.probe.started == [1000, 1000 + INTERVAL]


def test_a_probe_slower_than_the_interval_is_followed_at_once_and_never_doubled() -> None:
    rig = Rig()
    rig.wait()
    rig.turn()
    pump(rig.clock, 1.5)
    assert len(rig.probe.started) == 1
    rig.probe.answer(REFUSED)
    rig.turn()
    assert rig.probe.started == [1000, pytest.approx(1001.5)]
    assert len(rig.probe.pending) == 1


def test_a_probe_that_takes_longer_than_its_timeout_counts_as_failed_and_is_stopped() -> None:
    rig = Rig()
    rig.wait()
    rig.turn()
    rig.clock.advance(2)
    assert rig.probe.cancelled == 1
    assert rig.gate.state is State.DOWN
    assert rig.gate.last_error == "timed out"
    rig.turn()
    assert len(rig.probe.started) == 2


def test_a_local_upstream_is_asked_each_interval_however_long_it_takes() -> None:
    rig = Rig()
    rig.probe.verdict = REFUSED
    rig.wait()
    pump(rig.clock, 660, 0.125)
    assert len(rig.probe.started) == pytest.approx(660 / INTERVAL, abs=2)


def test_a_far_upstream_is_asked_more_and_more_rarely() -> None:
    rig = Rig(loopback=False)
    rig.probe.verdict = REFUSED
    rig.wait()
    pump(rig.clock, 700, 0.0625)
    gaps = [later - earlier for earlier, later in zip(rig.probe.started, rig.probe.started[1:], strict=False)]
    assert gaps[:5] == pytest.approx([0.25, 0.375, 0.5625, 0.84375, 1.0], abs=0.0625)
    started_late = [at for at in rig.probe.started if at >= 1602]
    assert max(gaps[5:400]) <= 1.0625
    assert len(started_late) == pytest.approx(98 / 5, abs=2)


def test_the_back_off_starts_anew_with_the_next_round_of_waiting() -> None:
    rig = Rig(loopback=False)
    rig.probe.verdict = REFUSED
    waiter = rig.wait()
    pump(rig.clock, 30)
    waiter.cancel()
    pump(rig.clock, 5)
    rig.probe.started.clear()
    rig.wait()
    pump(rig.clock, 0.3)
    assert [at - 1035 for at in rig.probe.started] == pytest.approx([0, 0.25], abs=0.006)


def test_the_last_to_leave_stops_the_probe_under_way_at_once() -> None:
    rig = Rig()
    one, other = rig.wait(), rig.wait()
    rig.turn()
    one.cancel()
    assert rig.probe.cancelled == 0
    assert rig.gate.waiting == 1
    other.cancel()
    assert rig.probe.cancelled == 1
    assert rig.gate.waiting == 0
    assert rig.quiet


def test_the_last_to_leave_between_two_probes_stops_the_timer() -> None:
    rig = Rig()
    rig.probe.verdict = REFUSED
    waiter = rig.wait()
    pump(rig.clock, 0.1)
    waiter.cancel()
    assert rig.quiet
    assert (rig.gate.state, rig.gate.last_error) == (State.DOWN, "connection refused")


def test_leaving_fails_the_waiter_with_cancelled_error() -> None:
    rig = Rig()
    waiter = wait(rig.gate)
    seen: list[BaseException] = []
    waiter.addErrback(_noted, seen)
    waiter.cancel()
    assert [type(each) for each in seen] == [CancelledError]


def test_clients_that_come_and_go_quickly_cost_one_probe_per_interval() -> None:
    rig = Rig()
    rig.probe.verdict = REFUSED
    for _ in range(200):
        waiter = rig.wait()
        rig.clock.advance(0.005)
        waiter.cancel()
    assert len(rig.probe.started) == 4
    assert rig.quiet


def test_an_open_port_that_says_loading_goes_on_waiting() -> None:
    rig = Rig()
    rig.probe.verdict = LOADING
    waiter = rig.wait()
    rig.turn()
    assert not waiter.called
    assert (rig.gate.state, rig.gate.last_error) == (State.LOADING, "HTTP 503")
    rig.probe.verdict = REFUSED
    pump(rig.clock, INTERVAL)
    rig.probe.verdict = READY
    pump(rig.clock, INTERVAL)
    assert waiter.called
    assert [change[:2] for change in rig.changes] == [
        (State.UNKNOWN, State.LOADING),
        (State.LOADING, State.DOWN),
        (State.DOWN, State.READY),
    ]
    assert rig.gate.last_error == ""


def test_since_tells_when_the_state_was_entered_and_not_when_it_was_confirmed() -> None:
    rig = Rig()
    rig.probe.verdict = REFUSED
    rig.wait()
    rig.turn()
    pump(rig.clock, 3)
    assert len(rig.probe.started) > 10
    assert rig.gate.since == 1000
    assert len(rig.changes) == 1


def test_a_refused_dispatch_has_the_upstream_asked_at_once() -> None:
    rig = Rig()
    rig.make_ready()
    rig.clock.advance(30)
    rig.gate.mark_down("connection refused")
    assert (rig.gate.state, rig.gate.last_error) == (State.DOWN, "connection refused")
    rig.turn()
    assert rig.probe.started == []  # nobody waits
    rig.wait()
    rig.turn()
    assert rig.probe.started == [1030]
    rig.probe.answer(READY)
    assert rig.gate.cold


def test_a_probe_that_passes_and_dispatches_that_are_refused_do_not_chase_each_other() -> None:
    rig = Rig()
    rig.make_ready()
    rig.clock.advance(30)
    rig.probe.verdict = READY

    def dispatch(_: object) -> None:
        rig.gate.mark_down("connection refused")
        rig.wait().addCallback(dispatch)

    dispatch(None)
    pump(rig.clock, 2)
    assert len(rig.probe.started) <= 9


def test_after_a_loading_answer_the_upstream_is_asked_an_interval_later() -> None:
    rig = Rig()
    rig.make_ready()
    rig.clock.advance(30)
    rig.gate.mark_loading("HTTP 503")
    assert rig.gate.state is State.LOADING
    rig.wait()
    pump(rig.clock, INTERVAL - 0.01)
    assert rig.probe.started == []
    pump(rig.clock, 0.01)
    assert rig.probe.started == [pytest.approx(1030 + INTERVAL)]


@pytest.mark.parametrize("loading", [False, True])
def test_a_probe_that_started_before_the_mark_does_not_count(loading: bool) -> None:
    rig = Rig()
    rig.make_ready()
    rig.clock.advance(30)
    rig.gate.mark_down("connection refused")
    waiter = rig.wait()
    rig.turn()
    assert len(rig.probe.pending) == 1
    # A request that was dispatched when all was well reports late.
    rig.gate.mark_loading("HTTP 503") if loading else rig.gate.mark_down("connection refused")
    assert rig.probe.cancelled == 1
    assert not waiter.called
    pump(rig.clock, INTERVAL)
    assert len(rig.probe.started) == 2
    rig.probe.answer(READY)
    assert waiter.called


def test_a_probe_that_cannot_be_cancelled_is_not_listened_to_after_a_mark() -> None:
    clock = Clock()
    stubborn: list[Deferred[Verdict]] = []

    def probe() -> Deferred[Verdict]:
        stubborn.append(Deferred(lambda probing: probing.callback(READY)))
        return stubborn[-1]

    gate = Gate(clock, probe, model.Probe(), loopback=True)
    waiter = wait(gate)
    clock.advance(0)
    gate.mark_loading("HTTP 503")
    assert stubborn[0].called
    assert not waiter.called
    assert gate.state is State.LOADING


def test_ready_after_lets_nobody_through_before_its_time() -> None:
    rig = Rig(config=model.Probe(ready_after=3))
    rig.probe.verdict = READY
    waiter = rig.wait()
    pump(rig.clock, 2.9)
    late = rig.wait()
    assert not waiter.called
    assert not rig.gate.ready
    pump(rig.clock, 0.2)
    assert waiter.called
    assert late.called
    assert len(rig.probe.started) == 1


def test_leaving_during_ready_after_leaves_no_timer() -> None:
    rig = Rig(config=model.Probe(ready_after=3))
    rig.probe.verdict = READY
    waiter = rig.wait()
    rig.turn()
    waiter.cancel()
    assert rig.quiet


def test_with_preset_none_it_is_always_ready_and_never_asked() -> None:
    rig = Rig(config=model.Probe(preset="none"))
    assert rig.gate.always_ready
    rig.gate.mark_down("connection refused")
    rig.gate.mark_loading("HTTP 503")
    assert rig.gate.ready
    assert wait(rig.gate).called
    pump(rig.clock, 10)
    assert rig.probe.started == []
    assert rig.changes == []


def test_thousands_are_released_in_their_order_some_hundred_a_turn() -> None:
    rig = Rig()
    rig.probe.verdict = REFUSED
    count = 8 * RELEASED_PER_TURN
    order: list[int] = []
    for number in range(count):
        rig.wait().addCallback(lambda _, mine: order.append(mine), number)
    rig.turn()
    rig.probe.verdict = READY
    rig.clock.advance(INTERVAL)
    assert len(order) == RELEASED_PER_TURN
    for _ in range(7):
        rig.turn()
    assert order == list(range(count))
    assert rig.quiet


def test_those_not_yet_released_wait_on_when_the_first_are_refused() -> None:
    rig = Rig()
    rig.probe.verdict = READY
    order: list[str] = []

    def dispatch(_: object) -> None:
        order.append("refused")
        rig.gate.mark_down("connection refused")
        rig.probe.verdict = None
        rig.wait().addCallback(lambda _: order.append("again"))

    rig.wait().addCallback(dispatch)
    rig.wait().addCallback(lambda _: order.append("second"))
    rig.wait().addCallback(lambda _: order.append("third"))
    rig.turn()
    assert order == ["refused"]
    assert rig.gate.waiting == 3
    rig.clock.advance(INTERVAL)
    rig.probe.answer(READY)
    assert order == ["refused", "second", "third", "again"]


def test_those_who_wait_on_after_a_refusal_do_not_inherit_the_back_off() -> None:
    rig = Rig(loopback=False)
    rig.probe.verdict = REFUSED
    rig.wait().addCallback(lambda _: rig.gate.mark_down("connection refused"))
    rig.wait()
    pump(rig.clock, 30)
    rig.probe.verdict = READY
    while rig.gate.waiting == 2:
        rig.clock.advance(0.005)
    before = rig.clock.seconds()
    assert rig.gate.state is State.DOWN
    while rig.gate.waiting:
        rig.clock.advance(0.005)
    assert rig.clock.seconds() - before <= INTERVAL + 0.01


def test_one_let_through_may_make_others_leave() -> None:
    rig = Rig()
    rig.probe.verdict = READY
    waiters: list[Deferred[None]] = []
    let_through: list[int] = []

    def first(_: object) -> None:
        let_through.append(0)
        waiters[1].cancel()

    waiters.append(wait(rig.gate).addCallback(first))
    cancelled: list[BaseException] = []
    waiters.append(wait(rig.gate))
    waiters[-1].addErrback(_noted, cancelled)
    waiters.append(wait(rig.gate).addCallback(lambda _: let_through.append(2)))
    rig.turn()
    assert let_through == [0, 2]
    assert [type(each) for each in cancelled] == [CancelledError]


def test_leaving_in_the_middle_of_a_release_leaves_nothing_behind() -> None:
    rig = Rig()
    rig.probe.verdict = READY
    waiters = [rig.wait() for _ in range(RELEASED_PER_TURN + 2)]
    rig.turn()
    for waiter in waiters[-2:]:
        assert not waiter.called
        waiter.cancel()
    assert rig.quiet
    assert rig.gate.ready


def test_no_wake_up_is_lost_when_ready_flips_between_check_and_wait() -> None:
    """10,000 times: the gate flips at every place between looking at it and waiting, and each time the one who waits is let through."""
    rig = Rig()
    rig.probe.verdict = READY
    let_through = 0

    def count(_: object) -> None:
        nonlocal let_through
        let_through += 1

    for turn in range(10_000):
        ready = rig.gate.ready
        if turn % 4 == 1:
            rig.gate.mark_down("connection refused")
        elif turn % 4 == 2:
            rig.gate.mark_loading("HTTP 503")
        elif turn % 4 == 3 and not ready:
            rig.wait().cancel()
        rig.wait().addCallback(count)
        if turn % 8 == 5:
            rig.gate.mark_down("connection refused")
        if turn % 3:
            rig.clock.advance(INTERVAL)
    rig.clock.advance(INTERVAL)
    assert let_through == 10_000
    assert rig.gate.waiting == 0
    assert rig.quiet


@attrs.frozen
class Oops(Exception):
    pass


def test_a_mistake_in_the_probe_is_logged_and_does_not_end_the_waiting(expected_errors: ExpectedErrors) -> None:
    clock = Clock()
    answers = [fail(Oops()), succeed(READY)]
    gate = Gate(clock, lambda: answers.pop(0), model.Probe(), loopback=True)
    waiter = wait(gate)
    clock.advance(0)
    assert (gate.state, gate.last_error) == (State.DOWN, "Oops")
    assert len(expected_errors.flush(Oops)) == 1
    clock.advance(INTERVAL)
    assert waiter.called


def test_who_waits_for_a_hopeless_upstream_is_told_and_the_next_one_has_it_asked_again() -> None:
    rig = Rig()
    told: list[BaseException] = []
    for _ in range(2):
        wait(rig.gate).addErrback(_noted, told)
    rig.turn()
    rig.probe.answer(Verdict(False, detail="certificate has expired", hopeless=True))
    assert [each.refusal for each in told if isinstance(each, TurnedAway)] == [Refusal("upstream_invalid", "certificate has expired")] * 2
    assert rig.gate.state is State.DOWN
    assert not rig.gate.waiting
    rig.clock.pump([INTERVAL] * 3)
    assert len(rig.probe.started) == 1  # nobody waits, nobody asks

    rig.wait()
    rig.turn()
    rig.probe.answer(READY)
    assert rig.gate.ready


def test_who_does_not_wait_for_readiness_takes_a_slot_all_the_same() -> None:
    rig = Rig()
    gate = Gate(rig.clock, rig.probe, model.Probe(), loopback=True, slots=1)
    assert (gate.admit(), gate.take_slot(), gate.take_slot()) == (False, True, False)
    assert gate.slots == (1, 1)
    gate.give_back()
    assert gate.slots == (1, 0)


def test_it_is_called_for_from_the_first_who_waits_until_it_has_been_ready_for_a_while() -> None:
    rig = Rig()
    rig.probe.verdict = REFUSED
    assert not rig.gate.called_for
    waiter = rig.wait()
    pump(rig.clock, 1)
    waiter.cancel()
    rig.clock.advance(REMEMBERED - 1)
    assert rig.gate.called_for
    rig.probe.verdict = READY
    rig.wait()
    rig.turn()
    rig.clock.advance(GRACE - 1)
    assert rig.gate.called_for
    rig.clock.advance(1)
    assert not rig.gate.called_for


def test_it_is_not_called_for_for_ever_though_it_never_becomes_ready() -> None:
    rig = Rig()
    rig.probe.verdict = REFUSED
    waiter = rig.wait()
    pump(rig.clock, 2 * REMEMBERED, 0.25)
    assert rig.gate.called_for
    waiter.cancel()
    rig.clock.advance(REMEMBERED)
    assert not rig.gate.called_for
