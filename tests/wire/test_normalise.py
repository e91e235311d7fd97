"""Which of upstream's keepalives change, into what, and that everything else does not."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from txsse.wire.boundary import BoundaryTracker
from txsse.wire.eventstream import Event, EventStreamDecoder
from txsse.wire.lines import LineTracker
from txsse.wire.normalise import EventNormaliser, LineNormaliser

EVENT = b'data: {"a":1}\n\n'


def strict(frames: bool = False) -> EventNormaliser:
    """One that drops events called ``ping`` and events without text."""
    return EventNormaliser(frames=frames, is_ping=lambda it: not it.data or it.type == "ping", suspects=(b"event: ping",))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (b": ping\n\n", b": txsse\n"),
        (b": ping\n", b": txsse\n"),
        (b":ping\n\n", b": txsse\n"),
        (b": PING\r\n\r\n", b": txsse\r\n"),
        (b": ping - 2026-11-20 10:00:00.123456\r\n\r\n", b": txsse\r\n"),
        (b": ping\r\r", b": txsse\r"),
        (b":\n\n", b": txsse\n"),
        (b": \t \n\n", b": txsse\n"),
        (b":\n:\n\n\n", b": txsse\n: txsse\n"),
        (b": OPENROUTER PROCESSING\n\n", b": OPENROUTER PROCESSING\n"),
        (b": a:\n: pong: ping\n", b": a:\n: pong: ping\n"),
        (b"id: 3\r:\r: ping\rdata: :\r\r", b"id: 3\r: txsse\r: txsse\rdata: :\r\r"),
        (b"event: ping\n\n", b""),
        (b"event: ping\nid: 7\nretry: 3000\n: x\n\n", b"id: 7\nretry: 3000\n"),
        (b"retry: 3000\n\n", b"retry: 3000\n"),
        (b"retry: 3000\r\n\r\nid\n\n", b"retry: 3000\r\nid\n"),
        (b"ids: 3\rretry: 1\r\r", b"retry: 1\r"),
        (b"\n", b""),
        (b"\r\n\n", b""),
    ],
)
def test_what_breaks_clients_is_rewritten_or_dropped(theirs: bytes, ours: bytes) -> None:
    assert EventNormaliser()(theirs + EVENT) == ours + EVENT
    assert EventNormaliser()(EVENT + theirs + EVENT) == EVENT + ours + EVENT


@pytest.mark.parametrize(
    "stream",
    [
        EVENT,
        b"data: a\r\n\r\n",
        b"id: 1\ndata: a\n: inside\ndata: b\n\n",
        b"event: ping\ndata: {}\n\n",
        b"data:\n\n",
        b"data\n\n",
        b"\xef\xbb\xbfdata: x\n\n",
        b": txsse\n",
        b": keep-alive\n",
        b"data: : ping\n\n",
    ],
)
def test_everything_else_passes(stream: bytes) -> None:
    assert EventNormaliser()(stream) == stream


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (b"data:\n\n", b""),
        (b"data\r\n\r\n", b""),
        (b"id: 3\ndata: \n\n", b"id: 3\n"),
        (b'event: ping\ndata: {"type":"ping"}\n\n', b""),
        (b"\xef\xbb\xbfdata:\n\n", b""),
        (b"data: ping\n\n", b"data: ping\n\n"),
    ],
)
def test_a_dialect_knows_more_that_stands_for_nothing(theirs: bytes, ours: bytes) -> None:
    assert strict()(theirs + EVENT) == ours + EVENT


def test_for_clients_that_split_at_blank_lines_comments_keep_theirs_until_an_id_was_seen() -> None:
    normaliser = strict(frames=True)
    assert normaliser(b": ping\n\n: x\n\n\n" + EVENT) == b": txsse\n\n: x\n\n" + EVENT
    assert normaliser(EVENT + b"\n" + EVENT) == EVENT + EVENT
    assert normaliser(b"data: b\nid: 5\n\n:\n\n" + EVENT) == b"data: b\nid: 5\n\n: txsse\n" + EVENT


def test_the_beginning_of_a_long_event_passes_with_its_rest() -> None:
    normaliser = EventNormaliser()
    assert normaliser(b"id: 7\n\nid: 8") == b"id: 7\nid: 8"
    assert normaliser(b"\n") == b"\n"
    assert normaliser(b"data: x\n\n") == b"data: x\n\n"
    assert normaliser(b"\n: ping") == b": ping"
    assert normaliser(b"\n\n") == b"\n"


PARTS = st.sampled_from(
    (
        b"\n",
        b"\r\n",
        b"\r",
        b"\n\n",
        b"\r\n\r\n",
        b": ping",
        b":",
        b": x",
        b"data: a",
        b"data:",
        b"data: ping",
        b"data: {}",
        b"event: ping",
        b"event: b",
        b"id: 1",
        b"id",
        b"retry: 9",
        b"other",
    )
)
READS = st.lists(st.lists(PARTS, max_size=6).map(b"".join), max_size=8)


def normalised(reads: list[bytes], frames: bool) -> bytes:
    tracker, normaliser = BoundaryTracker(1 << 16), strict(frames)
    return b"".join(normaliser(tracker.feed(data)) for data in reads)


@settings(max_examples=400)
@given(reads=READS, frames=st.booleans())
def test_cuts_make_no_difference(reads: list[bytes], frames: bool) -> None:
    assert normalised(reads, frames) == normalised([b"".join(reads)], frames)


@settings(max_examples=400)
@given(reads=READS, frames=st.booleans())
def test_no_event_that_says_something_is_lost_or_changed(reads: list[bytes], frames: bool) -> None:
    stream = b"".join(reads)
    before, after = EventStreamDecoder(), EventStreamDecoder()
    expected = [event for event in before.feed(stream + b"\n\n") if event.data and event.type != "ping"]
    found = after.feed(normalised([stream + b"\n\n"], frames))
    assert [(event.type, event.data, event.id) for event in found] == [(event.type, event.data, event.id) for event in expected]
    if expected and expected[-1].id == before.last_event_id:
        assert after.last_event_id == before.last_event_id


@settings(max_examples=400)
@given(reads=READS)
def test_what_comes_out_breaks_nobody(reads: list[bytes]) -> None:
    out = normalised([b"".join(reads) + b"\n\n"], frames=False)
    has_data = False
    for line in re.split(rb"\r\n?|\n", out)[:-1]:
        assert line not in (b":", b": ping")
        assert line or has_data  # no blank line ends anything but an event with data
        has_data = bool(line) and (has_data or line.startswith(b"data"))


def test_a_normalised_event_is_an_event() -> None:
    decoder = EventStreamDecoder()
    assert decoder.feed(strict()(b"retry: 5\n\nid: 9\nevent: ping\n\n" + b"event: x\ndata: a\n\n")) == [Event("x", "a", "9", 5)]


def test_an_upstream_that_sends_nothing_but_ids_fills_no_memory() -> None:
    normaliser = EventNormaliser()
    for number in range(10_000):
        assert normaliser(b"id: %d\n\n" % number) == b""
    out = normaliser(EVENT)
    assert out.endswith(b"id: 9999\n" + EVENT)
    assert len(out) < 5000


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (b'{"a":1}\n', b'{"a":1}\n'),
        (b"\n", b""),
        (b"\r\n", b""),
        (b" \t\n", b" \t"),
        (b"{}\n", b""),
        (b" {} \r\n", b" "),
        (b": ka\n\n", b""),
        (b'{"a"', b'{"a"'),
        (b' {"a":{}}\r\n', b' {"a":{}}\r\n'),
        (b"[]\n", b"[]\n"),
        (b" ", b" "),
    ],
)
def test_lines_without_a_message_are_dropped(theirs: bytes, ours: bytes) -> None:
    assert LineNormaliser()(theirs) == ours


@given(reads=st.lists(st.lists(st.sampled_from((b"\n", b"\r\n", b"{}", b'{"a":1}', b": x", b" ")), max_size=5).map(b"".join), max_size=8))
def test_cuts_make_no_difference_to_lines(reads: list[bytes]) -> None:
    def through(reads: list[bytes]) -> bytes:
        tracker, normaliser = LineTracker(1 << 16), LineNormaliser()
        return b"".join(normaliser(tracker.feed(data)) for data in reads) + normaliser(tracker.end())

    stream = b"".join(reads)
    assert through(reads) == through([stream])
