"""The streams that this process owns and shares: written to Redis behind their backs.

Nothing here is waited for, and nothing raises into a stream: what goes wrong ends the sharing, not the stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse.recordings.store import Quota
from txsse.redis import scripts
from txsse.redis.connection import Reply
from txsse.redis.errors import RedisError
from txsse.redis.link import Argument, Script
from txsse.redis.outbox import Append, Create, Finish, Loss, Outbox, Step
from txsse.redis.records import Head, Meta, Terminal

if TYPE_CHECKING:
    from txsse.redis.link import RedisLink

TICK: Final = 0.05
"""Seconds that a piece waits for others to share its way."""

LOOK_INTERVAL: Final = 60.0
"""Seconds after which a silent stream is kept alive."""

LIFE: Final = 900.0
"""Seconds for which a stream that still runs outlives its last sign of life."""

LONGEST_GOODBYE: Final = 60.0
"""Seconds for which the rest of a stream that is over waits for Redis."""

MOST_WAITING: Final = 16 * 1024 * 1024
"""Bytes of all streams that may wait for Redis."""


class Owner(Protocol):
    """Whose stream it is. Called from the reactor, never from within a call to the share."""

    def cancel_asked(self) -> None:
        """A reader elsewhere wants the stream to end. May be called more than once."""

    def unshared(self, why: Loss) -> None:
        """It is shared no more; readers elsewhere hear how that ends for them. Called at most once."""

    def readers_changed(self, count: int) -> None:
        """So many other processes have readers of it now."""


@attrs.define
class Counts:
    """What has happened so far, for metrics.

    :ivar unshared: streams whose sharing ended before they did.
    :ivar dropped: bytes that were not shared as Redis was away, or too slow.
    """

    created: int = 0
    batches: int = 0
    failures: int = 0
    unshared: int = 0
    dropped: int = 0


@attrs.frozen
class Lead:
    """What leads to a stream for those who do not know its id, unless it leads elsewhere.

    :param life: seconds for which it stands.
    """

    key: str
    says: bytes
    life: float


class Share:
    """One stream of ours. Made by :meth:`Shares.create`.

    :ivar readers: how many other processes have readers of it, as far as is known.
    """

    def __init__(self, shares: Shares, sid: str, meta: Meta, owner: Owner, outbox: Outbox, now: float, lead: Lead | None) -> None:
        self.sid = sid
        self.meta = meta
        self.lead = lead
        self.owner = owner
        self.outbox = outbox
        self.readers = 0
        self.cancelled = False
        self.waits = False  # for others to share its way
        self.written = now  # when a step was taken last
        self.ended: float | None = None
        self._shares = shares

    @property
    def shared(self) -> bool:
        """Readers elsewhere can follow it."""
        return self.outbox.lost is None

    def begin(self, head: Head) -> None:
        """Share how the answer begins, before its first piece."""
        self.outbox.begin(head)
        if not self.waits and self.outbox.wants:
            self._shares.dirty(self)

    def append(self, piece: bytes) -> None:
        """Share the next piece (not empty); the first one is number 1. Does nothing once it is not shared any more."""
        outbox = self.outbox
        if not outbox.append(piece):
            self._shares.fell_behind(self, len(piece))
        elif (outbox.full or not self.waits) and outbox.wants:
            self._shares.dirty(self)

    def finish(self, terminal: Terminal) -> None:
        """It has ended, for readers elsewhere after all that was shared. Only the first call counts."""
        self.outbox.finish(terminal)
        self._shares.finished(self)


class Shares:
    """
    :param name: this process's, unlike any other's.
    :param keep: bytes of each stream that Redis is to keep, at least, where nothing else is said.
    """

    _log = Logger()

    def __init__(self, link: RedisLink, clock: IReactorTime, name: str, keep: int) -> None:
        self.counts = Counts()
        self._link = link
        self._clock = clock
        self._name = name
        self._keep = keep
        self._space = Quota(MOST_WAITING)
        self._shares: dict[str, Share] = {}
        self._dirty: dict[Share, None] = {}
        self._tick: IDelayedCall | None = None

    def __len__(self) -> int:
        """Streams of ours that are not over and written."""
        return len(self._shares)

    @property
    def waiting(self) -> bool:
        """Something is yet to be written."""
        return any(share.outbox.waiting for share in self._shares.values())

    def create(self, sid: str, meta: Meta, owner: Owner, keep: int | None = None, lead: Lead | None = None) -> Share:
        outbox = Outbox(self._keep if keep is None else keep, self._space)
        share = Share(self, sid, meta, owner, outbox, self._clock.seconds(), lead)
        self._shares[sid] = share
        self.counts.created += 1
        self.push(share)
        return share

    def dirty(self, share: Share) -> None:
        """There is something to write, within :data:`TICK` or as soon as a batch is full."""
        if share.outbox.full:
            self.push(share)
            return
        self._dirty[share] = None
        share.waits = True
        if self._tick is None:
            self._tick = self._clock.callLater(TICK, self._ring)

    def finished(self, share: Share) -> None:
        """Nothing follows."""
        if share.ended is None:
            share.ended = self._clock.seconds()
            self.push(share)

    def push(self, share: Share) -> None:
        """Take the next step now, if there is one and Redis is there."""
        if not self._link.available:
            return
        self._dirty.pop(share, None)
        share.waits = False
        step = share.outbox.take()
        if step is not None:
            share.written = self._clock.seconds()
            script, keys, args = self._call(share, step)
            self._link.run(script, keys, args).addCallbacks(self._done, self._failed, (share, step), {}, (share,))

    def push_all(self) -> None:
        """Redis is there again, or may take now what it refused before."""
        for share in list(self._shares.values()):
            share.outbox.retry()
            self.push(share)

    def look(self, *, at_all: bool = False) -> None:
        """See whether the streams that have long been silent (or all) are still ours."""
        before = self._clock.seconds() - LOOK_INTERVAL
        for share in list(self._shares.values()):
            if at_all or share.written <= before:
                share.outbox.look()
                self.push(share)

    def expire(self) -> None:
        """Forget the streams that are over and could not be written: Redis is away for good, as far as their readers are concerned."""
        before = self._clock.seconds() - LONGEST_GOODBYE
        for share in list(self._shares.values()):
            if share.ended is not None and share.ended <= before:
                share.outbox.close()
                del self._shares[share.sid]

    def cancel(self, sid: str) -> None:
        share = self._shares.get(sid)
        if share is not None:
            self._cancel(share)

    def count_readers(self, sid: str) -> None:
        """Something has changed about them."""
        share = self._shares.get(sid)
        if share is not None:
            counting = self._link.run(scripts.COUNT_READERS, [scripts.readers_key(sid)], [])
            counting.addCallbacks(self._counted, self._ignore, (share,))

    def recount(self, *, at_all: bool = False) -> None:
        """Those who read elsewhere may have died without a word; or (*at_all*) others may have come without one."""
        for share in list(self._shares.values()):
            if share.readers or at_all:
                self.count_readers(share.sid)

    def fell_behind(self, share: Share, lost: int) -> None:
        self.counts.dropped += lost
        self._tell_unshared(share)
        self.push(share)

    def close(self) -> None:
        """Forget all."""
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        self._dirty.clear()
        for share in self._shares.values():
            share.outbox.close()
        self._shares.clear()

    def _ring(self) -> None:
        self._tick = None
        waiting, self._dirty = self._dirty, {}
        for share in waiting:
            share.waits = False
            self.push(share)

    def _call(self, share: Share, step: Step) -> tuple[Script, list[str], list[Argument]]:
        sid = share.sid
        keys = [scripts.meta_key(sid), scripts.pieces_key(sid)]
        life = round(1000 * (share.meta.ttl if isinstance(step, Finish) else LIFE))
        match step:
            case Create() if (lead := share.lead) is not None:
                return scripts.CREATE, [keys[0], lead.key], [self._name, share.meta.pack(), life, lead.says, round(1000 * lead.life)]
            case Create():
                return scripts.CREATE, keys[:1], [self._name, share.meta.pack(), life]
            case Append(batch=batch, keep=keep, head=head):
                self.counts.batches += batch is not None
                last, packed = (0, b"") if batch is None else (batch.last, batch.pack())
                return scripts.APPEND, keys, [self._name, life, last, keep, packed, scripts.bell(sid), "" if head is None else head.pack()]
            case Finish(terminal=end, last=last):
                return scripts.FINISH, keys, [self._name, life, end.code, end.message, end.status, scripts.bell(sid), last]

    def _done(self, reply: Reply, share: Share, step: Step) -> None:
        if reply in (b"gone", b"fenced"):
            self._lose(share, "gone" if reply == b"gone" else "fenced")
            return
        share.outbox.done()
        if reply == b"cancel":
            self._cancel(share)
        if share.outbox.over:
            self._shares.pop(share.sid, None)
        elif isinstance(step, Create) or share.outbox.full or share.ended is not None:
            self.push(share)
        elif share.outbox.wants:
            self.dirty(share)

    def _failed(self, failure: Failure, share: Share) -> None:
        failure.trap(RedisError)
        self.counts.failures += 1
        share.outbox.failed()

    def _lose(self, share: Share, why: Loss) -> None:
        told = share.outbox.lost is not None
        share.outbox.lose(why)
        self._shares.pop(share.sid, None)
        if not told:
            self._tell_unshared(share)

    def _tell_unshared(self, share: Share) -> None:
        self.counts.unshared += 1
        why = share.outbox.lost
        assert why is not None
        self._clock.callLater(0, share.owner.unshared, why)

    def _cancel(self, share: Share) -> None:
        if not share.cancelled:
            share.cancelled = True
            share.owner.cancel_asked()

    def _counted(self, reply: Reply, share: Share) -> None:
        assert isinstance(reply, int)
        if reply != share.readers:
            share.readers = reply
            share.owner.readers_changed(reply)

    def _ignore(self, failure: Failure) -> None:
        """It is counted again."""
        failure.trap(RedisError)
