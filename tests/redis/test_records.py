"""What is kept of a shared stream, as values."""

from __future__ import annotations

from array import array

import pytest

from txsse.redis.records import Batch, Head


def test_a_batch_comes_apart() -> None:
    batch = Batch(3, b"onetwothree", array("I", [3, 6, 11]))
    assert batch.pieces() == [b"one", b"two", b"three"]
    assert batch.after(3).pieces() == [b"two", b"three"]
    assert Batch.unpack(batch.pack()).pieces() == batch.pieces()


def test_a_head_comes_back_as_it_was() -> None:
    head = Head(206, [(b"Content-Type", b"text/event-stream"), (b"X-Of", b"\xe9")])
    assert Head.unpack(head.pack().encode()) == head


@pytest.mark.parametrize("text", [b"", b"{}", b"null", b"[200]", b"[200,5]", b"[200,[[1,2]]]", b'["x",[]]'])
def test_what_is_no_head_is_not_taken_for_one(text: bytes) -> None:
    with pytest.raises(ValueError):
        Head.unpack(text)
