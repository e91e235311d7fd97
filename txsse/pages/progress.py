"""The progress of a wait as an event stream: what the waiting page follows."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol

from twisted.internet.defer import Deferred

from txsse.clock import Alarms
from txsse.exchange.voice import HoldStatus
from txsse.web.events import ServerSentEvent

LOOK: Final = 0.25
"""Seconds between two looks at what there is to tell."""
INTERVAL: Final = 1.0
"""Seconds between two events where nothing has changed but the time."""


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


async def progress(alarms: Alarms, follow: Callable[[], Wait | None]) -> AsyncIterator[ServerSentEvent]:
    """A ``progress`` event at each change and each second, and ``ready`` or ``failed`` as the last.

    As long as it is read it counts as demand.

    :param follow: what is to be followed at the moment; ``None``: there is nothing to follow any more.
    """
    told: tuple[str, int | None] | None = None
    told_at = 0.0
    while (wait := follow()) is not None:
        if wait.ready:
            yield ServerSentEvent("{}", "ready")
            return
        if not wait.failure:
            wait.renew()  # which may show that it is in vain
        status = wait.status()
        if wait.failure:
            message = f"{status.upstream} did not become ready: {wait.failure}."
            yield ServerSentEvent(json.dumps({"message": message}), "failed")
            return
        now, news = alarms.seconds(), (status.state, status.position)
        if news != told or now - told_at >= INTERVAL - LOOK / 2:
            told, told_at = news, now
            yield ServerSentEvent(status.as_comment(), "progress")
        await _pause(alarms, LOOK)


def _pause(alarms: Alarms, seconds: float) -> Deferred[None]:
    done: Deferred[None] = Deferred(lambda _: alarm.cancel())
    alarm = alarms.set(seconds, lambda: done.callback(None))
    return done
