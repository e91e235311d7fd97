"""What an operator sees of a cache, and may do to it: the joint between the proxy and its admin listener."""

from __future__ import annotations

from collections.abc import Iterable
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
