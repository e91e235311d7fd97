"""Predictions that several machines share through Redis: each is a stream there, of its events, and a claim leads to it from its name.

Whoever follows a prediction where it is made does not notice: what goes wrong with Redis ends the sharing, not the prediction.
"""

from __future__ import annotations

import hmac
import time
from collections import Counter
from collections.abc import Callable
from hashlib import blake2b
from secrets import token_hex
from typing import TYPE_CHECKING, Final

import attrs
from twisted.internet.defer import CancelledError

from txsse.errors import ProxyError
from txsse.predictions.elsewhere import Claim
from txsse.predictions.far import FarJob, ending, error_of
from txsse.predictions.job import Job, Name
from txsse.predictions.jobs import REMEMBERED
from txsse.proxy.shared import ATTEMPTS, Shared, unreachable
from txsse.proxy.streams import new_sid
from txsse.redis.claims import Claimed, Claims
from txsse.redis.errors import RedisError
from txsse.redis.records import GONE, Meta, Terminal

if TYPE_CHECKING:
    from txsse.predictions.model import Model
    from txsse.redis.journal import Found
    from txsse.redis.outbox import Loss
    from txsse.redis.shares import Share

DIALECT: Final = "predictions"
"""What tells them from other streams."""

_PATH: Final = b"/predictions/"
_ANY: Final = b"*"
"""Stands for every body: who repeats a request for a prediction need not repeat what it said."""


class SharedPredictions:
    """Of one proxy. Implements :class:`~txsse.predictions.elsewhere.Elsewhere`."""

    def __init__(self, shared: Shared, node: str) -> None:
        self.journal = shared.journal
        self.claims = Claims(shared.link, shared.journal.name)
        self.losses = shared.losses
        self._node = node
        self._readers: Counter[str] = Counter()

    async def find(self, model: Model, id: str) -> FarJob | None:
        name = Name(model.name, model.scope, id)
        try:
            claimed = await self.claims.find(_key(name))
        except RedisError:
            raise unreachable() from None
        return None if claimed is None else await self._open(model, claimed.sid, name) or _gone()

    async def of_sid(self, model: Model, sid: str, body: bytes) -> FarJob | None:
        found = await self._found(sid)
        if found is None or not _belongs(found.meta, model):
            return None
        return self._far(model, sid, Name(model.name, model.scope, _id_of(found.meta)), found)

    async def claim(self, model: Model, id: str, body: bytes) -> FarJob | SharedClaim:
        name = Name(model.name, model.scope, id)
        mine = self._new_claim(model, name)
        earlier: Claimed | None = None
        for _ in range(ATTEMPTS):
            there = await self._lay(mine, earlier)
            if there is None:
                break
            job = await self._open(model, there.sid, name)
            if job is not None:
                return job
            earlier = there
        return mine

    async def _lay(self, mine: SharedClaim, earlier: Claimed | None) -> Claimed | None:
        mine.known = True
        try:
            return await self.claims.claim(mine.key, mine.claimed, mine.meta, earlier)
        except CancelledError:  # who asked is gone
            mine.give_up(None)
            raise

    def claim_new(self, model: Model) -> SharedClaim:
        return self._new_claim(model, Name(model.name, model.scope, token_hex(16)))

    def _new_claim(self, model: Model, name: Name) -> SharedClaim:
        headers = [(b"Location", _PATH + name.id.encode("ascii"))]
        meta = Meta(name.model, DIALECT, name.scope, b"text/event-stream", 200, headers, time.time(), model.resume.ttl)
        return SharedClaim(name.id, new_sid(self._node), _key(name), meta, self, model.resume.max_bytes)

    async def _open(self, model: Model, sid: str, name: Name) -> FarJob | None:
        found = await self._found(sid)
        return None if found is None else self._far(model, sid, name, found)

    async def _found(self, sid: str) -> Found | None:
        try:
            return await self.journal.open(sid)
        except RedisError:
            raise unreachable() from None

    def _far(self, model: Model, sid: str, name: Name, found: Found) -> FarJob:
        return FarJob(name, sid, model.resume, found, self.journal, self._readers)


@attrs.define(eq=False)
class SharedClaim(Claim):
    """
    :param meta: tells of the prediction, as *key* leads to it.
    :param keep: bytes of its events that are to be kept, and as many of its document.
    :ivar known: others may have found it.
    """

    key: bytes
    meta: Meta
    _predictions: SharedPredictions
    _keep: int
    known: bool = False
    _sharing: _Sharing | None = None

    @property
    def claimed(self) -> Claimed:
        return Claimed(self.sid, _ANY)

    def share(self, job: Job) -> None:
        predictions, keep = self._predictions, 2 * self._keep
        sharing = self._sharing = _Sharing(job, predictions.losses, self._settle)
        lead = predictions.claims.lead(self.key, self.claimed)
        sharing.share = predictions.journal.create(self.sid, self.meta, sharing, keep, lead)
        job.sharing = sharing
        self.known = True

    def _settle(self, life: float) -> None:
        self._predictions.claims.settle(self.key, self.claimed, life)

    def give_up(self, error: ProxyError | None) -> None:
        if not self.known:
            return
        end = error or ProxyError("cancelled", "The request for this prediction was given up. Make it again.")
        share = self._predictions.journal.create(self.sid, self.meta, _Nobody(), 0) if self._sharing is None else self._sharing.share
        share.finish(Terminal(end.code, end.message, end.http_status))
        self._settle(0)


class _Sharing:
    """One of ours on its way to Redis: a :class:`~txsse.predictions.job.Sharing`, and :class:`txsse.redis.shares.Owner`.

    :param settle: told for how many seconds the claim that led to it stands.
    """

    share: Share

    def __init__(self, job: Job, losses: Counter[str], settle: Callable[[float], None]) -> None:
        self._job = job
        self._losses = losses
        self._settle = settle

    def append(self, event: bytes) -> None:
        self.share.append(event)

    def finish(self) -> None:
        job = self._job
        self.share.append(job.completed())
        self.share.finish(ending(job.prediction.status))
        self._settle(job.resume.ttl + REMEMBERED)  # longer than the prediction: it tells that there was one

    def cancel_asked(self) -> None:
        self._job.cancel()

    def unshared(self, why: Loss) -> None:
        """Those who follow it here do not notice."""
        self._losses[why] += 1

    def readers_changed(self, count: int) -> None:
        self._job.read_elsewhere(count)


class _Nobody:
    """The owner of a claim that was given up."""

    def cancel_asked(self) -> None: ...

    def unshared(self, why: Loss) -> None: ...

    def readers_changed(self, count: int) -> None: ...


def _key(name: Name) -> bytes:
    return blake2b(b"prediction\0%b\0%b%b" % (name.model.encode(), name.scope, name.id.encode()), digest_size=32).digest()


def _belongs(meta: Meta, model: Model) -> bool:
    return meta.dialect == DIALECT and meta.route == model.name and hmac.compare_digest(meta.scope, model.scope)


def _id_of(meta: Meta) -> str:
    return meta.headers[0][1].removeprefix(_PATH).decode("ascii")


def _gone() -> FarJob:
    raise error_of(GONE)
