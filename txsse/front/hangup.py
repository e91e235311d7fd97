"""Has the peer of a connection left that we are not reading from? A reactor hears of an end by reading, and of a paused socket nothing."""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any, Final

from txsse.clock import Alarms, Bucket

LOOK: Final = 0.05
"""Seconds between two looks."""

# A FIN shows in POLLRDHUP although unread bytes lie before it, which no read would tell; Linux has it.
RESET: Final = getattr(select, "POLLERR", 0)
LEFT: Final = getattr(select, "POLLRDHUP", 0) | getattr(select, "POLLHUP", 0) | RESET


def has_left(transport: Any, signs: int = LEFT) -> bool:
    """Whether the other side of *transport* has closed, half-closed or reset the connection; ``False`` where there is no telling.

    :param signs: :data:`RESET`: only the last of these.
    """
    fileno = getattr(transport, "fileno", None)
    descriptor = -1 if fileno is None else fileno()
    if descriptor < 0 or not signs:
        return False
    poller = select.poll()
    poller.register(descriptor, signs)
    return any(found & signs for _, found in poller.poll(0))


class HangupWatch:
    """Looks after a transport that is paused, from :meth:`wake` until it has :meth:`stop` called or the peer has left.

    :param left: called once, when the peer has left.
    :param signs: of that, as in :func:`has_left`.
    """

    __slots__ = ("_alarms", "_bucket", "_left", "_signs", "_transport")

    def __init__(self, alarms: Alarms, transport: Any, left: Callable[[], None], signs: int = LEFT) -> None:
        self._alarms = alarms
        self._transport = transport
        self._left = left
        self._signs = signs
        self._bucket: Bucket | None = None

    def wake(self) -> None:
        """Look now, and from now on."""
        if has_left(self._transport, self._signs):
            self._bucket = None
            self._left()
        else:
            self._bucket = self._alarms.enter(self, LOOK)

    def stop(self) -> None:
        if self._bucket is not None:
            self._bucket.pop(self, None)
