"""The streams that can be resumed: by their ids, for those who made them, until they are forgotten.

A stream is kept while it runs and for ``resume.ttl`` afterwards; of one that is forgotten only its id is remembered for a while, so that
"it is gone" can be told from "there never was one".
"""

from __future__ import annotations

import base64
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import attrs

from txsse.clock import Alarm, Alarms
from txsse.errors import ProxyError
from txsse.proxy.lasting import Lasting

REMEMBERED: Final = 600.0
"""Seconds for which the id of a forgotten stream is remembered."""
MOST_REMEMBERED: Final = 10_000
MOST_HITS: Final = 1000
"""Answers of the cache that are kept as streams when they have been told. Each takes a little memory, which it takes from the cache."""
MOST_REFUSALS: Final = 100
"""Streams that came to nothing and are kept for who missed to hear of it. What they take, they take from the cache, too."""
MOST_CLAIMS: Final = 64
"""Keys that lead to one stream: that of the request that made it, and those of requests that joined it."""
MOST_LIVE: Final = 1000
"""Streams that may run at a time where nobody says otherwise."""


@attrs.frozen
class Claim:
    """Who may repeat a request under a key of its own, and with which body."""

    route: str
    scope: bytes
    key: bytes


@attrs.define(eq=False)
class _Kept:
    """
    :param claims: what leads to it, each with a hash of the body that goes with it.
    :param forgetting: set once it is over, as is *size*.
    """

    run: Lasting
    claims: dict[Claim, bytes] = attrs.Factory(dict)
    size: int = 0
    forgetting: Alarm | None = None


@attrs.frozen
class _Gone:
    """A forgotten stream; *until* in reactor seconds."""

    scope: bytes
    setting: str
    until: float


def new_sid(node: str = "") -> str:
    """128 random bits in 22 characters, after the name of the node where there are several."""
    text = base64.urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode("ascii")
    return f"{node}~{text}" if node else text


class Streams:
    """Of one proxy.

    :ivar bytes_used: by streams that are over: what can be given back.
    :ivar most_live: streams that may run at a time, unless somebody reads each of them: clients that leave do not free what they asked for.
    """

    def __init__(self, alarms: Alarms, count: Callable[[str], None]) -> None:
        self.bytes_used = 0
        self.most_live = MOST_LIVE
        self._alarms = alarms
        self._count = count
        self._kept: dict[str, _Kept] = {}
        self._over: OrderedDict[str, None] = OrderedDict()  # in the order in which they go: the first one to end first
        self._hits: dict[str, None] = {}  # of those
        self._refusals: dict[str, None] = {}  # of those
        self._gone: dict[str, _Gone] = {}
        self._claims: dict[Claim, _Kept] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[Lasting]:
        return iter([kept.run for sid in list(self._kept) if (kept := self._look(sid)) is not None])

    @property
    def live(self) -> int:
        """How many of them are not over."""
        return len(self._kept) - len(self._over)

    def add(self, run: Lasting, claim: Claim | None = None, body: bytes = b"") -> None:
        """*run* can be found from now on; *claim* leads to it for whoever sends the same *body* (a hash)."""
        if self.live >= self.most_live:
            self._end_an_orphan(only_hits=run.is_hit)
        self._kept[run.sid] = _Kept(run)
        if claim is not None:
            self.lead(claim, body, run)

    def lead(self, claim: Claim, body: bytes, run: Lasting) -> bool:
        """*claim* leads to *run*, if that is kept and not too many do so already."""
        kept = self._kept.get(run.sid)
        if kept is None or not run.kept or len(kept.claims) >= MOST_CLAIMS:
            return False
        kept.claims[claim] = body
        self._claims[claim] = kept
        return True

    def _end_an_orphan(self, *, only_hits: bool) -> None:
        """The oldest. What an upstream works for does not make room for a hit."""
        for kept in self._kept.values():
            if kept.run.orphaned and (kept.run.is_hit or not only_hits):
                kept.run.cancel(ProxyError("cancelled", "The stream was ended: nobody read it, and there were too many."))
                return

    def knows(self, sid: str) -> bool:
        """It is kept here, or was."""
        return sid in self._kept or sid in self._gone

    def _look(self, sid: str) -> _Kept | None:
        """What is kept under this id, as it stands by now."""
        kept = self._kept.get(sid)
        if kept is None or kept.run.refresh():
            return kept
        if sid in self._kept:
            self.forget(sid)
        return None

    def setting(self, sid: str) -> str:
        """What decides whom the stream belongs to, as in ``cache.scope``."""
        kept = self._kept.get(sid)
        if kept is not None:
            return kept.run.home.config.cache.scope
        return self._gone[sid].setting if sid in self._gone else "credential"

    def find(self, sid: str, scope: bytes | None) -> Lasting:
        """The stream of this id, if *scope* made it (``None``: the operator asks).

        :raises ProxyError: there is none for this caller, or it is gone.
        """
        kept = self._look(sid)
        if kept is not None and (scope is None or hmac.compare_digest(kept.run.scope, scope)):
            return kept.run
        gone = self._gone.get(sid)
        if gone is not None and self._alarms.seconds() < gone.until and (scope is None or hmac.compare_digest(gone.scope, scope)):
            self._count("gone")
            raise ProxyError("stream_gone", "This stream is not kept any more. Send the request anew, without a cursor.")
        self._count("not_found")
        raise not_found()

    def is_claimed(self, claim: Claim) -> bool:
        """An earlier request with the same key, and whatever body, has made a stream."""
        kept = self._claims.get(claim)
        return kept is not None and self._look(kept.run.sid) is not None

    def claimed(self, claim: Claim, body: bytes) -> Lasting | None:
        """The stream that an earlier request with the same key made.

        :raises ProxyError: that had another body.
        """
        kept = self._claims.get(claim)
        if kept is None or self._look(kept.run.sid) is None:
            return None
        if kept.claims[claim] != body:
            self._count("conflict")
            raise conflict()
        return kept.run

    def ended(self, run: Lasting) -> None:
        """*run* is over: it is kept for its ttl, unless there is nothing to come back to."""
        kept = self._kept.get(run.sid)
        if kept is None:
            return
        nothing_begun = run.head is None or run.head.status >= 400
        if nothing_begun:
            self._unclaim(kept)  # who tries again wants another try
        there_is_room = run.settle()
        kept.size = run.recording.size
        self.bytes_used += kept.size
        self._over[run.sid] = None
        self._forget_later(kept)
        if not there_is_room:
            self.forget(run.sid)
            return
        if nothing_begun and not run.background:  # who asked has been told so: refusals do not drive out streams, however many
            self._over.move_to_end(run.sid, last=False)
            self._keep_among(self._refusals, run.sid, MOST_REFUSALS)
        if run.is_hit:
            self._keep_among(self._hits, run.sid, MOST_HITS)

    def _keep_among(self, sids: dict[str, None], sid: str, most: int) -> None:
        sids[sid] = None
        if len(sids) > most:
            self.forget(self._unread(sids))

    def _forget_later(self, kept: _Kept) -> None:
        kept.forgetting = self._alarms.set(kept.run.resume.ttl, lambda: self._expire(kept))

    def _expire(self, kept: _Kept) -> None:
        """Its time is up; but who is in the middle of it may read it to its end."""
        if kept.run.followers:
            self._forget_later(kept)
        else:
            self.forget(kept.run.sid)

    def forget(self, sid: str) -> None:
        """Of a stream that is over, keep the id only. Its readers keep what they have of it."""
        del self._over[sid]
        self._hits.pop(sid, None)
        self._refusals.pop(sid, None)
        kept = self._kept.pop(sid)
        if kept.forgetting is not None:
            kept.forgetting.cancel()
        self._unclaim(kept)
        run = kept.run
        self.bytes_used -= kept.size
        run.recording.close()
        while len(self._gone) >= MOST_REMEMBERED:
            del self._gone[next(iter(self._gone))]
        self._gone[sid] = _Gone(run.scope, run.home.config.cache.scope, self._alarms.seconds() + REMEMBERED)

    def _unclaim(self, kept: _Kept) -> None:
        for claim in kept.claims:
            if self._claims.get(claim) is kept:
                del self._claims[claim]

    def evict(self) -> None:
        """Give memory back: that of the stream that has been over longest, of those that nobody reads now if there are any. Refusals
        go before all others.
        """
        self.forget(self._unread(self._over))

    def _unread(self, sids: Iterable[str]) -> str:
        """The first that nobody reads; the first, if there is none."""
        unread = (sid for sid in sids if not self._kept[sid].run.followers)
        return next(unread, None) or next(iter(sids))


def conflict() -> ProxyError:
    return ProxyError("idempotency_conflict", "This Idempotency-Key was used with another body. Use a new key for a new request.")


def nothing_kept(gap: int) -> ProxyError:
    """Not an empty answer, which who reconnects by itself would ask for again and again; nor 204, which says that it was read."""
    return ProxyError("stream_gone", f"The stream is over, and none of the {gap} events after the cursor is kept any more.")


def not_found() -> ProxyError:
    return ProxyError("stream_not_found", "There is no stream of this id that this key may read.")
