"""Entries for tests of what keeps them."""

from __future__ import annotations

from array import array

from txsse.recordings.entry import Entry


def key_of(number: int) -> bytes:
    return number.to_bytes(32, "big")


def an_entry(
    number: int = 1, length: int = 100, *, route: str = "chat", stored: float = 0.0, ttl: float = 1e9, fill: bytes = b"x", model: str = "m"
) -> Entry:
    """An entry of one piece, *length* bytes of *fill*."""
    headers = [(b"content-type", b"text/event-stream")]
    return Entry(
        key_of(number), route, "openai", True, headers, fill * length, array("I", [length]), array("f", [0.0]), stored, ttl, model=model
    )
