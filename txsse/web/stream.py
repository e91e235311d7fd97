"""An event stream as the answer to a request of twisted.web's, whoever serves it: a resource, or a Klein handler."""

from __future__ import annotations

from functools import lru_cache
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from txsse.clock import Alarms
from txsse.web.answer import StreamAnswer
from txsse.web.pump import Source, close


@lru_cache(8)
def alarms_of(reactor: IReactorTime) -> Alarms:
    """The timers that all streams on *reactor* share; each its own would cost six times as much CPU."""
    return Alarms(reactor)


def clock_of(request: Request) -> IReactorTime:
    """Where the site of *request* has its time from; without a site, the global reactor."""
    if request.site is not None:
        return request.site.reactor
    from twisted.internet import reactor

    return cast(IReactorTime, reactor)


class EventStream(Resource):
    """Answers one request with the events that *source* yields: kept alive while it is silent, at the pace of the client.

    A Klein handler returns it. In a ``twisted.web`` resource, ``render_GET`` returns what its :meth:`render` returns.

    The source is not asked for an item while the client does not read, and it is closed as soon as the client has left: an async
    generator sees ``CancelledError`` where it awaits, ``GeneratorExit`` where it yields. If it fails, that is logged, an ``error`` event
    with ``{"error": {"message", "type", "code"}}`` is sent, and the connection is cut, so that the stream does not look complete.

    Fields that were set on the request are sent as well; Cache-Control and X-Accel-Buffering then instead of ours.

    :param source: an async iterator that awaits Deferreds, or any iterable. Text and bytes are the data of an event, a
        :class:`~txsse.web.events.ServerSentEvent` is one, anything else is data as JSON.
    :param interval: seconds without a byte after which a comment is sent, unless the client is not reading.
    :param retry: milliseconds after which the client shall reconnect; told with the first event.
    :param stall_timeout: seconds in which the client takes no byte of those that wait for it, after which it is given up.
    :param reactor: where the time comes from; if it is not given, that of the site.
    """

    isLeaf = True
    _log = Logger()

    def __init__(
        self,
        source: Source[object],
        *,
        interval: float = 15.0,
        retry: int | None = None,
        stall_timeout: float = 30.0,
        reactor: IReactorTime | None = None,
    ) -> None:
        super().__init__()
        if interval <= 0 or stall_timeout <= 0:
            raise ValueError("interval and stall_timeout must be more than 0 seconds")
        self._source: Source[object] | None = source
        self._interval = interval
        self._retry = retry
        self._stall_timeout = stall_timeout
        self._reactor = reactor

    def render(self, request: Request) -> int:
        """Answer *request*. (Klein calls this itself: a handler that returns the result is taken to be done.)

        :raises RuntimeError: it has answered one before.
        """
        source, self._source = self._source, None
        if source is None:
            raise RuntimeError("an EventStream answers one request: make one for each")
        gone = request.channel is None  # the client has left while a handler was working
        if gone or request.method == b"HEAD":
            Deferred.fromCoroutine(close(source)).addErrback(lambda failure: self._log.failure("a source failed to close", failure))
            source = ()
        if not gone:
            alarms = alarms_of(self._reactor or clock_of(request))
            StreamAnswer(request, alarms, self._interval, self._retry, self._stall_timeout).begin(source)
        return NOT_DONE_YET
