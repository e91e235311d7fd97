"""The cache of a proxy: which requests are answered from it, and which share one stream.

A request of a route that caches is looked up before anything is asked of its upstream: in the store, then among the runs under way. Only
what is found nowhere goes upstream, as a run that whoever asks the same meanwhile may join.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, Final

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Cooperator
from twisted.logger import Logger

from txsse.clock import Alarms
from txsse.errors import ProxyError
from txsse.metrics import CacheResult, Metrics
from txsse.proxy.keeping import Keeping
from txsse.proxy.playback import Stored
from txsse.proxy.question import Asking, LeftOut, key_of, question_of
from txsse.proxy.run import Run
from txsse.recordings.directives import Directives, parse
from txsse.recordings.entry import Entry
from txsse.recordings.forms import converted
from txsse.recordings.key import Uncacheable, twins
from txsse.recordings.lookup import CacheLookup, Question
from txsse.recordings.view import Glimpse

if TYPE_CHECKING:
    from txsse.recordings.store import Quota, Store

LOOKUP_DEADLINE: Final = 0.25
"""Seconds that somebody else's look-up gets."""


@attrs.frozen
class Found:
    """What became of a look-up.

    :param result: as in ``txsse_cache_total``.
    :param reason: why it is not looked up, or cannot be kept.
    :param source: what answers in the upstream's place.
    :param question: what a run is to be kept under, in a miss.
    :param error: what the request is refused with.
    """

    result: CacheResult
    reason: str = ""
    source: Stored | Run | None = None
    question: Question | None = None
    error: ProxyError | None = None


class Caching:
    """Of one proxy.

    :param wall: Unix time in seconds.
    :param space: the memory of all recordings together.
    :param lookup: somebody else's idea of what is the same.
    :ivar keeping: what becomes of the answers.
    """

    _log = Logger()

    def __init__(
        self,
        store: Store,
        metrics: Metrics,
        alarms: Alarms,
        cooperator: Cooperator,
        wall: Callable[[], float],
        space: Quota,
        lookup: CacheLookup | None = None,
    ) -> None:
        self.store = store
        self.metrics = metrics
        self._alarms = alarms
        self._wall = wall
        self._space = space
        self._lookup = lookup
        self.keeping = Keeping(store, metrics, cooperator, wall, space, lookup)

    # -- looking up

    def look_up(self, asking: Asking, *, lasts: bool = False) -> Generator[Deferred[Any] | None, None, Found]:
        """Find what answers a request. Gives way with ``None`` for a turn of the reactor, or with what is to be waited for.

        :param lasts: what answers it is to be come back to.
        """
        control = parse(asking.request.head.headers)
        found = yield from self._find(asking, control, lasts=lasts)
        self.metrics.cache[found.result] += 1
        if found.reason:
            self.metrics.cache_refusals[found.reason] += 1
        return found

    def _find(self, asking: Asking, control: Directives, *, lasts: bool) -> Generator[Deferred[Any] | None, None, Found]:
        if control.only_if_cached and (control.no_cache or control.no_store):
            return _not_there(Found("bypass", "only_if_cached"))
        if control.no_store:
            return Found("bypass", "no_store")
        try:
            question = yield from question_of(asking, whole=self._lookup is not None)
        except LeftOut as left_out:
            found = Found("bypass", left_out.reason)
            return _not_there(found) if control.only_if_cached else found
        except Uncacheable as uncacheable:
            found = Found("uncacheable", uncacheable.reason)
            return _not_there(found) if control.only_if_cached else found
        if control.no_cache:
            return Found("bypass", "no_cache", question=question if asking.route.config.cache.no_cache_writes else None)
        stored = yield from self._stored(question, asking, control)
        if stored is not None:
            return Found("hit", source=stored)
        if control.only_if_cached:
            return _not_there(Found("miss"))
        run = self.keeping.under_way(question.key) if asking.route.config.cache.coalesce else None
        if run is not None and run.joinable and (run.resumable or not lasts):
            return Found("coalesced", source=run)
        return Found("miss", question=question)

    def _stored(self, question: Question, asking: Asking, control: Directives) -> Generator[Deferred[Any] | None, None, Stored | None]:
        while (verdict := self.keeping.verdict(question.key)) is not None:
            yield verdict
        entry = yield from self._get(question.key, control)
        if entry is None and asking.route.config.cache.convert:
            for other in twins(question.digest, streamed=question.streamed, unless_told=asking.dialect.streams_unless_told):
                twin = yield from self._get(key_of(asking, question.credential, other), control)
                made = None if twin is None else converted(twin, question)
                if made is not None:
                    return Stored(made, self._alarms, asking.route.config.cache, own=True)
        if entry is None and self._lookup is not None:
            entry = yield from self._similar(self._lookup, question, control)
        return None if entry is None else Stored(entry, self._alarms, asking.route.config.cache)

    def _get(self, key: bytes, control: Directives) -> Generator[Deferred[Any] | None, None, Entry | None]:
        now = self._wall()
        entry = self.store.get(key, now)
        if entry is None:
            fetching = self.store.fetch(key, now)
            if fetching is not None:
                fetched: list[Entry | None] = []
                yield fetching.addCallback(fetched.append)
                entry = fetched[0] if fetched else None
        if entry is not None and control.max_age is not None and entry.age(now) > control.max_age:
            return None
        return entry

    def _similar(self, lookup: CacheLookup, question: Question, control: Directives) -> Generator[Deferred[Any] | None, None, Entry | None]:
        """What somebody else finds; a failure of theirs, or no answer in time, is a miss."""
        found: list[bytes | None] = []
        asked = Deferred.fromCoroutine(_asked(lookup, question))
        asked.addCallbacks(found.append, lambda failure: self._log.warn("cache look-up failed: {error!r}", error=failure.value))
        decided: Deferred[None] = Deferred()

        def decide(_: object = None) -> None:
            late.cancel()
            if not decided.called:
                decided.callback(None)
            asked.cancel()

        late = self._alarms.set(LOOKUP_DEADLINE, decide)
        asked.addCallback(decide)
        yield decided  # not `asked`: who does not let himself be cancelled is not waited for either
        key = found[0] if found else None
        if key is None:
            return None
        entry = yield from self._get(key, control)
        # Somebody else's index is no reason to show one client's answer to another.
        return entry if entry is not None and entry.route == question.route and entry.streamed == question.streamed else None

    @property
    def now(self) -> float:
        return self._wall()

    def age(self, entry: Entry) -> float:
        return entry.age(self._wall())

    # -- for the operator (CacheView)

    @property
    def limit(self) -> int:
        return self._space.limit

    @property
    def used(self) -> int:
        return self.store.bytes_used

    @property
    def count(self) -> int:
        return self.store.count

    @property
    def flights(self) -> int:
        return self.keeping.flights

    @property
    def evicted(self) -> int:
        evictions = self.store.evictions
        return evictions["lru"] + evictions["disk"]

    def entries(self, route: str | None) -> Iterable[Glimpse]:
        now = self._wall()
        for each in self.store.entries():
            if route is None or each.route == route:
                yield Glimpse(
                    each.key, each.route, each.dialect, each.model, each.size, each.age(now), max(each.expires - now, 0.0), each.hits
                )

    def purge(self, route: str | None) -> int:
        self.keeping.outdate_route(route)
        return self.store.purge(route)

    def delete(self, key: bytes) -> bool:
        self.keeping.outdate(key)
        return self.store.delete(key)


def _not_there(found: Found) -> Found:
    """*found*, for a request that wants nothing of the upstream."""
    text = "There is no stored answer to this request, and it asked for nothing else (only-if-cached)."
    return attrs.evolve(found, error=ProxyError("cache_miss", text))


async def _asked(lookup: CacheLookup, question: Question) -> bytes | None:
    return await lookup.look_up(question)
