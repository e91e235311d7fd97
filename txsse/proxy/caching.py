"""The cache of a proxy: which requests are answered from it, which share one stream, and what of that is kept.

A request of a route that caches is looked up before anything is asked of its upstream: in the store, then among the runs under way. Only
what is found nowhere goes upstream, as a run that whoever asks the same meanwhile may join.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Generator, Iterable
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Cooperator, SchedulerStopped
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse.clock import Alarms
from txsse.dialects import DIALECTS, Dialect
from txsse.errors import ProxyError
from txsse.interfaces import Request
from txsse.metrics import CacheResult, Metrics
from txsse.proxy.answers import objection_to
from txsse.proxy.playback import Stored
from txsse.proxy.routes import BoundRoute
from txsse.proxy.run import Run
from txsse.recordings.convert import to_document, to_stream
from txsse.recordings.directives import Directives, parse
from txsse.recordings.entry import Entry
from txsse.recordings.heads import told_again
from txsse.recordings.key import Digest, Uncacheable, digest, make_key, scope_of, twins
from txsse.recordings.lookup import CacheLookup, Question
from txsse.recordings.verdict import judge
from txsse.recordings.view import Glimpse
from txsse.wire.comments import may_hold_comments, without_comments
from txsse.wire.eventstream import is_event_stream
from txsse.wire.headers import Headers, get, tokens
from txsse.wire.http1 import ResponseHead
from txsse.wire.peek import at_once

if TYPE_CHECKING:
    from txsse.recordings.store import Quota, Store

T = TypeVar("T")

JUDGED_AT_ONCE: Final = 64 * 1024
"""Bytes of an answer that is looked through in one go before its readers hear of its end; a longer one is looked through in turns."""

LOOKUP_DEADLINE: Final = 0.25
"""Seconds that somebody else's look-up gets."""

_OPT_IN: Final = b"x-txsse-cache"
_BLANK_LINE: Final = (b"\n\n", b"\n\r", b"\r\r", b"\n\r\n", b"\r\r\n")
_NO_BODY: Final = Digest(b"", None, None, False)
_NO: Final = frozenset((b"0", b"off", b"false", b"no", b""))
_CONDITIONAL: Final = frozenset((b"range", b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range"))


class _LeftOut(Exception):
    """It does not want to be looked up."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


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


class Asking(Protocol):
    """A request that is to be looked up."""

    @property
    def request(self) -> Request: ...

    @property
    def route(self) -> BoundRoute: ...

    @property
    def dialect(self) -> Dialect: ...

    @property
    def streaming(self) -> bool: ...

    @property
    def credentials(self) -> Headers:
        """The fields of its head as they came, keys of this proxy among them."""

    @property
    def query_key(self) -> bytes:
        """A key of this proxy that came in the query, or "" ."""

    @property
    def opaque(self) -> bool:
        """Its body is in a content coding."""


class Caching:
    """Of one proxy.

    :param wall: Unix time in seconds.
    :param space: the memory of all recordings together.
    :param lookup: somebody else's idea of what is the same.
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
        self._cooperator = cooperator
        self._wall = wall
        self._space = space
        self._lookup = lookup
        self._runs: dict[bytes, list[Run]] = {}  # under way; the last to begin is joined
        self._questions: dict[Run, Question] = {}
        self._outdated: set[Run] = set()  # under way, but their answers are not to be kept
        self._settling: dict[bytes, list[Deferred[None]]] = {}  # being looked through: who waits for the verdict

    # -- looking up

    def look_up(self, asking: Asking) -> Generator[Deferred[Any] | None, None, Found]:
        """Find what answers a request. Gives way with ``None`` for a turn of the reactor, or with what is to be waited for."""
        control = parse(asking.request.head.headers)
        found = yield from self._find(asking, control)
        self.metrics.cache[found.result] += 1
        if found.reason:
            self.metrics.cache_refusals[found.reason] += 1
        return found

    def _find(self, asking: Asking, control: Directives) -> Generator[Deferred[Any] | None, None, Found]:
        if control.only_if_cached and (control.no_cache or control.no_store):
            return _not_there()
        if control.no_store:
            return Found("bypass", "no_store")
        try:
            question = yield from self._question(asking)
        except _LeftOut as left_out:
            return _not_there() if control.only_if_cached else Found("bypass", left_out.reason)
        except Uncacheable as uncacheable:
            return _not_there() if control.only_if_cached else Found("uncacheable", uncacheable.reason)
        if control.no_cache:
            return Found("bypass", "no_cache", question=question)
        entry = yield from self._stored(question, asking, control)
        if entry is not None:
            return Found("hit", source=Stored(entry, self._alarms, asking.route.config.cache, by_lines=DIALECTS[entry.dialect].by_lines))
        if control.only_if_cached:
            return _not_there()
        runs = self._runs.get(question.key)
        if runs is not None and runs[-1].joinable and asking.route.config.cache.coalesce:
            return Found("coalesced", source=runs[-1])
        return Found("miss", question=question)

    def _question(self, asking: Asking) -> Generator[Deferred[Any] | None, None, Question]:
        """:raises _LeftOut: it is not to be looked up; :exc:`Uncacheable`: it cannot be."""
        request, route, cache = asking.request, asking.route, asking.route.config.cache
        fields = request.head.headers
        if request.head.method != b"POST":
            raise Uncacheable("method")
        if asking.opaque:
            raise Uncacheable("encoded")
        if any(name.lower() in _CONDITIONAL for name, _ in fields):
            raise _LeftOut("conditional")
        wanted = _wanted(asking.credentials)
        if wanted is False or (cache.mode == "opt-in" and not wanted):
            raise _LeftOut("not_asked_for")
        scope = scope_of(asking.credentials, cache.scope, asking.query_key)
        summary = yield from digest(request.body, frozenset(cache.ignore))
        if cache.mode == "deterministic" and not wanted and not summary.deterministic:
            raise Uncacheable("not_deterministic")
        return Question(
            _key(asking, scope, summary),
            route.name,
            asking.dialect.name,
            request.head.decoded_path,
            request.body if self._lookup is not None else b"",  # a long stream must not keep its prompt in memory for nobody
            asking.streaming,
            scope,
            summary,
            _key(asking, scope, _NO_BODY) if self._lookup is not None else b"",
        )

    def _stored(self, question: Question, asking: Asking, control: Directives) -> Generator[Deferred[Any] | None, None, Entry | None]:
        while question.key in self._settling:
            verdict: Deferred[None] = Deferred()
            self._settling[question.key].append(verdict)
            yield verdict
        entry = yield from self._get(question.key, control)
        if entry is None and asking.route.config.cache.convert:
            for other in twins(question.digest, streamed=question.streamed, unless_told=asking.dialect.streams_unless_told):
                twin = yield from self._get(_key(asking, question.credential, other), control)
                entry = None if twin is None else _converted(twin, question)
                if entry is not None:
                    return entry
        if entry is None and self._lookup is not None:
            entry = yield from self._similar(self._lookup, question, control)
        return entry

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

    # -- runs

    def began(self, run: Run, question: Question) -> None:
        """*run* asks upstream what *question* is; whoever asks it meanwhile may join."""
        self._runs.setdefault(question.key, []).append(run)
        self._questions[run] = question

    @property
    def flights(self) -> int:
        """How many can be joined."""
        return len(self._runs)

    def run_complete(self, run: Run) -> None:
        """A clean end (:class:`~txsse.proxy.run.RunWatcher`): keep it, if it may be kept."""
        question = self._questions.get(run)
        if question is not None and run not in self._outdated:
            try:
                self._consider(run, question)
            except Exception:
                self._log.failure("an answer was not stored")  # its readers are to hear of their stream's end all the same

    def _consider(self, run: Run, question: Question) -> None:
        head = run.head
        assert head is not None
        reason = objection_to(head) or _fault(run) or _varies(head, run.home.config.cache.scope)
        if reason:
            self.metrics.cache_refusals[reason] += 1
            return
        self._supersede(run, question.key)
        body, ends, times = run.recording.joined()
        run.let_go()
        kind = get(head.headers, b"content-type")
        streamed = run.streamed or DIALECTS[question.dialect].is_stream(kind) or is_event_stream(kind)
        entry = Entry(
            question.key,
            question.route,
            question.dialect,
            streamed,
            told_again(head.headers),
            body,
            ends,
            times,
            self._wall() - _age_of(head),
            run.home.config.cache.ttl,
            *run.usage(),
        )
        steps = judge(question.dialect, streamed, body)
        if len(body) <= JUDGED_AT_ONCE:
            self._keep(entry, at_once(steps), question)
            return
        if not self._space.take(entry.size):
            self.metrics.cache_refusals["too_large"] += 1
            return
        self._settling.setdefault(question.key, [])
        verdicts: list[str] = []
        looking = self._cooperator.coiterate(_collect(steps, verdicts))
        looking.addBoth(self._give_back, entry.size)
        looking.addCallback(lambda _: self._keep(entry, verdicts[0], question))
        looking.addErrback(self._not_stored)
        looking.addCallback(lambda _: self._settled(question.key))

    def _supersede(self, run: Run, key: bytes) -> None:
        """What began before *run* and ends after it is not to replace its answer with an older one."""
        runs = self._runs[key]
        self._outdated.update(runs[: runs.index(run)])

    def _give_back(self, result: T, size: int) -> T:
        self._space.give(size)
        return result

    def _not_stored(self, failure: Failure) -> None:
        if not failure.check(SchedulerStopped):  # the proxy was closed
            self._log.failure("an answer was not stored", failure)

    def _settled(self, key: bytes) -> None:
        for waiting in self._settling.pop(key, ()):
            waiting.callback(None)

    def _keep(self, entry: Entry, reason: str, question: Question) -> None:
        if reason:
            self.metrics.cache_refusals[reason] += 1
            return
        entry = _uncommented(entry)
        if not self.store.put(entry, self._wall()):
            self.metrics.cache_refusals["too_large"] += 1
            return
        self.metrics.cache["store"] += 1
        if self._lookup is not None:
            try:
                self._lookup.stored(question)
            except Exception:
                self._log.failure("a cache look-up's `stored` failed")

    def run_over(self, run: Run) -> None:
        """The end, whatever it was."""
        question = self._questions.pop(run, None)
        self._outdated.discard(run)
        if question is not None:
            self._leave(run, question.key)

    def _leave(self, run: Run, key: bytes) -> None:
        runs = self._runs.get(key, [])
        if run in runs:
            runs.remove(run)
            if not runs:
                del self._runs[key]

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
        for run, question in self._questions.items():
            if route is None or question.route == route:
                self._outdate(run, question.key)
        return self.store.purge(route)

    def delete(self, key: bytes) -> bool:
        for run in list(self._runs.get(key, ())):
            self._outdate(run, key)
        return self.store.delete(key)

    def _outdate(self, run: Run, key: bytes) -> None:
        """Who reads it goes on; but nobody is told an answer to what was asked before a purge."""
        self._outdated.add(run)
        self._leave(run, key)


def _wanted(fields: Headers) -> bool | None:
    """What the client says itself, if it does."""
    told = get(fields, _OPT_IN)
    return None if told is None else told.strip().lower() not in _NO


def _not_there() -> Found:
    text = "There is no stored answer to this request, and it asked for nothing else (only-if-cached)."
    return Found("bypass", "only_if_cached", error=ProxyError("cache_miss", text))


def _key(asking: Asking, scope: bytes, summary: Digest) -> bytes:
    request, route = asking.request, asking.route
    upstream = route.backend.config
    host = (request.host,) if upstream.host == "preserve" else ()  # then it decides too
    return make_key(
        route=route.name,
        upstream=repr((upstream.name, upstream.all_urls, *host)).encode(),
        method=request.head.method,
        target=request.path,
        dialect=asking.dialect.name,
        headers=request.head.headers,
        scope=scope,
        digest=summary,
    )


def _fault(run: Run) -> str:
    """Why what *run* has recorded is not kept, whatever it is."""
    if run.route.backend is not run.home.backend:
        return "fallback"
    if run.recording.torn:
        return "too_large"
    return "" if run.whole else "unfinished"


_CREDENTIALS: Final = frozenset((b"authorization", b"cookie", b"x-api-key", b"api-key"))


def _varies(head: ResponseHead, scope: str) -> str:
    """Upstream says that its answer depends on the credential, which is not in the key unless it is the scope."""
    return "vary" if scope != "credential" and not _CREDENTIALS.isdisjoint(tokens(head.headers, b"vary")) else ""


def _age_of(head: ResponseHead) -> int:
    """Seconds for which the answer has been in the caches behind us (RFC 9111 section 5.1)."""
    told = (get(head.headers, b"age") or b"").strip()
    return int(told) if told.isdigit() and len(told) < 10 else 0


def _collect(steps: Generator[None, None, str], into: list[str]) -> Generator[None, None, None]:
    into.append((yield from steps))


async def _asked(lookup: CacheLookup, question: Question) -> bytes | None:
    return await lookup.look_up(question)


def _converted(entry: Entry, question: Question) -> Entry | None:
    """*entry* as the other kind of answer; ``None``: not without a loss."""
    if entry.streamed == question.streamed:
        return None
    if entry.streamed:
        document = to_document(entry.dialect, entry.body)
        pieces = None if document is None else [document]
        kind = b"application/json"
    else:
        pieces = to_stream(entry.dialect, entry.body, include_usage=question.digest.wants_usage)
        kind = DIALECTS[entry.dialect].content_type
    if pieces is None:
        return None
    headers = [(name, value) for name, value in entry.headers if name.lower() != b"content-type"]
    return _pieced(entry, pieces, [0.0] * len(pieces), streamed=not entry.streamed, headers=[(b"Content-Type", kind), *headers])


def _pieced(entry: Entry, pieces: list[bytes], times: Iterable[float], **changes: Any) -> Entry:
    """*entry* made of these pieces."""
    body = b"".join(pieces)
    return attrs.evolve(entry, body=body, ends=array("I", accumulate(map(len, pieces))), times=array("f", times), **changes)


def _uncommented(entry: Entry) -> Entry:
    """*entry* without upstream's signs of life."""
    if not entry.streamed or DIALECTS[entry.dialect].by_lines or not may_hold_comments(entry.body):
        return entry
    pieces: list[bytes] = []
    times: list[float] = []
    begin = 0
    for end, time in zip(entry.ends, entry.times, strict=True):
        if end < len(entry.body) and not entry.body.endswith(_BLANK_LINE, begin, end):
            continue  # it was relayed in the middle of an event: a colon that comes next begins no comment
        after_cr = begin > 0 and entry.body[begin - 1] == 13
        if piece := without_comments(entry.body[begin:end], after_cr=after_cr):
            pieces.append(piece)
            times.append(time)
        begin = end
    return _pieced(entry, pieces, times)
