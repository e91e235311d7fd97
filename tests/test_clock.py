"""Alarms on shared ticks: never early, late by no more than their tick, and nothing ticks for nobody."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from tests.conftest import ExpectedErrors
from txsse.clock import COMMIT_TICK, LONGEST_TICK, SHORTEST_TICK, WOKEN_PER_TURN, Alarms

STEP = 0.001


def pass_time(clock: Clock, seconds: float) -> Iterator[None]:
    """In steps of a millisecond, as far as anything is due at all."""
    end = clock.seconds() + seconds
    while clock.seconds() < end and clock.getDelayedCalls():
        clock.advance(STEP)
        yield
    clock.advance(max(0.0, end - clock.seconds()))


@settings(deadline=None, max_examples=60)
@given(
    delays=st.lists(st.floats(0, 4), min_size=1, max_size=6),
    starts=st.lists(st.floats(0, 0.2), min_size=6, max_size=6),
    tick=st.sampled_from([LONGEST_TICK, COMMIT_TICK]),
)
def test_an_alarm_is_never_early_and_late_by_a_twentieth_at_most(delays: list[float], starts: list[float], tick: float) -> None:
    clock = Clock()
    alarms = Alarms(clock)
    rung: dict[int, tuple[float, float]] = {}

    def set_one(number: int, delay: float) -> None:
        due = clock.seconds() + delay
        alarms.set(delay, lambda: rung.__setitem__(number, (due, clock.seconds())), tick=tick)

    for number, (start, delay) in enumerate(zip(starts, delays, strict=False)):
        clock.callLater(start, set_one, number, delay)
    for _ in pass_time(clock, 6):
        pass
    assert len(rung) == len(delays)
    for number, (due, at) in rung.items():
        assert at >= due - 1e-9
        assert at - due <= min(max(delays[number] / 20, SHORTEST_TICK), tick) + 2 * STEP
    assert clock.getDelayedCalls() == []


def test_a_commit_is_late_by_less_than_50_ms_however_long_it_is() -> None:
    clock = Clock()
    rung: list[float] = []
    Alarms(clock).set(60, lambda: rung.append(clock.seconds()), tick=COMMIT_TICK)
    clock.pump([0.001] * 61_000)
    assert 60 <= rung[0] < 60.05


def test_a_cancelled_alarm_does_not_ring() -> None:
    clock = Clock()
    rung: list[str] = []
    alarms = Alarms(clock)
    one, two = (alarms.set(1, lambda name=name: rung.append(name)) for name in "ab")  # type: ignore[misc]  # mypy cannot infer the default
    assert one.active
    one.cancel()
    one.cancel()
    assert not one.active
    clock.pump([0.1] * 20)
    assert rung == ["b"]
    assert not two.active
    two.cancel()
    assert clock.getDelayedCalls() == []


def test_few_lengths_few_ticks() -> None:
    clock = Clock()
    alarms = Alarms(clock)
    for hundredths in range(1, 3000):
        alarms.set(hundredths / 100, lambda: None)
    assert len(clock.getDelayedCalls()) <= 9


def test_nothing_ticks_when_nothing_waits() -> None:
    clock = Clock()
    alarms = Alarms(clock)
    assert clock.getDelayedCalls() == []
    alarms.set(0.1, lambda: None)
    assert len(clock.getDelayedCalls()) == 1
    clock.pump([0.01] * 20)
    assert clock.getDelayedCalls() == []


def test_nothing_ticks_when_all_that_waited_were_cancelled() -> None:
    """A deadline of ten minutes is cancelled within milliseconds: an idle proxy must not tick on for it."""
    clock = Clock()
    alarms = Alarms(clock)
    for alarm in [alarms.set(600, lambda: None) for _ in range(5)]:
        alarm.cancel()
    clock.pump([LONGEST_TICK] * 2)
    assert clock.getDelayedCalls() == []
    rung: list[float] = []
    alarms.set(600, lambda: rung.append(clock.seconds()))
    clock.pump([LONGEST_TICK] * 602)
    assert len(rung) == 1


def test_the_dead_do_not_pile_up() -> None:
    clock = Clock()
    alarms = Alarms(clock)
    kept = [alarms.set(600, lambda: None) for _ in range(10)]
    for _ in range(10_000):
        alarms.set(600, lambda: None).cancel()
    (wheel,) = alarms._wheels.values()
    assert sum(map(len, wheel._buckets.values())) == len(kept)
    assert all(alarm.active for alarm in kept)


def test_alarms_ring_in_the_order_of_their_times() -> None:
    clock = Clock()
    alarms = Alarms(clock)
    rung: list[str] = []
    for name, delay in (("c", 0.023), ("a", 0.011), ("b", 0.018), ("d", 0.023)):
        alarms.set(delay, lambda name=name: rung.append(name))  # type: ignore[misc]  # mypy cannot infer the default
    clock.pump([0.005] * 6)
    assert rung == ["a", "b", "c", "d"]


def test_many_at_once_leave_room_for_others() -> None:
    """Thousands of keepalives are due at the same tick: the reactor has its turn after each few hundred of them."""
    clock = Clock()
    alarms = Alarms(clock)
    rung: list[int] = []
    turns: list[int] = []

    def meanwhile() -> None:
        turns.append(len(rung))
        alarm.cancel()  # one that is due and waits for its turn may still leave

    def first() -> None:
        clock.callLater(0, meanwhile)

    alarms.set(1, first)
    for number in range(3 * WOKEN_PER_TURN):
        alarm = alarms.set(1, lambda number=number: rung.append(number))  # type: ignore[misc]  # mypy cannot infer the default
    clock.pump([0.05] * 30)
    assert turns == [WOKEN_PER_TURN - 1]
    assert rung == list(range(3 * WOKEN_PER_TURN - 1))
    assert clock.getDelayedCalls() == []


def test_a_sleeper_is_woken_once_and_may_go_to_sleep_again() -> None:
    clock = Clock()
    alarms = Alarms(clock)

    class Sleeper:
        woken = 0

        def wake(self) -> None:
            self.woken += 1
            if self.woken < 3:
                alarms.enter(self, 0)

    sleeper, other = Sleeper(), Sleeper()
    alarms.enter(sleeper, 1)
    alarms.enter(other, 1).pop(other)
    clock.pump([0.01] * 150)
    assert (sleeper.woken, other.woken) == (3, 0)
    assert clock.getDelayedCalls() == []


def test_one_that_fails_is_logged_and_the_others_ring(expected_errors: ExpectedErrors) -> None:
    clock = Clock()
    alarms = Alarms(clock)
    rung: list[str] = []
    alarms.set(0.01, lambda: rung.append("before"))
    alarms.set(0.01, lambda: [][0])
    alarms.set(0.01, lambda: rung.append("after"))
    clock.pump([0.005] * 4)
    alarms.set(0.01, lambda: rung.append("later"))
    clock.pump([0.005] * 4)
    assert rung == ["before", "after", "later"]
    assert len(expected_errors.flush(IndexError)) == 1


def test_an_alarm_may_set_and_cancel_others() -> None:
    clock = Clock()
    alarms = Alarms(clock)
    rung: list[int] = []
    numbers = itertools.count()
    victims = [alarms.set(0.02, lambda: rung.append(-1)) for _ in range(200)]

    def again() -> None:
        rung.append(next(numbers))
        for victim in victims:
            victim.cancel()
        if len(rung) < 3:
            alarms.set(0.01, again)

    alarms.set(0.01, again)
    clock.pump([0.005] * 20)
    assert rung == [0, 1, 2]
    assert clock.getDelayedCalls() == []


def test_stop_forgets_everything() -> None:
    clock = Clock()
    alarms = Alarms(clock)
    rung: list[str] = []
    late = alarms.set(0.01, lambda: rung.append("x"))
    alarms.set(5, lambda: rung.append("y"))
    alarms.stop()
    assert clock.getDelayedCalls() == []
    late.cancel()
    clock.advance(10)
    assert rung == []
    alarms.set(0.01, lambda: rung.append("anew"))
    clock.pump([0.005] * 4)
    assert rung == ["anew"]
