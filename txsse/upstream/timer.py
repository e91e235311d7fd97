"""A call that is to come, or not."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Timer:
    """Calls its function when the time is up; at most one call is pending."""

    def __init__(self, clock: IReactorTime, function: Callable[[], None]) -> None:
        self._clock = clock
        self._function = function
        self._call: IDelayedCall | None = None

    @property
    def running(self) -> bool:
        return self._call is not None

    @property
    def left(self) -> float:
        """Seconds until the call; 0 if there is none."""
        return 0.0 if self._call is None else max(0.0, self._call.getTime() - self._clock.seconds())

    def set(self, seconds: float) -> None:
        """Call in so many seconds; if it runs already, its time stays."""
        if self._call is None:
            self._call = self._clock.callLater(seconds, self._ring)

    def cancel(self) -> None:
        """Do not call after all. Idempotent."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _ring(self) -> None:
        self._call = None
        self._function()
