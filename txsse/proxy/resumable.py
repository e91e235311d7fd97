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
from txsse.recordings.numbering import Splitter, interleave, number
from txsse.recordings.recording import Recording, Space

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
        "_body_size",
        "_by_lines",
        "_elsewhere",
        "_orphan",
        "_space",
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

    def __init__(self, *args: Any, sid: str, scope: bytes, created: float, space: Space, **more: Any) -> None:
        super().__init__(*args, space=space, **more)
        self.sid = sid
        self.scope = scope
        self.created = created
        self.background = self.closing = False
        self.kept = True
        self.resume = self.home.config.resume
        self._space = space
        self._body_size = 0  # that memory is taken for
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
        if self.over:
            return
        if self._keep_body():
            self._orphan = self._alarms.set(seconds, self.client_gone)
        else:
            text = "The stream was ended: nobody reads it, and there is no memory left for its request. Try again later."
            self.cancel(ProxyError("too_many_connections", text))

    def _keep_body(self) -> bool:
        """Take memory for the request's body, which no front accounts for any more (``server.max_buffered``); ``False``: there is none."""
        if not self._body_size and self._space.take(len(self.request.body)):
            self._body_size = len(self.request.body)
        return self._body_size == len(self.request.body)

    def _forget_body(self) -> None:
        super()._forget_body()
        self._space.give(self._body_size)
        self._body_size = 0

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
        recording, audience = self.recording, self.audience
        needed = not audience.live and bool(self._subscriptions)
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
        if audience.most_ids and audience.most_ids >= self.fewest_ids and self.numbered:
            self._tell_numbered(data, now, events, between)
        else:
            audience.tell(data, now, relay)
        if not audience.live:
            self._mind_the_gap()

    def _tell_numbered(self, data: bytes, now: float, events: list[bytes], between: list[tuple[int, bytes]]) -> None:
        """Tell those who are live, with ids if they want them."""
        sid, first = self.sid.encode("ascii"), self.recording.last - len(events) + 1
        fewest, own = self.fewest_ids, self._splitter.own_ids
        if between:
            with_ids = interleave([number(sid, seq, [event], own=own) for seq, event in enumerate(events, first)], between)
            self.audience.take_back()  # a reader's relay may have to keep some of those lines back
        else:
            with_ids = number(sid, first, events, own=own) if events else b""
        if self.audience.least_ids < fewest:
            self.audience.take_back()
            for subscription in self.audience.live:
                if told := with_ids if subscription.numbers >= fewest else data:
                    subscription.follower.body_received(told)
        elif with_ids:
            self.audience.tell(with_ids, now, self._relay)

    def _keep_no_more(self) -> None:
        """Parts of an event have no numbers. Those who read it now are told them as they come."""
        self.kept = False
        sharing, self.sharing = self.sharing, None
        if sharing is not None:
            sharing.drop()
