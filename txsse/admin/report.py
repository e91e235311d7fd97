"""What the admin listener shows, gathered from a running proxy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from txsse.admin.view import Demand, UpstreamStatus
    from txsse.metrics import Metrics
    from txsse.proxy.routes import BoundRoute
    from txsse.upstream.backend import Backend


def upstream_status(backend: Backend, now: float) -> UpstreamStatus:
    """One upstream's part of ``/status``.

    :param now: in reactor seconds.
    """
    gate, starter, program = backend.gate, backend.starter, backend.program
    slots, taken = gate.slots
    return {
        "state": backend.state,
        "since": round(now - gate.since, 3),
        "elapsed": _rounded(None if starter is None else starter.elapsed),
        "eta": _rounded(gate.eta),
        "waiting": backend.waiting,
        "slots": {"number": slots, "taken": taken},
        "in_flight": backend.in_flight,
        "last_error": gate.last_error,
        "output": "" if program is None else program.output.text(),
        "pool": {
            "idle": sum(server.pool.idle for server in backend.servers),
            "open": sum(server.pool.open for server in backend.servers),
        },
        "servers": [
            {
                "url": backend.url_of(server),
                "state": backend.state_of(server),
                "in_flight": server.in_flight,
                "failed": server.failed,
            }
            for server in backend.servers
        ],
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def demand(route: BoundRoute, metrics: Metrics) -> Demand:
    """One route's line in ``/queue``: its requests, and at least one while its upstream is called for."""
    total = metrics.in_flight[route.name] - metrics.reading[route.name]
    pending = route.room.waiting
    return {"pending": pending, "active": total - pending, "demand": max(total, int(route.backend.gate.called_for))}
