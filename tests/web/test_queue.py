"""Events between a run and the stream that follows it."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from txsse.web.events import ServerSentEvent
from txsse.web.pump import Room, pump
from txsse.web.queue import EventQueue

A, B, C = (ServerSentEvent(name) for name in "abc")


class Reader:
    """Takes events, and may stop for a while."""

    def __init__(self, queue: EventQueue) -> None:
        self.took: list[ServerSentEvent] = []
        self.over = False
        self.paused: Deferred[None] | None = None
        self.work = Deferred.fromCoroutine(pump(queue, self._take)).addBoth(self._end)

    def _take(self, event: ServerSentEvent) -> Room:
        self.took.append(event)
        return self.paused

    def _end(self, _: object) -> None:
        self.over = True


def test_events_arrive_in_order_whoever_comes_first() -> None:
    queue = EventQueue()
    queue.put(A)
    reader = Reader(queue)
    queue.put(B)
    queue.put(C)
    assert reader.took == [A, B, C] and not reader.over
    queue.close()
    assert reader.over


def test_closed_with_something_in_it() -> None:
    queue = EventQueue()
    queue.put(A)
    queue.close()
    reader = Reader(queue)
    assert reader.took == [A] and reader.over


def test_there_is_room_when_everything_was_taken() -> None:
    queue = EventQueue()
    room = queue.room()
    assert room is not None, "nobody reads yet"
    reader = Reader(queue)
    assert room.called and queue.room() is None
    reader.paused = Deferred()
    queue.put(A)
    room = queue.room()
    assert reader.took == [A] and room is not None and not room.called
    queue.put(B)
    reader.paused.callback(None)
    reader.paused = None
    assert reader.took == [A, B] and room.called


def test_whoever_is_given_room_may_put_at_once() -> None:
    queue = EventQueue()
    room = queue.room()
    assert room is not None
    room.addCallback(lambda _: queue.put(A))
    reader = Reader(queue)
    assert reader.took == [A]
    queue.put(B)
    assert reader.took == [A, B]
    reader.work.cancel()


def test_who_leaves_is_told_of_and_waited_for_no_more() -> None:
    left: list[str] = []
    queue = EventQueue()
    queue.left = lambda: left.append("left")
    reader = Reader(queue)
    reader.paused = Deferred()
    queue.put(A)
    room = queue.room()
    assert room is not None
    reader.work.cancel()
    assert left == ["left"] and room.called
    queue.put(B)
    assert queue.room() is None and reader.took == [A]


def test_abandoned_it_takes_everything() -> None:
    queue = EventQueue()
    queue.put(A)
    queue.abandon()
    queue.put(B)
    assert queue.room() is None
    queue.close()
    assert Reader(queue).took == []
