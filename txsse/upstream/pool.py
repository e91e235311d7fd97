"""Connections to one backend, kept for the next request."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse.clock import Alarm, Alarms
from txsse.interfaces import Dispatch, Failed, Fault, Receiver
from txsse.upstream.connection import UpstreamConnection
from txsse.upstream.endpoints import ConnectFailed, Target, connect

CLOSE_GRACE: Final = 1.0
"""Seconds a connection that is being closed has for its last bytes."""


class ConnectionPool:
    """Sends requests to one target, on a kept-alive connection if one is free, else on a new one.

    How many requests are under way at a time is not limited here: that is the waiting room's business.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        alarms: Alarms,
        target: Target,
        *,
        max_idle: int = 64,
        idle_timeout: float = 4.0,
        connect_timeout: float = 5.0,
    ) -> None:
        """
        :param reactor: as :func:`txsse.upstream.endpoints.connect` takes it.
        :param max_idle: free connections kept; 0 = each request has its own.
        :param idle_timeout: seconds a free connection is kept: less than the backend keeps it, or requests race with its closing.
        :param connect_timeout: seconds, TLS handshake included.
        """
        self._reactor = reactor
        self._alarms = alarms
        self._target = target
        self._max_idle = max_idle
        self._idle_timeout = idle_timeout
        self._connect_timeout = connect_timeout
        self._connecting: set[_Attempt] = set()
        self._open: set[UpstreamConnection] = set()
        # Longest idle first. Ordered, because in a plain dict the way to the first item leads past all that were deleted before it.
        self._idle: OrderedDict[UpstreamConnection, None] = OrderedDict()
        self._idle_alarm: Alarm | None = None
        self._closed = False

    @property
    def idle(self) -> int:
        """Free connections."""
        return len(self._idle)

    @property
    def open(self) -> int:
        """Connections in use, free or being closed."""
        return len(self._open)

    @property
    def connecting(self) -> int:
        """Connections on their way."""
        return len(self._connecting)

    def dispatch(
        self, head: bytes, body: bytes, method: bytes, receiver: Receiver, *, fresh: bool = False, upgrades: bool = False
    ) -> Dispatch:
        """Send a request; *receiver* hears how it went, never before this returned.

        :param head: the request's head up to and including its blank line, with the framing fields for *body*.
        :param method: as in *head*.
        :param fresh: on a new connection, though there be free ones: for the second try after :attr:`Fault.STALE`.
        :param upgrades: it asks for a WebSocket: on a new connection too, and *receiver* is a :class:`~txsse.interfaces.Tunnel`.
        """
        if self._idle and not fresh and not upgrades:
            # The one used last: the others may come to their end, and its peer's buffers are warm.
            connection, _ = self._idle.popitem()
            connection.send(head, body, method, receiver)
            return _PooledDispatch(connection)
        dispatch = _PooledDispatch()
        attempt = _Attempt(dispatch, (head, body, method, receiver, upgrades))
        if self._closed:
            self._report(attempt, Failed(Fault.UNREACHABLE, "shutting down"))
            return dispatch

        def connected(connection: UpstreamConnection) -> None:
            self._connecting.discard(attempt)
            self._open.add(connection)
            attempt.succeed(connection)

        def failed(failure: Failure) -> None:
            self._connecting.discard(attempt)
            if attempt.over:
                return  # it was us who cancelled
            if isinstance(failure.value, ConnectFailed):
                reason = failure.value.failed
            else:
                self._log.failure("connecting failed in an unexpected way", failure)
                reason = Failed(Fault.UNREACHABLE, "cannot connect")
            self._report(attempt, reason)

        self._connecting.add(attempt)
        attempt.connecting = connect(self._reactor, self._target, lambda: UpstreamConnection(self), self._connect_timeout, self._alarms)
        attempt.connecting.addCallbacks(connected, failed)
        return dispatch

    def _report(self, attempt: _Attempt, failed: Failed) -> None:
        # In a turn of its own: connecting may fail before the caller has our Dispatch.
        self._reactor.callLater(0, attempt.fail, failed)

    def move(self, target: Target) -> None:
        """Whom we connect to is there from now on, and nobody where it was."""
        self._target = target
        self.close_idle()

    def close_idle(self) -> None:
        """Close the free connections; those in use will be kept again."""
        while self._idle:
            self._hang_up_oldest()

    def retire(self) -> None:
        """Keep nothing from now on: what is under way goes on and requests are still sent, each on a connection of its own.

        For a target that a new configuration has dropped while clients still read from it, or wait for it.
        """
        self._max_idle = 0
        self.close_idle()

    def close(self) -> None:
        """Close everything now; the receivers of what is under way are told. Later requests fail."""
        self._closed = True
        if self._idle_alarm is not None:
            self._idle_alarm.cancel()
            self._idle_alarm = None
        self._idle.clear()
        for connection in list(self._open):
            connection.drop()
        for attempt in list(self._connecting):
            attempt.fail(Failed(Fault.UNREACHABLE, "shutting down"))

    def connection_free(self, connection: UpstreamConnection, reusable: bool) -> None:
        """Called by a connection whose response has ended."""
        if not reusable or self._closed or self._max_idle == 0:
            self._hang_up(connection)
            return
        if len(self._idle) >= self._max_idle:
            self._hang_up_oldest()
        connection.idle_since = self._alarms.seconds()
        self._idle[connection] = None
        self._watch_idle()

    def connection_lost(self, connection: UpstreamConnection) -> None:
        """Called by a connection whose socket is closed, in use or free."""
        self._open.discard(connection)
        self._idle.pop(connection, None)

    def _hang_up_oldest(self) -> None:
        connection, _ = self._idle.popitem(last=False)
        self._hang_up(connection)

    def _hang_up(self, connection: UpstreamConnection) -> None:
        connection.close()
        self._alarms.set(CLOSE_GRACE, connection.drop)

    def _watch_idle(self) -> None:
        # One alarm for all of them: it rings for the one that is idle longest.
        if self._idle and self._idle_alarm is None:
            due = next(iter(self._idle)).idle_since + self._idle_timeout
            self._idle_alarm = self._alarms.set(max(0.0, due - self._alarms.seconds()), self._close_expired)

    def _close_expired(self) -> None:
        self._idle_alarm = None
        latest = self._alarms.seconds() - self._idle_timeout
        while self._idle and next(iter(self._idle)).idle_since <= latest:
            self._hang_up_oldest()
        self._watch_idle()


class _PooledDispatch:
    """One request: first an attempt to connect (perhaps), then an exchange on a connection that others will use later."""

    __slots__ = ("_connection", "_turn", "attempt")

    def __init__(self, connection: UpstreamConnection | None = None) -> None:
        """:param connection: the request was just sent on it."""
        self.attempt: _Attempt | None = None
        self._connection = connection
        self._turn = 0 if connection is None else connection.served  # which of the connection's exchanges is ours

    def sent(self, connection: UpstreamConnection) -> None:
        """The attempt has come to this connection."""
        self.attempt = None
        self._connection = connection
        self._turn = connection.served

    def abort(self) -> None:
        if self.attempt is not None:
            self.attempt.give_up()
        elif (connection := self._current()) is not None:
            connection.abort()

    def pause(self) -> None:
        if self.attempt is not None:
            self.attempt.paused = True
        elif (connection := self._current()) is not None:
            connection.pause()

    def resume(self) -> None:
        if self.attempt is not None:
            self.attempt.paused = False
        elif (connection := self._current()) is not None:
            connection.resume()

    def _current(self) -> UpstreamConnection | None:
        """Our connection while our exchange is under way on it."""
        connection = self._connection
        if connection is not None and connection.served == self._turn and connection.busy:
            return connection
        return None


class _Attempt:
    """A request that has no connection yet. What it needs for that is apart from the dispatch, which lives as long as the stream."""

    __slots__ = ("_dispatch", "_request", "connecting", "paused")

    def __init__(self, dispatch: _PooledDispatch, request: tuple[bytes, bytes, bytes, Receiver, bool]) -> None:
        self._dispatch = dispatch
        dispatch.attempt = self
        self._request = request
        self.connecting: Deferred[UpstreamConnection] | None = None
        self.paused = False

    @property
    def over(self) -> bool:
        """It was given up or has failed."""
        return self._dispatch.attempt is None

    def succeed(self, connection: UpstreamConnection) -> None:
        """A connection is there: send the request on it."""
        connection.send(*self._request)
        self._dispatch.sent(connection)
        if self.paused:
            connection.pause()

    def fail(self, failed: Failed) -> None:
        """There will be no connection."""
        if not self.over:
            self.give_up()
            *_, receiver, _ = self._request
            receiver.dispatch_failed(failed)

    def give_up(self) -> None:
        """Connect no more; the receiver hears nothing."""
        self._dispatch.attempt = None
        if self.connecting is not None:
            self.connecting.cancel()
