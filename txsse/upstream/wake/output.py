"""The end of what a process printed."""

from __future__ import annotations

from typing import Final

LIMIT: Final = 64 * 1024


class Output:
    """Keeps the last bytes it was given.

    :param limit: bytes.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._kept = bytearray()

    def add(self, data: bytes) -> None:
        self._kept += data
        del self._kept[: -self._limit]

    def text(self, limit: int = LIMIT) -> str:
        """The last *limit* bytes of it, from the beginning of a line on where there is one."""
        end = bytes(self._kept[-limit:])
        if len(end) < len(self._kept) or len(end) == self._limit:
            _, _, whole_lines = end.partition(b"\n")
            end = whole_lines or end
        return end.decode("utf-8", "replace")
