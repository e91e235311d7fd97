"""What Redis does in one go. A stream is three keys, and channels that nobody keeps.

``txsse:{sid}:m``
    A hash: ``st`` (run, done, error), ``own`` (the process that writes it), ``n`` (the number of the last piece), ``meta`` (JSON), ``head``
    (JSON) once that has come, at its end ``code``, ``message``, ``status``; ``can`` once somebody has asked for its end.
``txsse:{sid}:e``
    A stream: batches of pieces, packed (:mod:`txsse.redis.records`), with ``<number of its last piece>-0`` for an id. So ids are without
    holes for whoever compares a batch's first piece with the last one of the batch before.
``txsse:{sid}:r``
    A sorted set: the processes that have readers of it, by the time (milliseconds) at which that is no longer believed.
``txsse:{sid}:c``
    A channel: each batch as it is written; an empty message: look at the hash.
``txsse:k:<owner>``
    A channel to a process: ``c<sid>``, somebody asks for the end of that stream; ``r<sid>``, its readers have changed.
``txsse:n:<owner>``
    A string that expires unless the process renews it.
"""

from __future__ import annotations

from typing import Final

from txsse.redis.link import Script


def meta_key(sid: str) -> str:
    return f"txsse:{{{sid}}}:m"


def pieces_key(sid: str) -> str:
    return f"txsse:{{{sid}}}:e"


def readers_key(sid: str) -> str:
    return f"txsse:{{{sid}}}:r"


def bell(sid: str) -> bytes:
    return f"txsse:{{{sid}}}:c".encode()


def lease_key(owner: str) -> str:
    return f"txsse:n:{owner}"


def control(owner: str) -> bytes:
    return f"txsse:k:{owner}".encode()


RENEW: Final = Script(
    """if redis.call('PEXPIRE', KEYS[1], ARGV[1]) == 1 then return 1 end
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
return 0"""
)
"""Keys: lease. Arguments: ms to live. Says whether it was there: that one goes on in a Redis that is full, too, which takes no other."""

CREATE: Final = Script(
    """local own = redis.call('HGET', KEYS[1], 'own')
if own then return own == ARGV[1] and 'ok' or 'fenced' end
redis.call('HSET', KEYS[1], 'st', 'run', 'own', ARGV[1], 'n', '0', 'meta', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
if KEYS[2] then redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[5], 'NX') end
return 'ok'"""
)
"""Keys: meta, and perhaps one that is to lead to the stream, unless it leads elsewhere. Arguments: owner, meta, ms to live; what that key
says, ms for it to live. May be run again."""

APPEND: Final = Script(
    """local m = redis.call('HMGET', KEYS[1], 'st', 'own', 'n', 'can')
if not m[1] then
  redis.call('PUBLISH', ARGV[6], '')
  return 'gone'
end
if m[1] ~= 'run' or m[2] ~= ARGV[1] then return 'fenced' end
if ARGV[7] ~= '' then redis.call('HSET', KEYS[1], 'head', ARGV[7]) end
if tonumber(ARGV[3]) > tonumber(m[3]) then
  redis.call('XADD', KEYS[2], 'MINID', '~', ARGV[4] .. '-0', ARGV[3] .. '-0', 'b', ARGV[5])
  redis.call('HSET', KEYS[1], 'n', ARGV[3])
  redis.call('PUBLISH', ARGV[6], ARGV[5])
elseif ARGV[7] ~= '' then redis.call('PUBLISH', ARGV[6], '') end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return m[4] and 'cancel' or 'ok'"""
)
"""Keys: meta, pieces. Arguments: owner, ms to live, the last piece's number, the number of the first piece that need be kept, the batch,
the bell, the head ("" but for the first time). May be run again. With 0 for a number no piece is added: it lives on, and we learn whether
it is still ours."""

FINISH: Final = Script(
    """local m = redis.call('HMGET', KEYS[1], 'st', 'own', 'code')
if not m[1] then return 'gone' end
if m[2] ~= ARGV[1] then return 'fenced' end
if m[1] ~= 'run' then return m[3] == ARGV[3] and 'ok' or 'fenced' end
local st = ARGV[3] == '' and 'done' or 'error'
redis.call('HSET', KEYS[1], 'st', st, 'code', ARGV[3], 'message', ARGV[4], 'status', ARGV[5], 'n', ARGV[7])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('PUBLISH', ARGV[6], '')
return 'ok'"""
)
"""Keys: meta, pieces. Arguments: owner, ms to live, code ("" if it ended well), message, status, the bell, the number of the last piece
that was written. May be run again. A replica that took over may not have the last ones: readers are to hear of the gap."""

REAP: Final = Script(
    """if redis.call('EXISTS', KEYS[3]) == 1 then return 'alive' end
local m = redis.call('HMGET', KEYS[1], 'st', 'own')
if m[1] ~= 'run' or m[2] ~= ARGV[1] then return 'other' end
redis.call('HSET', KEYS[1], 'st', 'error', 'code', ARGV[3], 'message', ARGV[4], 'status', ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('PUBLISH', ARGV[6], '')
return 'reaped'"""
)
"""As FINISH, by somebody else, if the owner (whose lease is the third key) is dead: it cannot write any more."""

OPEN: Final = Script(
    """local m = redis.call('HMGET', KEYS[1], 'own', 'st', 'n', 'meta', 'code', 'message', 'status')
if not (m[1] and m[2] and m[3] and m[4]) then return false end
local kept = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)
local first = kept[1] and struct.unpack('<I8', kept[1][2][2]) or m[3] + 1
return {m[1], m[2], m[3], m[4], m[5] or '', m[6] or '', m[7] or '', first}"""
)
"""Keys: meta, pieces."""

READ: Final = Script(
    """local m = redis.call('HMGET', KEYS[1], 'own', 'st', 'n', 'head', 'code', 'message', 'status')
if not m[1] then return false end
local found = {}
if tonumber(m[3]) > tonumber(ARGV[1]) then
  for i, each in ipairs(redis.call('XRANGE', KEYS[2], (ARGV[1] + 1) .. '-0', '+', 'COUNT', ARGV[2])) do found[i] = each[2][2] end
end
return {m[1], m[2], m[3], m[4] or '', m[5] or '', m[6] or '', m[7] or '', found}"""
)
"""Keys: meta, pieces. Arguments: the number of the piece before the ones wanted, the most batches (0: none of interest)."""

CANCEL: Final = Script(
    """local m = redis.call('HMGET', KEYS[1], 'st', 'own')
if m[1] ~= 'run' then return 0 end
redis.call('HSET', KEYS[1], 'can', '1')
redis.call('PUBLISH', 'txsse:k:' .. m[2], 'c' .. ARGV[1])
return 1"""
)
"""Keys: meta. Arguments: sid."""

READING: Final = Script(
    """local m = redis.call('HMGET', KEYS[1], 'st', 'own')
if m[1] ~= 'run' then return 0 end
local t = redis.call('TIME')
local new
if ARGV[3] == '0' then new = redis.call('ZREM', KEYS[2], ARGV[2])
else
  new = redis.call('ZADD', KEYS[2], t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[3], ARGV[2])
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
end
if new == 1 then redis.call('PUBLISH', 'txsse:k:' .. m[2], 'r' .. ARGV[1]) end
return new"""
)
"""Keys: meta, readers. Arguments: sid, who reads, for how many ms that is to be believed (0: it reads no more)."""

COUNT_READERS: Final = Script(
    """local t = redis.call('TIME')
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', t[1] * 1000 + math.floor(t[2] / 1000))
return redis.call('ZCARD', KEYS[1])"""
)
"""Keys: readers."""
