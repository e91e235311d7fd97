"""Where events end is found no further than somebody asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse.recordings.marks import Marks
from txsse.recordings.numbering import Splitter, ends_of_events, ends_of_lines


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
