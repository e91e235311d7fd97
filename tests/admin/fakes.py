"""A cache as the admin listener sees one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from txsse.recordings.view import Glimpse


def glimpse(number: int, **changes: Any) -> Glimpse:
    """An entry whose key ends in *number*."""
    key = number.to_bytes(32, "big")
    return attrs.evolve(Glimpse(key, "chat", "openai-chat", "qwen", 1500, age=2.00049, expires_in=3597.99951, hits=3), **changes)


@attrs.define
class FakeCache:
    """Implements :class:`txsse.recordings.view.CacheView` on a list."""

    held: list[Glimpse]
    limit: int = 64 * 2**20
    flights: int = 3
    evicted: int = 0

    @property
    def used(self) -> int:
        return sum(each.size for each in self.held)

    @property
    def count(self) -> int:
        return len(self.held)

    def entries(self, route: str | None) -> Iterable[Glimpse]:
        return (each for each in self.held if route in (None, each.route))

    def purge(self, route: str | None) -> int:
        return self._keep([each for each in self.held if route not in (None, each.route)])

    def delete(self, key: bytes) -> bool:
        return self._keep([each for each in self.held if each.key != key]) == 1

    def _keep(self, kept: list[Glimpse]) -> int:
        gone = len(self.held) - len(kept)
        self.held = kept
        return gone
