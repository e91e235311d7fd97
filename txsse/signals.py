"""What signals mean: SIGHUP rereads, SIGTERM drains and then cuts, SIGINT asks first whether anything is open.

Twisted's own handlers stop the reactor once and cannot be asked twice, so ours take their place when the reactor runs.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from twisted.logger import Logger

from txsse.service import ProxyService


class Signals:
    """The signal handlers of one process with one proxy."""

    _log = Logger()

    def __init__(self, service: ProxyService, reactor: Any) -> None:
        self._service = service
        self._reactor = reactor
        self._ending = False

    def install(self) -> None:
        """Take over; to be called when the reactor runs, for it installs its own handlers as it starts."""
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._caught)

    def _caught(self, number: int, frame: FrameType | None) -> None:
        # A handler may interrupt anything: the work is done in a turn of the reactor's.
        self._reactor.callFromThread(self._hear, number)

    def _hear(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._service.reload()
        elif self._ending:
            self._log.info("cutting what is still open")
            self._service.cut()
        else:
            self._ending = True
            streams = self._service.open_streams
            if number == signal.SIGINT and streams:
                what = "1 stream is open" if streams == 1 else f"{streams} streams are open"
                self._log.info("{what}; draining (interrupt again to cut)", what=what)
            if number == signal.SIGINT and not streams:
                self._service.cut()  # at once: somebody sits at the terminal and waits
            self._end()

    def _end(self) -> None:
        self._service.drain().addBoth(lambda _: self._reactor.stop())
