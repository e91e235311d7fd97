"""The gate in front of an upstream: requests wait here until it is ready, and while they do one lookout probes it for all of them.

It is probed only while somebody waits, or while it is being started. Whatever changes the picture stops the probe and decides anew, so a
wake-up cannot be lost between two of them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from twisted.internet.interfaces import IReactorTime

from txsse.config import model
from txsse.upstream.lookout import Ask, Lookout, Verdict
from txsse.upstream.room import Refusal, Room, Waiter
from txsse.upstream.state import Changed, Event, Standing, State
from txsse.upstream.timer import Timer

if TYPE_CHECKING:
    from txsse.upstream.wake.starter import Starter

RELEASED_PER_TURN: Final = 256  # each may dispatch at once; thousands in one turn would stall every stream
GRACE: Final = 60.0
"""Seconds for which an upstream that was waited for is in demand after it has become ready, whatever goes on there: two looks of a KEDA
that looks every 30 s."""
REMEMBERED: Final = 600.0
"""Seconds for which it is in demand after the last one who waited has left before it was ready, as long as a request is held by default:
clients give up sooner than big models load, and come back."""


def _nobody(old: State, new: State, detail: str) -> None:
    pass


class Gate:
    """Lets requests through to one upstream, or has them wait in its room until it is ready and has a free slot.

    :param probe: starts one look at the upstream; cancelling its Deferred must stop it at once.
    :param config: ``interval`` (from start to start), ``max_interval``, ``timeout`` and ``ready_after`` in seconds. Preset ``none``:
        always ready, never probed, and no mark changes that.
    :param loopback: the upstream is on this machine: it is asked each ``interval``, however long that goes on.
    :param on_change: called with the old state, the new one and the detail, after each change of state. For logs and metrics: it
        must not call the gate.
    :param slots: how many may be in flight; 0 = any number.
    :param state: what is known of it before anybody asks.
    :ivar starter: what starts and stops it, where something does; set once, before anybody comes.
    """

    def __init__(
        self,
        clock: IReactorTime,
        probe: Ask,
        config: model.Probe,
        loopback: bool,
        on_change: Changed = _nobody,
        *,
        slots: int = 0,
        state: State = State.UNKNOWN,
    ) -> None:
        self.always_ready = config.preset == "none"
        self.standing = Standing(clock.seconds, on_change, State.READY if self.always_ready else state)
        self.starter: Starter | None = None
        self.cold = False  # whoever was let through last had to wait for readiness: a first probe that passes does not count
        self._clock = clock
        self._room = Room(slots)
        self._later = Room(slots)  # who came while it is about to stop
        self._called_until = -math.inf
        self._told = (False, False)  # the starter: that somebody waits, that something is open
        self._lookout = Lookout(clock, probe, config, loopback, self._heard)
        self._releasing = Timer(clock, self._release)

    @property
    def state(self) -> State:
        return self.standing.state

    @property
    def since(self) -> float:
        """When the state was entered."""
        return self.standing.since

    @property
    def last_error(self) -> str:
        """Why it was not ready when last heard of; "" while it is."""
        return self.standing.detail

    @property
    def ready(self) -> bool:
        return self.standing.state is State.READY

    @property
    def eta(self) -> float | None:
        """Seconds until it is ready, judging by its last starts; ``None`` if nobody knows, or it is."""
        return None if self.starter is None or self.ready else self.starter.eta

    @property
    def waiting(self) -> int:
        """How many wait here."""
        return len(self._room) + len(self._later)

    @property
    def called_for(self) -> bool:
        """Somebody has waited for it to become ready, and it is too early to say that this is over or was in vain: do not scale it down."""
        return (self.waiting > 0 and not self.ready) or self._clock.seconds() < self._called_until

    @property
    def slots(self) -> tuple[int, int]:
        """How many there are (0: any number), and how many are taken."""
        return self._room.slots, self._room.taken

    # -- for those who want to get through

    def admit(self) -> bool:
        """Take a slot without waiting, if the upstream is ready and nobody is before us. Who takes one gives it back."""
        if self.standing.state is not State.READY or not self._room.take():
            return False
        if self.starter is not None:
            self._tell(self.starter)
        return True

    def take_slot(self) -> bool:
        """The same, ready or not: for requests that do not wait for readiness."""
        if not self._room.take():
            return False
        if self.starter is not None:
            self._tell(self.starter)
        return True

    def give_back(self) -> None:
        """A slot is free again: for the first who waits."""
        self._room.give()
        if self.starter is not None:
            self._tell(self.starter)
        if self._room and self._serves:
            self._releasing.set(0)

    def enter(self, waiter: Waiter, priority: int = 0, since: float = 0.0) -> None:
        """Wait here. *waiter* is told once, before this returns if the upstream is ready and has a slot, or cannot be started just now.

        :param priority: the highest goes first, then who waits longest: *since* when, in reactor seconds.
        """
        if self.admit():
            waiter.admitted()
            return
        starter = self.starter
        refusal = None if starter is None else starter.refusal
        if refusal is not None:
            waiter.turned_away(refusal)
            return
        if starter is not None and starter.draining:
            self._later.enter(waiter, priority, since)
        else:
            if not self.ready:
                self._called_until = self._clock.seconds() + REMEMBERED
                if not self._room:
                    self._lookout.begin_round()
            self._room.enter(waiter, priority, since)
        if starter is not None:
            self._tell(starter)
        self._go_on()

    def leave(self, waiter: Waiter) -> None:
        """Wait no more; the last one to leave stops the probe, unless a start is under way. Idempotent."""
        if not self._room.leave(waiter) and not self._later.leave(waiter):
            return
        if self.starter is not None:
            self._tell(self.starter)
        if not self.ready:
            self._called_until = self._clock.seconds() + REMEMBERED
        if not self._room:
            self._releasing.cancel()
            if not self._may_look:
                self._lookout.stop()
                self.cold = False

    def place_of(self, waiter: Waiter) -> int | None:
        """Its place in the queue for slots, where there is one."""
        return self._room.place_of(waiter, self._clock.seconds())

    # -- from the data path

    def mark_down(self, detail: str) -> None:
        """A dispatch was refused: not one byte of it was sent. The upstream is asked at once if it was not within the last interval."""
        self._mark(Event.DISPATCH_REFUSED, detail)

    def mark_loading(self, detail: str) -> None:
        """A dispatched request was given a loading answer. That is as good as a probe's, so the next one comes an interval later:
        else a probe that says ready and a data path that says loading would chase each other."""
        if not self.always_ready:
            self._lookout.answered()
        self._mark(Event.DISPATCH_LOADING, detail)

    def _mark(self, event: Event, detail: str) -> None:
        if self.always_ready:
            return
        if self.ready:
            self._lookout.begin_round()
        # What a probe that started earlier finds out is older than this.
        self._lookout.stop()
        self._not_ready(event, detail)
        self._go_on()

    # -- from the starter

    def look(self) -> None:
        """Something about the start or the stop has changed."""
        starter = self.starter
        assert starter is not None  # it calls
        if not starter.draining:
            self._room.take_in(self._later)
        if self.state is State.WAKING:
            self.cold = True
        if self._serves:
            self._releasing.set(0)
        if self._serves or not self._may_look:
            self._lookout.stop()
        self._go_on()
        self._tell(starter)

    def turn_away(self, refusal: Refusal) -> None:
        """Tell everybody who waits that it does not help; whoever comes later has the upstream looked at anew."""
        self._lookout.stop()
        self.cold = False
        self._room.take_in(self._later)
        for waiter in self._room.empty():
            waiter.turned_away(refusal)
        if self.starter is not None:
            self._tell(self.starter)

    def _tell(self, starter: Starter) -> None:
        """Let it know what has changed. While it drains, those who wait in the room are as good as let through."""
        draining = starter.draining
        wanted = bool(self._later if draining else self._room)
        busy = bool(self._room.taken or (draining and self._room))
        before, self._told = self._told, (wanted, busy)
        if wanted != before[0]:
            (starter.wanted if wanted else starter.unwanted)()
        if busy != before[1]:
            (starter.busy if busy else starter.idle)()

    # -- readiness

    @property
    def _serves(self) -> bool:
        """Those in the room are let through."""
        return self.ready or (self.starter is not None and self.starter.draining)

    @property
    def _may_look(self) -> bool:
        """Somebody wants to know, and there is something to be probed."""
        starter = self.starter
        if starter is None:
            return bool(self._room)
        return not starter.barred and (bool(self._room) or starter.starting)

    def _go_on(self) -> None:
        if not self.ready and self._may_look:
            self._lookout.go_on()

    def _heard(self, verdict: Verdict) -> None:
        if verdict.ready:
            self.standing.hear(verdict.event, "")
            self._called_until = self._clock.seconds() + GRACE
        else:
            self._not_ready(verdict.event, verdict.detail)
        if self.starter is not None:
            self.starter.looked(verdict.event)
        if verdict.ready:
            self._release()
            return
        if verdict.hopeless:
            self.turn_away(Refusal("upstream_invalid", verdict.detail))
        self._go_on()

    def _not_ready(self, event: Event, detail: str) -> None:
        self.cold = True
        self.standing.hear(event, detail)

    def _release(self) -> None:
        """Let a slice of those who wait through, as far as there are slots, and come back for the next one in the next turn.

        Where slots are not limited, who comes meanwhile finds the gate open and goes first: nothing is scarce then.
        """
        self._releasing.cancel()
        for _ in range(RELEASED_PER_TURN):
            # One of those let through may be refused: then the others wait on, in their old places.
            waiter = self._room.next() if self._serves else None
            if waiter is None:
                return
            if self.starter is not None:
                self._tell(self.starter)
            waiter.admitted()
        if self._serves and self._room:
            self._releasing.set(0)
