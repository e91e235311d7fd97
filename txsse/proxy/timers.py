"""The timers of one exchange, by their names, on shared ticks."""

from __future__ import annotations

from typing import Final, Protocol

from txsse.clock import COMMIT_TICK, LONGEST_TICK, Alarm, Alarms
from txsse.exchange.events import Timer

_TICKS: Final = {Timer.COMMIT: COMMIT_TICK, Timer.LINGER: COMMIT_TICK}


class Activity(Protocol):
    """When bytes last went through an exchange, in reactor seconds."""

    wrote: float
    """To the client."""
    read: float
    """From upstream."""
    paused: bool
    """The client takes no more for now, so upstream is not read."""

    def unsent(self) -> int:
        """Bytes that the client's socket has not accepted."""

    def rang(self, timer: Timer) -> None:
        """A timer's time is up."""


class Timers:
    """KEEPALIVE and IDLE count from the last byte: instead of moving an alarm at each byte, they look when they ring."""

    __slots__ = ("_activity", "_alarms", "_running")

    def __init__(self, alarms: Alarms, activity: Activity) -> None:
        self._alarms = alarms
        self._activity = activity
        self._running: dict[Timer, Alarm] = {}

    def set(self, timer: Timer, delay: float) -> None:
        """(Re)start *timer*: it rings *delay* seconds from now, or from the last byte."""
        self.cancel(timer)
        self._arm(timer, delay, delay, _TICKS.get(timer, LONGEST_TICK))

    def cancel(self, timer: Timer) -> None:
        if (alarm := self._running.pop(timer, None)) is not None:
            alarm.cancel()

    def cancel_all(self) -> None:
        for alarm in self._running.values():
            alarm.cancel()
        self._running.clear()

    def _arm(self, timer: Timer, delay: float, left: float, tick: float) -> None:
        self._running[timer] = self._alarms.set(left, lambda: self._ring(timer, delay), tick=tick)

    def _ring(self, timer: Timer, delay: float) -> None:
        left = self._left(timer, delay)
        if left > 0:
            self._arm(timer, delay, left, min(delay / 20, LONGEST_TICK))
            return
        del self._running[timer]
        self._activity.rang(timer)

    def _left(self, timer: Timer, delay: float) -> float:
        activity = self._activity
        if timer is Timer.KEEPALIVE or timer is Timer.HEARTBEAT:
            now = self._alarms.seconds()
            if activity.unsent():
                # The client is not reading: more would only queue up. The interval begins when the last byte leaves.
                activity.wrote = now + delay / 10
                return delay / 10
            return activity.wrote + delay - now if timer is Timer.KEEPALIVE else 0.0
        if timer is Timer.IDLE:
            return delay if activity.paused else activity.read + delay - self._alarms.seconds()
        return 0.0
