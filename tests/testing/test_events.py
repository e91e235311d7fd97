from __future__ import annotations

import pytest

from txsse.testing import Event, comments, events


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"data:msg\ndata:msg\n\n:\ndata\n\ndata:end\n\n", [Event("msg\nmsg"), Event(""), Event("end")]),
        (b"\xef\xbb\xbfdata:1\r\n\r\ndata: 2\r\r", [Event("1"), Event("2")]),
        (b"event:a\nid:7\ndata:x\n\ndata:y\n\n", [Event("x", "a", "7"), Event("y", "message", "7")]),
        (b"id:1\x00\nevent:lost\n\ndata:x\n\n", [Event("x")]),
        (b"data:whole\n\ndata:unfinished\n", [Event("whole")]),
        (b"data:whole\n\ndata:unfinished", [Event("whole")]),
        (b"", []),
    ],
)
def test_events_are_dispatched_as_the_standard_says(body: bytes, expected: list[Event]) -> None:
    assert events(body) == expected


def test_comments_are_found_between_and_inside_events() -> None:
    assert comments(b": txsse\n:txsse 2\ndata:1\n: three\n\n: unfinished") == ["txsse", "txsse 2", "three"]
