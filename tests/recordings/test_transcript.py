"""A stored answer read by the numbers of its events: byte for byte, as far as it is due, and only as long as it is stored."""

from __future__ import annotations

from array import array
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse.recordings.entry import Entry
from txsse.recordings.numbering import Splitter
from txsse.recordings.store import Quota
from txsse.recordings.transcript import Transcript

EVENTS = [b"data: %d\n\n" % number for number in range(1, 6)]
EACH = len(EVENTS[0])


def entry_of(*pieces: bytes, dialect: str = "openai-chat", streamed: bool = True) -> Entry:
    ends = array("I", accumulate(map(len, pieces)))
    return Entry(b"k" * 32, "r", dialect, streamed, [], b"".join(pieces), ends, array("f", [0.0] * len(pieces)), 0.0, 60.0)


def transcript(entry: Entry, due: list[float] | None = None) -> Transcript:
    return Transcript(entry, Quota(1 << 20), None if due is None else array("d", due))


def all_of(told: Transcript, most: int) -> bytes:
    parts, after = [], 0
    while (found := told.read(after, most))[0]:
        parts.append(found[0])
        assert found[1] > after
        after = found[1]
    assert found == (b"", after)
    return b"".join(parts)


@pytest.mark.parametrize(
    ("after", "most", "events"),
    [(0, 1, 1), (0, EACH, 1), (0, 2 * EACH, 2), (0, 2 * EACH + 1, 2), (2, 100, 3), (4, 1, 1), (5, 100, 0)],
)
def test_it_is_read_from_any_event_on(after: int, most: int, events: int) -> None:
    entry = entry_of(b"".join(EVENTS[:3]), b"".join(EVENTS[3:]))
    told = transcript(entry)
    wanted = EVENTS[after : after + events]
    assert told.read(after, most) == (b"".join(wanted), after + events)
    assert told.pieces(after, most) == wanted
    assert (told.first, told.last, told.open) == (1, 5, False)


def test_what_stands_between_is_read_and_is_no_event() -> None:
    body = b"retry: 5\n\ndata: 1\n\n: c\n\nevent: x\ndata: 2\n\nretry: 6\n\n"
    entry = entry_of(body)
    told = transcript(entry)
    assert (all_of(told, 1), all_of(told, 1000), told.last) == (body, body, 2)
    assert told.pieces(0, 1000) == [b"data: 1\n\n", b"event: x\ndata: 2\n\n"]
    assert told.pieces(1, 1000) == [b"event: x\ndata: 2\n\n"]


@pytest.mark.parametrize(("tail", "is_open"), [(b"data: [DONE]", True), (b"data: [DONE]\n", True), (b"retry: 5\n", False), (b"", False)])
def test_a_last_event_without_an_end(tail: bytes, is_open: bool) -> None:
    entry = entry_of(EVENTS[0] + tail)
    told = transcript(entry)
    assert (told.last, told.open) == (1 + is_open, is_open)
    assert all_of(told, 1) == EVENTS[0] + tail


def test_lines_and_documents() -> None:
    lines = entry_of(b'{"a":1}\n{"b":2}\n', dialect="ollama")
    told = transcript(lines)
    assert (told.last, told.read(1, 100), told.open) == (2, (b'{"b":2}\n', 2), False)
    document = entry_of(b'{"a":', b"1}", streamed=False)
    told = transcript(document)
    assert (told.last, told.read(0, 100), told.open) == (2, (b'{"a":1}', 2), False)


@pytest.mark.parametrize(
    ("body", "own"),
    [(b"data: id: 1\n\n", False), (b"id: 1\ndata: 1\n\n", True), (b"data: 1\nid: 1\n\n", True), (b"data: 1\rid: 1\r\r", True)],
)
def test_ids_of_upstreams(body: bytes, own: bool) -> None:
    entry = entry_of(body)
    assert transcript(entry).own_ids is own


def test_what_is_not_due_has_not_come() -> None:
    entry = entry_of(*EVENTS)
    told = transcript(entry, [0.0, 1.0, 1.0, 2.0, 9.0])
    assert (told.last, told.read(0, 100)) == (0, (b"", 0))
    assert not told.advance(0.0)
    assert (told.last, told.next_due, told.last_due) == (1, 1.0, 9.0)
    assert told.read(0, 100) == (EVENTS[0], 1)
    assert not told.advance(1.0)
    assert (told.last, told.pieces(1, 100), told.read(3, 100)) == (3, EVENTS[1:3], (b"", 3))
    assert told.advance(9.0)
    assert all_of(told, 100) == b"".join(EVENTS)
    assert transcript(entry).advance(0.0)


def test_it_does_not_keep_what_nobody_reads() -> None:
    entry: Entry | None = entry_of(*EVENTS)
    assert entry is not None
    told = transcript(entry)
    told.hold()
    entry = None
    assert not told.lost
    assert told.read(0, 100)[1] == 5
    told.release()
    assert told.lost


def test_but_what_nobody_else_has_until_it_is_closed_and_that_counts() -> None:
    quota = Quota(1 << 20)
    entry: Entry | None = entry_of(*EVENTS)
    assert entry is not None
    size = entry.size
    told = Transcript(entry, quota, own=True)
    assert quota.used == told.size == size, "from the beginning"
    told.hold()
    entry = None
    told.release()
    assert not told.lost
    assert told.charge(100)
    assert quota.used == told.size == 100 + size
    told.hold()
    told.close()
    told.close()
    assert (quota.used, told.size, told.read(0, 100)[1]) == (0, 0, 5), "who reads it reads on"
    told.release()
    assert told.lost


def test_where_there_is_no_memory_for_that_it_stays_while_somebody_reads_it() -> None:
    entry: Entry | None = entry_of(*EVENTS)
    assert entry is not None
    quota = Quota(entry.size - 1)
    told = Transcript(entry, quota, own=True)
    told.hold()
    entry = None
    assert (quota.used, told.size, told.lost) == (0, 0, False)
    told.release()
    assert told.lost
    told.close()
    assert quota.used == 0


def test_what_is_stored_does_not_count_twice() -> None:
    quota = Quota(150)
    entry = entry_of(*EVENTS)
    told = Transcript(entry, quota)
    assert told.charge(100)
    assert quota.used == told.size == 100
    assert not told.charge(100)
    assert told.size == 100


PARTS = [*EVENTS[:2], b": c\n\n", b"retry: 5\n\n", b"event: x\r\ndata: y\r\n\r\n", b"id: 7\n\n", b"\n"]


@given(
    parts=st.lists(st.sampled_from(PARTS), max_size=10),
    tail=st.sampled_from([b"", b"data: 1", b": c", b"x"]),
    bom=st.sampled_from([b"", b"\xef\xbb\xbf"]),
    most=st.integers(1, 60),
)
def test_it_is_always_all_of_it(parts: list[bytes], tail: bytes, bom: bytes, most: int) -> None:
    body = bom + b"".join([*parts, tail])
    entry = entry_of(body)
    told = transcript(entry)
    assert all_of(told, most) == body
    events: list[bytes] = []
    while pieces := told.pieces(len(events), most):
        events += pieces
    assert events == Splitter().feed(body)[0]
