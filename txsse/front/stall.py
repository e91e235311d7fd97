"""Finds the client that does not read any more: its socket accepts no byte, whatever is written.

A transport tells only that it is full and that it is empty again; but a stuck reader of a slow stream is found out at a few bytes. So
the socket is looked at, a few times within its patience, and only while something is pending.
"""

from __future__ import annotations

from typing import Final, Protocol

from txsse.clock import Alarm, Alarms

LOOKS: Final = 8
"""How many times within a stall timeout the socket is looked at: a stall is noticed late by at most this fraction of it."""


class Watched(Protocol):
    """The connection that is looked after."""

    @property
    def patience(self) -> float:
        """Seconds without a byte accepted after which it is stuck."""

    @property
    def closing(self) -> bool:
        """It waits for its end, which may not come although nothing is pending: over TLS the peer has to say goodbye."""

    def unaccepted(self) -> int:
        """Bytes written that the socket has not accepted."""

    def stalled(self) -> None:
        """Its patience is over."""


class StallWatch:
    """Looks after one connection from a write on until nothing is pending."""

    __slots__ = ("_accepted", "_alarm", "_alarms", "_since", "_watched", "_written")

    def __init__(self, alarms: Alarms, watched: Watched) -> None:
        self._alarms = alarms
        self._watched = watched
        self._alarm: Alarm | None = None
        self._written = 0
        # When a byte was last seen to be accepted, and how many were by then.
        self._since = 0.0
        self._accepted = 0

    def wrote(self, count: int) -> None:
        """*count* bytes were given to the transport."""
        self._written += count
        if self._alarm is None:
            self.start()

    def start(self) -> None:
        """Give the socket its whole patience, from now on."""
        self.stop()
        self._since = self._alarms.seconds()
        self._accepted = self._written - self._watched.unaccepted()
        self._alarm = self._alarms.set(self._watched.patience / LOOKS, self._look)

    def stop(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _look(self) -> None:
        self._alarm = None
        watched = self._watched
        pending = watched.unaccepted()
        if not pending and not watched.closing:
            return  # the next write starts anew
        now = self._alarms.seconds()
        patience = watched.patience
        if self._written - pending != self._accepted:
            self._accepted = self._written - pending
            self._since = now
        left = self._since + patience - now
        if left > 0:
            self._alarm = self._alarms.set(min(left, patience / LOOKS), self._look)
        else:
            watched.stalled()
