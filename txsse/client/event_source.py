"""EventSource, as in a browser, for Twisted: an event stream over as many connections as it takes."""

from __future__ import annotations

import enum
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater
from twisted.web.iweb import IAgent, IResponse

from txsse.client.asking import Asker, discard, location_of
from txsse.client.body import EventBody
from txsse.client.errors import StreamLost, StreamRefused
from txsse.client.http import is_unsent
from txsse.client.policy import RETRY, Backoff, retry_after
from txsse.client.reading import StreamReader
from txsse.client.request import GivenHeaders, Request
from txsse.client.waiting import Wait
from txsse.wire.eventstream import Event, EventStreamDecoder, EventTooLong, is_event_stream

_LAST_TYPES: Final = frozenset({"done", "message_stop", "response.completed", "response.failed", "response.incomplete"})


class State(enum.Enum):
    """The three states of the standard. While it waits for the next attempt, it is connecting."""

    CONNECTING = "connecting"
    OPEN = "open"
    CLOSED = "closed"


class EventSource:
    """The events of the stream at *url*, whichever connection brings them (WHATWG HTML section 9.2, and POST).

    Use it as ``async with EventSource(...) as source: async for event in source: ...``. It works when it is asked for an event: then it
    connects, reads and reconnects, and it reads no further than 64 KiB ahead. Who leaves the loop early closes it, or uses ``async with``;
    cancelling a wait for an event closes it too.

    A connection of a GET that was lost, or has ended, is followed by another one with ``Last-Event-ID``, after the time that the stream's
    ``retry:`` named. A 204 ends it.

    A POST is sent once, unless it certainly has not reached the server, or was refused with 429 or 503 and a ``Retry-After``. Its stream
    goes on with a GET of the ``Location`` that its answer named, if that is of the same origin; it is over when it ends cleanly, or breaks
    after its terminal event.

    :param url: absolute, ``http`` or ``https``.
    :param method: ``None``: POST if there is a body, else GET.
    :param headers: sent besides, and in place of, our own.
    :param body: as it is.
    :param json: encoded as the body.
    :param last_event_id: where an earlier stream was left.
    :param max_retries: failures in a row that are borne: connections that were not made, lost, or brought nothing; ``None``: any number.
    :param timeout: seconds without a byte, of head or body, until a connection is given up; ``None``: no limit. Comments count as life.
    :param stop_at_end: a clean end is the end, also that of a GET.
    :param on_state: called with the source when it connects anew, has opened, or is closed. May close it.
    :param on_comment: called with the text of each comment, between the events it stood between.
    :param agent: what treq takes as its ``agent``.
    :raises ValueError: the URL cannot be asked, or there are two bodies.

    :ivar state: see :class:`State`.
    :ivar url: what is asked for next. After a POST that can be taken up again it is the Location.
    :ivar last_event_id: that of the event handed out last. With *url* it is all that another process needs to go on.
    :ivar retry: the reconnection time in milliseconds.
    :ivar response: the head of the newest response; ``None`` before the first.
    :ivar failure: what the last connection ended with; ``None``: cleanly.
    :ivar delay: seconds from the last end to the next attempt.
    """

    def __init__(
        self,
        url: str,
        *,
        method: str | None = None,
        headers: GivenHeaders | None = None,
        body: bytes | str | None = None,
        json: object = None,
        last_event_id: str = "",
        max_retries: int | None = None,
        timeout: float | None = None,
        stop_at_end: bool = False,
        backoff: Backoff | None = None,
        on_state: Callable[[EventSource], None] | None = None,
        on_comment: Callable[[str], None] | None = None,
        agent: IAgent | None = None,
        reactor: Any = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self.state = State.CONNECTING
        self.last_event_id = last_event_id
        self.retry = RETRY
        self.response: IResponse | None = None
        self.failure: Exception | None = None
        self.delay = 0.0
        self._request = Request.prepare(url, method, headers, body, json)
        self._once = self._request.method != "GET"  # the stream of a POST: it has an end
        self._resume = None if self._once else self._request  # what to ask for when the stream broke
        self._max_retries = max_retries
        self._timeout = timeout
        self._stop_at_end = stop_at_end or self._once
        self._backoff = backoff or Backoff()
        self._on_state = on_state
        self._on_comment = on_comment
        self._reactor = reactor
        self._body: EventBody | None = None  # while there is a connection with a stream
        self._failures = 0  # in a row
        self._last: Event | None = None
        self._busy = False
        self._wait = Wait(reactor)
        self._asker = Asker(agent, reactor, self._wait, timeout)

    @property
    def url(self) -> str:
        return self._request.url

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        """The next event.

        :raises StreamRefused: the server wants no stream.
        :raises StreamLost: it broke and cannot be taken up again, or *max_retries* were not enough.
        :raises EventTooLong: a line or an event of more than 1 MiB.
        """
        if self._busy:
            raise RuntimeError("somebody else is waiting for the next event of this source")
        self._busy = True
        event = None
        try:
            event = await self._next()
        except CancelledError:
            if self.state is not State.CLOSED:  # else it was close() that ended the wait
                raise
        finally:
            self._busy = False
            if event is None:
                self.close()
        if event is None:
            raise StopAsyncIteration
        return event

    def close(self) -> None:
        """End it: the connection is reset at once, and who waits for an event is told that there are no more."""
        if self.state is State.CLOSED:
            return
        self.state = State.CLOSED
        if self._body is not None:
            self._body.abort()
            self._body = None
        self._wait.cancel()
        self._tell()

    async def aclose(self) -> None:
        """:meth:`close`, for ``contextlib.aclosing``."""
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    async def _next(self) -> Event | None:
        """The next event, ``None`` at the end of all."""
        while self.state is not State.CLOSED:
            body = self._body
            if body is None:
                await self._connect()
            elif body.items:
                item = body.take()
                if isinstance(item, Event):
                    return self._noted(item)
                if self._on_comment is not None:
                    self._on_comment(item.text)
            elif body.ended:
                await self._ended(body)
            else:
                try:
                    await self._wait.until(body.more(), self._timeout)
                except StreamLost as silent:
                    body.fail(silent.reason)
        return None

    def _noted(self, event: Event) -> Event:
        self._last = event
        self.last_event_id = event.id
        if event.retry is not None:
            self.retry = event.retry
        return event

    async def _connect(self) -> None:
        """One attempt; after it there is a body, or the time of the next attempt has come."""
        try:
            request, response = await self._asker.ask(self._request, self.last_event_id)
        except StreamLost as lost:
            if self._request.method != "GET" and not is_unsent(lost.reason):
                raise
            self._count(lost.reason)
            await self._pause(lost.reason)
            return
        self.response = response
        elsewhere = request.redirected(response.code, location_of(response))
        if response.code == 204:
            self.close()
        elif response.code == 200 and is_event_stream(b", ".join(response.headers.getRawHeaders(b"content-type", []))):
            self._open(request, response)
        elif elsewhere is not None and elsewhere.method != request.method:  # 303: the POST is done, and this is where its stream is
            discard(response)
            self._request = self._resume = elsewhere
        else:
            await self._refused(response)

    def _open(self, request: Request, response: IResponse) -> None:
        if self._request.method != "GET":
            self._resume = request.resumed_at(location_of(response))
        reader = EventStreamDecoder if self._on_comment is None else StreamReader
        self._body = EventBody(reader(last_event_id=self.last_event_id))
        self.state = State.OPEN
        self.failure = None
        response.deliverBody(self._body)
        self._tell()

    async def _refused(self, response: IResponse) -> None:
        """Ask again if the server said when, else raise."""
        refused = await self._asker.refusal(response)
        wait = retry_after(response.headers) if response.code in (429, 503) else None
        if wait is None:
            raise refused
        self._count(refused)
        await self._pause(refused, wait)

    async def _ended(self, body: EventBody) -> None:
        """What follows the end of a connection with a stream: the end of all, an exception, or the next attempt."""
        self._body = None
        self.last_event_id = body.reader.last_event_id
        if body.reader.retry is not None:
            self.retry = body.reader.retry
        if isinstance(body.reason, EventTooLong):
            raise body.reason
        clean = body.reason is None
        if (clean and self._stop_at_end) or (self._once and _is_last(self._last)):
            self.close()
            return
        # Without an id, and with events handed out, all of them would come a second time.
        if self._resume is None or (self._once and self._last is not None and not self.last_event_id):
            raise StreamLost(body.reason)
        self._request = self._resume
        if body.heard:
            self._failures = 0
        if not (clean and body.heard):
            self._count(body.reason)
        await self._pause(body.reason)

    def _count(self, reason: Exception | None) -> None:
        """A failure more; raises if that is one too many."""
        self._failures += 1
        if self._max_retries is not None and self._failures > self._max_retries:
            raise reason if isinstance(reason, StreamRefused) else StreamLost(reason)

    async def _pause(self, reason: Exception | None, at_least: float = 0.0) -> None:
        self.state = State.CONNECTING
        self.failure = reason
        self.delay = self._backoff.delay(self.retry / 1000, self._failures, at_least)
        self._tell()
        if self.state is State.CONNECTING:
            await self._wait.until(deferLater(self._reactor, self.delay))

    def _tell(self) -> None:
        if self._on_state is not None:
            self._on_state(self)


def _is_last(event: Event | None) -> bool:
    """Does a stream end with this event, in one of the APIs that are known?"""
    return event is not None and (event.data == "[DONE]" or event.type in _LAST_TYPES)
