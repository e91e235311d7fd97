"""What is stored of a stream: its events, without upstream's signs of life."""

from __future__ import annotations

from array import array
from itertools import accumulate

import attrs
import pytest

from tests.recordings.entries import an_entry
from txsse.recordings.forms import uncommented


@pytest.mark.parametrize(
    ("pieces", "left"),
    [
        ([b"data: 1\n\n: c\n\n", b"data: 2\n\n"], b"data: 1\n\ndata: 2\n\n"),
        ([b"data: 1\n\n: c\r\n\r", b"\ndata: 2\n\n"], b"data: 1\n\ndata: 2\n\n"),
        ([b"data: 1\r\n\r", b"\n: c\r\n\r", b"\ndata: 2\r\n\r\n"], b"data: 1\r\n\r\ndata: 2\r\n\r\n"),
    ],
)
def test_a_comment_goes_with_its_line_end_wherever_it_was_cut(pieces: list[bytes], left: bytes) -> None:
    entry = attrs.evolve(
        an_entry(),
        body=b"".join(pieces),
        ends=array("I", accumulate(map(len, pieces))),
        times=array("f", range(len(pieces))),
        dialect="sse",
    )
    stored = uncommented(entry)
    assert stored.body == left
    assert stored.ends[-1] == len(left)
