"""Waiting in the place of those who were sent away: they will ask again, and by then the upstream shall be ready."""

from __future__ import annotations

from typing import Final

from txsse.clock import Alarm, Alarms
from txsse.config import model
from txsse.exchange.voice import HoldStatus
from txsse.proxy.progress import progress_of
from txsse.upstream.backend import Backend
from txsse.upstream.room import Refusal

LAST: Final = -(2**31)
"""Its priority: behind everybody who really waits, so that nobody's place in the queue counts it."""

LINGER: Final = 60.0
"""Seconds that it goes on after it was last renewed: as long as anybody is asked to wait before trying again."""


class Vigil:
    """One for a route: however many were sent away, one waits at the gate, so that the upstream is probed and woken.

    It ends when the upstream is ready, when that cannot be, after ``hold.timeout``, or when nobody has renewed it for a while.

    :ivar since: when it began, in reactor seconds.
    :ivar failure: why the last one ended in vain, fit for a client; empty if it did not.
    """

    def __init__(self, backend: Backend, alarms: Alarms, route: model.Route) -> None:
        self._backend = backend
        self._alarms = alarms
        self._timeout = route.hold.timeout
        self._alarm: Alarm | None = None  # while it goes on
        self._until = 0.0
        self.since = alarms.seconds()
        self.failure = ""

    @property
    def active(self) -> bool:
        return self._alarm is not None

    @property
    def ready(self) -> bool:
        return self._backend.ready

    def renew(self) -> None:
        """Somebody is interested: go on for a while, or begin."""
        now = self._alarms.seconds()
        self._until = now + LINGER
        if self._alarm is not None or self._backend.ready:
            return
        self.since, self.failure = now, ""
        self._alarm = self._alarms.set(self._left(now), self._look)
        self._backend.gate.enter(self, LAST, now)

    def status(self) -> HoldStatus:
        """What can be told to those who wait for it to end."""
        place = self._backend.gate.place_of(self)
        return progress_of(self._backend, self._alarms.seconds() - self.since if self.active else 0.0, place)

    def stop(self) -> None:
        """End now. Idempotent."""
        if self._alarm is not None:
            self._backend.gate.leave(self)
            self._end()

    def _left(self, now: float) -> float:
        """Seconds until there is something to look after."""
        left = self._until - now
        return min(left, self.since + self._timeout - now) if self._timeout else left

    def _look(self) -> None:
        now = self._alarms.seconds()
        left = self._left(now)
        if left > 0:
            self._alarm = self._alarms.set(left, self._look)
            return
        if now < self._until:
            self.failure = f"it was not ready within {self._timeout:g} s"
        self._backend.gate.leave(self)
        self._end()

    def _end(self) -> None:
        alarm, self._alarm = self._alarm, None
        if alarm is not None:
            alarm.cancel()

    # The gate calls (Waiter)

    def admitted(self) -> None:
        self._end()
        self._backend.gate.give_back()  # its place is for those who will ask

    def turned_away(self, refusal: Refusal) -> None:
        self.failure = refusal.detail
        self._end()
