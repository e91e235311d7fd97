"""Upstream's body where it is gathered instead of relayed: the answer to the machine's ``Collect``."""

from __future__ import annotations


class Collector:
    """Gathers a body.

    :ivar limit: bytes that are enough; may be raised on the way.
    """

    __slots__ = ("_parts", "_size", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> bool:
        """Take what upstream sent; whether that is enough now."""
        self._parts.append(data)
        self._size += len(data)
        return self._size >= self.limit

    @property
    def body(self) -> bytes:
        """All of it, which may be more than the limit by the rest of a read."""
        return b"".join(self._parts)
