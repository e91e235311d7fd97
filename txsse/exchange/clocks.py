"""The clocks of one exchange: which of them run, and when they are up. Sans-I/O: the time is told, never asked for."""

from __future__ import annotations

from typing import Final

from txsse.exchange.events import Timer

NEVER: Final = float("inf")

_KEEPALIVE: Final = int(Timer.KEEPALIVE)
_IDLE: Final = int(Timer.IDLE)
_FIRST_ABSOLUTE: Final = 2
_NONE: Final = [NEVER] * len(Timer)


class Clocks:
    """Most are up at a point in time. KEEPALIVE and IDLE follow the bytes: what is kept of them is their interval, so that a byte which
    puts them off is a number written down where it passes, and nothing here."""

    __slots__ = ("_at", "changed")

    def __init__(self) -> None:
        self._at = _NONE.copy()
        self.changed = False  # one was started; for whoever sleeps until the next is up

    def start(self, timer: Timer, delay: float, now: float) -> None:
        """(Re)start *timer*: it is up *delay* seconds from *now*, or from the last byte on."""
        self._at[timer] = delay if timer < _FIRST_ABSOLUTE else now + delay
        self.changed = True

    def rang(self, timer: Timer) -> None:
        """It was up. Those that follow the bytes run on."""
        if timer >= _FIRST_ABSOLUTE:
            self._at[timer] = NEVER

    def stop(self, timer: Timer) -> None:
        self._at[timer] = NEVER

    def stop_all(self) -> None:
        self._at = _NONE.copy()

    def runs(self, timer: Timer) -> bool:
        return self._at[timer] != NEVER

    def next(self, wrote: float, read: float) -> float:
        """When the first one is up, if no byte puts it off.

        :param wrote: when the last byte was written to the client, *read*: when one was read from upstream.
        """
        at = self._at
        return min(at[_KEEPALIVE] + wrote, at[_IDLE] + read, *at[_FIRST_ABSOLUTE:])

    def up(self, now: float, wrote: float, read: float) -> Timer | None:
        """The one that was up first, of those that are."""
        due = self._at.copy()
        due[_KEEPALIVE] += wrote
        due[_IDLE] += read
        first = min(due)
        return Timer(due.index(first)) if first <= now else None
