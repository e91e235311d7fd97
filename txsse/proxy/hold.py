"""A hold: the waits of one exchange at the gate of its upstream, its place in the route's room, and the time that took."""

from __future__ import annotations

from collections.abc import Callable

from txsse.clock import Alarms
from txsse.errors import ProxyError
from txsse.exchange import events as ev
from txsse.proxy.ledger import Tally
from txsse.proxy.routes import BoundRoute


class Hold:
    """Waits for its exchange, once.

    :param tally: the time is added here.
    :param tell: called with ``UpstreamReady`` or ``UpstreamFailed``, perhaps before :meth:`begin` returns.
    """

    __slots__ = ("_alarms", "_closed", "_route", "_since", "_tally", "_tell")

    def __init__(self, route: BoundRoute, alarms: Alarms, tally: Tally, tell: Callable[[ev.Event], None]) -> None:
        self._route = route
        self._alarms = alarms
        self._tally = tally
        self._tell: Callable[[ev.Event], None] | None = tell
        self._since = alarms.seconds()
        self._closed = False  # the upstream was not ready when the wait began

    def begin(self, received: float) -> None:
        """Take a place, if there is one, and wait for the gate.

        :param received: when the request was complete, in reactor seconds: its place among those who wait for a slot.
        """
        route = self._route
        gate = route.backend.gate
        if route.room.waiting >= route.config.hold.max_waiting:
            error = ProxyError("too_many_waiting", "Too many requests are waiting for this upstream. Try again in a moment.")
            self._end(ev.UpstreamFailed(error))
            return
        route.room.waiting += 1
        self._tally.was_held = True
        self._closed = not gate.ready
        gate.enter(self, route.config.priority, received)

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

    def turned_away(self, detail: str) -> None:
        self._give_up_place()
        self._end(ev.UpstreamFailed(ProxyError("upstream_invalid", f"The upstream cannot be used: {detail}.")))

    def _give_up_place(self) -> None:
        self._route.room.waiting -= 1
        self._tally.hold += self._alarms.seconds() - self._since

    def _end(self, event: ev.Event) -> None:
        tell, self._tell = self._tell, None  # it knows us: without this cut each hold would be left to the cycle collector
        if tell is not None:
            tell(event)
