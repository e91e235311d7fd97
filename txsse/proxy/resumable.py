"""A run that outlives its readers: its events are numbered, and whoever comes back goes on where it was."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final

from txsse.clock import Alarm
from txsse.config.model import Resume
from txsse.errors import ProxyError
from txsse.proxy.run import MOST_AT_ONCE, Follower, Run, Subscription
from txsse.recordings.numbering import Splitter, interleave, number, own_id

if TYPE_CHECKING:
    from txsse.proxy.shared import Sharing
    from txsse.recordings.cursor import Cursor

RETRY: Final = (1000, 5000)
"""Milliseconds within which those come back whom a proxy that shuts down sends away: not all at once."""
SHORT: Final = 8
"""Characters of a stream's id that may be shown and logged: 48 of its 128 bits."""


class ResumableRun(Run):
    """A run whose recording holds one event a piece, and stays for a while when it is over.

    :ivar sid: its id.
    :ivar scope: hash of the credential that it belongs to.
    :ivar created: Unix time.
    :ivar sharing: what other machines read is written there.
    """

    __slots__ = ("_by_lines", "_elsewhere", "_orphan", "_splitter", "_why", "created", "resume", "scope", "sharing", "sid")

    def __init__(self, *args: Any, sid: str, scope: bytes, created: float, **more: Any) -> None:
        super().__init__(*args, **more)
        self.sid = sid
        self.scope = scope
        self.created = created
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

    def read_elsewhere(self, count: int) -> None:
        """So many other machines have readers of it now."""
        self._elsewhere = count
        if count:
            self._not_orphaned()
        elif not self.followers and not self.over:
            self._abandoned()

    def _abandoned(self) -> None:
        if self._elsewhere:
            return
        how = self.resume.on_disconnect
        if how == "cancel":
            self.client_gone()
        else:
            self.run_on(self.resume.grace if how == "grace" else self.resume.max_orphan)

    def run_on(self, seconds: float) -> None:
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
        super()._end(error)
        sharing, self.sharing = self.sharing, None
        if sharing is not None:
            sharing.finish()

    def before_error(self) -> bytes:
        """The error is the last event: who has it need not come back. Who has to, does so at a moment of its own."""
        if self.over:
            return b"id: %b.%d\n" % (self.sid.encode("ascii"), self.recording.last + 1)
        return b"retry: %d\n" % random.randint(*RETRY)

    # -- its recording

    @property
    def numbered(self) -> bool:
        """Its events may be given ids of ours."""
        return not self._by_lines and not self._splitter.own_ids

    def let_go(self) -> None:
        """It is kept for those who come back."""

    def _unread(self) -> None:
        """It is kept for those who come back."""

    def _relayed(self, data: bytes, now: float) -> None:
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
        for event in events:
            recording.append(event, now, needed=needed)
            if self.sharing is not None:
                self.sharing.append(event)
        if any(each.numbers for each in live) and self.streamed and self.numbered:
            sid = self.sid.encode("ascii")
            told = [number(sid, seq, [event]) for seq, event in enumerate(events, first)]
            with_ids = interleave(told, between) if between else b"".join(told)
        else:
            with_ids = data
        for subscription in live:
            if subscription.live and (out := with_ids if subscription.numbers else data):
                subscription.follower.body_received(out)
        if not self._live:
            self._mind_the_gap()

    def place_of(self, cursor: Cursor) -> int | None:
        """The number of the event after which a reader with *cursor* goes on; ``None``: it is nobody's."""
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

    def _read(self, run: Run) -> tuple[bytes, int]:
        assert isinstance(run, ResumableRun)
        if not self.numbers or not run.streamed or not run.numbered:
            return super()._read(run)
        pieces = run.recording.pieces(self._after, MOST_AT_ONCE)
        return number(run.sid.encode("ascii"), self._after + 1, pieces) if pieces else b"", self._after + len(pieces)

    def _miss(self, run: Run) -> None:
        assert isinstance(run, ResumableRun)
        if run.resume.on_gap == "error":
            super()._miss(run)
            return
        first = run.recording.first
        gap, self._after = first - 1 - self._after, first - 1
        if run.streamed and not run.dialect.by_lines:
            self.follower.body_received(b': txsse {"gap":%d}\n' % gap)
