"""A wait at a gate, as a Deferred."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from txsse.upstream.gate import Gate
from txsse.upstream.room import Refusal


class TurnedAway(Exception):
    """Waiting does not help."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


class _Waiter:
    def __init__(self, gate: Gate) -> None:
        self.done: Deferred[None] = Deferred(lambda _: gate.leave(self))

    def admitted(self) -> None:
        self.done.callback(None)

    def turned_away(self, refusal: Refusal) -> None:
        self.done.errback(TurnedAway(refusal))


def wait(gate: Gate) -> Deferred[None]:
    """Fires when *gate* lets us through; to cancel it is to leave."""
    waiter = _Waiter(gate)
    gate.enter(waiter)
    return waiter.done
