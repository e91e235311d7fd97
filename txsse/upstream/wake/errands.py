"""What is done once to wake an upstream that is elsewhere."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from txsse.config import model
from txsse.upstream.wake.hook import Hook
from txsse.upstream.wake.parts import Errands
from txsse.upstream.wake.wol import WakeOnLAN


def errands_of(reactor: Any, config: model.Wake) -> Errands | None:
    """The packet, then the HTTP steps, as far as *config* has them; ``None`` if it has neither.

    :raises Refused: of :mod:`txsse.config.errors`: an address in it cannot be used.
    """
    packet = WakeOnLAN(reactor, config.wol, config.wol_broadcast) if config.wol else None
    hook = Hook(reactor, config.http) if config.http else None
    if packet is None and hook is None:
        return None

    async def run() -> None:
        if packet is not None:
            packet()
        if hook is not None:
            await hook()

    return lambda: Deferred.fromCoroutine(run())
