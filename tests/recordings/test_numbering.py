"""Events one by one with ids of ours: the same whatever the cuts, and read by real clients as exactly the events that there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import httpx
import pytest
from httpx_sse import EventSource
from hypothesis import example, given
from hypothesis import strategies as st
from openai._streaming import SSEDecoder

from txsse import testing
from txsse.recordings.numbering import Marks, Splitter, ends_of_events, ends_of_lines, interleave, number, own_id
from txsse.wire.boundary import BoundaryTracker

SID = b"S" * 22
BOM = b"\xef\xbb\xbf"
VECTORS = {
    "W1": b"data:msg\ndata:msg\n\n:\nfalsefield:msg\n\nfalsefield:msg\nData:data\n\ndata\n\ndata:end\n\n",
    "W2": BOM + b"data:1\n\n" + BOM + b"data:2\n\ndata:3\n\n",
    "W3": BOM + BOM + b"data:1\n\ndata:2\n\ndata:3\n\n",
    "W4": b"data:1\r:\0\n:\r\ndata:2\n:" + b"x" * 2049 + b"\rdata:3\n:data:fail\r:" + b"x" * 2049 + b"\ndata:4\n\n",
    "W5": b"retry:1000\ndata:test1\n\nid:test\ndata:test2",
    "W6": b"data:\n\ndata\ndata\n\ndata:test\n\n",
    "W7": b"event: \ndata:data\n\n",
    "W8": b"event:test\ndata:x\n\ndata:x\n\n",
    "W9": b"data:\0\ndata:  2\rData:1\ndata\0:2\ndata:1\r\0data:4\nda-ta:3\rdata_5\ndata:3\rdata:\r\n data:32\ndata:4\n\n",
    "W10": b"retry:3000\nretry:1000x\ndata:x\n\n",
    "W11": b"retry\ndata:test\n\n",
    "W12": b"retry:03000\ndata:x\n\n",
    "W13": b"data:test\n data\ndata\nfoobar:xxx\njustsometext\n:thisisacommentyay\ndata:test\n\n",
    "W14": b"data:\ttest\rdata: \ndata:test\n\n",
    "W15": b"data:test\r\ndata\ndata:test\r\n\r",
    "W16": b"data:\0\n\n\n\n",
    "W17": b"data:ok\xe2\x80\xa6\n\n",
    "W21": b"data: a\r\n\r\ndata: b\r\n\r\n",
}
SIZES = pytest.mark.parametrize("size", [1, 2, 3, 37, 100_000])
W24 = b"data:1\n\n: OPENROUTER PROCESSING\n\ndata:2\n\n"

EOL = st.sampled_from([b"\n", b"\n", b"\r\n", b"\r"])
LINE = st.sampled_from(
    [b"data: 1", b"data:", b"data", b"data: {", b"event: e", b"event", b": c", b":", b"retry: 5", b"retry", b"x: y", b"da"]
)
STREAM = st.lists(st.tuples(st.one_of(LINE, st.just(b"")), EOL).map(b"".join), max_size=12).map(b"".join)
CUTS = st.lists(st.integers(0, 100), max_size=8)


class Told:
    """A stream as a relay lets it through, piece by piece, told with ids."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        tracker = BoundaryTracker(1 << 20)
        self.splitter = Splitter()
        self.events: list[bytes] = []
        self.body = b""
        for piece in pieces:
            self._let_through(tracker.feed(piece))
        self._let_through(tracker.end())

    def _let_through(self, data: bytes) -> None:
        if data:
            events, between = self.splitter.feed(data)
            told = [number(SID, seq, [event]) for seq, event in enumerate(events, len(self.events) + 1)]
            self.events += events
            self.body += interleave(told, between)

    @property
    def replayed(self) -> bytes:
        return number(SID, 1, self.events)


def cut(stream: bytes, at: Iterable[int]) -> list[bytes]:
    places = [0, *sorted(min(each, len(stream)) for each in at), len(stream)]
    return [stream[begin:end] for begin, end in pairwise(places)]


def sized(stream: bytes, size: int) -> list[bytes]:
    return [stream[at : at + size] for at in range(0, len(stream), size)]


def decoded(stream: bytes) -> list[tuple[str, str]]:
    return [(event.type, event.data) for event in testing.events(stream)]


def ids(count: int) -> list[str]:
    return [f"{SID.decode()}.{seq}" for seq in range(1, count + 1)]


@given(STREAM, CUTS)
@example(b": c\n\ndata: 1\n\n", [4])
@example(b"data: 1\r\r\ndata: 2\r\r", [9])
@example(b": c\r\n\r\ndata: 1\n\n", [5])
def test_any_cut_gives_the_same_events(stream: bytes, at: list[int]) -> None:
    whole, pieces = Told([stream]), Told(cut(stream, at))
    assert testing.events(pieces.body) == testing.events(whole.body)
    assert [each.strip(b"\r\n") for each in pieces.events] == [each.strip(b"\r\n") for each in whole.events]


@given(STREAM, CUTS)
def test_what_is_decoded_is_the_same_with_ids_and_without(stream: bytes, at: list[int]) -> None:
    told = Told(cut(stream, at))
    for body in (told.body, told.replayed):
        assert decoded(body) == decoded(stream)
        assert [event.id for event in testing.events(body)] == ids(len(decoded(stream)))
    assert len(told.events) == len(decoded(stream)) + told.splitter.open


@SIZES
@pytest.mark.parametrize("name", VECTORS)
def test_the_web_platforms_own_cases(name: str, size: int) -> None:
    stream = VECTORS[name]
    told = Told(sized(stream, size))
    for body in (told.body, told.replayed):
        assert decoded(body) == decoded(stream)
        assert [event.id for event in testing.events(body)] == ids(len(decoded(stream)))


@SIZES
def test_w24_a_comment_block_of_upstream_is_glued_to_the_next_event(size: int) -> None:
    told = Told(sized(W24, size))
    assert told.body == b"id: %b.1\ndata:1\n\n: OPENROUTER PROCESSING\nid: %b.2\ndata:2\n\n" % (SID, SID)
    assert told.replayed == b"id: %b.1\ndata:1\n\nid: %b.2\ndata:2\n\n" % (SID, SID)


# Real clients


def by_openai(body: bytes) -> list[tuple[str, str, str | None]]:
    found = SSEDecoder().iter_bytes(iter([body]))
    return [(event.event or "message", event.data, event.id) for event in found]


def by_httpx(body: bytes) -> list[tuple[str, str, str | None]]:
    response = httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=body)
    return [(event.event, event.data, event.id) for event in EventSource(response).iter_sse()]


EVENT = st.sampled_from([b"data: {}", b"event: e\ndata: {}", b"data: 1\ndata: 2", b": c\ndata: [DONE]"])
NOISE = st.sampled_from([b"", b": c\n", b": c\n\n", b"\n", b": c\n: d\n\n\n", b"retry: 5\n\n", b"event: ping\n\n", b": \r\n\r\n"])
NOISY = st.lists(st.tuples(NOISE, EVENT.map(lambda event: event + b"\n\n")).map(b"".join), min_size=1, max_size=6).map(b"".join)


@given(NOISY, CUTS)
@example(W24, [])
def test_clients_that_trip_over_empty_blocks_after_an_id_read_exactly_the_events(stream: bytes, at: list[int]) -> None:
    told, events = Told(cut(stream, at)), testing.events(stream)
    expected = [(event.type, event.data, name) for event, name in zip(events, ids(len(events)), strict=True)]
    for body in (told.body, told.replayed):
        assert by_openai(body) == by_httpx(body) == expected


# Upstream's own ids


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (b"id: a\ndata: 1\n\n", b"a"),
        (b"data: 1\nid:a\n\n", b"a"),
        (b"data: 1\rid:  a\r\r", b" a"),
        (b"id\ndata: 1\n\n", b""),
        (b"id: a\nid: b\ndata: 1\n\n", b"b"),
        (b'data: {"id": 1}\n\n', None),
        (b"data: id: 1\n\n", None),
        (b"ids: a\ndata: 1\n\n", None),
        (b": x\ndata: 1\n\n", None),
        (b"id: a\0\ndata: 1\n\n", None),
        (b"id: a\nid: \0b\ndata: 1\n\n", b"a"),
    ],
)
def test_an_events_own_id(event: bytes, expected: bytes | None) -> None:
    assert own_id(event) == expected
    splitter = Splitter()
    splitter.feed(event)
    assert splitter.own_ids is (expected is not None)


def test_an_id_without_an_event_is_none_of_an_event() -> None:
    splitter = Splitter()
    assert splitter.feed(b"id: 5\n\ndata: 1\n\n") == ([b"data: 1\n\n"], [])
    assert not splitter.own_ids


def test_what_stands_between_keeps_its_place() -> None:
    splitter = Splitter()
    events, between = splitter.feed(b": a\ndata: 1\n\nretry: 5\nevent: x\n\n: b\n\ndata: 2\n\n: c\n")
    assert events == [b"data: 1\n\n", b"data: 2\n\n"]
    assert between == [(0, b": a\n"), (1, b"retry: 5\n"), (1, b": b\n"), (2, b": c\n")]
    assert interleave(events, between) == b": a\ndata: 1\n\nretry: 5\n: b\ndata: 2\n\n: c\n"


def test_the_end_of_an_event_that_has_none_is_noticed() -> None:
    splitter = Splitter()
    assert splitter.feed(b"data: 1\n\ndata: 2") == ([b"data: 1\n\n", b"data: 2"], [])
    assert splitter.open


def test_an_event_with_an_id_of_its_own_keeps_that() -> None:
    own = [b"id: x\ndata: 2\n\n", b"data: 3\nid\n\n"]
    events = [b"data: 1\n\n", *own, b"data: id: 4\n\n"]
    assert number(SID, 7, events, own=True) == number(SID, 7, events[:1]) + own[0] + own[1] + number(SID, 10, events[3:])
    assert number(SID, 7, own[:1], own=True) == own[0]


# -- where events end


def counted(asked: list[int], *ends: int) -> Iterator[int]:
    for end in ends:
        asked.append(end)
        yield end


def test_no_further_than_that() -> None:
    asked: list[int] = []
    marks = Marks(counted(asked, 10, 20, 30, 40, 50))
    assert [*marks.beyond(10)] == asked == [10, 20]
    assert [*marks.first(1)] == [*marks.beyond(15)] == asked == [10, 20]
    assert [*marks.first(3)] == asked == [10, 20, 30]
    assert [*marks.all()] == [*marks.beyond(50)] == [*marks.first(9)] == asked == [10, 20, 30, 40, 50]


@pytest.mark.parametrize(
    ("body", "ends"),
    [
        (b"", []),
        (b"data: 1\n\ndata: 2\n\n", [9, 18]),
        (b"data: 1\r\n\r\ndata: 2\r\rdata: 3\n\n", [11, 20, 29]),
        (b": c\n\nretry: 5\n\ndata: 1\n\nevent: x\n\nevent: y\ndata: 2\n\n: end\n\n", [24, 52]),
        (b"data: 1\n\ndata: no end", [9, 21]),
        (b"data: 1\n\nid: 7\n", [9]),
        (b": nothing\n\n", [11]),
        (b"\xef\xbb\xbfdata: 1\n\n", [12]),
    ],
)
def test_the_ends_of_events(body: bytes, ends: list[int]) -> None:
    assert [*ends_of_events(body)] == ends


@pytest.mark.parametrize(("body", "ends"), [(b"", []), (b"{}\n{}\r\n\n", [3, 7, 8]), (b"{}\n{", [3, 4])])
def test_the_ends_of_lines(body: bytes, ends: list[int]) -> None:
    assert [*ends_of_lines(body)] == ends


@given(st.lists(st.sampled_from([b"data: a\n", b"id: 1\n", b"event: x\r\n", b": c\n", b"\n", b"\r", b"\r\n", b"da", b"data"]), max_size=12))
def test_they_are_where_a_splitter_cuts(parts: list[bytes]) -> None:
    body = b"".join(parts)
    events, _ = Splitter().feed(body)
    ends = [*ends_of_events(body)]
    if events:
        assert len(ends) == len(events)
        assert all(body[:end].endswith(event) for end, event in zip(ends, events, strict=True))
    else:
        assert ends == [len(body)] * bool(body)
