"""What an operator sees of a cache and of streams, and may do to them: the joint between the proxy and its admin listener."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import attrs


@attrs.frozen
class Glimpse:
    """One entry, without what it holds.

    :param key: of 32 bytes.
    :param size: bytes that it takes of the limit.
    :param age: seconds since it was stored.
    :param expires_in: seconds for which it will still be told.
    :param hits: how often it was told.
    """

    key: bytes
    route: str
    dialect: str
    model: str
    size: int
    age: float
    expires_in: float
    hits: int


class CacheView(Protocol):
    """The cache of a running proxy. Every member is read anew for each request."""

    @property
    def limit(self) -> int:
        """Bytes that the entries may take together."""

    @property
    def used(self) -> int:
        """Bytes that they take."""

    @property
    def count(self) -> int:
        """How many there are."""

    @property
    def evicted(self) -> int:
        """How many had to make room for others so far."""

    @property
    def flights(self) -> int:
        """Streams under way that another request could join."""

    def entries(self, route: str | None) -> Iterable[Glimpse]:
        """Those of one route, or all; the one that was used last comes first."""

    def purge(self, route: str | None) -> int:
        """Forget those of one route, or all; says how many."""

    def delete(self, key: bytes) -> bool:
        """Forget one; says whether it was there."""


@attrs.frozen
class StreamGlimpse:
    """One stream, without what it says.

    :param kind: ``stream`` or ``prediction``.
    :param sid: as much of its id as may be shown; of a prediction, what the ids of its events begin with.
    :param state: ``waiting``, ``live``, ``done`` or ``error``.
    :param upstream: that one's state.
    :param age: seconds since it was asked for.
    :param first: the number of the first event that is kept; *last*: of the last that came.
    :param size: bytes that are kept.
    """

    kind: str
    sid: str
    route: str
    state: str
    upstream: str
    age: float
    first: int
    last: int
    size: int
    readers: int


class StreamsView(Protocol):
    """The streams of a running proxy that can be resumed, and its predictions. Every member is read anew for each request."""

    @property
    def kept(self) -> int:
        """How many there are."""

    @property
    def live(self) -> int:
        """How many of them are not over."""

    @property
    def size(self) -> int:
        """Bytes that are kept of all of them."""

    def glimpses(self) -> Iterable[StreamGlimpse]:
        """The newest one first."""

    def end(self, sid: str) -> Sequence[StreamGlimpse]:
        """End the stream of this id, or whose id begins so if there is only one; says which it is, or which it might be."""


class SharedView(Protocol):
    """What a running proxy shares with others through Redis. Every member is read anew for each request."""

    @property
    def up(self) -> bool:
        """Redis can be used."""

    @property
    def trouble(self) -> str:
        """Why it cannot; "" while it can."""

    @property
    def timeouts(self) -> int:
        """Commands that it did not answer in time so far."""

    @property
    def refusals(self) -> Mapping[str, int]:
        """Commands that it has refused, by the code it gave, if that is a usual one."""

    @property
    def owned(self) -> int:
        """Streams of ours that are being written there."""

    @property
    def followed(self) -> int:
        """Streams of others that are read from there."""

    @property
    def losses(self) -> Mapping[str, int]:
        """Streams of ours that others could not go on reading, by why: fenced, gone, behind."""

    @property
    def dropped(self) -> int:
        """Bytes of these."""

    @property
    def reaped(self) -> int:
        """Streams of processes that died, which this one has ended."""
