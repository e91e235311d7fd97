"""The store that machines share: entries in memory, and behind it a Redis that the others read as well."""

from __future__ import annotations

import json
import math
import secrets
import struct
import time
from array import array
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, Protocol, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse.recordings.entry import Entry
from txsse.recordings.packing import little, pack_head, unpack
from txsse.recordings.store import MemoryStore, Quota, Reason, Summary
from txsse.redis.errors import RedisError
from txsse.redis.link import Script

if TYPE_CHECKING:
    from txsse.redis.connection import Reply
    from txsse.redis.link import RedisLink

LONGEST_FETCH: Final = 0.25
"""Seconds that a request waits for Redis before it is a miss."""

LONGEST_WRITE: Final = 5.0
"""Seconds."""

MOST_WAITING: Final = 8 * 1024 * 1024
"""Bytes that may be on their way to Redis; further entries are kept in memory only."""

CHANNEL: Final = b"txsse:cache"
"""What was deleted is told there, so that nobody goes on telling it from memory: the teller's name, then ``d`` and a key or ``p`` and a
route (JSON; null: all)."""

_PREFIX: Final = "txsse:cache:"
_HEAD: Final = struct.Struct("<8sddII")  # the route, stored, ttl, bytes of JSON, number of pieces
_PURGE: Final = Script(
    """for _, key in ipairs(KEYS) do
  if ARGV[1] == '' or redis.call('GETRANGE', key, 0, 7) == ARGV[1] then redis.call('UNLINK', key) end
end"""
)


class Outdates(Protocol):
    """Who makes entries."""

    def outdate(self, key: bytes) -> None:
        """The one that is being made for *key* is not to be kept."""

    def outdate_route(self, route: str | None) -> None:
        """Nor are all of a route, or all there are."""


class RedisStore:
    """Entries in memory as in a :class:`MemoryStore`; what is put there is written to Redis as well, without waiting, and found there by
    every process that shares it, until its ttl is over. Redis makes room as it is set up to (``maxmemory-policy``).

    What is deleted or purged while Redis is away may be found there again by a process that was started since.

    :param link: started and closed by whoever made it.
    :param wall: Unix time.
    :ivar maker: told what other processes delete.
    """

    _log = Logger()

    def __init__(self, link: RedisLink, quota: Quota, wall: Callable[[], float] = time.time) -> None:
        self.dropped = 0
        self.maker: Outdates | None = None
        self.link = link
        self._wall = wall
        self._memory = MemoryStore(quota)
        self._name = secrets.token_hex(8).encode()
        self._waiting = 0
        self._purged: dict[str | None, float] = {}  # routes (None: all), and when that was last
        self._closing: Deferred[None] | None = None
        link.subscribe(CHANNEL, self)

    @property
    def bytes_used(self) -> int:
        return self._memory.bytes_used

    @property
    def count(self) -> int:
        return self._memory.count

    @property
    def evictions(self) -> dict[Reason, int]:
        return self._memory.evictions

    def get(self, key: bytes, now: float) -> Entry | None:
        return self._memory.get(key, now)

    def fetch(self, key: bytes, now: float) -> Deferred[Entry | None] | None:
        if self._closing is not None or not self.link.available:
            return None
        return self.link.command("GET", _name(key), deadline=LONGEST_FETCH).addCallbacks(self._found, _missed, (key, now))

    def put(self, entry: Entry, now: float) -> bool:
        kept = self._memory.put(entry, now)
        if kept and self._closing is None and self.link.available and self._waiting + entry.size <= MOST_WAITING:
            life = math.ceil(1000 * (entry.ttl - entry.age(now)))
            writing = self.link.command("SET", _name(entry.key), pack(entry), "PX", life, deadline=LONGEST_WRITE)
            self._waiting += entry.size
            writing.addCallbacks(self._written, self._not_written, (entry.size,), {}, (entry.size,))
        else:
            self.dropped += kept
        return kept

    def delete(self, key: bytes) -> bool:
        known = self._memory.delete(key)
        self._tell("UNLINK", _name(key))
        self._tell("PUBLISH", CHANNEL, self._name + b"d" + key)
        return known

    def purge(self, route: str | None) -> int:
        self._purged[route] = self._wall()
        self._tell("PUBLISH", CHANNEL, self._name + b"p" + json.dumps(route).encode())
        Deferred.fromCoroutine(self._purge(route)).addErrback(self._not_purged)
        return self._memory.purge(route)

    def entries(self) -> Iterator[Summary]:
        """Those in memory: what else Redis has is not known here."""
        return self._memory.entries()

    def close(self) -> Deferred[None]:
        if self._closing is None:
            self._closing = Deferred()
            self.link.unsubscribe(CHANNEL)
            self._see_if_closed()
        closed: Deferred[None] = Deferred()
        self._closing.addCallback(lambda _: closed.callback(None))
        return closed

    def subscribed(self) -> None:
        """Called by the link. What was deleted meanwhile is not known; what is in memory is not older than its ttl."""

    def heard(self, message: bytes) -> None:
        """Called by the link: another process has deleted something."""
        size = len(self._name)
        teller, kind, what = message[:size], message[size : size + 1], message[size + 1 :]
        if teller == self._name:
            return
        if kind == b"d":
            self._memory.delete(what)
            if self.maker is not None:
                self.maker.outdate(what)
        elif kind == b"p":
            route = json.loads(what)
            self._purged[route] = self._wall()
            self._memory.purge(route)
            if self.maker is not None:
                self.maker.outdate_route(route)

    def _found(self, reply: Reply, key: bytes, now: float) -> Entry | None:
        held = self._memory.get(key, now)
        if held is not None or not isinstance(reply, bytes):
            return held
        try:
            entry = unpack_entry(key, reply)
        except ValueError:
            self._log.warn("an entry in Redis cannot be read: it was written by another version, or by somebody else")
            return None
        since = max(self._purged.get(entry.route, -math.inf), self._purged.get(None, -math.inf))
        if entry.stored <= since or not entry.fresh(now):
            return None
        self._memory.put(entry, now)
        return self._memory.get(key, now) or entry

    async def _purge(self, route: str | None) -> None:
        cursor = b"0"
        digest = b"" if route is None else _digest(route)
        while True:
            reply = await self.link.command("SCAN", cursor, "MATCH", _PREFIX + "*", "COUNT", 500)
            cursor, keys = cast(tuple[bytes, list[bytes]], reply)
            if keys:
                await self.link.run(_PURGE, keys, [digest])
            if cursor == b"0":
                return

    def _not_purged(self, failure: Failure) -> None:
        failure.trap(RedisError)
        self._log.warn("not all that was purged is gone from Redis: {why}", why=failure.getErrorMessage())

    def _written(self, _: Reply, size: int) -> None:
        self._waiting -= size
        self._see_if_closed()

    def _not_written(self, failure: Failure, size: int) -> None:
        failure.trap(RedisError)
        self.dropped += 1
        self._waiting -= size
        self._see_if_closed()

    def _see_if_closed(self) -> None:
        if self._closing is not None and not self._waiting and not self._closing.called:
            self._closing.callback(None)

    def _tell(self, *args: bytes | str) -> None:
        if self._closing is None:
            self.link.command(*args).addErrback(lambda failure: failure.trap(RedisError) and None)


def pack(entry: Entry) -> bytes:
    """An entry as one value, all but its key."""
    head = json.dumps([entry.route, pack_head(entry)]).encode()
    ends, times = little(entry.ends).tobytes(), little(entry.times).tobytes()
    return b"".join((_HEAD.pack(_digest(entry.route), entry.stored, entry.ttl, len(head), len(entry.ends)), head, ends, times, entry.body))


def unpack_entry(key: bytes, packed: bytes) -> Entry:
    """:raises ValueError: that is none."""
    try:
        _, stored, ttl, head_size, count = _HEAD.unpack_from(packed)
        at = _HEAD.size + head_size
        route, head = json.loads(packed[_HEAD.size : at])
    except (struct.error, TypeError) as error:
        raise ValueError("it is too short for an entry") from error
    ends, times, body = packed[at : at + 4 * count], packed[at + 4 * count : at + 8 * count], packed[at + 8 * count :]
    if len(times) != 4 * count or (count and little(array("I", ends))[-1] != len(body)):
        raise ValueError("an entry is not as long as it says")
    return unpack(key, route, stored, ttl, head, ends, times, body)


def _name(key: bytes) -> str:
    return _PREFIX + key.hex()


def _digest(route: str) -> bytes:
    return blake2b(route.encode(), digest_size=8).digest()


def _missed(failure: Failure) -> None:
    """What Redis does not say in time is a miss."""
    if failure.check(CancelledError):
        failure.raiseException()
    failure.trap(RedisError)
