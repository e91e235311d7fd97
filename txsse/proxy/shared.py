"""Streams that several machines share through Redis: ours are written there as they run, and those of others are read from there.

Whoever reads a stream on the machine that asked for it does not notice: what goes wrong with Redis ends the sharing, not the stream.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from txsse.errors import ProxyError
from txsse.proxy.elsewhere import Elsewhere, Scopes, Search, Spot, error_of, is_mute, is_own
from txsse.proxy.resumable import ResumableRun
from txsse.proxy.streams import Claim, conflict, not_found, nothing_kept
from txsse.recordings.heads import told_again
from txsse.redis.claims import Claimed, Claims
from txsse.redis.journal import Found, Journal
from txsse.redis.records import DONE, UNSHARED, Head, Meta, Terminal
from txsse.wire.headers import Headers

if TYPE_CHECKING:
    from txsse.dialects import Dialect
    from txsse.proxy.routes import BoundRoute
    from txsse.recordings.cursor import Cursor
    from txsse.redis.link import RedisLink
    from txsse.redis.outbox import Loss
    from txsse.wire.http1 import ResponseHead

ATTEMPTS: Final = 3
"""At a claim that others make at the same time."""

_UNKNOWN_ID: Final = "The cursor is not the id of an event of this stream: send the last one that came, or none for all of it."

T = TypeVar("T")
Steps = Generator[Deferred[Any], None, T]
"""Give way with what is to be waited for."""


@attrs.frozen
class Held:
    """A claim of ours."""

    key: bytes
    claimed: Claimed


class Shared:
    """Of one proxy. Implements :class:`txsse.recordings.view.SharedView`.

    :param routes: those it has now.
    :param count: one more of ``txsse_resumes_total``.
    :ivar losses: streams of ours whose sharing ended before they did, by why.
    """

    def __init__(self, link: RedisLink, journal: Journal, routes: Callable[[], Iterable[BoundRoute]], count: Callable[[str], None]) -> None:
        self.journal = journal
        self.losses: Counter[str] = Counter()
        self.link = link
        self._claims = Claims(link, journal.name)
        self._routes = routes
        self._count = count
        self._readers: Counter[str] = Counter()  # here, of streams of other machines

    # -- ours

    def share(self, run: ResumableRun, held: Held | None = None) -> None:
        """Write *run* to Redis from its first event on.

        :param held: the claim that it was made under.
        """
        meta = _meta(run.home, run.dialect, run.scope, run.created)
        run.sharing = Sharing(run, self, meta, held)

    def claim(self, claim: Claim, body: bytes, sid: str, route: BoundRoute, dialect: Dialect, now: float) -> Steps[Held | str | ProxyError]:
        """Whose stream a request is to have that must not be made twice: its own, which is then to be of id *sid* and shared with what this
        gives; or one there is already, whose id this gives. An error: the claim was made with another body.

        :param body: a hash of it.
        """
        key, wanted = _key(claim), Claimed(sid, body)
        meta = _meta(route, dialect, claim.scope, now)
        earlier: Claimed | None = None
        try:
            for _ in range(ATTEMPTS):
                there = yield from _result(self._claims.claim(key, wanted, meta, earlier))
                if there is None:
                    break
                if there.body != body:
                    self._count("conflict")
                    return conflict()
                found = yield from _result(self.open(there.sid))
                if isinstance(found, ProxyError) or (found is not None and _is_answer(found)):
                    return str(there.sid)
                earlier = there
        except GeneratorExit:  # who asked is gone
            self.release(Held(key, wanted))
            raise
        return Held(key, wanted)

    def lead(self, claim: Claim, body: bytes, sid: str) -> Held:
        """The same for a stream of ours that is there already. Nobody waits for it."""
        held = Held(_key(claim), Claimed(sid, body))
        self._claims.add(held.key, held.claimed)
        return held

    def release(self, held: Held) -> None:
        """Nothing comes of a claim."""
        self.settle(held, 0)

    def settle(self, held: Held, life: float) -> None:
        """The stream of a claim is over: that stands for so many seconds more."""
        self._claims.settle(held.key, held.claimed, life)

    # -- theirs

    def open(self, sid: str) -> Deferred[Found | ProxyError | None]:
        """Look for another machine's stream; an error if nobody can say whether there is one."""
        return self.journal.open(sid).addErrback(_unreachable)

    def cancel(self, sid: str) -> Deferred[object]:
        """Ask its machine to end it; fires when that was asked, or cannot be."""
        return self.journal.cancel(sid).addErrback(lambda _: None)

    def own(self, found: Found | ProxyError | None, scopes: Scopes) -> tuple[Found, BoundRoute]:
        """What :meth:`open` found, and the route here that it belongs to.

        :param scopes: whom the request comes from.
        :raises ProxyError: there is nothing for this caller.
        """
        if isinstance(found, ProxyError):
            raise found
        route = None if found is None else next((each for each in self._routes() if each.name == found.meta.route and each.resumes), None)
        if found is None or route is None or not hmac.compare_digest(found.meta.scope, scopes(route.config.cache.scope)):
            self._count("not_found")
            raise not_found()
        return found, route

    def place(self, sid: str, cursor: Cursor, scopes: Scopes) -> Steps[Spot | ProxyError]:
        """Where a reader goes on: steps that give way with what is to be waited for. An error: it cannot."""
        try:
            found, route = self.own((yield from _result(self.open(sid))), scopes)
        except ProxyError as error:
            return error
        after = found.last if cursor.live else cursor.after
        if cursor.foreign is not None:
            after = yield from _result(self._search(sid, found, cursor.foreign))
        try:
            return self._place(sid, found, route, after)
        except ProxyError as error:
            return error

    def _search(self, sid: str, found: Found, wanted: bytes) -> Deferred[int | None]:
        """The number of the event that upstream gave this id, among those that there are by now."""
        search = Search(wanted, found.last)
        if found.first > found.last:
            search.result.callback(None)
        else:
            search.follow = self.journal.follow(sid, found.first - 1, search)
        return search.result

    def _place(self, sid: str, found: Found, route: BoundRoute, after: int | None) -> Spot:
        """:raises ProxyError: it cannot."""
        terminal, resume = found.terminal, route.config.resume
        if after is None:
            self._count("gap" if found.first > 1 else "bad_cursor")
            raise ProxyError("stream_gone" if found.first > 1 else "bad_cursor", _UNKNOWN_ID)
        if terminal is not None and is_own(terminal) and after >= found.last + bool(terminal.code):  # the error is an event too
            self._count("complete")
            return Spot(sid, found, route, None)
        gap = max(found.first - 1 - after, 0)
        if terminal is not None and after + gap >= found.last:
            error = self._only_end(terminal, found, route, gap)
            if error is not None:
                self._count("gone")
                raise error
        if self._readers[sid] >= resume.max_readers:
            self._count("too_many")
            raise ProxyError("too_many_readers", f"This stream has {resume.max_readers} readers already. Try again later.")
        if gap and resume.on_gap == "error":
            self._count("gap")
            text = f"{gap} events after the cursor are not kept any more; the first that is has number {found.first}."
            raise ProxyError("stream_gone", text)
        self._count("gap" if gap else "resumed")
        return Spot(sid, found, route, after + gap, gap)

    def _only_end(self, terminal: Terminal, found: Found, route: BoundRoute, gap: int) -> ProxyError | None:
        """What a reader is refused with for whom nothing is left but how the stream ended; ``None``: it is told that in the stream."""
        if not is_own(terminal):
            # No event tells of this: its number could be that of another one, where the stream goes on.
            return error_of(terminal)
        if not terminal.code:
            return nothing_kept(gap)
        return error_of(terminal) if is_mute(found, route) else None

    def source(self, spot: Spot) -> Elsewhere:
        """What a reader there reads."""
        return Elsewhere(spot, self.journal, self._readers)

    # -- for the operator (SharedView)

    @property
    def up(self) -> bool:
        return self.link.available

    @property
    def trouble(self) -> str:
        return self.link.trouble

    @property
    def timeouts(self) -> int:
        return self.link.timeouts

    @property
    def refusals(self) -> Counter[str]:
        return self.link.refusals

    @property
    def owned(self) -> int:
        return self.journal.owned

    @property
    def followed(self) -> int:
        return self.journal.followed

    @property
    def dropped(self) -> int:
        return self.journal.counts.dropped

    @property
    def reaped(self) -> int:
        return self.journal.reaped


class Sharing:
    """One stream of ours, on its way to Redis (:class:`txsse.redis.shares.Owner`).

    :param held: the claim that it was made under.
    """

    def __init__(self, run: ResumableRun, shared: Shared, meta: Meta, held: Held | None) -> None:
        self._run = run
        self._shared = shared
        self._held = [] if held is None else [held]
        self._share = shared.journal.create(run.sid, meta, self, run.resume.max_bytes)

    def joined(self, claim: Claim, body: bytes) -> None:
        """Somebody has joined it under a key, which leads others to it from now on, too."""
        self._held.append(self._shared.lead(claim, body, self._run.sid))

    def begin(self, head: ResponseHead) -> None:
        self._share.begin(Head(head.status, told_again(head.headers)))

    def append(self, event: bytes) -> None:
        self._share.append(event)

    def drop(self) -> None:
        """The run goes on, but can be read here only."""
        self._share.finish(UNSHARED)

    def finish(self, error: ProxyError | None) -> None:
        """The run has ended."""
        head = self._run.head
        if error is not None:
            terminal = Terminal(error.code, error.message, error.http_status)
        elif head is not None and not self._run.streamed:
            terminal = Terminal("upstream_error", f"The upstream answered {head.status}, and no stream.", max(head.status, 400))
        else:
            terminal = DONE
        self._share.finish(terminal)
        for held in self._held:
            # Nothing was begun: who tries again wants another try.
            self._shared.settle(held, self._run.resume.ttl if head is not None and head.status < 400 else 0.0)

    def cancel_asked(self) -> None:
        self._run.cancel(ProxyError("cancelled", "The stream was ended by request."))

    def unshared(self, why: Loss) -> None:
        """Those who read it here do not notice."""
        self._shared.losses[why] += 1

    def readers_changed(self, count: int) -> None:
        self._run.read_elsewhere(count)


def _key(claim: Claim) -> bytes:
    return blake2b(b"%b\0%b%b" % (claim.route.encode(), claim.scope, claim.key), digest_size=32).digest()


def _is_answer(found: Found) -> bool:
    """Is that stream what a request that must not be made twice is to have? One that is lost is none, nor one of which nothing came."""
    terminal = found.terminal
    return terminal is None or (is_own(terminal) and (not terminal.code or found.last > 0))


def unreachable() -> ProxyError:
    """Nobody can say."""
    text = "The store that streams are shared through cannot be reached now. Try again in a moment."
    return ProxyError("upstream_unavailable", text, status=503)


def _meta(route: BoundRoute, dialect: Dialect, scope: bytes, created: float) -> Meta:
    """It has no head yet: a stream is what it asks for, and what is told of one whose head nobody wrote."""
    headers: Headers = [(b"Content-Type", dialect.content_type)]
    return Meta(route.name, dialect.name, scope, dialect.content_type, 200, headers, created, route.config.resume.ttl)


def _unreachable(failure: Failure) -> ProxyError:
    if failure.check(CancelledError):
        failure.raiseException()  # who asked has left: no trouble of the store's
    return unreachable()


def _result(waited: Deferred[Any]) -> Steps[Any]:
    results: list[Any] = []
    yield waited.addCallback(results.append)
    return results[0]


def open_shared(
    link: RedisLink, reactor: Any, node: str, routes: Callable[[], Iterable[BoundRoute]], count: Callable[[str], None]
) -> Shared:
    """What is shared through *link*, which has been started."""
    journal = Journal(link, reactor, node or "txsse")
    journal.start()
    return Shared(link, journal, routes, count)
