"""The gate in front of an upstream: requests wait here until it is ready, and while they do one probe looks for all of them.

The probe runs only while somebody waits. At any time at most one thing is under way: a probe,
or the timer for what comes next (the following probe, the end of ``ready_after``, the next slice of a release). Whatever
changes the picture stops that one thing and decides anew, so a wake-up cannot be lost between two of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, TypeAlias

import attrs
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse.config import model
from txsse.upstream.room import Room, Waiter
from txsse.upstream.state import Event, State, after

BACK_OFF: Final = 1.5
PATIENCE: Final = 600.0  # seconds of waiting after which a far upstream is asked more rarely still
PATIENT_INTERVAL: Final = 5.0
RELEASED_PER_TURN: Final = 256  # each may dispatch at once; thousands in one turn would stall every stream


@attrs.frozen
class Verdict:
    """What one probe found out.

    :param loading: it answers, but says that it is not ready yet.
    :param hopeless: waiting does not mend it: it is there, and its certificate is not to be trusted.
    :param detail: why it is not ready: a name and a class only, fit for a client ("connection refused", "HTTP 503").
    """

    ready: bool
    loading: bool = False
    detail: str = ""
    hopeless: bool = False

    @property
    def event(self) -> Event:
        if self.ready:
            return Event.PROBE_PASSED
        return Event.PROBE_LOADING if self.loading else Event.PROBE_FAILED


Ask: TypeAlias = Callable[[], Deferred[Verdict]]
Changed: TypeAlias = Callable[[State, State, str], None]


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
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, probe: Ask, config: model.Probe, loopback: bool, on_change: Changed = _nobody, *, slots: int = 0
    ) -> None:
        self.always_ready = config.preset == "none"
        self.state = State.READY if self.always_ready else State.UNKNOWN
        self.since = clock.seconds()  # when the state was entered
        self.last_error = ""  # why it was not ready when last heard of; "" while it is
        self.cold = False  # whoever was let through last had to wait for readiness: a first probe that passes does not count
        self._clock = clock
        self._probe = probe
        self._config = config
        self._loopback = loopback
        self._on_change = on_change
        self._room = Room(slots)
        self._probing: Deferred[Verdict] | None = None
        self._next: IDelayedCall | None = None
        self._asked = -math.inf  # when the last probe started, or a loading answer came in its stead
        self._pace = config.interval
        self._round_began = 0.0

    @property
    def ready(self) -> bool:
        return self.state is State.READY

    @property
    def waiting(self) -> int:
        """How many wait here."""
        return len(self._room)

    @property
    def slots(self) -> tuple[int, int]:
        """How many there are (0: any number), and how many are taken."""
        return self._room.slots, self._room.taken

    def admit(self) -> bool:
        """Take a slot without waiting, if the upstream is ready and nobody is before us. Who takes one gives it back."""
        return self.ready and self._room.take()

    def give_back(self) -> None:
        """A slot is free again: for the first who waits."""
        self._room.give()
        if self.ready and self._room and self._next is None:
            self._next = self._clock.callLater(0, self._release)

    def enter(self, waiter: Waiter, priority: int = 0, since: float = 0.0) -> None:
        """Wait here. *waiter* is told once, before this returns if the upstream is ready and has a slot.

        :param priority: the highest goes first, then who waits longest: *since* when, in reactor seconds.
        """
        if self.admit():
            waiter.admitted()
            return
        if not self._room and not self.ready:
            self._begin_round()
        self._room.enter(waiter, priority, since)
        self._go_on()

    def leave(self, waiter: Waiter) -> None:
        """Wait no more; the last one to leave stops the probe. Idempotent."""
        if self._room.leave(waiter) and not self._room:
            self._stop()
            self.cold = False

    def place_of(self, waiter: Waiter) -> int | None:
        """Its place in the queue for slots, where there is one."""
        return self._room.place_of(waiter, self._clock.seconds())

    def mark_down(self, detail: str) -> None:
        """A dispatch was refused: not one byte of it was sent. The upstream is asked at once if it was not within the last interval."""
        self._mark(Event.DISPATCH_REFUSED, detail)

    def mark_loading(self, detail: str) -> None:
        """A dispatched request was given a loading answer. That is as good as a probe's, so the next one comes an interval later:
        else a probe that says ready and a data path that says loading would chase each other."""
        if not self.always_ready:
            self._asked = self._clock.seconds()
        self._mark(Event.DISPATCH_LOADING, detail)

    def _mark(self, event: Event, detail: str) -> None:
        if self.always_ready:
            return
        if self.ready:
            self._begin_round()
        # What a probe that started earlier finds out is older than this.
        self._stop()
        self._not_ready(event, detail)
        self._go_on()

    def _begin_round(self) -> None:
        self._pace = self._config.interval
        self._round_began = self._clock.seconds()

    def _go_on(self) -> None:
        """Have the next probe come, if somebody waits for it and nothing is under way."""
        if self.ready or not self._room or self._probing is not None or self._next is not None:
            return
        # Never two probes within the interval, also when clients come and go quickly or dispatches are refused in turn.
        due = self._asked + self._pace
        self._next = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._look)

    def _stop(self) -> None:
        upcoming, self._next = self._next, None
        if upcoming is not None:
            upcoming.cancel()
        probing, self._probing = self._probing, None
        if probing is not None:
            probing.cancel()

    def _look(self) -> None:
        self._next = None
        self._asked = self._clock.seconds()
        self._probing = probing = maybeDeferred(self._probe)
        probing.addTimeout(self._config.timeout, self._clock)
        probing.addErrback(self._as_verdict)
        probing.addCallback(self._heard, probing)

    def _as_verdict(self, failure: Failure) -> Verdict:
        if failure.check(TimeoutError):
            return Verdict(False, detail="timed out")
        # A cancelled probe's verdict is heard by nobody. Anything else is a mistake in the probe, which must not end the waiting.
        if not failure.check(CancelledError):
            self._log.failure("a probe failed in a way of its own", failure)
        return Verdict(False, detail=type(failure.value).__name__)

    def _heard(self, verdict: Verdict, probing: Deferred[Verdict]) -> None:
        if probing is not self._probing:
            return
        self._probing = None
        if not verdict.ready:
            self._not_ready(verdict.event, verdict.detail)
            if verdict.hopeless:
                self._turn_away(verdict.detail)
            self._go_on()
            self._slow_down()
        elif self._config.ready_after:
            self._next = self._clock.callLater(self._config.ready_after, self._open)
        else:
            self._open()

    def _turn_away(self, detail: str) -> None:
        """Tell everybody who waits; whoever comes later has the upstream asked anew, an interval after this time at the earliest."""
        self.cold = False
        for waiter in self._room.empty():
            waiter.turned_away(detail)

    def _slow_down(self) -> None:
        """A far upstream is asked more and more rarely; the probe already due keeps its time."""
        if self._loopback:
            return
        longest = self._config.max_interval
        if self._clock.seconds() - self._round_began >= PATIENCE:
            self._pace = longest = max(longest, PATIENT_INTERVAL)
        self._pace = max(self._config.interval, min(self._pace * BACK_OFF, longest))

    def _open(self) -> None:
        self._next = None
        self._enter(Event.PROBE_PASSED, "")
        self._release()

    def _release(self) -> None:
        """Let a slice of those who wait through, as far as there are slots, and come back for the next one in the next turn.

        Where slots are not limited, who comes meanwhile finds the gate open and goes first: nothing is scarce then.
        """
        self._next = None
        for _ in range(RELEASED_PER_TURN):
            # One of those let through may be refused: then the others wait on, in their old places.
            waiter = self._room.next() if self.ready else None
            if waiter is None:
                return
            waiter.admitted()
        if self.ready and self._room and self._next is None:
            self._next = self._clock.callLater(0, self._release)

    def _not_ready(self, event: Event, detail: str) -> None:
        self.cold = True
        self._enter(event, detail)

    def _enter(self, event: Event, detail: str) -> None:
        old, self.state = self.state, after(self.state, event)
        self.last_error = detail
        if self.state is not old:
            self.since = self._clock.seconds()
            self._on_change(old, self.state, detail)
