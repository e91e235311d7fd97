"""The line tracker against a slow, obvious reference, and what it owes to Ollama's streams."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from txsse.wire.lines import LineTracker


class Reference:
    """The same contract, said with the whole stream in hand."""

    def __init__(self, hold_bytes: int) -> None:
        self.hold_bytes = hold_bytes
        self.fed = b""
        self.written = 0
        self.raw = False

    def feed(self, data: bytes) -> bytes:
        self.fed += data
        whole = self.fed.rfind(b"\n") + 1
        if whole > self.written:
            self.raw = False
        tail = self.fed[max(whole, self.written) :]
        if self.raw or len(tail) > self.hold_bytes:
            self.raw, upto = True, len(self.fed)
        else:
            upto = len(self.fed) if tail and not tail.strip(b" \t") else max(whole, self.written)
        out, self.written = self.fed[self.written : upto], upto
        return out


SNIPPETS = st.sampled_from((b"\n", b"\r\n", b" ", b"\r", b'{"a":1}', b'{"done":true}\n', b"x" * 9))
READS = st.lists(st.lists(SNIPPETS, max_size=5).map(b"".join), max_size=14)


@given(READS, st.integers(0, 12))
@example([b"x" * 9, b"\n", b" "], 5)
@example([b"x" * 9, b"x\n"], 5)
def test_it_does_what_the_obvious_reference_does(reads: list[bytes], hold_bytes: int) -> None:
    tracker, reference = LineTracker(hold_bytes), Reference(hold_bytes)
    for data in reads:
        assert tracker.feed(data) == reference.feed(data)
        assert tracker.raw is reference.raw
        assert tracker.at_boundary is not reference.raw
        assert tracker.held == len(reference.fed) - reference.written <= hold_bytes
    assert tracker.end() == reference.fed[reference.written :]
    assert tracker.held == 0


@given(READS, st.integers(0, 40))
def test_what_comes_out_is_what_went_in(reads: list[bytes], hold_bytes: int) -> None:
    tracker = LineTracker(hold_bytes)
    assert b"".join([*map(tracker.feed, reads), tracker.end()]) == b"".join(reads)


@pytest.mark.parametrize("line", [b'{"done":false}\n', b'{"done":false}\r\n', b'{}\n{"a":1}\n', b"\n"])
def test_a_read_of_whole_lines_is_handed_on_itself(line: bytes) -> None:
    tracker = LineTracker(64)
    assert tracker.feed(line) is line
    assert tracker.at_boundary


def test_a_line_is_kept_back_until_it_is_whole_and_a_blank_may_go_before_it() -> None:
    tracker = LineTracker(64)
    assert tracker.feed(b'{"a":1}\n{"b"') == b'{"a":1}\n'
    assert (tracker.held, tracker.at_boundary) == (4, True)
    assert tracker.feed(b":2}") == b""
    assert tracker.feed(b"\r\n{") == b'{"b":2}\r\n'
    assert tracker.end() == b"{"
    assert not tracker.at_boundary


def test_blanks_of_a_proxy_behind_us_pass_at_once() -> None:
    tracker = LineTracker(64)
    assert tracker.feed(b" ") == b" "
    assert tracker.feed(b" ") == b" "
    assert tracker.at_boundary
    assert tracker.feed(b'{"a":1}\n ') == b'{"a":1}\n '
    assert tracker.feed(b' {"b"') == b""
    assert tracker.feed(b":2}\n") == b' {"b":2}\n'


def test_a_line_over_the_bound_goes_out_raw_until_its_end() -> None:
    tracker = LineTracker(8)
    assert tracker.feed(b"12345678") == b""
    assert tracker.feed(b"9") == b"123456789"
    assert (tracker.raw, tracker.at_boundary, tracker.held) == (True, False, 0)
    assert tracker.feed(b"more") == b"more"
    assert tracker.feed(b"!\n{") == b"!\n"
    assert (tracker.raw, tracker.at_boundary, tracker.held) == (False, True, 1)


def test_after_an_unfinished_raw_line_nothing_more_may_be_said() -> None:
    tracker = LineTracker(2)
    tracker.feed(b"1234")
    assert tracker.end() == b""
    assert not tracker.at_boundary


@pytest.mark.parametrize("first", [b'{"a":"', b"  {"])
def test_an_endless_line_in_single_bytes_costs_linear_time(first: bytes) -> None:
    tracker = LineTracker(1 << 20)
    tracker.feed(first)
    began = time.process_time()
    for _ in range(400_000):
        tracker.feed(b"x")
    # Copying the tail at each read would move 80 GB.
    assert time.process_time() - began < 4
    assert tracker.held == 400_000 + len(first)
