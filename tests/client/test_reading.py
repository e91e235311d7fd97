from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse.client.reading import Comment, StreamReader
from txsse.wire.eventstream import MAX_EVENT_BYTES, Event, EventTooLong

STREAM = b': txsse\nid: 1\ndata: a\n\n:odd\r\nretry: 20\r\nevent: x\r\ndata: b\r\n: txsse {"state":"waking"}\r\rdata: unfinished\n'


@given(st.lists(st.integers(0, len(STREAM)), max_size=10))
def test_events_and_comments_come_in_their_order_however_the_bytes_are_cut(cuts: list[int]) -> None:
    reader = StreamReader()
    edges = [0, *sorted(cuts), len(STREAM)]
    found = [item for index, edge in enumerate(edges[1:]) for item in reader.feed(STREAM[edges[index] : edge])]
    assert found == [
        Comment("txsse"),
        Event("message", "a", "1", None),
        Comment("odd"),
        Comment('txsse {"state":"waking"}'),
        Event("x", "b", "1", 20),
    ]
    assert [item.keepalive for item in found if isinstance(item, Comment)] == [True, False, True]
    assert (reader.last_event_id, reader.retry) == ("1", 20)


def test_a_line_without_an_end_is_refused_in_time() -> None:
    reader = StreamReader()
    with pytest.raises(EventTooLong):
        for _ in range(3):
            reader.feed(b"x" * (MAX_EVENT_BYTES // 2 + 1))


def test_the_id_of_the_connection_before_holds() -> None:
    reader = StreamReader("s.7")
    assert reader.feed(b"data: a\n\n") == [Event("message", "a", "s.7")]
    assert reader.last_event_id == "s.7"
