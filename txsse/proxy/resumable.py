"""A run that outlives its readers: its events are numbered, and whoever comes back goes on where it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from txsse.clock import Alarm
from txsse.errors import ProxyError
from txsse.exchange import actions as act
from txsse.exchange.relay import StreamRelay
from txsse.proxy.lasting import Lasting, Place
from txsse.proxy.run import Run
from txsse.proxy.subscription import LITTLE_AT_ONCE, Follower, Subscription
from txsse.recordings.numbering import Ids, Splitter, interleave, number
from txsse.recordings.recording import Recording

if TYPE_CHECKING:
    from txsse.proxy.shared import Sharing

PER_STREAM: Final = 4096
"""Bytes that a stream which is over takes besides its recording."""


class ResumableRun(Run, Lasting):
    """A run whose recording holds one event a piece, and stays for a while when it is over.

    :ivar background: who asked does not wait for it: that nobody reads it is no reason to end it sooner than ``resume.max_orphan``.
    :ivar kept: not any more once an event has come that is longer than all that may be kept.
    :ivar sharing: what other machines read is written there.
    """

    __slots__ = (
        "_by_lines",
        "_elsewhere",
        "_orphan",
        "_splitter",
        "_why",
        "background",
        "closing",
        "created",
        "kept",
        "resume",
        "scope",
        "sharing",
        "sid",
    )

    recording: Recording
    resumable = True
    most_at_once = LITTLE_AT_ONCE
    before_error = Lasting.before_error

    def __init__(self, *args: Any, sid: str, scope: bytes, created: float, **more: Any) -> None:
        super().__init__(*args, **more)
        self.sid = sid
        self.scope = scope
        self.created = created
        self.background = self.closing = False
        self.kept = True
        self.resume = self.home.config.resume
        self._splitter = Splitter()
        self._by_lines = self.dialect.by_lines
        self._orphan: Alarm | None = None
        self._elsewhere = 0  # machines that have readers of it
        self.sharing: Sharing | None = None
        self._why: ProxyError | None = None

    # -- readers come and go

    def join(self, follower: Follower) -> None:
        super().join(follower)
        self._not_orphaned()

    def subscribe(self, follower: Follower) -> Subscription:
        subscription = Place(self, follower)
        self._subscriptions.add(subscription)
        return subscription

    @property
    def is_read_elsewhere(self) -> bool:
        return not self.over and self._elsewhere > 0

    def read_elsewhere(self, count: int) -> None:
        """So many other machines have readers of it now."""
        self._elsewhere = count
        if count:
            self._not_orphaned()
        elif not self.followers and not self.over:
            self._abandoned()

    def _abandoned(self) -> None:
        if self._elsewhere or self.closing:
            return
        how = "continue" if self.background else self.resume.on_disconnect
        if how == "cancel":
            self.client_gone()
        else:
            self._run_on(min(self.resume.grace, self.resume.max_orphan) if how == "grace" else self.resume.max_orphan)

    @property
    def orphaned(self) -> bool:
        """It runs, and nobody reads it."""
        return self._orphan is not None and not self.over

    def let_run(self) -> None:
        """Who asked does not wait for it."""
        self.background = True
        if not self.followers and not self._elsewhere:
            self._run_on(self.resume.max_orphan)

    def closes(self) -> None:
        self.closing = True

    def _run_on(self, seconds: float) -> None:
        """Without a reader it goes on for so long."""
        self._not_orphaned()
        if not self.over:
            self._orphan = self._alarms.set(seconds, self.client_gone)

    def _not_orphaned(self) -> None:
        orphan, self._orphan = self._orphan, None
        if orphan is not None:
            orphan.cancel()

    def cancel(self, error: ProxyError) -> None:
        """End it now, for everybody who reads it."""
        if not self.over:
            self._why = error
            self.client_gone()

    def _reason(self) -> ProxyError:
        return self._why or super()._reason()

    def _put_away(self) -> None:
        self._not_orphaned()
        super()._put_away()

    def _end(self, error: ProxyError | None) -> None:
        sharing, self.sharing = self.sharing, None
        if sharing is not None:
            sharing.finish(error)  # first: who hears of it here may ask another machine next
        super()._end(error)

    # -- its recording

    def _open_relay(self, action: act.OpenRelay) -> None:
        super()._open_relay(action)
        if self.sharing is not None and self.streamed and self.head is not None:
            self.sharing.begin(self.head)

    @property
    def has_own_ids(self) -> bool:
        """Upstream has given its events ids."""
        return self._splitter.own_ids

    @property
    def last_whole(self) -> int:
        """The number of the last event that a reader could name: it has an end."""
        return self.recording.last - self._splitter.open

    def settle(self) -> bool:
        return self.recording.charge(PER_STREAM)

    def let_go(self) -> None:
        """It is kept for those who come back."""

    def _unread(self) -> None:
        """It is kept for those who come back."""

    def _relayed(self, data: bytes, now: float) -> None:
        relay = self._relay
        if isinstance(relay, StreamRelay) and relay.cut_inside_event and not self.whole:
            self._keep_no_more()
        if not self.kept:
            super()._relayed(data, now)
            return
        recording, live = self.recording, self._live
        needed = not live and bool(self._subscriptions)
        first = recording.last + 1
        between: list[tuple[int, bytes]] = []
        if not self.streamed:
            events = [data]
        elif self._by_lines:
            events = data.splitlines(keepends=True)
        else:
            events, between = self._splitter.feed(data)
        sharing = self.sharing if self.streamed else None
        for event in events:
            recording.append(event, now, needed=needed)
            if sharing is not None:
                sharing.append(event)
        own = self._splitter.own_ids
        fewest = Ids.EACH if own else Ids.UNLESS_OWN
        if any(each.numbers >= fewest for each in live) and self.numbered:
            sid = self.sid.encode("ascii")
            if between:
                with_ids = interleave([number(sid, seq, [event], own=own) for seq, event in enumerate(events, first)], between)
            else:
                with_ids = number(sid, first, events, own=own) if events else b""
        else:
            with_ids = data
        goes_through = self._goes_through()
        for subscription in live:
            if subscription.numbers >= fewest and with_ids is not data:
                if with_ids:
                    subscription.follower.body_received(with_ids)
            elif goes_through:
                subscription.follower.pass_through(data, now)
            else:
                subscription.follower.body_received(data)
        if not self._live:
            self._mind_the_gap()

    def _keep_no_more(self) -> None:
        """Parts of an event have no numbers. Those who read it now are told them as they come."""
        self.kept = False
        sharing, self.sharing = self.sharing, None
        if sharing is not None:
            sharing.drop()
