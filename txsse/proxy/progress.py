"""What is known of a wait, from the upstream that it is for."""

from __future__ import annotations

from txsse.exchange.voice import HoldStatus
from txsse.upstream.backend import Backend


def progress_of(backend: Backend, elapsed: float, place: int | None) -> HoldStatus:
    """What can be told to whoever has waited for *backend* for *elapsed* seconds and has this *place* in its queue."""
    gate = backend.gate
    return HoldStatus(backend.name, gate.state.value, elapsed, detail=gate.last_error, eta=gate.eta, position=place, queued=gate.ready)
