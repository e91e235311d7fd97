"""Filters over events and lines: how the pieces are spread over the calls makes no difference."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from txsse.wire.boundary import BoundaryTracker
from txsse.wire.lines import LineTracker
from txsse.wire.pieces import EventFilter, LineFilter, PieceFilter


class Events(EventFilter):
    """Drops pieces with a ``-`` in their first ten bytes and marks those with a ``+``; remembers what it was asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[bytes, bool]] = []

    def rewrite(self, piece: bytes, *, whole: bool) -> bytes:
        self.asked.append((piece, whole))
        return b"" if b"-" in piece[:10] else piece.replace(b"+", b"++", 1)


class Lines(LineFilter):
    """The same for lines."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[bytes, bool]] = []

    def rewrite(self, piece: bytes, *, whole: bool) -> bytes:
        self.asked.append((piece, whole))
        return b"" if b"-" in piece[:10] else piece.replace(b"+", b"++", 1)


def test_the_pieces_of_an_event_stream() -> None:
    events = Events()
    stream = b": one\n:two\r\n\ndata: a\ndata: b\n\n\r\nid: 1\rdata\r\r: three\rdata: c\r\n: inside\r\n\r\n"
    assert events(stream) == stream
    assert [piece for piece, _ in events.asked] == [
        b": one\n",
        b":two\r\n",
        b"\n",
        b"data: a\ndata: b\n\n",
        b"\r\n",
        b"id: 1\rdata\r\r",
        b": three\r",
        b"data: c\r\n: inside\r\n\r\n",
    ]
    assert all(whole for _, whole in events.asked)


def test_a_beginning_is_asked_about_alone_and_its_rest_follows() -> None:
    events = Events()
    assert events(b"data: a\n\ndata: +long") == b"data: a\n\ndata: ++long"
    assert events(b"+++\n") == b"+++\n"
    assert events(b"id: -\n\n: +\ndata: +\n\n") == b"id: -\n\n: ++\ndata: ++\n\n"
    assert events.asked == [(b"data: a\n\n", True), (b"data: +long", False), (b": +\n", True), (b"data: +\n\n", True)]


def test_the_rest_of_a_dropped_beginning_is_dropped() -> None:
    events = Events()
    assert events(b"data: -lo") == b""
    assert events(b"ng\n") == b""
    assert events(b"\ndata: a\n\n") == b"data: a\n\n"


@pytest.mark.parametrize(
    "cut", ["data: -x\r|\n\r|\n", "data: -x\r\n\r|\n", "data: -x\r\n|\r\n", "data: -x\n\r|\n", "data: -x\r\r|\n", ": -\r|\n"]
)
def test_a_line_end_cut_in_two_goes_with_its_line(cut: str) -> None:
    reads = cut.encode().split(b"|")
    events = Events()
    assert b"".join(map(events, [*reads, b"data: a\n\n"])) == b"data: a\n\n"
    kept = Events()
    reads = [read.replace(b"-", b"y") for read in reads]
    assert b"".join(map(kept, [*reads, b"data: a\n\n"])) == b"".join(reads) + b"data: a\n\n"


PARTS = st.sampled_from(
    (b"\n", b"\r\n", b"\r", b"\n\n", b"data: a", b"data: -", b"data: +", b": +", b":-", b"id: 1", b"x" * 12, b"-", b"+")
)


def through(make: type[Events] | type[Lines], reads: list[bytes], hold_bytes: int) -> tuple[bytes, list[bytes]]:
    """What comes out of a tracker and a filter behind it, and what the tracker let through."""
    tracker = LineTracker(hold_bytes) if make is Lines else BoundaryTracker(hold_bytes)
    let_through = [data for data in (*map(tracker.feed, reads), tracker.end()) if data]
    piece_filter: PieceFilter = make()
    return b"".join(map(piece_filter, let_through)), let_through


@settings(max_examples=400)
@given(make=st.sampled_from((Events, Lines)), reads=st.lists(st.lists(PARTS, max_size=6).map(b"".join), max_size=8))
def test_cuts_at_boundaries_make_no_difference(make: type[Events] | type[Lines], reads: list[bytes]) -> None:
    stream = b"".join(reads)
    assert through(make, reads, 1 << 16)[0] == through(make, [stream], 1 << 16)[0]


@settings(max_examples=400)
@given(
    make=st.sampled_from((Events, Lines)),
    reads=st.lists(st.lists(PARTS, max_size=6).map(b"".join), max_size=8),
    hold_bytes=st.integers(8, 24),
)
def test_nor_do_cuts_inside_a_long_piece(make: type[Events] | type[Lines], reads: list[bytes], hold_bytes: int) -> None:
    """The marks stand in the first ten bytes or do not matter, so the beginning alone decides as the whole piece would."""
    reads = [read.replace(b"+", b"y") for read in reads]
    out, let_through = through(make, reads, hold_bytes)
    if all(len(piece) > 10 or whole for piece, whole in asked_of(make, let_through)):
        assert out == through(make, [b"".join(reads)], 1 << 16)[0]


def asked_of(make: type[Events] | type[Lines], let_through: list[bytes]) -> list[tuple[bytes, bool]]:
    piece_filter = make()
    for data in let_through:
        piece_filter(data)
    return piece_filter.asked


def test_a_long_piece_in_single_bytes_costs_linear_time() -> None:
    events = Events()
    events(b"data: ")
    began = time.process_time()
    for _ in range(200_000):
        events(b"x")
    assert time.process_time() - began < 2
    assert events(b"\n\n") == b"\n\n"


def test_many_events_cost_linear_time() -> None:
    events = Events()
    began = time.process_time()
    assert len(events(b"data: x\n" * 200_000 + b"\n")) == 1_600_001
    assert len(events(b"data: x\n\n" * 100_000)) == 900_000
    assert time.process_time() - began < 2
