"""Connections to one backend, kept for the next request."""

from __future__ import annotations

from collections import deque
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
        self._connecting: set[_PooledDispatch] = set()
        self._open: set[UpstreamConnection] = set()
        self._idle: deque[UpstreamConnection] = deque()  # longest idle first
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

    def dispatch(self, head: bytes, body: bytes, method: bytes, receiver: Receiver, *, fresh: bool = False) -> Dispatch:
        """Send a request; *receiver* hears how it went, never before this returned.

        :param head: the request's head up to and including its blank line, with the framing fields for *body*.
        :param method: as in *head*.
        :param fresh: on a new connection, though there be free ones: for the second try after :attr:`Fault.STALE`.
        """
        dispatch = _PooledDispatch(self, receiver)
        if self._idle and not fresh:
            # The one used last: the others may come to their end, and its peer's buffers are warm.
            dispatch.begin(self._idle.pop(), head, body, method)
            return dispatch

        def connected(connection: UpstreamConnection) -> None:
            self._connecting.discard(dispatch)
            self._open.add(connection)
            dispatch.begin(connection, head, body, method)

        def failed(failure: Failure) -> None:
            self._connecting.discard(dispatch)
            dispatch.attempt = None
            if dispatch.over:
                return  # it was us who cancelled
            if isinstance(failure.value, ConnectFailed):
                reason = failure.value.failed
            else:
                self._log.failure("connecting failed in an unexpected way", failure)
                reason = Failed(Fault.UNREACHABLE, "cannot connect")
            self._report(dispatch, reason)

        if self._closed:
            self._report(dispatch, Failed(Fault.UNREACHABLE, "shutting down"))
            return dispatch
        attempt = connect(self._reactor, self._target, lambda: UpstreamConnection(self), self._connect_timeout)
        dispatch.attempt = attempt
        self._connecting.add(dispatch)
        attempt.addCallbacks(connected, failed)
        return dispatch

    def _report(self, dispatch: _PooledDispatch, failed: Failed) -> None:
        # In a turn of its own: connecting may fail before the caller has our Dispatch.
        self._reactor.callLater(0, dispatch.fail, failed)

    def close_idle(self) -> None:
        """Close the free connections; those in use will be kept again."""
        while self._idle:
            self._hang_up(self._idle.popleft())

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
        for dispatch in list(self._connecting):
            dispatch.fail(Failed(Fault.UNREACHABLE, "shutting down"))
            dispatch.cancel_attempt()

    def connection_free(self, connection: UpstreamConnection, reusable: bool) -> None:
        """Called by a connection whose response has ended."""
        if not reusable or self._closed or self._max_idle == 0:
            self._hang_up(connection)
            return
        if len(self._idle) >= self._max_idle:
            self._hang_up(self._idle.popleft())
        connection.idle_since = self._alarms.seconds()
        self._idle.append(connection)
        self._watch_idle()

    def connection_lost(self, connection: UpstreamConnection) -> None:
        """Called by a connection whose socket is closed, in use or free."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def _hang_up(self, connection: UpstreamConnection) -> None:
        connection.close()
        self._alarms.set(CLOSE_GRACE, connection.drop)

    def _watch_idle(self) -> None:
        # One alarm for all of them: it rings for the one that is idle longest.
        if self._idle and self._idle_alarm is None:
            due = self._idle[0].idle_since + self._idle_timeout
            self._idle_alarm = self._alarms.set(max(0.0, due - self._alarms.seconds()), self._close_expired)

    def _close_expired(self) -> None:
        self._idle_alarm = None
        latest = self._alarms.seconds() - self._idle_timeout
        while self._idle and self._idle[0].idle_since <= latest:
            self._hang_up(self._idle.popleft())
        self._watch_idle()


class _PooledDispatch:
    """One request: first an attempt to connect (perhaps), then an exchange on a connection that others will use later."""

    __slots__ = ("_connection", "_paused", "_pool", "_receiver", "_turn", "attempt", "over")

    def __init__(self, pool: ConnectionPool, receiver: Receiver) -> None:
        self.attempt: Deferred[Any] | None = None
        self.over = False  # aborted or failed to connect
        self._pool = pool
        self._receiver = receiver
        self._connection: UpstreamConnection | None = None
        self._turn = 0  # which of the connection's exchanges is ours
        self._paused = False

    def begin(self, connection: UpstreamConnection, head: bytes, body: bytes, method: bytes) -> None:
        """A connection is there: send the request on it."""
        self.attempt = None
        self._connection = connection
        connection.send(head, body, method, self._receiver)
        self._turn = connection.served
        if self._paused:
            connection.pause()

    def fail(self, failed: Failed) -> None:
        """There will be no connection."""
        if not self.over:
            self.over = True
            self._receiver.dispatch_failed(failed)

    def cancel_attempt(self) -> None:
        attempt, self.attempt = self.attempt, None
        if attempt is not None:
            attempt.cancel()

    def abort(self) -> None:
        self.over = True
        self.cancel_attempt()
        connection = self._current()
        if connection is not None:
            connection.abort()

    def pause(self) -> None:
        self._paused = True
        connection = self._current()
        if connection is not None:
            connection.pause()

    def resume(self) -> None:
        self._paused = False
        connection = self._current()
        if connection is not None:
            connection.resume()

    def _current(self) -> UpstreamConnection | None:
        """Our connection while our exchange is under way on it."""
        connection = self._connection
        if connection is not None and connection.served == self._turn and connection.busy:
            return connection
        return None
