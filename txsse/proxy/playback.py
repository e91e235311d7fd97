"""Something that was stored, as what a reader reads: its head at once, then its pieces at the pace of the route."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from typing import Final

from txsse.clock import Alarm, Alarms
from txsse.config.model import Cache
from txsse.dialects import DIALECTS
from txsse.dialects.usage import Usage
from txsse.errors import ProxyError
from txsse.exchange.voice import HoldStatus
from txsse.proxy.subscription import MOST_AT_ONCE, Follower
from txsse.recordings.entry import Entry
from txsse.recordings.numbering import Ids
from txsse.wire.http1 import ResponseHead

_EVENT_END: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n?")
_LINE_END: Final = re.compile(rb"\n")


def head_of(entry: Entry) -> ResponseHead:
    headers = list(entry.headers)
    if not entry.streamed:
        headers.append((b"Content-Length", b"%d" % len(entry.body)))
    return ResponseHead(200, b"OK", b"HTTP/1.1", headers)


class Stored:
    """An entry of a cache as a :class:`~txsse.proxy.reader.Source`.

    :param own: it was made for this request, and is not what the cache keeps.
    """

    held = False
    resumable = False
    most_at_once = MOST_AT_ONCE

    def __init__(self, entry: Entry, alarms: Alarms, cache: Cache, *, own: bool = False) -> None:
        self.entry = entry
        self.own = own
        self._alarms = alarms
        self._cache = cache

    def join(self, follower: Follower) -> None: ...

    def leave(self, follower: Follower) -> None: ...

    def wait(self, follower: Follower) -> None:
        follower.go_on(cold=False)

    def stop_waiting(self, follower: Follower) -> None: ...

    def subscribe(self, follower: Follower) -> Playback:
        return Playback(self.entry, follower, self._alarms, self.schedule())

    def hold_status(self) -> HoldStatus:
        return HoldStatus("", "stored", 0)

    def usage(self) -> tuple[Usage | None, str]:
        return self.entry.usage, self.entry.model

    def charge(self) -> bool:
        return False

    def before_error(self, error: ProxyError | None, ids: Ids) -> bytes:
        return b""

    def schedule(self) -> tuple[array[int], array[float]] | None:
        """Where each piece ends and when it is due, in seconds from the first; ``None``: all at once."""
        cache, schedules = self._cache, self.entry.schedules
        if cache.replay == "instant" or not self.entry.streamed:
            return None
        pace = (cache.replay, cache.gap, cache.speed, cache.max_gap)
        if pace not in schedules:
            schedules.clear()  # of before a reload
            schedules[pace] = self._schedule()
        return schedules[pace]

    def _schedule(self) -> tuple[array[int], array[float]]:
        entry, cache = self.entry, self._cache
        if cache.replay == "fixed":
            pattern = _LINE_END if DIALECTS[entry.dialect].by_lines else _EVENT_END
            ends = array("I", (match.end() for match in pattern.finditer(entry.body)))
            if not ends or ends[-1] != len(entry.body):
                ends.append(len(entry.body))
            return entry.ends if ends == entry.ends else ends, array("d", (cache.gap * index for index in range(len(ends))))
        due, before, at = array("d"), 0.0, 0.0
        for time in entry.times:
            at += min(max(time - before, 0.0) / cache.speed, cache.max_gap)
            before = time
            due.append(at)
        return entry.ends, due


class Playback:
    """One telling of an entry: the :class:`~txsse.interfaces.Dispatch` that its reader has."""

    __slots__ = ("_alarm", "_alarms", "_at", "_began", "_due", "_ends", "_entry", "_follower", "_next", "_paused", "_playing")

    def __init__(self, entry: Entry, follower: Follower, alarms: Alarms, schedule: tuple[array[int], array[float]] | None) -> None:
        self._entry = entry
        self._follower: Follower | None = follower
        self._alarms = alarms
        self._ends = entry.ends if schedule is None else schedule[0]
        self._due = None if schedule is None else schedule[1]
        self._at = 0  # bytes told
        self._next = 0  # piece to be told next
        self._began = alarms.seconds()
        self._alarm: Alarm | None = None
        self._paused = False
        self._playing = True  # or about to

    def start(self) -> None:
        """Tell the head, and what is due."""
        entry, follower = self._entry, self._follower
        if follower is None:
            return
        follower.cork()
        follower.response_started(head_of(entry))
        self._playing = False
        self._play()
        follower.uncork()

    def _play(self) -> None:
        if self._playing:
            return
        self._playing = True
        try:
            while self._follower is not None and not self._paused:
                if self._at == len(self._entry.body):
                    follower, self._follower = self._follower, None
                    follower.response_ended()
                    return
                last = self._last_due()
                if last < self._next:
                    self._wait()
                    return
                end = self._ends[last]
                data, self._at, self._next = self._entry.body[self._at : end], end, last + 1
                self._follower.body_received(data)
        finally:
            self._playing = False

    def _last_due(self) -> int:
        """The last piece that may be told now; one less than the next if none may."""
        fits = bisect_right(self._ends, self._at + MOST_AT_ONCE) - 1
        if self._due is None:
            return max(fits, self._next)
        due = bisect_right(self._due, self._alarms.seconds() - self._began) - 1
        return due if due < self._next else max(min(due, fits), self._next)

    def _wait(self) -> None:
        assert self._due is not None
        delay = self._began + self._due[self._next] - self._alarms.seconds()
        self._alarm = self._alarms.set(max(delay, 0.0), self._rang)

    def _rang(self) -> None:
        self._alarm = None
        self._play()

    # -- Dispatch

    def abort(self) -> None:
        self._follower = None
        self._stop_clock()

    def pause(self) -> None:
        self._paused = True
        self._stop_clock()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._play()

    def _stop_clock(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
