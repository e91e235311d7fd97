"""The lookout alone: what it tells, when it looks next, and that it can be stopped in whatever it does. (At a gate: test_gate.py.)"""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock

from tests.conftest import ExpectedErrors
from txsse.config import model
from txsse.testing import pump
from txsse.upstream.lookout import PATIENCE, Lookout, Verdict, look
from txsse.upstream.state import Event

READY = Verdict(True)
REFUSED = Verdict(False, detail="connection refused")


class Scene:
    """A lookout whose probes the test answers, or who answer by themselves."""

    def __init__(self, config: model.Probe | None = None, *, loopback: bool = True, verdict: Verdict | None = None) -> None:
        self.clock = Clock()
        self.verdict = verdict
        self.started: list[float] = []
        self.heard: list[Verdict] = []
        self.probes: list[Deferred[Verdict]] = []
        self.cancelled = 0
        self.lookout = Lookout(self.clock, self._probe, config or model.Probe(), loopback, self._hear)

    def _probe(self) -> Deferred[Verdict]:
        self.started.append(self.clock.seconds())
        probing: Deferred[Verdict] = Deferred(self._cancel)
        if self.verdict is not None:
            probing.callback(self.verdict)
        self.probes.append(probing)
        return probing

    def _cancel(self, probing: Deferred[Verdict]) -> None:
        self.cancelled += 1

    def _hear(self, verdict: Verdict) -> None:
        self.heard.append(verdict)
        if not verdict.ready:
            self.lookout.go_on()


def test_one_probe_is_under_way_however_often_it_is_told_to_go_on() -> None:
    scene = Scene()
    for _ in range(3):
        scene.lookout.go_on()
        scene.clock.advance(0)
    assert scene.started == [0]


def test_it_goes_on_each_interval_until_it_is_ready() -> None:
    scene = Scene(verdict=REFUSED)
    scene.lookout.go_on()
    pump(scene.clock, 1.1)
    assert scene.started == pytest.approx([0, 0.25, 0.5, 0.75, 1], abs=0.01)
    scene.verdict = READY
    pump(scene.clock, 1)
    assert scene.heard[-1] is READY
    assert len(scene.started) == 6
    assert not scene.clock.getDelayedCalls()


@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_when_it_is_stopped_nothing_more_is_heard_and_nothing_is_left(when: str) -> None:
    scene = Scene(model.Probe(ready_after=1))
    scene.lookout.go_on()
    if when != "before":
        scene.clock.advance(0)
    if when == "after":
        scene.probes[0].callback(READY)
    scene.lookout.stop()
    scene.lookout.stop()
    pump(scene.clock, 5)
    assert (scene.heard, scene.cancelled) == ([], 1 if when == "during" else 0)
    assert not scene.clock.getDelayedCalls()


def test_a_good_verdict_is_told_when_it_has_lasted_and_a_bad_one_at_once() -> None:
    scene = Scene(model.Probe(ready_after=1))
    scene.lookout.go_on()
    scene.clock.advance(0)
    scene.probes[0].callback(REFUSED)
    assert scene.heard == [REFUSED]
    scene.clock.advance(0.25)
    scene.probes[1].callback(READY)
    pump(scene.clock, 0.9)
    assert scene.heard == [REFUSED]
    pump(scene.clock, 0.2)
    assert scene.heard == [REFUSED, READY]


def test_an_answer_that_came_another_way_puts_the_next_probe_off() -> None:
    scene = Scene(verdict=REFUSED)
    scene.clock.advance(100)
    scene.lookout.answered()
    scene.lookout.go_on()
    pump(scene.clock, 0.2)
    assert scene.started == []
    pump(scene.clock, 0.1)
    assert scene.started == [pytest.approx(100.25, abs=0.01)]


def test_a_far_one_is_asked_more_rarely_until_a_new_round_begins() -> None:
    scene = Scene(loopback=False, verdict=REFUSED)
    scene.lookout.begin_round()
    scene.lookout.go_on()
    pump(scene.clock, PATIENCE + 30, 0.125)
    assert scene.started[-1] - scene.started[-2] == pytest.approx(5, abs=0.2)
    scene.lookout.stop()
    scene.clock.advance(10)
    scene.lookout.begin_round()
    scene.lookout.go_on()
    scene.started.clear()
    pump(scene.clock, 0.5, 0.125)
    assert len(scene.started) == 2


def test_a_look_always_has_a_verdict(expected_errors: ExpectedErrors) -> None:
    clock, verdicts = Clock(), list[Verdict]()
    slow = look(lambda: Deferred(), 2, clock)
    slow.addCallback(verdicts.append)
    clock.advance(2)
    look(lambda: fail(ZeroDivisionError()), 2, clock).addCallback(verdicts.append)
    assert verdicts == [Verdict(False, detail="timed out"), Verdict(False, detail="ZeroDivisionError")]
    assert len(expected_errors.flush(ZeroDivisionError)) == 1


def test_what_a_verdict_means_to_the_table() -> None:
    assert [each.event for each in (READY, Verdict(False, loading=True), REFUSED)] == [
        Event.PROBE_PASSED,
        Event.PROBE_LOADING,
        Event.PROBE_FAILED,
    ]
