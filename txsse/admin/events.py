"""What ``/status`` says, told anew whenever it changes: ``/events``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from txsse.web.events import ServerSentEvent

LOOK: Final = 0.5
"""Seconds between two looks at what there is to tell."""
INTERVAL: Final = 5.0
"""Seconds between two events where nothing has changed but the time."""

_CLOCKS: Final = frozenset(("uptime", "since", "elapsed", "eta"))


async def status_events(
    reactor: IReactorTime, status: Callable[[], object], draining: Callable[[], bool]
) -> AsyncIterator[ServerSentEvent]:
    """A ``status`` event at once, at each change and every :data:`INTERVAL`.

    While the proxy drains it ends after the first: who reads it comes back as long as there is somebody to ask.

    :param status: what is told, as JSON.
    """
    told: object = None
    told_at = 0.0
    while True:
        document, now = status(), reactor.seconds()
        lasting = _lasting(document)
        if told is None or lasting != told or now - told_at >= INTERVAL:
            told, told_at = lasting, now
            yield ServerSentEvent(document, "status")
        if draining():
            return
        await deferLater(reactor, LOOK)


def _lasting(value: object) -> object:
    """What there is in it besides clocks."""
    if isinstance(value, dict):
        return {name: _lasting(each) for name, each in value.items() if name not in _CLOCKS}
    if isinstance(value, list):
        return [_lasting(each) for each in value]
    return value
