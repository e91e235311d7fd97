"""What the parts of a wake know of each other."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Protocol, TypeAlias

import attrs
from twisted.internet.defer import Deferred

from txsse.upstream.wake.child import Exit


class WakeFailed(Exception):
    """An upstream could not be started; the text says why, fit for a client: which step and of what kind, no address, no output."""


Errands: TypeAlias = Callable[[], Deferred[None]]
"""Does what is to be done once, elsewhere. Fails with :class:`WakeFailed`; to cancel it stops it at once."""


class Process(Protocol):
    """What runs here; :class:`txsse.upstream.wake.child.Child` is one. Every call is legal at any time and idempotent."""

    def stop(self) -> None:
        """Ask it to end, and after a grace see to it."""

    def kill(self) -> None:
        """End it now."""


Spawn: TypeAlias = Callable[[Callable[[Exit], None], Callable[[], None]], Process]
"""Starts a process. Calls the first function when it has ended, then the second when nothing of it is left, neither before it returns.
Raises OSError."""


class Result(enum.Enum):
    """How a start ended; the values are the labels of the metric."""

    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"  # nobody waited any more, or it was stopped


@attrs.frozen
class Ended:
    """One start is over.

    :param seconds: how long it took.
    :param detail: why it is not ready, fit for a client: "its process exited with status 3", "wake step 2: HTTP 500".
    """

    result: Result
    seconds: float
    detail: str = ""


class Owner(Protocol):
    """Who has the gate of an upstream that is started."""

    def look(self) -> None:
        """What the gate may do has changed: go on or stop probing (``starting``, ``barred``), or let those through who wait."""

    def wake_ended(self, ended: Ended) -> None:
        """A start is over. Unless the upstream is ready now, all who wait are to be turned away."""
