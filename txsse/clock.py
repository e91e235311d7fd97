"""Timers for many streams on few ticks.

A ``callLater`` per stream costs 466 bytes and 2.8 % of a core at 10,000 streams with a 5 s interval; a LoopingCall per stream 1,184 bytes
and 4.7 %; one shared tick 0.8 %. So whoever waits is put into a bucket with all others whose time is up at the same tick: a place in a
dict, nothing else. One LoopingCall for each of a few tick lengths empties the buckets, and runs only while somebody is in one.
A call is late by at most its tick, never early.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Final, Protocol, TypeAlias

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

SHORTEST_TICK: Final = 0.005
LONGEST_TICK: Final = 1.0
COMMIT_TICK: Final = 0.025  # a commit may be late by 50 ms and not more, whatever its length
WOKEN_PER_TURN: Final = 250  # each may write; thousands in one turn would stall every other stream

_FUZZ: Final = 1e-6  # of a tick, by which sums of floating-point numbers may miss it


class Sleeper(Protocol):
    """Who can be woken. Told apart by identity, and in a bucket at most once."""

    def wake(self) -> None: ...


Bucket: TypeAlias = dict[Sleeper, None]
"""Those who are woken at one tick. To leave: ``bucket.pop(sleeper, None)``."""


class Alarm:
    """One pending call."""

    __slots__ = ("_bucket", "_callback")

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback: Callable[[], None] | None = callback
        self._bucket: Bucket | None = None

    @property
    def active(self) -> bool:
        return self._callback is not None

    def cancel(self) -> None:
        self._callback = None
        bucket, self._bucket = self._bucket, None
        if bucket is not None:
            bucket.pop(self, None)

    def wake(self) -> None:
        callback, self._callback, self._bucket = self._callback, None, None
        if callback is not None:
            callback()


class _Wheel:
    """The buckets of one tick length, and the LoopingCall that empties them."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, length: float) -> None:
        self._clock = clock
        self._length = length
        self._loop = LoopingCall(self._ring)
        self._loop.clock = clock
        self._began = 0.0  # when the loop did; ticks are numbered from there
        self._rung = 0  # the last tick that was
        self._buckets: dict[int, Bucket] = {}  # by the number of their tick
        self._order: list[int] = []  # a heap of these numbers
        self._due: deque[Bucket] = deque()  # rung, and not yet empty

    def enter(self, sleeper: Sleeper, delay: float) -> Bucket:
        now = self._clock.seconds()
        if not self._loop.running:
            self._began, self._rung = now, 0
            self._loop.start(self._length, now=False)
        tick = max(math.ceil((now + delay - self._began) / self._length - _FUZZ), self._rung + 1)
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._buckets[tick] = {}
            heapq.heappush(self._order, tick)
        bucket[sleeper] = None
        return bucket

    def stop(self) -> None:
        for bucket in (*self._buckets.values(), *self._due):
            bucket.clear()
        self._buckets.clear()
        self._order.clear()
        if self._loop.running:
            self._loop.stop()

    def _ring(self) -> None:
        self._rung = math.floor((self._clock.seconds() - self._began) / self._length + _FUZZ)
        resting = not self._due
        while self._order and self._order[0] <= self._rung:
            self._due.append(self._buckets.pop(heapq.heappop(self._order)))
        if resting:
            self._empty()
        if not self._due and not any(self._buckets.values()):
            self.stop()

    def _empty(self) -> None:
        """Wake who is due, and if they are many give everybody else a turn in between."""
        left = WOKEN_PER_TURN
        while self._due:
            bucket = self._due[0]
            for sleeper in list(islice(bucket, left)):
                if sleeper in bucket:  # none of those before it made it leave
                    del bucket[sleeper]
                    left -= 1
                    try:
                        sleeper.wake()
                    except Exception:
                        # One broken exchange must not stop everybody's clock.
                        self._log.failure("an alarm failed")
            if not bucket:
                self._due.popleft()
            elif left == 0:
                self._clock.callLater(0, self._empty)
                return


class Alarms:
    """Wakes whoever asks for it, and owns the ticks. One per process (or per embedding service)."""

    __slots__ = ("_clock", "_wheels", "seconds")

    def __init__(self, clock: IReactorTime) -> None:
        self.seconds: Callable[[], float] = clock.seconds
        self._clock = clock
        self._wheels: dict[int, _Wheel] = {}  # by the bits of their length

    def enter(self, sleeper: Sleeper, delay: float, *, tick: float = LONGEST_TICK) -> Bucket:
        """Wake *sleeper* in *delay* seconds: never early, late by at most a twentieth of it (at least 5 ms, at most *tick*).

        The sleeper may leave the bucket; it has left it when it is woken.
        """
        # Few lengths, so few wheels: 5 ms, 10 ms, 20 ms, ..
        bits = max(int(min(delay / 20, tick) / SHORTEST_TICK + _FUZZ), 1).bit_length()
        wheel = self._wheels.get(bits)
        if wheel is None:
            wheel = self._wheels[bits] = _Wheel(self._clock, SHORTEST_TICK * 2 ** (bits - 1))
        return wheel.enter(sleeper, delay)

    def set(self, delay: float, callback: Callable[[], None], *, tick: float = LONGEST_TICK) -> Alarm:
        """Call *callback* in *delay* seconds; as punctual as :meth:`enter`."""
        alarm = Alarm(callback)
        alarm._bucket = self.enter(alarm, delay, tick=tick)
        return alarm

    def stop(self) -> None:
        """Forget everybody; nothing ticks afterwards."""
        for each in self._wheels.values():
            each.stop()
