"""What the admin listener shows of a proxy: the joint between it and the service."""

from __future__ import annotations

from typing import Protocol, TypedDict

from txsse.metrics import Metrics


class PoolStatus(TypedDict):
    """Connections to an upstream: waiting for a request, and all there are."""

    idle: int
    open: int


class UpstreamStatus(TypedDict):
    state: str
    since: float  # seconds in this state
    waiting: int  # held requests
    in_flight: int
    last_error: str  # the last probe's or wake's, "" for none; may name addresses: this page is for the operator
    pool: PoolStatus


class RouteStatus(TypedDict):
    in_flight: int


class Status(TypedDict):
    """The body of ``/status``."""

    version: str
    uptime: float  # seconds
    draining: bool
    upstreams: dict[str, UpstreamStatus]
    routes: dict[str, RouteStatus]
    connections: int  # of clients, open now


class Demand(TypedDict):
    """A route's line in ``/queue``."""

    pending: int  # held
    active: int  # dispatched
    demand: int  # both together: what an autoscaler should reckon with


class AdminView(Protocol):
    """A running proxy, as far as its operator may look. Every member is read anew for each request."""

    @property
    def draining(self) -> bool: ...

    @property
    def metrics(self) -> Metrics: ...

    def status(self) -> Status: ...

    def queue(self) -> dict[str, Demand]: ...
