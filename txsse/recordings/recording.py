"""A stream written down while it is relayed: the list of its pieces that many readers go through, each at a place of its own.

A piece is what upstream sent at a time: one event or some, never a part of one. Pieces are numbered from 1. They lie in pages, bytes one
after the other and two numbers a piece, so that a recording takes hardly more memory than what it holds, however many read it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import accumulate, islice
from typing import Final, Protocol

PAGE: Final = 16 * 1024
"""Bytes from which on a page takes no more pieces."""

PIECES: Final = 256
"""Pieces, likewise: until they are laid together each takes 70 bytes more."""

PER_PIECE: Final = 8
"""Bytes that a piece takes besides its own: where it ends, and when it came."""

PER_PAGE: Final = 512

AHEAD: Final = 2048
"""Bytes of memory that are taken at a time: a piece that finds room in them costs nothing but itself."""


def room_for(count: int) -> int:
    """A limit under which *count* bytes fit, if they come in pieces of 40 or more: with what pages and pieces take besides."""
    return count + count // 4 + AHEAD + PER_PAGE


class Space(Protocol):
    """Memory that all recordings share."""

    def take(self, count: int) -> bool:
        """*count* bytes more; ``False``: there are none left, and nothing was taken."""

    def give(self, count: int) -> None:
        """Back."""


class Page:
    """Pieces ``first`` to ``last``, of which those that came lately are not packed yet."""

    __slots__ = ("data", "ends", "first", "next", "pieces", "size", "taken", "times")

    def __init__(self, first: int) -> None:
        self.first = first
        self.taken = 0  # bytes of the shared memory
        self.size = 0  # bytes that its pieces may take
        self.data: bytes = b""
        self.ends = array("I")
        self.times = array("f")
        self.pieces: list[bytes] = []
        self.next: Page | None = None

    @property
    def last(self) -> int:
        return self.first + len(self.ends) + len(self.pieces) - 1

    def pack(self) -> None:
        """Lay them one after the other. Done for many at a time: growing the page with each piece takes longer."""
        if self.pieces:
            before = len(self.data)
            self.data = b"".join((self.data, *self.pieces))
            self.ends.extend(islice(accumulate(map(len, self.pieces), initial=before), 1, None))
            self.pieces.clear()

    def begin_of(self, number: int) -> int:
        """Where this piece begins; one more than the last: where that ends."""
        index = number - self.first
        return self.ends[index - 1] if index else 0


class Recording:
    """Append-only, bounded, and forgetful at its beginning where it must be.

    :param limit: the most bytes it may take (:attr:`size`). From then on it is :attr:`torn`: it forgets what came first.
    :param space: what it takes its memory from.
    :ivar first: that of the first piece that is still there; ``last + 1`` if there is none.
    :ivar torn: it is not whole any more: no new reader can begin at its beginning.
    """

    __slots__ = ("_began", "_full", "_head", "_limit", "_page", "_pieces", "_room", "_space", "_times", "size", "torn")

    def __init__(self, limit: int, space: Space) -> None:
        self._limit = limit
        self._full = min(PAGE, limit // 4)  # what is forgotten at a time is not all there is
        self._space = space
        self._head = self._begin_page(1)
        self._began = 0.0
        self.size = 0
        self.torn = False

    @property
    def first(self) -> int:
        return self._head.first

    @property
    def last(self) -> int:
        """The number of the last piece; 0 if there is none."""
        return self._page.last

    @property
    def half_full(self) -> bool:
        """There is enough in it for a reader who is behind."""
        return self.torn or 2 * self.size >= self._limit

    @property
    def held(self) -> int:
        """Bytes of the pieces that are there. Counted: not for every piece."""
        return sum(len(page.data) + sum(map(len, page.pieces)) for page in self.pages())

    def append(self, piece: bytes, now: float, *, needed: bool = False) -> None:
        """Write down *piece* (not empty), which came at *now* (seconds on any clock).

        :param needed: somebody has yet to read it, so it is kept even if there is no memory for it. Who says so reads no more from
            upstream before that is done.
        """
        # What an event touches here counts: with hundreds of streams in turn, nothing of one is in the processor's cache any more.
        count = len(piece) + PER_PIECE
        if count > self._room and not self._make_place(count, now, needed):
            return
        self._room -= count
        self._pieces.append(piece)
        self._times.append(now - self._began)

    def charge(self, count: int) -> bool:
        """*count* bytes more for what is kept along with it; ``False``: there are none left."""
        taken = self._space.take(count)
        if taken:
            self._page.taken += count
            self.size += count
        return taken

    def pass_by(self) -> None:
        """A piece that everybody has read and nobody needs, of a torn recording."""
        self._drop_all(without=1)

    def _begin_page(self, first: int) -> Page:
        """The page that is written to from now on."""
        page = self._page = Page(first)
        self._pieces, self._times = page.pieces, page.times
        self._room = 0  # bytes that the next pieces may take
        return page

    def _make_place(self, count: int, now: float, needed: bool) -> bool:
        """Make room for *count* more bytes; ``False``: there is no memory for them, and nobody needs the piece."""
        page = self._page
        if not page.last:
            self._began = now
        if page.size >= self._full or len(page.pieces) >= PIECES:
            page = self._turn()
        missing = count - self._room
        ahead = max(missing, AHEAD)
        besides = 0 if page.size else PER_PAGE
        if self._take(ahead + besides):
            missing = ahead
        elif not self._take(missing + besides):
            if needed:
                self.torn = True
            elif not self._forget_for(missing + besides):
                self._drop_all()
                page, missing = self._page, count
                if not self._take(missing + PER_PAGE):
                    self._drop_all(without=1)
                    return False
        page.size += missing
        self._room += missing
        return True

    def _turn(self) -> Page:
        page = self._page
        page.pack()
        self._give(page, self._room)
        page.next = self._begin_page(page.last + 1)
        return page.next

    def _take(self, count: int) -> bool:
        taken = self.size + count <= self._limit and self._space.take(count)
        if taken:
            self._page.taken += count
            self.size += count
        return taken

    def _forget_for(self, count: int) -> bool:
        """Let go of what came first until *count* more bytes fit, and take them; ``False``: they never do."""
        self.torn = True
        while self._head is not self._page:
            self._drop()
            if self._take(count):
                return True
        return False

    def _drop(self) -> None:
        head = self._head
        assert head.next is not None
        self._head = head.next
        self._give(head, head.taken)

    def _drop_all(self, without: int = 0) -> None:
        """Let go of everything there is, and of so many pieces that are not written down."""
        for page in self.pages():
            self._give(page, page.taken)
        self._head = self._begin_page(self.last + without + 1)

    def _give(self, page: Page, count: int) -> None:
        self.size -= count
        self._space.give(count)
        page.taken -= count

    def close(self) -> None:
        """Nobody reads it any more: its memory is given back. What a reader still holds of it stays readable. Idempotent."""
        self.torn = True
        if not self.size and self.first > self.last:
            return
        self._drop_all()

    def read(self, after: int, most: int) -> tuple[bytes, int]:
        """What comes after piece number *after*, at least one piece and then not more than *most* bytes, never past its page; and the
        number of its last piece. Nothing and *after* at the end.

        :raises LookupError: what comes next is forgotten; :attr:`first` is what there is.
        """
        page = self._find(after + 1)
        if page is None:
            return b"", after
        begin = page.begin_of(after + 1)
        if len(page.data) - begin <= most:
            return page.data[begin:], page.last
        last = after + 1
        while last < page.last and page.ends[last + 1 - page.first] - begin <= most:
            last += 1
        return page.data[begin : page.ends[last - page.first]], last

    def pieces(self, after: int, most: int) -> list[bytes]:
        """As :meth:`read`, one by one."""
        page = self._find(after + 1)
        if page is None:
            return []
        at, begin = after + 1, page.begin_of(after + 1)
        last = page.last
        out: list[bytes] = []
        left = most
        while at <= last and (left > 0 or not out):
            end = page.ends[at - page.first]
            out.append(page.data[begin:end])
            left -= end - begin
            begin, at = end, at + 1
        return out

    def _find(self, number: int) -> Page | None:
        """The page on which that piece is; ``None``: there is none yet."""
        if number > self.last:
            return None
        if number < self._head.first:
            raise LookupError(number)
        page = self._page
        page.pack()
        if number >= page.first:
            return page
        for page in self.pages():  # a hundred at most in a recording of 1 MiB
            if number <= page.last:
                return page
        raise AssertionError(number)

    def pages(self) -> Iterator[Page]:
        page: Page | None = self._head
        while page is not None:
            yield page
            page = page.next

    def joined(self) -> tuple[bytes, array[int], array[float]]:
        """All of it: the bytes, where each piece ends, when it came in seconds since the first."""
        self._page.pack()
        ends, times = array("I"), array("f")
        before = 0
        for page in self.pages():
            ends.extend(array("I", [before + end for end in page.ends]))
            times.extend(page.times)
            before += len(page.data)
        return b"".join(page.data for page in self.pages()), ends, times
