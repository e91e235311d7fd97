"""A hold: a place in the room for as long as it waits, and the time it took."""

from __future__ import annotations

from typing import cast

import attrs
import pytest
from twisted.internet.task import Clock

from tests.fakes import FakeBackend, FakeGate
from txsse.clock import Alarms
from txsse.config import model
from txsse.errors import ProxyError
from txsse.exchange import events as ev
from txsse.proxy.forwarded import TrustedProxies
from txsse.proxy.hold import Hold
from txsse.proxy.ledger import Tally
from txsse.proxy.routes import BoundRoute
from txsse.proxy.stand_ins import Instead
from txsse.proxy.vigil import Vigil
from txsse.upstream.backend import Backend
from txsse.upstream.room import Refusal
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
    scene.backend.gate.eta = 42.0
    scene.hold.begin(0.0)
    (told,) = scene.told
    assert isinstance(told, ev.UpstreamFailed)
    assert (told.error.code, told.error.retry_after) == ("too_many_waiting", 42.0)
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
    waiter.turned_away(Refusal("upstream_invalid", "certificate not trusted: expired"))
    (told,) = scene.told
    assert isinstance(told, ev.UpstreamFailed)
    assert (told.error.code, scene.route.room.waiting) == ("upstream_invalid", 0)
    assert told.error.message == "The upstream cannot be used: certificate not trusted: expired."


def test_an_upstream_that_could_not_be_started() -> None:
    scene = Scene()
    scene.hold.begin(0.0)
    (waiter,) = scene.backend.gate.waiters
    waiter.turned_away(Refusal("wake_failed", "its process exited with status 3", 28.0))
    (told,) = scene.told
    assert isinstance(told, ev.UpstreamFailed)
    assert (told.error.code, told.error.retry_after, scene.route.room.waiting) == ("wake_failed", 28.0, 0)
    assert told.error.message == "The upstream llama could not be started: its process exited with status 3. Try again later."


# -- something else instead


@attrs.define(eq=False)
class CountingVigil:
    """How often it was renewed, and who waited at the gate then."""

    gate: FakeGate
    renewed: list[int] = attrs.field(factory=list)

    def renew(self) -> None:
        self.renewed.append(self.gate.waiting)


@attrs.define(eq=False)
class Offer:
    """One hold whose exchange may end otherwise."""

    commit_after: float = 1.0
    timeout: float = 600.0
    also_refused: bool = False
    wakes: bool = True
    state: State = State.DOWN
    scene: Scene = attrs.field(factory=Scene)
    vigil: CountingVigil = attrs.field(init=False)
    error: ProxyError = attrs.field(factory=lambda: ProxyError("", "Not ready.", 503))

    def __attrs_post_init__(self) -> None:
        scene = self.scene
        scene.backend.gate.state = self.state
        hold = model.Hold(commit_after=self.commit_after, timeout=self.timeout)
        scene.route = BoundRoute.bind(model.Route(hold=hold), cast(Backend, scene.backend), "test", TrustedProxies())
        self.vigil = CountingVigil(scene.backend.gate)
        instead = Instead(self.error, cast(Vigil, self.vigil) if self.wakes else None, self.also_refused)
        scene.hold = Hold(scene.route, Alarms(scene.clock), scene.tally, scene.told.append, instead)

    def begin(self) -> None:
        self.scene.hold.begin(0.0)

    @property
    def made(self) -> bool:
        """It was made use of, once, and nothing is left of the hold."""
        if not self.scene.told:
            return False
        (told,) = self.scene.told
        assert isinstance(told, ev.UpstreamFailed)
        assert self.scene.hold not in self.scene.backend.gate.waiters
        assert self.scene.route.room.waiting == 0
        assert self.quiet
        return told.error is self.error

    @property
    def quiet(self) -> bool:
        """No alarm is left; a wheel turns once more before it rests."""
        self.scene.clock.advance(1)
        return not self.scene.clock.getDelayedCalls()


def test_an_upstream_that_nobody_has_asked_lately_is_asked_first() -> None:
    offer = Offer()
    offer.begin()
    assert (offer.made, offer.scene.backend.gate.waiters) == (False, [offer.scene.hold])
    offer.scene.clock.pump([0.01] * 78)
    assert not offer.made
    offer.scene.clock.pump([0.01] * 10)
    assert offer.made
    assert offer.vigil.renewed == [1], "there is always somebody at the gate"
    assert offer.scene.tally.was_held


def test_if_it_is_ready_then_it_answers_itself() -> None:
    offer = Offer(state=State.UNKNOWN)
    offer.begin()
    offer.scene.clock.advance(0.1)
    offer.scene.backend.open()
    assert offer.scene.told == [ev.UpstreamReady(cold=True)]
    assert offer.vigil.renewed == [] and offer.quiet


def test_where_somebody_waits_it_is_known() -> None:
    offer = Offer()
    offer.scene.backend.gate.waiters.append(Scene().hold)
    offer.begin()
    assert offer.made
    assert not offer.scene.tally.was_held


def test_but_not_before_the_first_answer() -> None:
    offer = Offer(state=State.UNKNOWN)
    offer.scene.backend.gate.waiters.append(Scene().hold)
    offer.begin()
    assert not offer.made
    offer.scene.hold.stop()
    assert offer.quiet


@pytest.mark.parametrize("state", [State.UNKNOWN, State.DOWN])
def test_who_wakes_nobody_is_answered_at_once(state: State) -> None:
    offer = Offer(wakes=False, state=state)
    offer.begin()
    assert offer.made


def test_without_a_grace_there_is_no_time_to_ask() -> None:
    offer = Offer(commit_after=0)
    offer.begin()
    assert offer.made


def test_it_comes_before_a_short_hold_is_over() -> None:
    offer = Offer(timeout=0.1)
    offer.begin()
    offer.scene.clock.pump([0.005] * 18)
    assert offer.made


def test_who_leaves_before_hears_nothing() -> None:
    offer = Offer()
    offer.begin()
    offer.scene.hold.stop()
    offer.scene.clock.advance(5)
    assert (offer.scene.told, offer.vigil.renewed) == ([], []) and offer.quiet


@pytest.mark.parametrize("also_refused", [True, False])
def test_an_upstream_that_cannot_be_started(also_refused: bool) -> None:
    offer = Offer(also_refused=also_refused)
    offer.begin()
    offer.scene.backend.gate.waiters.clear()
    offer.scene.hold.turned_away(Refusal("wake_failed", "its process exited with status 3", 30))
    assert offer.made is also_refused
    (told,) = offer.scene.told
    assert isinstance(told, ev.UpstreamFailed)
    assert told.error.code == ("" if also_refused else "wake_failed")
    assert offer.quiet


def test_a_ready_upstream_without_a_free_slot_is_waited_for() -> None:
    offer = Offer()
    offer.scene.backend.gate.state = State.READY
    offer.begin()
    offer.scene.clock.advance(10)
    assert offer.scene.told == [] and offer.scene.backend.gate.waiters == [offer.scene.hold]
