"""Streams for tests of what machines share: whose they are, who reads them, and what must hold for every reader."""

from __future__ import annotations

import itertools
from typing import Any, cast

from twisted.internet.interfaces import IReactorTime

from txsse.redis.followed import Follow
from txsse.redis.outbox import Loss
from txsse.redis.records import Batch, Head, Meta, Terminal
from txsse.testing import eventually

_numbers = itertools.count()


def a_sid() -> str:
    return f"node~{next(_numbers):022d}"


def a_meta(**changes: Any) -> Meta:
    fields: dict[str, Any] = {"headers": [(b"x-model", b"m\xe9")], "started": 1.5, "ttl": 300.0, "status": 200}
    return Meta(**({"route": "chat", "dialect": "openai", "scope": b"\1" * 32, "content_type": b"text/event-stream"} | fields | changes))


def piece_of(number: int, size: int = 0) -> bytes:
    """The piece of that number in every stream of these tests."""
    return b"data: " + str(number).encode().zfill(size) + b"\n\n"


class Keeper:
    """Owns a stream and notes what it hears of it."""

    def __init__(self) -> None:
        self.cancels = 0
        self.losses: list[Loss] = []
        self.counts: list[int] = []

    def cancel_asked(self) -> None:
        self.cancels += 1

    def unshared(self, why: Loss) -> None:
        self.losses.append(why)

    def readers_changed(self, count: int) -> None:
        self.counts.append(count)


class Reader:
    """Reads a shared stream, and fails if it hears anything twice, out of order, or after the end.

    :param limit: pause after each so many pieces.
    """

    follow: Follow

    def __init__(self, after: int = 0, limit: int | None = None) -> None:
        self.last = after
        self.began_with: list[Head | None] = []
        self.heard = 0
        self.gaps: list[int] = []
        self.ends: list[Terminal] = []
        self.pages: list[int] = []
        self.wrong: list[str] = []
        self._limit = limit

    def began(self, head: Head | None) -> None:
        if self.began_with or self.ends or self.heard:
            self.wrong.append(f"it began with {head} after {self.began_with}, {self.heard} pieces, ends {self.ends}")
        self.began_with.append(head)

    def pieces(self, batch: Batch) -> None:
        if not self.began_with:
            self.wrong.append(f"{batch.first} to {batch.last} before the head")
        if batch.first != self.last + 1 or self.ends:
            self.wrong.append(f"{batch.first} to {batch.last} after {self.last}, ends {self.ends}")
        begin = 0
        for number, end in enumerate(batch.ends, batch.first):
            if int(batch.data[begin:end].removeprefix(b"data: ").lstrip(b"0")) != number:
                self.wrong.append(f"piece {number} is {batch.data[begin:end]!r}")
            begin = end
        self.last = batch.last
        self.heard += len(batch.ends)
        self.pages.append(len(batch.data))
        if self._limit is not None and self.heard >= self._limit:
            self._limit += self._limit
            self.follow.pause()

    def gap(self, count: int) -> None:
        self.last += count
        self.gaps.append(count)

    def ended(self, terminal: Terminal) -> None:
        self.ends.append(terminal)

    @property
    def code(self) -> str | None:
        """That of its end."""
        return self.ends[0].code if self.ends else None

    async def until(self, reactor: object, last: int, timeout: float = 20.0) -> None:
        """It has heard that piece."""
        await eventually(cast(Any, reactor), lambda: self.last >= last or self.ends, timeout, f"piece {last} (at {self.last})")
        assert self.last >= last, self.ends

    async def end(self, reactor: object, timeout: float = 20.0) -> str:
        await eventually(cast(Any, reactor), lambda: self.ends, timeout, f"the end (at {self.last})")
        assert len(self.ends) == 1
        assert not self.wrong
        return self.ends[0].code


def seconds(reactor: object) -> float:
    return cast(IReactorTime, reactor).seconds()
