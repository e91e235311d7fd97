"""Those who read a run live: each is handed what comes, in the same call, and looks at it no more than it has to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from txsse.exchange.relay import Relay, StreamRelay
from txsse.recordings.numbering import Ids

if TYPE_CHECKING:
    from txsse.proxy.subscription import Subscription
    from txsse.wire.boundary import BoundaryTracker
    from txsse.wire.lines import LineTracker


class Audience:
    """Of one run.

    A reader's relay has nothing to find in whole events none of which ends the stream, if it is at a boundary and looks for nothing else.
    As long as that holds for all of them, they lend their clients: what comes is written there, and nothing of the readers is touched.
    With hundreds of streams in turn nothing of one is in the processor's cache any more, and that is where the time of an event goes.

    :ivar live: their subscriptions.
    :ivar most_ids: which events are given ids of ours for those who want the most; *least_ids*: for those who want the fewest.
    """

    __slots__ = ("_at", "_passed", "_tracker", "_uneven", "_writes", "least_ids", "live", "most_ids")

    def __init__(self) -> None:
        self.live: tuple[Subscription, ...] = ()
        self.least_ids = self.most_ids = Ids.NONE
        self._tracker: BoundaryTracker | LineTracker | None = None  # of what is streamed
        self._uneven = 0
        self._writes: tuple[Callable[[bytes], None], ...] = ()  # to the clients, while they are lent
        self._passed = 0  # bytes that went there and their readers have not heard of yet
        self._at = 0.0  # when the last of them went

    def set(self, live: tuple[Subscription, ...]) -> None:
        self.take_back()
        self.live = live
        wanted = [each.numbers for each in live]
        self.least_ids, self.most_ids = min(wanted, default=Ids.NONE), max(wanted, default=Ids.NONE)

    def remove(self, subscription: Subscription) -> None:
        self.set(tuple(each for each in self.live if each is not subscription))

    def tell(self, data: bytes, now: float, relay: Relay | None) -> None:
        """What the run's *relay* has let through last, at *now* in reactor seconds. Called once after each read."""
        if self._writes and self._tracker is not None and self._tracker.uneven == self._uneven:
            self._at = now
            self._passed += len(data)
            for write in self._writes:
                try:
                    write(data)
                except Exception:
                    self._blame(write)
            return
        self.take_back()
        even = self._is_even(relay)
        for subscription in self.live:
            subscription.follower.body_received(data)
        if even and self.live and all(each.follower.in_step for each in self.live):
            self._writes = tuple(each.follower.lend(self) for each in self.live)

    def _is_even(self, relay: Relay | None) -> bool:
        """What the relay has let through last, it has let through as it came: whole events, and none that ends the stream."""
        if not isinstance(relay, StreamRelay):
            return False
        self._tracker = relay.tracker
        before, self._uneven = self._uneven, relay.tracker.uneven
        return before == self._uneven and not relay.terminated

    def settle(self) -> None:
        """Tell those whose clients are lent what went there."""
        if self._passed:
            passed, self._passed = self._passed, 0
            for subscription in self.live:
                subscription.follower.passed(passed, self._at)

    def take_back(self) -> None:
        """From now on the readers look at what they are handed: it ends the stream, or not all of them may be in step."""
        if self._writes:
            self.settle()
            self._writes = ()

    def _blame(self, write: Callable[[bytes], None]) -> None:
        """A bug of ours: it is that reader's alone whose client was written to."""
        for subscription in self.live:
            if subscription.follower.lend(self) == write:
                subscription.follower.broke()
