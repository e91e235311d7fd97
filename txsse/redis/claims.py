"""Requests that must not be made twice, whichever process they come to: a key of the client's leads to the stream that it made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import attrs
from twisted.internet.defer import Deferred

from txsse.redis.errors import RedisError
from txsse.redis.link import Argument, Script
from txsse.redis.scripts import meta_key
from txsse.redis.shares import LIFE, Lead

if TYPE_CHECKING:
    from txsse.redis.connection import Reply
    from txsse.redis.link import RedisLink
    from txsse.redis.records import Meta

LONGEST: Final = 0.25
"""Seconds that a request waits for Redis; then it is made."""

STANDS: Final = 6 * 3600.0
"""Seconds for which a claim stands whose stream does not end."""

_CLAIM: Final = Script(
    """local told = redis.call('GET', KEYS[1])
if told and told ~= ARGV[3] then return told end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('HSET', KEYS[2], 'st', 'run', 'own', ARGV[4], 'n', '0', 'meta', ARGV[5])
redis.call('PEXPIRE', KEYS[2], ARGV[6])
return false"""
)
"""Keys: claim, meta. Arguments: what it says, ms to live, what it may say already, owner, meta, ms for that to live. The stream is there as
soon as its claim is: whoever finds one finds the other."""

_SETTLE: Final = Script(
    """if redis.call('GET', KEYS[1]) ~= ARGV[1] then return end
if ARGV[2] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[2])
else redis.call('UNLINK', KEYS[1]) end"""
)
"""Keys: claim. Arguments: what it says, ms to live from now on (0: it does not stand)."""


@attrs.frozen
class Claimed:
    """What a claim leads to.

    :param body: a hash of the request's.
    """

    sid: str
    body: bytes

    def pack(self) -> bytes:
        return b"%b %b" % (self.sid.encode("ascii"), self.body.hex().encode("ascii"))

    @classmethod
    def unpack(cls, packed: bytes) -> Claimed:
        """:raises ValueError: that is none."""
        sid, _, body = packed.decode("ascii").partition(" ")
        if not body:
            raise ValueError("it leads nowhere")
        return cls(sid, bytes.fromhex(body))


class Claims:
    """
    :param name: this process's, as in its lease.
    """

    def __init__(self, link: RedisLink, name: str) -> None:
        self._link = link
        self._name = name

    def claim(self, key: bytes, wanted: Claimed, meta: Meta, instead: Claimed | None = None) -> Deferred[Claimed | None]:
        """Lead *key* to a new stream, unless it leads somewhere already: then the Deferred says where.

        ``None``: it is done, or nobody can say.

        :param instead: this may give way.
        """
        keys = [_name(key), meta_key(wanted.sid)]
        old = b"" if instead is None else instead.pack()
        args: list[Argument] = [wanted.pack(), round(1000 * STANDS), old, self._name, meta.pack(), round(1000 * LIFE)]
        return self._link.run(_CLAIM, keys, args, LONGEST).addCallback(_read).addErrback(lambda failure: failure.trap(RedisError) and None)

    def add(self, key: bytes, claimed: Claimed) -> None:
        """Lead *key* to a stream that is there, unless it leads somewhere already. Nobody waits for it."""
        adding = self._link.command("SET", _name(key), claimed.pack(), "NX", "PX", round(1000 * STANDS))
        adding.addErrback(lambda failure: failure.trap(RedisError) and None)

    def find(self, key: bytes) -> Deferred[Claimed | None]:
        """Where *key* leads; ``None``: nowhere.

        :raises RedisError: through the Deferred: nobody knows.
        """
        return self._link.command("GET", _name(key)).addCallback(_read)

    def lead(self, key: bytes, claimed: Claimed) -> Lead:
        """The same claim, for a stream that is yet to be shared and whose maker does not wait for it."""
        return Lead(_name(key), claimed.pack(), STANDS)

    def settle(self, key: bytes, claimed: Claimed, life: float) -> None:
        """Its stream is over: it stands for *life* seconds more. 0: whoever asks again makes another."""
        settling = self._link.run(_SETTLE, [_name(key)], [claimed.pack(), round(1000 * life)])
        settling.addErrback(lambda failure: failure.trap(RedisError) and None)


def _read(reply: Reply) -> Claimed | None:
    try:
        return None if reply is None else Claimed.unpack(cast(bytes, reply))
    except ValueError:
        return None  # not ours


def _name(key: bytes) -> str:
    return f"txsse:i:{key.hex()}"
