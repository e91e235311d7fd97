"""What a cache keeps of one answer."""

from __future__ import annotations

from array import array
from functools import cached_property
from typing import Final

import attrs

from txsse.dialects import DIALECTS
from txsse.dialects.usage import Usage
from txsse.recordings.numbering import Marks, ends_of_events, ends_of_lines
from txsse.wire.headers import Headers

OVERHEAD: Final = 1024
"""Bytes that an entry takes besides its pieces: the objects around them, and its place in a store."""

PER_PIECE: Final = 20
"""Bytes that each takes besides what was said: where it ends, when it came, its place in :attr:`Entry.events`, for where streams are kept
an event is a piece, and when it is due in :attr:`Entry.schedules`."""


@attrs.frozen(eq=False)
class Entry:
    """A complete, checked answer of status 200.

    :param key: 32 bytes: what :func:`txsse.recordings.key.make_key` says of the request.
    :param route: the route's name.
    :param dialect: the name of the dialect that the stream speaks.
    :param streamed: it is a stream of events (or of lines), not one JSON document.
    :param headers: the fields of its head that are told again.
    :param body: every byte of it but for comments, as upstream sent it.
    :param ends: where each piece (the events that came together) ends in *body*; unsigned 32 bits each.
    :param times: when it came, in seconds since the first one; 32-bit floats.
    :param stored: Unix time in seconds.
    :param ttl: seconds from then on in which it may be told.
    :param model: the model that answered, "" if unknown.
    """

    key: bytes
    route: str
    dialect: str
    streamed: bool
    headers: Headers
    body: bytes
    ends: array[int]
    times: array[float]
    stored: float
    ttl: float
    usage: Usage | None = None
    model: str = ""

    @cached_property
    def events(self) -> Marks:
        """Where each event in *body* ends, or line; of a document, each piece."""
        if not self.streamed:
            return Marks(iter(self.ends))
        return Marks(ends_of_lines(self.body) if DIALECTS[self.dialect].by_lines else ends_of_events(self.body))

    @cached_property
    def may_hold_ids(self) -> bool:
        """Upstream may have given some of its events ids."""
        body = self.body
        return b"\nid" in body or body.startswith(b"id") or (13 in body and b"\rid" in body)

    @cached_property
    def schedules(self) -> dict[object, tuple[array[int], array[float]]]:
        """By the pace: where what is told at a time ends in *body*, and when it is due. Kept here as all who are told it share it."""
        return {}

    @property
    def size(self) -> int:
        """Bytes of memory that it takes, as the stores reckon."""
        return len(self.body) + PER_PIECE * len(self.ends) + sum(len(name) + len(value) + 100 for name, value in self.headers) + OVERHEAD

    def age(self, now: float) -> float:
        """Seconds since it was stored, at the Unix time *now*; never negative, for clocks are set back."""
        return max(now - self.stored, 0.0)

    def fresh(self, now: float) -> bool:
        return self.age(now) < self.ttl
