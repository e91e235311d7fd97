"""The events of a run on their way to the one client that follows it."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable

from twisted.internet.defer import Deferred

from txsse.web.events import ServerSentEvent
from txsse.web.pump import Room


class EventQueue(AsyncIterator[ServerSentEvent]):
    """Between a run that puts events in when they happen, and a stream that takes them when its client reads.

    :ivar left: called when the stream takes no more.
    """

    def __init__(self) -> None:
        self.left: Callable[[], None] = _nothing
        self._events: deque[ServerSentEvent] = deque()
        self._closed = False
        self._abandoned = False
        self._news: Deferred[None] | None = None  # the stream waits
        self._space: Deferred[None] | None = None  # the run does

    def put(self, event: ServerSentEvent) -> None:
        if not self._abandoned:
            self._events.append(event)
            self._wake_reader()

    def close(self) -> None:
        """There will be no more."""
        self._closed = True
        self._wake_reader()

    def room(self) -> Room:
        """When everything was taken and the stream asks for more."""
        if self._abandoned or (self._news is not None and not self._events):
            return None
        self._space = Deferred()
        return self._space

    async def __anext__(self) -> ServerSentEvent:
        while not self._events:
            if self._closed:
                raise StopAsyncIteration
            news = self._news = Deferred()
            self._wake_writer()  # which may bring news at once
            await news
        return self._events.popleft()

    async def aclose(self) -> None:
        self.abandon()
        self.left()

    def abandon(self) -> None:
        """Nobody reads, or will: from here on it takes everything and keeps nothing."""
        self._abandoned = True
        self._events.clear()
        self._wake_writer()

    def _wake_reader(self) -> None:
        news, self._news = self._news, None
        if news is not None:
            news.callback(None)

    def _wake_writer(self) -> None:
        space, self._space = self._space, None
        if space is not None:
            space.callback(None)


def _nothing() -> None:
    pass
