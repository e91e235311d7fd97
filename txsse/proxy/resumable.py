"""A run that outlives its readers: its events are numbered, and whoever comes back goes on where it was."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final

from txsse.clock import Alarm
from txsse.config.model import Resume
from txsse.errors import ProxyError
from txsse.exchange import actions as act
from txsse.exchange.relay import StreamRelay
from txsse.proxy.run import Run
from txsse.proxy.subscription import LITTLE_AT_ONCE, MOST_AT_ONCE, Follower, Subscription
from txsse.recordings.numbering import Ids, Splitter, interleave, number, own_id

if TYPE_CHECKING:
    from txsse.proxy.shared import Sharing
    from txsse.recordings.cursor import Cursor

RETRY: Final = (1000, 5000)
"""Milliseconds within which those come back whom a proxy that shuts down sends away: not all at once."""


class ResumableRun(Run):
    """A run whose recording holds one event a piece, and stays for a while when it is over.

    :ivar sid: its id.
    :ivar scope: hash of the credential that it belongs to.
    :ivar created: Unix time.
    :ivar background: who asked does not wait for it: that nobody reads it is no reason to end it sooner than ``resume.max_orphan``.
    :ivar closing: this process ends: who reads is sent away, and that nobody reads is no reason to end it in any other way.
    :ivar kept: it can be come back to. Not any more once an event has come that is longer than all that may be kept.
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

    resumable = True

    def __init__(self, *args: Any, sid: str, scope: bytes, created: float, **more: Any) -> None:
        super().__init__(*args, **more)
        self.sid = sid
        self.scope = scope
        self.created = created
        self.background = self.closing = False
        self.kept = True
        self.resume: Resume = self.home.config.resume
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
        """It runs, and other machines have readers of it."""
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

    def before_error(self, error: ProxyError | None, ids: Ids) -> bytes:
        """The stream's error is its last event: who has it need not come back. Who has to, does so at a moment of its own."""
        if error is not None and error is self.error:
            return b"id: %b.%d\n" % (self.sid.encode("ascii"), self.recording.last + 1) if ids >= self.fewest_ids else b""
        return b"retry: %d\n" % random.randint(*RETRY)

    # -- its recording

    def _open_relay(self, action: act.OpenRelay) -> None:
        super()._open_relay(action)
        if self.sharing is not None and self.streamed and self.head is not None:
            self.sharing.begin(self.head)

    @property
    def numbered(self) -> bool:
        """Its events may be given ids of ours."""
        return self.kept and self.streamed and not self._by_lines

    @property
    def fewest_ids(self) -> Ids:
        """What a reader has to want at least to be given any."""
        return Ids.EACH if self._splitter.own_ids else Ids.UNLESS_OWN

    @property
    def has_own_ids(self) -> bool:
        """Upstream has given its events ids."""
        return self._splitter.own_ids

    @property
    def is_mute(self) -> bool:
        """No error can be told after upstream's head."""
        return not self.dialect.error_after_their_head and not self.home.policy.error_event

    @property
    def last(self) -> int:
        """The number of the last event there is. An error that is told in the stream is one, too."""
        told = self.error is not None and (self.head is None or (self.streamed and not self.is_mute))
        return self.recording.last + told

    @property
    def last_whole(self) -> int:
        """The number of the last event that a reader could name: it has an end."""
        return self.recording.last - self._splitter.open

    def is_all(self, after: int) -> bool:
        """Whoever has event number *after* has all that there will ever be; an error, in whatever way it is told, is to be heard, too."""
        return self.over and after >= (self.last_whole if self.error is None else self.recording.last + 1)

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

    def place_of(self, cursor: Cursor) -> int | None:
        """The number of the event after which a reader with *cursor* goes on; ``None``: it is nobody's."""
        if not self.streamed and self.head is not None:
            return 0  # a document is told whole
        if cursor.live:
            return self.recording.last
        if cursor.foreign is None:
            return min(cursor.after, self.recording.last + 1)
        after = self.recording.first - 1
        while True:
            pieces = self.recording.pieces(after, MOST_AT_ONCE)
            if not pieces:
                return None
            for seq, event in enumerate(pieces, after + 1):
                if own_id(event) == cursor.foreign:
                    return seq
            after += len(pieces)


class Place(Subscription):
    """A reader's place in a resumable run."""

    __slots__ = ()

    def __init__(self, run: ResumableRun, follower: Follower) -> None:
        super().__init__(run, follower)
        self._after = min(follower.after, run.recording.last)

    def begin(self) -> None:
        run = self._run
        if isinstance(run, ResumableRun) and run.error is not None and run.is_mute and self._after >= run.recording.last:
            self._tell_end()  # before there is a head: else the client would learn nothing, and come back again
        else:
            super().begin()

    def _read(self, run: Run) -> tuple[bytes, int]:
        assert isinstance(run, ResumableRun)
        if self.numbers < run.fewest_ids or not run.numbered:
            return run.recording.read(self._after, LITTLE_AT_ONCE)
        pieces = run.recording.pieces(self._after, LITTLE_AT_ONCE)
        data = number(run.sid.encode("ascii"), self._after + 1, pieces, own=run.has_own_ids) if pieces else b""
        return data, self._after + len(pieces)

    def _miss(self, run: Run) -> None:
        assert isinstance(run, ResumableRun)
        first, last = run.recording.first, run.recording.last
        gap = first - 1 - self._after
        if not run.kept or not run.streamed or (run.over and first > last):
            super()._miss(run)
        elif run.resume.on_gap == "error" or run.dialect.by_lines:  # lines of JSON have no comments to tell of it
            self._let_go()
            text = f"This stream was read too slowly: {gap} events are gone. Read on from the first that is there, or ask anew."
            members = {"message": text, "skipped": gap, "first": f"{run.sid}.{first}"}
            self.follower.given_up(ProxyError("replay_truncated", text, members=members))
        else:
            self._after = first - 1
            self.follower.body_received(b': txsse {"gap":%d}\n' % gap)
