"""A hit as a stream: what is stored is told to those who come back to it, by a clock that does not stop when they leave."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from txsse.clock import Alarm, Alarms
from txsse.errors import ProxyError
from txsse.exchange.voice import HoldStatus
from txsse.proxy.lasting import Lasting, Place
from txsse.proxy.playback import Stored, head_of
from txsse.proxy.subscription import MOST_AT_ONCE
from txsse.recordings.transcript import Transcript

if TYPE_CHECKING:
    from txsse.dialects import Dialect
    from txsse.dialects.usage import Usage
    from txsse.proxy.routes import BoundRoute
    from txsse.proxy.subscription import Follower, Subscription
    from txsse.recordings.recording import Space

PER_HIT: Final = 2048
"""Bytes that one takes which is over, besides the entry."""


class Telling(Lasting):
    """One telling of an entry, as a :class:`~txsse.proxy.reader.Source`. It has a place in time, as a run has: what is due has come, for
    whoever comes back, and the rest comes when it is due. It asks nobody, so it goes on while nobody reads it, whatever
    ``resume.on_disconnect`` says.

    :param space: what it takes its memory from.
    :param ended: told when it is over.
    """

    __slots__ = (
        "_alarm",
        "_alarms",
        "_began",
        "_ended",
        "_live",
        "created",
        "dialect",
        "error",
        "followers",
        "head",
        "home",
        "kept",
        "over",
        "recording",
        "resume",
        "scope",
        "sid",
        "streamed",
        "told",
    )

    is_hit = True
    most_at_once = MOST_AT_ONCE  # what is there in one piece costs nothing more in large ones
    recording: Transcript

    def __init__(
        self,
        stored: Stored,
        home: BoundRoute,
        dialect: Dialect,
        alarms: Alarms,
        space: Space,
        ended: Callable[[Telling], None],
        *,
        sid: str,
        scope: bytes,
        created: float,
    ) -> None:
        entry = stored.entry
        self.sid = sid
        self.scope = scope
        self.created = created
        self.home = home
        self.dialect = dialect
        self.resume = home.config.resume
        self.kept = True
        self.streamed = entry.streamed
        self.head = head_of(entry)
        self.told = (entry.usage, entry.model)
        self.over = False
        self.error = None
        self.followers = set()
        self.recording = Transcript(entry, space, _due(stored), own=stored.own)
        self._alarms = alarms
        self._ended = ended
        self._began = alarms.seconds()
        self._alarm: Alarm | None = None
        self._live: tuple[Place, ...] = ()

    def begin(self) -> None:
        """Its time begins."""
        self._advance()

    # -- for readers (Source)

    @property
    def held(self) -> bool:
        return False

    def join(self, follower: Follower) -> None:
        self.followers.add(follower)
        self.recording.hold()

    def leave(self, follower: Follower) -> None:
        self.followers.discard(follower)
        if not self.followers:
            self.recording.release()

    def wait(self, follower: Follower) -> None:
        follower.go_on(cold=False)

    def stop_waiting(self, follower: Follower) -> None: ...

    def subscribe(self, follower: Follower) -> Place:
        return Place(self, follower)

    def hold_status(self) -> HoldStatus:
        return HoldStatus("", "stored", 0)

    def usage(self) -> tuple[Usage | None, str]:
        return self.told

    def charge(self) -> bool:
        return False

    # -- for places

    def went_live(self, subscription: Subscription) -> None:
        assert isinstance(subscription, Place)
        self._live = (*self._live, subscription)
        self._sleep()

    def fell_behind(self, subscription: Subscription) -> None:
        self._live = tuple(each for each in self._live if each is not subscription)

    def unsubscribe(self, subscription: Subscription) -> None:
        self.fell_behind(subscription)

    # -- for those who come back

    @property
    def orphaned(self) -> bool:
        return not self.over and not self.followers

    @property
    def model(self) -> str:
        return self.told[1]

    @property
    def has_own_ids(self) -> bool:
        return self.recording.own_ids

    @property
    def last_whole(self) -> int:
        return self.recording.last - self.recording.open

    def refresh(self) -> bool:
        if self.recording.lost:
            self.cancel(ProxyError("stream_gone", "What was told is not stored any more."))
            return False
        self._advance()
        return True

    def cancel(self, error: ProxyError) -> None:
        if not self.over:
            self._end(error)

    def settle(self) -> bool:
        return not self.recording.lost and self.recording.charge(PER_HIT)

    # -- its time

    def _advance(self) -> None:
        if self.over:
            return
        if self.recording.advance(self._alarms.seconds() - self._began):
            self._end(None)
        else:
            self._wake()
            self._sleep()

    def _end(self, error: ProxyError | None) -> None:
        self.over, self.error = True, error
        self._stop_clock()
        self._ended(self)  # first: who hears of it may come back
        self._wake()

    def _wake(self) -> None:
        live, self._live = self._live, ()
        for place in live:
            place.wake()

    def _sleep(self) -> None:
        """Until the next event is due; where nobody waits for that, until the last one is."""
        self._stop_clock()
        if not self.over:
            due = self.recording.next_due if self._live else self.recording.last_due
            self._alarm = self._alarms.set(max(self._began + due - self._alarms.seconds(), 0.0), self._rang)

    def _rang(self) -> None:
        self._alarm = None
        self._advance()

    def _stop_clock(self) -> None:
        alarm, self._alarm = self._alarm, None
        if alarm is not None:
            alarm.cancel()


def _due(stored: Stored) -> array[float] | None:
    """When each event is to be told, in seconds from the first; ``None``: all at once."""
    schedule = stored.schedule()
    if schedule is None:
        return None
    ends, due = schedule
    events = stored.entry.events.all()
    return due if events == ends else array("d", (due[min(bisect_left(ends, end), len(due) - 1)] for end in events))
