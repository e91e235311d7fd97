"""The boundary tracker against a slow, obvious reference that looks at one byte after the other."""

from __future__ import annotations

import gc
import itertools
import sys
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from txsse.wire.boundary import BoundaryTracker


class Reference:
    """The same contract, byte by byte. ``where`` is the place after the last byte: boundary, comment, line (its beginning), inside."""

    def __init__(self, hold_bytes: int) -> None:
        self.hold_bytes = hold_bytes
        self.where = "boundary"
        self.after_cr = self.lone_cr = self.raw = False
        self.tail = b""

    def feed(self, data: bytes) -> bytes:
        cut = 0
        self.tail, held = self.tail + data, len(self.tail)
        for offset, byte in enumerate(data, held + 1):
            self.step(byte)
            if self.where == "boundary":
                cut, self.raw = offset, False
        if self.raw:
            cut = len(self.tail)
        elif len(self.tail) - cut > self.hold_bytes:
            cut, self.raw = len(self.tail), True
        out, self.tail = self.tail[:cut], self.tail[cut:]
        return out

    def step(self, byte: int) -> None:
        was_cr, self.after_cr = self.after_cr, byte == 13
        if was_cr and byte == 10:
            return
        self.lone_cr |= was_cr
        if byte in (10, 13):
            self.where = "line" if self.where == "inside" else "boundary"
        elif self.where == "boundary":
            self.where = "comment" if byte == 58 else "inside"
        elif self.where == "line":
            self.where = "inside"

    @property
    def at_boundary(self) -> bool:
        return not self.raw and (bool(self.tail) or not self.after_cr or self.lone_cr)


def cuts(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


SNIPPETS = st.sampled_from(
    (
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"\r\n\r\n",
        b"\r\r",
        b":",
        b": ping\n",
        b": ping\r",
        b":x\r\n",
        b"data: a",
        b"data:b\n\n",
        b"id: 7\n",
        b" ",
        b"x" * 9,
    )
)
READS = st.lists(st.lists(SNIPPETS, max_size=5).map(b"".join) | st.text("\r\n:a", max_size=6).map(str.encode), max_size=14)


@given(READS, st.integers(0, 12))
@example([b"\r", b"\n", b"\n"], 5)
@example([b": a", b"\r", b"\n", b": b\n\n"], 0)
def test_it_does_what_the_obvious_reference_does(reads: list[bytes], hold_bytes: int) -> None:
    tracker, reference = BoundaryTracker(hold_bytes), Reference(hold_bytes)
    for data in reads:
        assert tracker.feed(data) == reference.feed(data)
        assert (tracker.held, tracker.raw) == (len(reference.tail), reference.raw)
        assert tracker.at_boundary == reference.at_boundary
        assert tracker.held <= hold_bytes
    assert tracker.end() == reference.tail
    assert tracker.held == 0


@given(READS, st.integers(0, 40))
def test_what_comes_out_is_what_went_in(reads: list[bytes], hold_bytes: int) -> None:
    tracker = BoundaryTracker(hold_bytes)
    assert b"".join([*map(tracker.feed, reads), tracker.end()]) == b"".join(reads)


SIX_EVENTS = (
    b'data: {"id":"1"}\n\n: ping\ndata: a\r\ndata: b\r\n\r\nid: 3\r\ndata: c\n\nevent: x\ndata: d\r\n\n'
    b"data: e\n\r\n: last comment\r\n\r\ndata: [DONE]\n\n"
)


def test_a_stream_cut_at_every_offset_keeps_its_bytes_and_lets_go_of_whole_events_only() -> None:
    whole = set()
    reference = Reference(1 << 16)
    for at in range(len(SIX_EVENTS)):
        reference.feed(SIX_EVENTS[at : at + 1])
        if reference.where == "boundary":
            whole.add(at + 1)
    for first, second in itertools.combinations(range(0, len(SIX_EVENTS) + 1, 1), 2):
        tracker = BoundaryTracker(1 << 16)
        out = tracker.feed(SIX_EVENTS[:first])
        assert not out or len(out) in whole
        out += tracker.feed(SIX_EVENTS[first:second])
        assert not out or len(out) in whole
        assert out + tracker.feed(SIX_EVENTS[second:]) + tracker.end() == SIX_EVENTS


@pytest.mark.parametrize("size", [1, 2, 3, 37])
def test_small_reads_keep_their_bytes(size: int) -> None:
    tracker = BoundaryTracker(1 << 16)
    assert b"".join(map(tracker.feed, cuts(SIX_EVENTS, size))) == SIX_EVENTS


@pytest.mark.parametrize("event", [b"data: x\n\n", b"data: x\r\n\r\n", b"event: y\ndata: x\n\ndata: z\n\n"])
def test_a_read_of_whole_events_is_handed_on_itself(event: bytes) -> None:
    tracker = BoundaryTracker(64)
    assert tracker.feed(event) is event
    assert tracker.at_boundary


def test_an_event_is_kept_back_until_it_is_whole_and_a_keepalive_may_go_before_it() -> None:
    tracker = BoundaryTracker(64)
    assert tracker.feed(b'data: {"a":') == b""
    assert (tracker.held, tracker.at_boundary) == (11, True)
    assert tracker.feed(b"1}\n") == b""
    assert tracker.feed(b"\ndata: b") == b'data: {"a":1}\n\n'
    assert tracker.end() == b"data: b"


def test_no_keepalive_goes_between_cr_and_lf() -> None:
    tracker = BoundaryTracker(64)
    assert tracker.feed(b"data: a\r") == b""
    assert tracker.at_boundary  # all of it is kept back
    assert tracker.feed(b"\n\r") == b"data: a\r\n\r"
    assert not tracker.at_boundary
    assert tracker.feed(b"\n") == b"\n"
    assert tracker.at_boundary


def test_lone_cr_is_a_boundary_once_the_stream_has_shown_it() -> None:
    tracker = BoundaryTracker(64)
    assert tracker.feed(b"data: a\r\r") == b"data: a\r\r"
    assert tracker.at_boundary  # CR CR: the first of them had no LF
    other = BoundaryTracker(64)
    assert other.feed(b"data: a\n\r") == b"data: a\n\r"
    assert not other.at_boundary
    assert other.feed(b"d") == b""
    assert other.at_boundary


def test_a_comment_with_one_newline_goes_out_at_once() -> None:
    tracker = BoundaryTracker(64)
    assert tracker.feed(b": loading\n") == b": loading\n"
    assert tracker.at_boundary
    assert tracker.feed(b"data: a\n\n: ping\n: po") == b"data: a\n\n: ping\n"
    assert tracker.feed(b"ng\ndata: b\n: inside\n") == b": pong\n"
    assert tracker.held == len(b"data: b\n: inside\n")


def test_an_oversized_event_goes_out_raw_until_the_next_boundary() -> None:
    tracker = BoundaryTracker(8)
    assert tracker.feed(b"data: 12") == b""
    assert tracker.feed(b"3") == b"data: 123"
    assert (tracker.raw, tracker.at_boundary, tracker.held) == (True, False, 0)
    assert tracker.feed(b"45\n") == b"45\n"
    assert tracker.feed(b"\ndata") == b"\n"
    assert (tracker.raw, tracker.at_boundary, tracker.held) == (False, True, 4)


def test_an_oversized_comment_ends_at_its_own_newline() -> None:
    tracker = BoundaryTracker(4)
    assert tracker.feed(b":" + b"x" * 9) == b":" + b"x" * 9
    assert tracker.raw
    assert tracker.feed(b"x\nda") == b"x\n"
    assert (tracker.raw, tracker.held) == (False, 2)


def test_after_an_unfinished_end_nothing_more_may_be_said() -> None:
    tracker = BoundaryTracker(64)
    tracker.feed(b"data: a\n")
    assert tracker.end() == b"data: a\n"
    assert not tracker.at_boundary


def test_a_tracker_that_keeps_nothing_back_is_small() -> None:
    tracker = BoundaryTracker(64)
    for read in (b"data: a\n\n", b"data", b": b\n\n", b"data: c\r\n", b"\r\n"):
        tracker.feed(read)
    assert tracker.held == 0
    assert sys.getsizeof(tracker) < 150 and not hasattr(tracker, "__dict__")
    assert not any(isinstance(each, bytearray) for each in gc.get_referents(tracker))


@pytest.mark.parametrize("first", [b"data: ", b": "])
def test_an_endless_line_in_single_bytes_costs_linear_time_and_no_memory(first: bytes) -> None:
    tracker = BoundaryTracker(1 << 20)
    tracker.feed(first)
    began = time.process_time()
    for _ in range(400_000):
        tracker.feed(b"x")
    # Copying the tail at each read would move 80 GB.
    assert time.process_time() - began < 4
    assert tracker.held == 400_000 + len(first)
