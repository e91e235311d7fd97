"""Finds the client that does not read any more: its socket accepts no byte, whatever is written.

A transport tells only that it is full and that it is empty again; but a stuck reader of a slow stream is found out at a few bytes. So
the socket is looked at, a few times within its patience, and only while something is pending.

A full socket takes more for its reactor only when a third of its buffer is free, and that may be megabytes. So what the client has
acknowledged counts too, or one that reads 20 kB/s all the time would be taken for stuck.
"""

from __future__ import annotations

import struct
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import Any, Final, Protocol

from txsse.clock import Alarms

LOOKS: Final = 8
"""How many times within a stall timeout the socket is looked at: a stall is noticed late by at most this fraction of it."""


_INT: Final = struct.Struct("i")


def unacknowledged(transport: Any) -> int:
    """Bytes that the socket of *transport* has accepted and the other side's has not; 0 where there is no telling."""
    fileno = getattr(transport, "fileno", None)
    descriptor = -1 if fileno is None else fileno()
    if descriptor < 0:
        return 0
    try:
        (count,) = _INT.unpack(ioctl(descriptor, TIOCOUTQ, bytes(_INT.size)))
    except OSError:
        return 0
    return int(count)


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

    def unacknowledged(self) -> int:
        """Bytes that the socket has accepted, and the client's has not."""

    def settled(self) -> None:
        """Nothing is pending any more: the watch is over."""

    def stalled(self) -> None:
        """Its patience is over, and so is the watch."""


class StallWatch:
    """Looks after one connection from now on until nothing is pending; made when a write leaves something behind."""

    __slots__ = ("_alarms", "_arrived", "_bucket", "_since", "_watched", "_written")

    def __init__(self, alarms: Alarms, watched: Watched) -> None:
        self._alarms = alarms
        self._watched = watched
        self._written = watched.unaccepted()
        # When a byte was last seen to arrive, and how many of those written had by then: less than 0, for what left before is not counted.
        self._since = alarms.seconds()
        self._arrived = -watched.unacknowledged()
        self._bucket = alarms.enter(self, watched.patience / LOOKS)

    def wrote(self, count: int) -> None:
        """*count* more bytes were given to the transport."""
        self._written += count

    def stop(self) -> None:
        self._bucket.pop(self, None)

    def wake(self) -> None:
        """Called by the alarms: look."""
        watched = self._watched
        pending = watched.unaccepted()
        if not pending and not watched.closing:
            watched.settled()
            return
        now = self._alarms.seconds()
        patience = watched.patience
        arrived = self._written - pending - watched.unacknowledged()
        if arrived != self._arrived:
            self._arrived = arrived
            self._since = now
        left = self._since + patience - now
        if left > 0:
            self._bucket = self._alarms.enter(self, min(left, patience / LOOKS))
        else:
            watched.stalled()
