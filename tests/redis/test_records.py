"""What is kept of a shared stream, as values."""

from __future__ import annotations

from array import array

from txsse.redis.records import Batch


def test_a_batch_comes_apart() -> None:
    batch = Batch(3, b"onetwothree", array("I", [3, 6, 11]))
    assert batch.pieces() == [b"one", b"two", b"three"]
    assert batch.after(3).pieces() == [b"two", b"three"]
    assert Batch.unpack(batch.pack()).pieces() == batch.pieces()
