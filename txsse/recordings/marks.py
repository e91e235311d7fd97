"""Where the events of a stream end that is there as a whole, found as far as somebody wants to know."""

from __future__ import annotations

from array import array
from collections.abc import Iterator


class Marks:
    """
    :param ends: all of them, in order.
    """

    __slots__ = ("_found", "_rest")

    def __init__(self, ends: Iterator[int]) -> None:
        self._found = array("I")
        self._rest = ends

    def beyond(self, offset: int) -> array[int]:
        """Those up to the first one beyond *offset*, at least; not a copy."""
        found = self._found
        if not found or found[-1] <= offset:
            for end in self._rest:
                found.append(end)
                if end > offset:
                    break
        return found

    def first(self, count: int) -> array[int]:
        """So many of them, at least, if there are as many; not a copy."""
        found = self._found
        while len(found) < count and (end := next(self._rest, None)) is not None:
            found.append(end)
        return found

    def all(self) -> array[int]:
        """Not a copy."""
        self._found.extend(self._rest)
        return self._found
