"""Streams that several machines share: what one process relays, readers of any other follow.

The process that asked the model owns the stream, and writes it to Redis behind its back (:mod:`txsse.redis.shares`). Readers elsewhere
listen for what is written as it is written, and read what they missed (:mod:`txsse.redis.followed`). If the owner dies somebody else
writes the end of its streams, from when on it cannot write any more (:mod:`txsse.redis.lease`).
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

import attrs
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse.redis import scripts
from txsse.redis.connection import Reply
from txsse.redis.errors import RedisError
from txsse.redis.followed import Follow, Followed, Follower, snapshot
from txsse.redis.lease import LOOK, Absences, Lease
from txsse.redis.records import OWNER_LOST, Meta, Snapshot, Terminal, read_state
from txsse.redis.shares import Counts, Lead, Owner, Share, Shares

if TYPE_CHECKING:
    from txsse.redis.link import RedisLink

LEASE: Final = 10.0
"""Seconds after which a process that is not heard of is dead, at most."""

POLL: Final = 0.3
"""Part of a lease after which the streams are looked after that are followed here."""

READING: Final = 0.9
"""Part of a lease for which it is believed that a process has readers of a stream."""

KEEP: Final = 1024 * 1024
"""Bytes of a stream that are kept."""

REAPED_TTL: Final = 300.0
"""Seconds for which a stream stays whose owner has died."""

FLUSH: Final = 2.0
"""Seconds that :meth:`Journal.close` waits for what is to be written."""


@attrs.frozen
class Found:
    """A shared stream, as :meth:`Journal.open` finds it.

    :param last: the number of its last piece, 0 if there is none.
    :param terminal: how it ended; ``None`` while it runs.
    :param first: the number of the first piece that is still kept; ``last + 1`` if there is none.
    """

    meta: Meta
    last: int
    terminal: Terminal | None
    first: int = 1


class Journal:
    """
    :param link: started and closed by whoever made it, before and after this.
    :param node: this machine's name; each process adds something random.
    :param lease: seconds.
    :param keep: bytes of each stream that Redis is to keep, at least, where nothing else is said.
    :ivar name: this process's.
    :ivar reaped: streams of dead processes that this one has ended.
    """

    _log = Logger()

    def __init__(self, link: RedisLink, clock: IReactorTime, node: str, *, lease: float = LEASE, keep: int = KEEP) -> None:
        self.name = f"{node}.{secrets.token_hex(6)}"
        self.reaped = 0
        self._link = link
        self._clock = clock
        self._lease_length = lease
        self._shares = Shares(link, clock, self.name, keep)
        self._followed: dict[str, Followed] = {}
        self._suspects: dict[str, str] = {}  # streams that nobody follows here whose owners are not to be seen
        self._absences = Absences(lease)
        self._lease = Lease(link, clock, self.name, lease, self._renewed)
        self._watching = LoopingCall(self._watch)
        self._polling = LoopingCall(self._poll)
        self._watching.clock = self._polling.clock = clock
        self._broke = False
        self._closed = False

    @property
    def counts(self) -> Counts:
        """Of the streams of this process."""
        return self._shares.counts

    @property
    def owned(self) -> int:
        """Streams of this process that are not over and written."""
        return len(self._shares)

    @property
    def followed(self) -> int:
        """Streams of other processes that readers of this one follow."""
        return len(self._followed)

    def start(self) -> None:
        self._link.watch(self._link_changed)
        self._link.subscribe(scripts.control(self.name), self)
        self._lease.start()
        self._watching.start(LOOK * self._lease_length, now=False).addErrback(self._broken)
        self._polling.start(POLL * self._lease_length, now=False).addErrback(self._broken)

    def close(self) -> Deferred[None]:
        """Write what waits to be written, for a moment; end the lease, so that what has no end yet soon has one; forget the rest.

        Those who follow a stream are told nothing any more. Idempotent.
        """
        if self._closed:
            return succeed(None)
        self._closed = True
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        for loop in (self._watching, self._polling):
            if loop.running:
                loop.stop()
        self._shares.push_all()
        until = self._clock.seconds() + FLUSH
        while self._shares.waiting and self._link.available and self._clock.seconds() < until:
            pause: Deferred[None] = Deferred()
            self._clock.callLater(0.02, pause.callback, None)
            await pause
        self._lease.stop()
        self._shares.close()
        self._link.unsubscribe(scripts.control(self.name))
        for followed in list(self._followed.values()):
            followed.forget()
        with suppress(RedisError):  # then it lapses
            await self._link.command("DEL", scripts.lease_key(self.name))

    def create(self, sid: str, meta: Meta, owner: Owner, keep: int | None = None, lead: Lead | None = None) -> Share:
        """Share a new stream from its first piece on.

        :param keep: bytes of it that Redis is to keep, at least.
        :param lead: leads to it.
        """
        return self._shares.create(sid, meta, owner, keep, lead)

    def open(self, sid: str) -> Deferred[Found | None]:
        """Look a stream up; ``None``: there is none.

        :raises RedisError: through the Deferred: nobody knows.
        """
        keys = [scripts.meta_key(sid), scripts.pieces_key(sid)]
        return self._link.run(scripts.OPEN, keys, []).addCallback(self._opened, sid)

    def read(self, sid: str, after: int, most: int) -> Deferred[Snapshot | None]:
        """A stream as it is now, with at most so many batches of what comes after piece number *after*; ``None``: there is none.

        :raises RedisError, ValueError: through the Deferred: nobody knows.
        """
        keys = [scripts.meta_key(sid), scripts.pieces_key(sid)]
        return self._link.run(scripts.READ, keys, [after, most]).addCallback(snapshot)

    def follow(self, sid: str, after: int, follower: Follower) -> Follow:
        """Tell *follower* what comes after piece number *after* (0: all of it); nothing before this returns.

        The stream need not be there: then it hears ``stream_gone``.
        """
        followed = self._followed.get(sid)
        if followed is not None:
            follow = followed.join(after, follower)
            self._clock.callLater(0, followed.look, follow)
            return follow
        followed = self._followed[sid] = Followed(self._link, sid, self._left)
        follow = followed.join(after, follower)
        self._clock.callLater(0, followed.start)
        self._tell_reading(sid, round(1000 * READING * self._lease_length))
        return follow

    def cancel(self, sid: str) -> Deferred[bool]:
        """Ask the owner of a stream to end it. ``False``: it does not run.

        :raises RedisError: through the Deferred.
        """
        return self._link.run(scripts.CANCEL, [scripts.meta_key(sid)], [sid]).addCallback(lambda reply: reply == 1)

    def subscribed(self) -> None:
        """Called by the link, for the channel to this process."""
        self._shares.look(at_all=True)
        self._shares.recount(at_all=True)

    def heard(self, message: bytes) -> None:
        """Called by the link."""
        sid = message[1:].decode("utf-8", "replace")
        if message[:1] == b"c":
            self._shares.cancel(sid)
        elif message[:1] == b"r":
            self._shares.count_readers(sid)

    def _opened(self, reply: Reply, sid: str) -> Found | None:
        if reply is None:
            return None
        own, st, last, meta, code, message, status, first = cast("tuple[bytes, bytes, bytes, bytes, bytes, bytes, bytes, int]", reply)
        try:
            found = Found(Meta.unpack(meta), int(last), read_state(st, code, message, status), first)
        except ValueError:
            self._log.warn("a shared stream cannot be read: it was written by another version")
            return None
        if found.terminal is None and sid not in self._followed and own.decode() != self.name:
            self._suspects[sid] = own.decode()
        return found

    def _link_changed(self, reason: str) -> None:
        if reason:
            self._broke = True
            return
        if self._closed:
            return
        if self._broke:
            self._absences.look_away(self._clock.seconds())
        self._lease.renew()
        self._shares.push_all()
        for followed in list(self._followed.values()):
            followed.poll()
            followed.retry()

    def _renewed(self, lapsed: bool) -> None:
        self._shares.push_all()
        self._shares.look(at_all=lapsed)
        self._shares.recount()

    def _left(self, followed: Followed) -> None:
        if self._followed.get(followed.sid) is followed:
            del self._followed[followed.sid]
            self._tell_reading(followed.sid, 0)

    def _tell_reading(self, sid: str, life: int) -> None:
        keys = [scripts.meta_key(sid), scripts.readers_key(sid)]
        self._link.run(scripts.READING, keys, [sid, self.name, life]).addErrback(self._ignore)

    def _poll(self) -> None:
        self._shares.expire()
        for sid, followed in list(self._followed.items()):
            followed.look_after()
            if not followed.final:
                self._tell_reading(sid, round(1000 * READING * self._lease_length))

    def _watch(self) -> None:
        """Look for the owners of what is followed here."""
        if not self._link.available:
            return
        running: dict[str, list[str]] = {}
        for sid, followed in self._followed.items():
            if followed.owner and not followed.final:
                running.setdefault(followed.owner, []).append(sid)
        for sid, owner in self._suspects.items():
            running.setdefault(owner, []).append(sid)
        running.pop(self.name, None)
        self._absences.keep(running)
        for owner, sids in running.items():
            self._link.command("EXISTS", scripts.lease_key(owner)).addCallbacks(self._seen, self._ignore, (owner, sids))

    def _seen(self, reply: Reply, owner: str, sids: list[str]) -> None:
        present = reply == 1
        if present:
            for sid in sids:
                self._suspects.pop(sid, None)
        if self._absences.see(owner, present, self._clock.seconds()):
            for sid in sids:
                self._reap(sid, owner)

    def _reap(self, sid: str, owner: str) -> None:
        self._suspects.pop(sid, None)
        keys = [scripts.meta_key(sid), scripts.pieces_key(sid), scripts.lease_key(owner)]
        end = OWNER_LOST
        args: list[str | bytes | int] = [owner, round(1000 * REAPED_TTL), end.code, end.message, end.status, scripts.bell(sid)]
        self._link.run(scripts.REAP, keys, args).addCallbacks(self._reaped, self._ignore)

    def _reaped(self, reply: Reply) -> None:
        self.reaped += reply == b"reaped"

    def _ignore(self, failure: Failure) -> None:
        """It is tried again, or is of no consequence."""
        failure.trap(RedisError, CancelledError)

    def _broken(self, failure: Failure) -> None:
        self._log.failure("the journal does not watch any more", failure)
