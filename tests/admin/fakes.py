"""A cache and streams as the admin listener sees them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from txsse.logs import shown
from txsse.recordings.view import Glimpse, StreamGlimpse


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


def stream(sid: str, **changes: Any) -> StreamGlimpse:
    """One that runs."""
    made = StreamGlimpse("stream", sid, "chat", "live", "ready", age=2.00049, first=1, last=12, size=1500, readers=1)
    return attrs.evolve(made, **changes)


@attrs.define
class FakeStreams:
    """Implements :class:`txsse.recordings.view.StreamsView` on a list of streams with their whole ids."""

    held: list[StreamGlimpse]

    @property
    def kept(self) -> int:
        return len(self.held)

    @property
    def live(self) -> int:
        return sum(each.state in ("waiting", "live") for each in self.held)

    @property
    def size(self) -> int:
        return sum(each.size for each in self.held)

    def glimpses(self) -> Iterable[StreamGlimpse]:
        return reversed([attrs.evolve(each, sid=shown(each.sid)) for each in self.held])

    def end(self, sid: str) -> list[StreamGlimpse]:
        meant = [each for each in self.held if each.sid.startswith(sid)]
        if len(meant) == 1:
            self.held[self.held.index(meant[0])] = meant[0] = attrs.evolve(meant[0], state="error", readers=0)
        return [attrs.evolve(each, sid=shown(each.sid)) for each in meant]
