"""The progress of a wait as an event stream: what the waiting page follows."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.web.server import Request
from zope.interface import implementer

from txsse.clock import Alarm, Alarms
from txsse.exchange.voice import HoldStatus

LOOK: Final = 0.25
"""Seconds between two looks at what there is to tell."""
INTERVAL: Final = 1.0
"""Seconds between two events where nothing has changed but the time."""
STALL: Final = 30.0
"""Seconds without a byte accepted by the client after which it is not waited for any more."""

_RETRY: Final = b"retry: 2000\n\n"


class Wait(Protocol):
    """What is followed."""

    @property
    def ready(self) -> bool:
        """It is over, well."""

    @property
    def failure(self) -> str:
        """It is over, in vain: why, fit for a client."""

    def renew(self) -> None:
        """Somebody is interested, now: goes on for as long as that is said again and again."""

    def status(self) -> HoldStatus: ...


@implementer(IPushProducer)
class ProgressStream:
    """Writes ``progress`` events on *request*, at each change and each second, and ``ready`` or ``failed`` as the last.

    As long as it is read it counts as demand. It knows no backlog: to a client that is not reading nothing is written.

    :param follow: what is to be followed at the moment; ``None``: there is nothing to follow any more.
    :ivar over: fires at the end, but for that of the connection.
    """

    def __init__(self, request: Request, alarms: Alarms, follow: Callable[[], Wait | None]) -> None:
        self.over: Deferred[None] = Deferred(lambda _: self._end())
        self._request = request
        self._alarms = alarms
        self._follow = follow
        self._alarm: Alarm | None = None
        self._told: tuple[str, int | None] | None = None
        self._told_at = 0.0
        self._paused_at: float | None = None

    def begin(self) -> None:
        self._request.write(_RETRY)
        self._request.registerProducer(self, True)
        self._look()

    def _look(self) -> None:
        self._alarm = None
        now = self._alarms.seconds()
        if self._paused_at is not None:
            if now - self._paused_at >= STALL:
                self._end()
                self._request.channel.forceAbortClient()
                return
        elif not self._tell(now):
            self._finish()
            return
        self._alarm = self._alarms.set(LOOK, self._look)

    def _tell(self, now: float) -> bool:
        """Say what there is to say; whether there may be more."""
        wait = self._follow()
        if wait is None:
            return False
        if wait.ready:
            self._write("ready", "{}")
            return False
        if not wait.failure:
            wait.renew()  # which may show that it is in vain
        status = wait.status()
        if wait.failure:
            self._write("failed", json.dumps({"message": f"{status.upstream} did not become ready: {wait.failure}."}))
            return False
        told = (status.state, status.position)
        if told != self._told or now - self._told_at >= INTERVAL - LOOK / 2:
            self._told, self._told_at = told, now
            self._write("progress", status.as_comment())
        return True

    def _write(self, event: str, data: str) -> None:
        self._request.write(f"event: {event}\ndata: {data}\n\n".encode())

    def _finish(self) -> None:
        self._request.unregisterProducer()
        self._end()
        self.over.callback(None)

    def _end(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    # Flow control: the connection calls

    def pauseProducing(self) -> None:
        if self._paused_at is None:
            self._paused_at = self._alarms.seconds()

    def resumeProducing(self) -> None:
        self._paused_at = None

    def stopProducing(self) -> None:
        self._end()
