"""A vigil: one waiter at the gate for all who were sent away."""

from __future__ import annotations

from typing import cast

import attrs
from twisted.internet.task import Clock

from tests.fakes import FakeBackend
from txsse.clock import Alarms
from txsse.config import model
from txsse.proxy.vigil import LINGER, Vigil
from txsse.upstream.backend import Backend
from txsse.upstream.room import Refusal
from txsse.upstream.state import State


@attrs.define(eq=False)
class Scene:
    timeout: float = 600.0
    clock: Clock = attrs.field(factory=Clock)
    backend: FakeBackend = attrs.field(factory=lambda: FakeBackend(ready=False))
    vigil: Vigil = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        route = model.Route(name="llama", hold=model.Hold(timeout=self.timeout))
        self.vigil = Vigil(cast(Backend, self.backend), Alarms(self.clock), route)

    def wait(self, seconds: float) -> None:
        self.clock.pump([0.5] * round(seconds * 2))

    @property
    def waiting(self) -> bool:
        assert self.vigil.active is (self.vigil in self.backend.gate.waiters)
        return self.vigil.active


def test_it_waits_once_however_often_it_is_renewed() -> None:
    scene = Scene()
    assert not scene.waiting
    scene.vigil.renew()
    scene.vigil.renew()
    assert len(scene.backend.gate.waiters) == 1 and scene.waiting


def test_it_ends_a_while_after_the_last_one_was_interested() -> None:
    scene = Scene()
    scene.vigil.renew()
    scene.wait(LINGER - 5)
    scene.vigil.renew()
    scene.wait(LINGER - 5)
    assert scene.waiting
    scene.wait(10)
    assert not scene.waiting and scene.vigil.failure == ""
    assert scene.clock.getDelayedCalls() == []


def test_it_ends_when_the_upstream_is_ready_and_leaves_the_slot_to_others() -> None:
    scene = Scene()
    scene.vigil.renew()
    scene.backend.open()
    assert not scene.waiting and scene.vigil.ready
    assert scene.backend.gate.taken == 0
    scene.vigil.renew()
    assert not scene.waiting, "there is nothing to wait for"
    scene.backend.gate.state = State.DOWN
    scene.vigil.renew()
    assert scene.waiting


def test_it_ends_when_waiting_does_not_help() -> None:
    scene = Scene()
    scene.vigil.renew()
    scene.backend.gate.waiters.remove(scene.vigil)
    scene.vigil.turned_away(Refusal("wake_failed", "its process exited with status 3", 30))
    assert not scene.waiting
    assert scene.vigil.failure == "its process exited with status 3"
    scene.vigil.renew()
    assert scene.waiting and scene.vigil.failure == ""


def test_it_ends_with_the_time_for_a_hold() -> None:
    scene = Scene(timeout=90)
    scene.vigil.renew()
    for _ in range(9):
        scene.wait(10)
        scene.vigil.renew()
    scene.wait(5)
    assert not scene.waiting
    assert scene.vigil.failure == "it was not ready within 90 s"
    scene.vigil.renew()
    assert scene.waiting and scene.vigil.since == scene.clock.seconds()


def test_without_such_a_time_it_goes_on() -> None:
    scene = Scene(timeout=0)
    for _ in range(100):
        scene.vigil.renew()
        scene.wait(30)
    assert scene.waiting and scene.vigil.failure == ""
    scene.vigil.stop()


def test_what_it_tells() -> None:
    scene = Scene()
    scene.vigil.renew()
    scene.wait(12)
    scene.backend.gate.eta = 31
    status = scene.vigil.status()
    assert (status.upstream, status.state, status.elapsed, status.eta) == ("llama", "down", 12, 31)
    scene.vigil.stop()
    scene.vigil.stop()
    assert not scene.waiting and scene.vigil.status().elapsed == 0
    scene.wait(2)
    assert scene.clock.getDelayedCalls() == []
