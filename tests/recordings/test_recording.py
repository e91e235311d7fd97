"""The list of pieces: whatever is appended comes back, in order and whole, for every reader; and it is never larger than it may be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse.recordings.recording import AHEAD, PAGE, PER_PAGE, PER_PIECE, Recording, room_for


class Space:
    """Bytes that are handed out."""

    def __init__(self, limit: int = 1 << 30) -> None:
        self.limit, self.used = limit, 0

    def take(self, count: int) -> bool:
        if self.used + count > self.limit:
            return False
        self.used += count
        return True

    def give(self, count: int) -> None:
        assert 0 <= count <= self.used
        self.used -= count


def recording(limit: int = 1 << 30, space: Space | None = None) -> Recording:
    return Recording(limit, space or Space())


def read_all(it: Recording, after: int = 0, most: int = 1 << 20) -> bytes:
    out: list[bytes] = []
    while True:
        data, after = it.read(after, most)
        if not data:
            return b"".join(out)
        out.append(data)


def test_it_begins_empty() -> None:
    it = recording()
    assert (it.first, it.last, it.read(0, 10)) == (1, 0, (b"", 0))


def test_what_was_appended_is_read_from_any_place() -> None:
    it = recording()
    for number in range(1, 4):
        it.append(b"data: %d\n\n" % number, number)
    assert read_all(it) == b"data: 1\n\ndata: 2\n\ndata: 3\n\n"
    assert read_all(it, 2) == b"data: 3\n\n"
    assert it.read(0, 10) == (b"data: 1\n\n", 1)
    assert it.read(0, 18) == (b"data: 1\n\ndata: 2\n\n", 2)
    assert it.read(0, 1) == (b"data: 1\n\n", 1)  # one at least
    assert it.read(3, 10) == (b"", 3)


@given(st.lists(st.integers(40, 20_000), max_size=40), st.integers(0, 2000))
def test_there_is_room_for_what_there_is_to_be_room_for(sizes: list[int], short: int) -> None:
    total = sum(sizes) + 40 * short
    it = recording(room_for(total))
    for size in (*sizes, *[40] * short):
        it.append(bytes(size), 0.0)
    assert not it.torn
    assert it.held == total


@given(st.lists(st.binary(min_size=1, max_size=5000), max_size=60), st.integers(1, 40000))
def test_every_reader_gets_everything_once_in_order(pieces: list[bytes], most: int) -> None:
    space = Space()
    it = recording(space=space)
    for number, piece in enumerate(pieces):
        it.append(piece, 10.0 + number)
    assert read_all(it, most=most) == b"".join(pieces)
    size = sum(map(len, pieces)) + PER_PIECE * len(pieces)
    assert size <= space.used == it.size <= size + PER_PAGE * (1 + size // PAGE) + AHEAD or not pieces
    body, ends, times = it.joined()
    assert body == b"".join(pieces)
    assert [body[begin:end] for begin, end in zip([0, *ends], ends, strict=False)] == pieces
    assert list(times) == list(range(len(pieces)))
    it.close()
    assert (space.used, it.read(len(pieces), 10)) == (0, (b"", len(pieces)))


def test_past_its_limit_it_forgets_its_beginning() -> None:
    space = Space()
    it = recording(limit=3 * PAGE, space=space)
    piece = b"x" * 1000
    for number in range(100):
        it.append(piece, number)
        assert space.used == it.size <= 3 * PAGE
    assert it.torn and 1 < it.first < 100 == it.last
    with pytest.raises(LookupError):
        it.read(0, 10)
    assert read_all(it, it.first - 1) == piece * (100 - it.first + 1)


@pytest.mark.parametrize(("limit", "size", "fewest"), [(1024, 300, 1), (4096, 300, 4), (16384, 900, 9)])
def test_what_came_last_is_there_however_little_may_be_kept(limit: int, size: int, fewest: int) -> None:
    it = recording(limit=limit)
    for number in range(200):
        it.append(b"x" * size, number)
        assert it.last - it.first + 1 >= min(fewest, it.last)


def test_a_piece_that_does_not_fit_at_all_is_gone_and_the_next_one_is_there() -> None:
    it = recording(limit=2000)
    it.append(b"a", 0)
    it.append(b"b" * 3000, 1)
    assert (it.first, it.last) == (3, 2) and it.torn
    it.append(b"c", 2)
    assert read_all(it, 2) == b"c"
    with pytest.raises(LookupError):
        it.read(0, 10)


@given(st.lists(st.integers(1, 4000), max_size=80), st.integers(600, 30000), st.integers(600, 30000))
def test_it_takes_no_more_than_it_may_whatever_comes(sizes: list[int], limit: int, room: int) -> None:
    space = Space(room)
    it = recording(limit, space)
    for number, size in enumerate(sizes, 1):
        it.append(bytes([number]) * size, number)
        assert space.used == it.size <= min(limit, room)
        assert it.last == number and it.first <= number + 1
    assert read_all(it, it.first - 1) == b"".join(bytes([n]) * size for n, size in enumerate(sizes, 1) if n >= it.first)
    it.close()
    assert space.used == 0


def test_what_somebody_has_yet_to_read_is_kept_without_memory() -> None:
    space = Space(0)
    it = recording(space=space)
    it.append(b"a", 0, needed=True)
    it.append(b"b", 1, needed=True)
    assert (it.torn, it.size, read_all(it)) == (True, 0, b"ab")
    it.pass_by()
    assert (it.first, it.last, space.used) == (4, 3, 0)


def test_what_is_kept_along_with_it_is_given_back_with_it() -> None:
    space = Space(1000)
    it = recording(space=space)
    it.append(b"data: 1\n\n", 0.0)
    taken = space.used
    assert it.charge(100)
    assert (space.used, it.size) == (taken + 100, taken + 100)
    assert not it.charge(1000)
    assert (space.used, it.size) == (taken + 100, taken + 100)
    it.close()
    assert (space.used, it.size) == (0, 0)
