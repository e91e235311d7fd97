"""A journal that is made up, for tests of what machines share."""

from __future__ import annotations

from array import array
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred, fail, succeed

from tests.fakes import FakeBackend, bound
from txsse.config import model
from txsse.dialects import DIALECTS
from txsse.proxy.routes import BoundRoute
from txsse.redis.errors import RedisError, Unavailable
from txsse.redis.followed import Follow, Follower
from txsse.redis.journal import Found, Journal
from txsse.redis.records import Batch, Meta, Snapshot, Terminal
from txsse.redis.shares import Counts, Lead, Share

SID = "a~" + "s" * 22
SCOPE = b"o" * 32


def a_meta(dialect: str = "openai-chat", **changes: Any) -> Meta:
    kind = DIALECTS[dialect].content_type
    meta = Meta("llama", dialect, SCOPE, kind, 200, [(b"Content-Type", kind)], 0.0, 300.0)
    return attrs.evolve(meta, **changes)


def a_route(**resume: Any) -> BoundRoute:
    return bound(model.Route(name="llama", resume=model.Resume(**{"mode": "auto", **resume})), FakeBackend())


def a_batch(first: int, *pieces: bytes) -> Batch:
    ends, end = array("I"), 0
    for piece in pieces:
        end += len(piece)
        ends.append(end)
    return Batch(first, b"".join(pieces), ends)


class FakeFollow:
    def __init__(self, after: int, follower: Follower) -> None:
        self.after = after
        self.follower = follower
        self.paused = self.stopped = False

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def stop(self) -> None:
        self.stopped = True


@attrs.define
class FakeShare:
    sid: str
    meta: Meta
    keep: int
    owner: object = None
    lead: Lead | None = None
    pieces: list[bytes] = attrs.field(factory=list)
    terminals: list[Terminal] = attrs.field(factory=list)

    def append(self, piece: bytes) -> None:
        self.pieces.append(piece)

    def finish(self, terminal: Terminal) -> None:
        self.terminals.append(terminal)


class FakeJournal:
    """
    :ivar found: the streams of others by their ids; *kept*: the pieces of theirs that can be read, up to the last.
    """

    def __init__(self) -> None:
        self.name = "us.1"
        self.found: dict[str, Found] = {}
        self.kept: dict[str, list[bytes]] = {}
        self.error: RedisError | None = None
        self.follows: list[FakeFollow] = []
        self.shares: list[FakeShare] = []
        self.cancelled: list[str] = []
        self.owned, self.followed, self.reaped = 1, 2, 3
        self.counts = Counts(dropped=4)

    def down(self) -> None:
        self.error = Unavailable("it is away")

    def open(self, sid: str) -> Deferred[Found | None]:
        return succeed(self.found.get(sid)) if self.error is None else fail(self.error)

    def read(self, sid: str, after: int, most: int) -> Deferred[Snapshot | None]:
        if self.error is not None:
            return fail(self.error)
        there = self.found.get(sid)
        if there is None:
            return succeed(None)
        kept = self.kept[sid]
        first = max(after + 1, there.last - len(kept) + 1)
        pieces = kept[len(kept) - there.last + first - 1 :]
        return succeed(Snapshot("them", there.last, there.terminal, [a_batch(first, *pieces)] if pieces else []))

    def cancel(self, sid: str) -> Deferred[bool]:
        self.cancelled.append(sid)
        return succeed(True) if self.error is None else fail(self.error)

    def follow(self, sid: str, after: int, follower: Follower) -> Follow:
        self.follows.append(FakeFollow(after, follower))
        return cast(Follow, self.follows[-1])

    def create(self, sid: str, meta: Meta, owner: object, keep: int, lead: Lead | None = None) -> Share:
        self.shares.append(FakeShare(sid, meta, keep, owner, lead))
        return cast(Share, self.shares[-1])

    @property
    def real(self) -> Journal:
        return cast(Journal, self)
