"""A call that is to come, or not."""

from __future__ import annotations

from twisted.internet.task import Clock

from txsse.upstream.timer import Timer


class Rung:
    def __init__(self) -> None:
        self.clock = Clock()
        self.times: list[float] = []
        self.timer = Timer(self.clock, lambda: self.times.append(self.clock.seconds()))


def test_it_calls_when_the_time_is_up_and_once() -> None:
    rung = Rung()
    rung.timer.set(5)
    assert (rung.timer.running, rung.timer.left) == (True, 5)
    rung.clock.pump([2, 2, 2, 2])
    assert rung.times == [6]
    assert (rung.timer.running, rung.timer.left) == (False, 0)


def test_set_again_it_keeps_its_time() -> None:
    rung = Rung()
    rung.timer.set(5)
    rung.clock.advance(3)
    rung.timer.set(5)
    rung.clock.advance(2)
    assert rung.times == [5]


def test_cancelled_it_does_not_call_and_can_be_set_anew() -> None:
    rung = Rung()
    rung.timer.cancel()
    rung.timer.set(5)
    rung.timer.cancel()
    rung.timer.cancel()
    assert not rung.clock.getDelayedCalls()
    rung.timer.set(1)
    rung.clock.advance(1)
    assert rung.times == [1]


def test_it_can_be_set_from_inside_its_call() -> None:
    clock, times = Clock(), list[float]()

    def again() -> None:
        times.append(clock.seconds())
        timer.set(1)

    timer = Timer(clock, again)
    timer.set(1)
    clock.pump([1, 1, 1])
    assert times == [1, 2, 3]
