"""A hold: the waits of one exchange at the gate of its upstream, its place in the route's room, and the time that took."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from txsse.clock import COMMIT_TICK, Alarm, Alarms
from txsse.errors import ProxyError
from txsse.exchange import events as ev
from txsse.proxy.ledger import Tally
from txsse.proxy.routes import BoundRoute
from txsse.upstream.room import Refusal
from txsse.upstream.state import State

if TYPE_CHECKING:
    from txsse.proxy.stand_ins import Instead

LONGEST_LOOK: Final = 1.0
"""Seconds that an upstream gets to show that it is ready, before something else is sent in its place."""


class Hold:
    """Waits for its exchange, once.

    :param tally: the time is added here.
    :param tell: called with ``UpstreamReady`` or ``UpstreamFailed``, perhaps before :meth:`begin` returns.
    :param instead: what the exchange ends with, instead of a wait for readiness. If nobody has been waiting, what is known of the
        upstream is old: then it is asked first.
    """

    __slots__ = ("_alarm", "_alarms", "_closed", "_instead", "_route", "_since", "_tally", "_tell")

    def __init__(
        self, route: BoundRoute, alarms: Alarms, tally: Tally, tell: Callable[[ev.Event], None], instead: Instead | None = None
    ) -> None:
        self._route = route
        self._alarms = alarms
        self._tally = tally
        self._tell: Callable[[ev.Event], None] | None = tell
        self._since = alarms.seconds()
        self._closed = False  # the upstream was not ready when the wait began
        self._instead = instead
        self._alarm: Alarm | None = None  # when that is sent

    def begin(self, received: float) -> None:
        """Take a place, if there is one, and wait for the gate.

        :param received: when the request was complete, in reactor seconds: its place among those who wait for a slot.
        """
        route = self._route
        gate = route.backend.gate
        instead = None if gate.ready else self._instead
        if instead is not None and (instead.vigil is None or not self._look or (gate.waiting and gate.state is not State.UNKNOWN)):
            self._end_with(instead)
            return
        if route.room.waiting >= route.config.hold.max_waiting:
            text = "Too many requests are waiting for this upstream. Try again in a moment."
            self._end(ev.UpstreamFailed(ProxyError("too_many_waiting", text, retry_after=gate.eta)))
            return
        route.room.waiting += 1
        self._tally.was_held = True
        self._closed = not gate.ready
        gate.enter(self, route.config.priority, received)
        if instead is not None and self._tell is not None:
            self._alarm = self._alarms.set(self._look, self._looked, tick=COMMIT_TICK)

    @property
    def _look(self) -> float:
        """Seconds. They are over before the grace is, for after that there would be a stream of ours."""
        hold = self._route.config.hold
        return 0.8 * min(hold.commit_after, hold.timeout or LONGEST_LOOK, LONGEST_LOOK)

    def _looked(self) -> None:
        instead = self._instead
        assert instead is not None
        self._insist(instead)  # before nobody is left at the gate
        self._route.backend.gate.leave(self)
        self._give_up_place()
        self._end(ev.UpstreamFailed(instead.error))

    def _end_with(self, instead: Instead) -> None:
        self._insist(instead)
        self._end(ev.UpstreamFailed(instead.error))

    def _insist(self, instead: Instead) -> None:
        if instead.vigil is not None:
            instead.vigil.renew()

    def stop(self) -> None:
        """Leave; nobody hears of it. Idempotent."""
        if self._tell is not None:
            self._tell = None
            self._route.backend.gate.leave(self)
            self._give_up_place()

    @property
    def place(self) -> int | None:
        """In the queue for slots, if there is one."""
        return self._route.backend.gate.place_of(self)

    def admitted(self) -> None:
        self._give_up_place()
        self._end(ev.UpstreamReady(cold=self._closed and self._route.backend.gate.cold))

    def turned_away(self, refusal: Refusal) -> None:
        self._give_up_place()
        if self._instead is not None and self._instead.also_refused:
            self._end_with(self._instead)
            return
        text = f"The upstream cannot be used: {refusal.detail}."
        if refusal.code == "wake_failed":
            text = f"The upstream {self._route.backend.name} could not be started: {refusal.detail}. Try again later."
        self._end(ev.UpstreamFailed(ProxyError(refusal.code, text, retry_after=refusal.retry_after)))

    def _give_up_place(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._route.room.waiting -= 1
        self._tally.hold += self._alarms.seconds() - self._since

    def _end(self, event: ev.Event) -> None:
        tell, self._tell = self._tell, None  # it knows us: without this cut each hold would be left to the cycle collector
        if tell is not None:
            tell(event)
