"""A hold: the waits of one exchange at the gate of its upstream, its place in the route's room, and the time that took."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse.clock import Alarms
from txsse.errors import ProxyError
from txsse.exchange import events as ev
from txsse.proxy.ledger import Tally
from txsse.proxy.routes import BoundRoute
from txsse.upstream.gate import Hopeless


class Hold:
    """Waits for its exchange, one wait at a time.

    :param tally: the time is added here.
    :param tell: called with ``UpstreamReady`` or ``UpstreamFailed``, perhaps before :meth:`begin` returns.
    """

    __slots__ = ("_alarms", "_route", "_since", "_tally", "_tell", "_wait")

    _log = Logger()

    def __init__(self, route: BoundRoute, alarms: Alarms, tally: Tally, tell: Callable[[ev.Event], None]) -> None:
        self._route = route
        self._alarms = alarms
        self._tally = tally
        self._tell = tell
        self._wait: Deferred[None] | None = None
        self._since = 0.0

    def begin(self) -> None:
        """Take a place, if there is one, and wait for the gate."""
        route = self._route
        if route.room.waiting >= route.config.hold.max_waiting:
            error = ProxyError("too_many_waiting", "Too many requests are waiting for this upstream. Try again in a moment.")
            self._tell(ev.UpstreamFailed(error))
            return
        route.room.waiting += 1
        self._since = self._alarms.seconds()
        self._tally.was_held = True
        self._wait = wait = route.backend.wait()
        wait.addCallbacks(self._became_ready, self._failed)

    def stop(self) -> None:
        """Leave; nobody hears of it. Idempotent."""
        wait = self._wait
        if wait is not None:
            self._leave()
            wait.cancel()

    def _leave(self) -> None:
        self._wait = None
        self._route.room.waiting -= 1
        self._tally.hold += self._alarms.seconds() - self._since

    def _became_ready(self, _: None) -> None:
        self._leave()
        self._tell(ev.UpstreamReady(cold=self._route.backend.gate.cold))

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return  # it was us
        self._leave()
        if failure.check(Hopeless):
            error = ProxyError("upstream_invalid", f"The upstream cannot be used: {failure.getErrorMessage()}.")
        else:
            self._log.failure("waiting for {upstream} failed", failure, upstream=self._route.backend.name)
            error = ProxyError("wake_failed", "The upstream could not be made ready. Try again later.")
        self._tell(ev.UpstreamFailed(error))
