"""A hold: a place in the room for as long as it waits, and the time it took."""

from __future__ import annotations

from typing import cast

import attrs
from twisted.internet.task import Clock

from tests.fakes import FakeBackend
from txsse.clock import Alarms
from txsse.config import model
from txsse.exchange import events as ev
from txsse.proxy.forwarded import TrustedProxies
from txsse.proxy.hold import Hold
from txsse.proxy.ledger import Tally
from txsse.proxy.routes import BoundRoute
from txsse.upstream.backend import Backend
from txsse.upstream.state import State


@attrs.define(eq=False)
class Scene:
    """One hold before a closed gate."""

    clock: Clock = attrs.field(factory=Clock)
    backend: FakeBackend = attrs.field(factory=lambda: FakeBackend(ready=False))
    tally: Tally = attrs.field(factory=lambda: Tally(0))
    told: list[ev.Event] = attrs.field(factory=list)
    route: BoundRoute = attrs.field(init=False)
    hold: Hold = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        route = model.Route(name="llama", hold=model.Hold(max_waiting=1))
        self.route = BoundRoute.bind(route, cast(Backend, self.backend), "test", TrustedProxies())
        self.again()

    def again(self) -> None:
        self.hold = Hold(self.route, Alarms(self.clock), self.tally, self.told.append)


def test_all_its_waits_are_added_up() -> None:
    scene = Scene()
    for seconds in (2.0, 3.0):
        scene.again()
        scene.backend.gate.state = State.DOWN
        scene.hold.begin(0.0)
        assert scene.route.room.waiting == 1
        scene.clock.advance(seconds)
        scene.backend.open()
    assert scene.told == [ev.UpstreamReady(cold=True)] * 2
    assert (scene.tally.hold, scene.tally.was_held, scene.route.room.waiting) == (5.0, True, 0)


def test_a_full_room_is_told_at_once() -> None:
    scene = Scene()
    scene.route.room.waiting = 1
    scene.hold.begin(0.0)
    (told,) = scene.told
    assert isinstance(told, ev.UpstreamFailed)
    assert told.error.code == "too_many_waiting"
    assert (scene.tally.was_held, scene.route.room.waiting, scene.backend.gate.waiters) == (False, 1, [])


def test_whoever_stops_waiting_hears_nothing() -> None:
    scene = Scene()
    scene.hold.begin(0.0)
    scene.clock.advance(1)
    scene.hold.stop()
    scene.hold.stop()
    assert (scene.told, scene.backend.gate.waiters, scene.route.room.waiting, scene.tally.hold) == ([], [], 0, 1.0)


def test_an_upstream_that_waiting_does_not_mend() -> None:
    scene = Scene()
    scene.hold.begin(0.0)
    (waiter,) = scene.backend.gate.waiters
    waiter.turned_away("certificate not trusted: expired")
    (told,) = scene.told
    assert isinstance(told, ev.UpstreamFailed)
    assert (told.error.code, scene.route.room.waiting) == ("upstream_invalid", 0)
    assert "expired" in told.error.message
