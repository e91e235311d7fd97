"""Events without the comments between them: the events are the same, byte for byte, and no comment is left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse.wire.comments import may_hold_comments, without_comments
from txsse.wire.eventstream import EventStreamDecoder


@pytest.mark.parametrize(
    ("stream", "left"),
    [
        (b"", b""),
        (b"data: 1\n\ndata: 2\n\n", b"data: 1\n\ndata: 2\n\n"),
        (b": ping\n\ndata: 1\n\n", b"data: 1\n\n"),
        (b": ping\ndata: 1\n\n", b"data: 1\n\n"),
        (b"data: 1\n\n: a\n: b\n\n: c\n\ndata: 2\n\n", b"data: 1\n\ndata: 2\n\n"),
        (b"data: 1\n: inside\ndata: 2\n\n", b"data: 1\n: inside\ndata: 2\n\n"),
        (b"data: 1\r\n\r\n: a\r\n\r\ndata: 2\r\n\r\n", b"data: 1\r\n\r\ndata: 2\r\n\r\n"),
        (b"data: 1\r\r: a\r\rdata: 2\r\r", b"data: 1\r\rdata: 2\r\r"),
        (b"data: 1\n\n: cut off", b"data: 1\n\n"),
        (b"data: 1\n\n\n\ndata: 2\n\n", b"data: 1\n\n\n\ndata: 2\n\n"),
        (b"data: [DONE]\n", b"data: [DONE]\n"),
    ],
)
def test_comments_between_events_go_and_everything_else_stays(stream: bytes, left: bytes) -> None:
    assert without_comments(stream) == left
    assert may_hold_comments(stream) == (b":" in stream.replace(b"data:", b""))


def test_the_second_half_of_a_line_end_is_no_empty_line() -> None:
    assert without_comments(b"\n: a\n\ndata: 1\n\n", after_cr=True) == b"\ndata: 1\n\n"


PARTS = st.sampled_from(
    [b"data: 1", b"data", b": c", b":", b"id: 7", b"event: x", b"\n", b"\r", b"\r\n", b"\n\n", b"\r\n\r\n", b"\n:\n", b"x"]
)


@given(st.lists(PARTS, max_size=30).map(b"".join))
def test_a_parser_sees_the_same_events(stream: bytes) -> None:
    stream += b"\n\n"
    assert EventStreamDecoder().feed(without_comments(stream)) == EventStreamDecoder().feed(stream)
