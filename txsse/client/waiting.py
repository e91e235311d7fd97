"""A wait that has a limit, and that somebody else can end."""

from __future__ import annotations

from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred

from txsse.client.errors import StreamLost
from txsse.client.http import is_cancelled

T = TypeVar("T")


class Wait:
    """What one coroutine waits for, one thing after another."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._pending: Deferred[Any] | None = None

    async def until(self, pending: Deferred[T], seconds: float | None = None) -> T:
        """The result of *pending*, which is cancelled with the coroutine, by :meth:`cancel`, and after *seconds*.

        :raises StreamLost: it failed, or it was too late: then the reason is a ``TimeoutError``.
        :raises CancelledError: also where the web client has wrapped that.
        """
        late = False

        def expire() -> None:
            nonlocal late
            late = True
            pending.cancel()

        timer = None if seconds is None else self._reactor.callLater(seconds, expire)
        self._pending = pending
        try:
            return await pending
        except Exception as error:
            if late:
                raise StreamLost(TimeoutError(f"nothing came for {seconds:g} s")) from None
            if is_cancelled(error):
                raise CancelledError from None
            raise StreamLost(error) from error
        finally:
            self._pending = None
            if timer is not None and timer.active():
                timer.cancel()

    def cancel(self) -> None:
        """End the wait, if there is one."""
        if self._pending is not None:
            self._pending.cancel()
