"""What the admin listener shows of a proxy: the joint between it and the service."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias, TypedDict

from txsse.metrics import Metrics
from txsse.recordings.view import CacheView, StreamsView

Asked: TypeAlias = Literal["done", "unknown", "not startable"]
"""What comes of an order: it is carried out, there is no such upstream, or the proxy has no way to start and stop it."""


class PoolStatus(TypedDict):
    """Connections to an upstream: waiting for a request, and all there are."""

    idle: int
    open: int


class ServerStatus(TypedDict):
    """One URL of an upstream."""

    url: str
    state: str
    in_flight: int
    failed: int  # dispatches in a row


class SlotsStatus(TypedDict):
    number: int  # 0 = any number
    taken: int


class UpstreamStatus(TypedDict):
    state: str
    since: float  # seconds in this state
    elapsed: float | None  # seconds since the start under way began
    eta: float | None  # seconds until it is ready, judging by its last starts
    waiting: int  # held requests
    slots: SlotsStatus
    in_flight: int
    last_error: str  # the last probe's or wake's, "" for none; may name addresses: this page is for the operator
    output: str  # the end of what its process printed, if the proxy runs one
    pool: PoolStatus  # of all its servers together
    servers: list[ServerStatus]


class RouteStatus(TypedDict):
    in_flight: int


class CacheLevels(TypedDict):
    """How full the cache is."""

    bytes: int
    limit: int  # in bytes
    count: int  # of entries
    flights: int  # streams under way that another request could join


class StreamLevels(TypedDict):
    """Streams that can be resumed: how many there are, how many of them are not over, and the bytes of all."""

    kept: int
    live: int
    bytes: int


class RedisStatus(TypedDict):
    """What is shared with other machines."""

    up: bool
    trouble: str  # why it is not
    timeouts: int  # commands
    refusals: dict[str, int]  # commands, by what Redis said
    owned: int  # streams written there
    followed: int  # streams of others, read from there
    losses: dict[str, int]  # streams that others could not go on reading, by why
    reaped: int  # streams of dead processes that were ended from here


class Status(TypedDict):
    """The body of ``/status``, which has ``cache`` besides, of :class:`CacheLevels`, where a route caches, ``streams``, of
    :class:`StreamLevels`, where one keeps streams, and ``redis``, of :class:`RedisStatus`, where there is one."""

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
    demand: int  # both together, or 1 while its upstream is called for: what an autoscaler should reckon with


class AdminView(Protocol):
    """A running proxy, as far as its operator may look. Every member is read anew for each request."""

    @property
    def draining(self) -> bool: ...

    @property
    def metrics(self) -> Metrics: ...

    @property
    def cache(self) -> CacheView | None:
        """``None`` while no route caches."""

    @property
    def streams(self) -> StreamsView | None:
        """``None`` while no route keeps streams."""

    def status(self) -> Status: ...

    def queue(self) -> dict[str, Demand]: ...

    def wake(self, upstream: str) -> Asked:
        """Start it, though nobody wait."""

    def stop(self, upstream: str) -> Asked:
        """End its start, or its process once no request is open; asked again, at once; once more, by force."""
