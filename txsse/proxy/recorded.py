"""Requests of routes that keep streams: those that mean an earlier stream go on with it, the others are looked up in the cache, and what
is found nowhere becomes a run, which others may join and come back to."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypedDict, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Cooperator

from txsse.dialects import DIALECTS, Dialect
from txsse.dialects.shapes import dump
from txsse.errors import ProxyError
from txsse.interfaces import Downstream, Exchange, Request
from txsse.proxy.admission import NOBODY, Admission, Members, wants_state
from txsse.proxy.caching import Caching, Found
from txsse.proxy.conductor import Conductor, Owner
from txsse.proxy.cors import cors_headers
from txsse.proxy.forwarder import Forwarder
from txsse.proxy.peers import HOP, PeerForwarder, Peers
from txsse.proxy.reader import Reader, Source, cache_notes
from txsse.proxy.resumable import ResumableRun
from txsse.proxy.resumption import (
    Resumption,
    body_hash,
    claim_of,
    named_in,
    place_notes,
    responds_async,
    scope_or_anonymous,
    split_path,
    stream_notes,
    summary,
    wants_ids,
)
from txsse.proxy.routes import BoundRoute
from txsse.proxy.run import Run
from txsse.proxy.streams import Claim
from txsse.recordings.cursor import Cursor, ours
from txsse.recordings.entry import Entry
from txsse.recordings.recording import Space
from txsse.wire.headers import Headers, get
from txsse.wire.http1 import RequestHead

if TYPE_CHECKING:
    from txsse.proxy.elsewhere import Spot
    from txsse.proxy.shared import Held, Shared

T = TypeVar("T")


class Traits(TypedDict):
    """What a conductor is told of its request, besides the request itself."""

    streaming: bool
    commits: bool
    pads: bool
    interval: float
    members: Members
    show_text: bool
    request_id: bytes


@attrs.frozen(eq=False, kw_only=True)
class Asked:
    """A request that is to be looked up (``Asking``), and what is needed to answer it.

    :param brought: its head and its path as they came, with our key in them.
    """

    request: Request
    downstream: Downstream
    route: BoundRoute
    dialect: Dialect
    traits: Traits
    brought: tuple[RequestHead, bytes]
    query_key: bytes
    opaque: bool

    @property
    def credentials(self) -> Headers:
        return self.brought[0].headers

    @property
    def original(self) -> Request:
        """For a proxy that knows our keys."""
        head, path = self.brought
        return attrs.evolve(self.request, head=head, path=path)

    @property
    def streaming(self) -> bool:
        return self.traits["streaming"]

    @property
    def scope(self) -> bytes:
        """Whom a stream that it makes belongs to."""
        return self.scope_as(self.route.config.cache.scope)

    def scope_as(self, setting: str) -> bytes:
        """Whom it comes from, in terms of ``cache.scope``."""
        return scope_or_anonymous(self.credentials, setting, self.query_key)

    @property
    def claim(self) -> Claim | None:
        return claim_of(self.route.name, self.scope, self.credentials)


@attrs.frozen
class Looked:
    """What is known of a request before it is answered.

    :param found: what the cache says.
    :param sid: of the stream that it may become.
    :param claimed: what became of its ``Idempotency-Key`` where machines share streams: a claim, or the id of the stream that it led to.
    """

    found: Found | None
    sid: str
    claimed: Held | str | ProxyError | None = None

    @property
    def held(self) -> Held | None:
        return None if isinstance(self.claimed, str | ProxyError) else self.claimed


class Refuse(Protocol):
    def __call__(self, error: ProxyError, request: Request, downstream: Downstream, dialect: Dialect | None = None) -> None:
        """Answer with an error, in this dialect's shape if that is known better than by the request's path."""


class RecordedRequests:
    """Of one proxy.

    :param conduct: lets a conductor live.
    :param refuse: answers with an error.
    :param answered: a request was answered at once, with this status.
    """

    def __init__(
        self,
        owner: Owner,
        caching: Caching,
        resumption: Resumption,
        space: Space,
        cooperator: Cooperator,
        conduct: Callable[[Conductor], Exchange],
        refuse: Refuse,
        answered: Callable[[Request, BoundRoute, bytes, int, int], None],
        admissions: set[Admission[Any]],
        admission_over: Callable[[Admission[Any], bool], None],
        peers: Peers | None = None,
        shared: Shared | None = None,
    ) -> None:
        self._shared = shared
        self._owner = owner
        self._peers = peers
        self._caching = caching
        self._metrics = caching.metrics
        self._resumption = resumption
        self._space = space
        self._cooperator = cooperator
        self._conduct = conduct
        self._refuse = refuse
        self._answered = answered
        self._admissions = admissions
        self._admission_over = admission_over

    # -- new requests

    def open(self, asked: Asked) -> Exchange:
        """A request of a route that records."""
        try:
            earlier = self._earlier(asked) if asked.route.resumes else None
        except ProxyError as error:
            self._refuse(error, asked.request, asked.downstream)
            return NOBODY
        if earlier is not None:
            return earlier
        steps = self._look(asked)
        try:
            pause = next(steps)
        except StopIteration as end:
            return self._answer(asked, end.value)
        whole = _from(pause, steps)
        admission = Admission(asked.request, asked.downstream, whole, partial(self._answer, asked), self._admission_over)
        self._admissions.add(admission)
        admission.go(self._cooperator)
        return admission

    def _look(self, asked: Asked) -> Generator[Deferred[Any] | None, None, Looked]:
        found = (yield from self._caching.look_up(asked)) if asked.route.caches else None
        sid = self._resumption.new_sid()
        answered = found is not None and (found.source is not None or found.error is not None)
        if self._shared is None or answered or not asked.streaming or (claim := asked.claim) is None or not self._records(asked, found):
            return Looked(found, sid)
        body, now = body_hash(asked.request.body), self._caching.now
        return Looked(found, sid, (yield from self._shared.claim(claim, body, sid, asked.route, asked.dialect, now)))

    def _earlier(self, asked: Asked) -> Exchange | None:
        named = ours(asked.request.head.headers)
        if named is not None and (keeper := self._keeper(named[0].decode("ascii"), asked.request)) is not None:
            return self._pass_on(keeper, asked.original, asked.downstream, asked.traits)
        if named is not None and self._is_elsewhere(named[0].decode("ascii")):
            cursor = Cursor(named[1])
            return self._look_elsewhere(named[0].decode("ascii"), cursor, asked.request, asked.downstream, asked.scope_as, asked.traits)
        found = self._resumption.earlier(asked.request, asked.claim, asked.scope_as)
        if found is None:
            return None
        if asked.streaming and named is None and responds_async(asked.request.head.headers):
            return self._let_run(found[0], asked)
        return self._go_on(*found, asked.request, asked.downstream, asked.traits)

    def _answer(self, asked: Asked, looked: Looked) -> Exchange:
        found = looked.found
        if isinstance(looked.claimed, str):
            return self._attach(asked, looked.claimed)
        if isinstance(looked.claimed, ProxyError):
            self._refuse(looked.claimed, asked.request, asked.downstream)
            return NOBODY
        if found is not None and found.error is not None:
            self._refuse(found.error, asked.request, asked.downstream)
            return NOBODY
        source = None if found is None else found.source
        asks = source is None and self._records(asked, found)
        if asks:
            source = self._run(asked, looked)
        if isinstance(source, ResumableRun) and asked.streaming and responds_async(asked.request.head.headers):
            return self._let_run(source, asked)
        notes: Headers = []
        if found is not None:
            entry = getattr(source, "entry", None)
            notes = cache_notes(found.result, found.reason, self._caching.age(entry) if isinstance(entry, Entry) else None)
        if source is None:
            conductor: Conductor = Forwarder(self._owner, asked.route, asked.request, asked.downstream, asked.dialect, **asked.traits)
        else:
            numbers = isinstance(source, ResumableRun) and wants_ids(asked.route.config.resume.mode, asked.request, asked.dialect)
            conductor = self._reader(
                source, asked.request, asked.downstream, asked.dialect, asked.route, asked.traits, asked=asks, numbers=numbers
            )
            if isinstance(source, ResumableRun):
                notes += stream_notes(source)
        conductor.cache = "" if found is None else found.result
        conductor.notes = notes
        return self._conduct(conductor)

    def _attach(self, asked: Asked, sid: str) -> Exchange:
        """It was made before, under the same key."""
        if self._is_elsewhere(sid):
            return self._look_elsewhere(sid, Cursor(), asked.request, asked.downstream, asked.scope_as, asked.traits)
        try:
            run = self._resumption.find(sid, asked.scope_as)
            return self._go_on(run, Cursor(), asked.request, asked.downstream, asked.traits)
        except ProxyError as error:
            self._refuse(error, asked.request, asked.downstream)
            return NOBODY

    def _records(self, asked: Asked, found: Found | None) -> bool:
        """Is it to be a run?"""
        keeps = found is not None and found.question is not None
        comes_back = asked.route.resumes and (asked.streaming or asked.claim is not None)
        if not keeps and not comes_back:
            return False
        # What is sent in place of a wait nobody is to follow.
        stand_ins, route = asked.route.stand_ins, asked.route
        return stand_ins is None or route.backend.ready or stand_ins.instead(asked.request, streaming=asked.streaming) is None

    def _run(self, asked: Asked, looked: Looked) -> Run:
        traits, route, found = asked.traits, asked.route, looked.found
        question = None if found is None else found.question
        about = (self._owner, self, route, asked.request, asked.dialect)
        limit = max(route.config.cache.max_entry if route.caches else 0, route.config.resume.max_bytes if route.resumes else 0)
        more: Any = {
            "streaming": traits["streaming"],
            "members": traits["members"],
            "request_id": traits["request_id"],
            "limit": limit,
            "space": self._space,
        }
        run: Run
        if route.resumes and (asked.streaming or asked.claim is not None):
            resumable = run = ResumableRun(*about, sid=looked.sid, scope=asked.scope, created=self._caching.now, **more)
            if self._shared is not None and asked.streaming:
                self._shared.share(resumable, looked.held)
            self._resumption.streams.add(resumable, asked.claim, body_hash(asked.request.body))
        else:
            run = Run(*about, **more)
        if question is not None:
            self._caching.began(run, question)
        self._metrics.reading[route.name] -= 1  # it is no exchange in flight, and yet work for the upstream
        run.begin()
        return run

    def _let_run(self, run: ResumableRun, asked: Asked) -> Exchange:
        """Nobody waits for it (RFC 7240 section 4.1)."""
        run.let_run()
        body = dump(summary(run))
        headers: Headers = [
            (b"Content-Type", b"application/json"),
            (b"Content-Length", b"%d" % len(body)),
            (b"Preference-Applied", b"respond-async"),
            *stream_notes(run),
            (b"X-Request-Id", asked.traits["request_id"]),
            *cors_headers(asked.request.head.headers, asked.route.config.cors_origins),
        ]
        downstream = asked.downstream
        downstream.cork()
        downstream.start(202, b"Accepted", headers)
        downstream.write(body)
        downstream.finish()
        self._answered(asked.request, asked.route, asked.traits["request_id"], 202, len(body))
        return NOBODY

    # -- readers who come back

    def resume(self, request: Request, downstream: Downstream, scopes: Callable[[str], bytes], request_id: bytes) -> Exchange:
        """A request for ``/-/streams/<sid>`` that reads it. The others are for our pages (:mod:`txsse.pages.streams`).

        :param scopes: whom the request comes from, in terms of ``cache.scope``.
        """
        dialect: Dialect | None = None
        try:
            if (keeper := self._keeper(named_in(request.path), request)) is not None:
                streams = request.head.method == b"GET" and not wants_state(request.head.headers)
                traits: Traits = {**_FOREIGN, "streaming": streams, "commits": streams, "request_id": request_id}
                return self._pass_on(keeper, request, downstream, traits)
            sid, query = split_path(request.path)
            if request.head.method != b"GET":
                raise ProxyError("bad_request", "A stream is read by GET.", status=405, allow=b"GET")
            if self._is_elsewhere(sid):
                cursor = self._resumption.cursor(sid, request.head.headers, query)
                traits = {**_FOREIGN, "request_id": request_id}
                return self._look_elsewhere(sid, cursor, request, downstream, scopes, traits)
            run = self._resumption.find(sid, scopes)
            dialect = run.dialect
            cursor = self._resumption.cursor(sid, request.head.headers, query)
            traits = {**_FOREIGN, "interval": run.home.policy.interval, "request_id": request_id}
            return self._go_on(run, cursor, request, downstream, traits)
        except ProxyError as error:
            self._refuse(error, request, downstream, dialect)
            return NOBODY

    def _keeper(self, sid: str, request: Request) -> BoundRoute | None:
        """The way to the proxy that keeps this stream, if it is another one and has not sent the request here itself."""
        return None if self._peers is None or get(request.head.headers, HOP) is not None else self._peers.keeper(sid)

    def _pass_on(self, keeper: BoundRoute, request: Request, downstream: Downstream, traits: Traits) -> Exchange:
        return self._conduct(PeerForwarder(self._owner, keeper, request, downstream, DIALECTS["sse"], **traits))

    def _go_on(self, run: ResumableRun, cursor: Cursor, request: Request, downstream: Downstream, traits: Traits) -> Exchange:
        """:raises ProxyError: it cannot."""
        place = self._resumption.place(run, cursor)
        if place is None:
            notes = [*stream_notes(run), *place_notes(run, 0), (b"X-Request-Id", traits["request_id"])]
            return self._all_read(request, downstream, run.home, notes, traits["request_id"])
        after, gap = place
        numbers = wants_ids(run.resume.mode, request, run.dialect)
        reader = self._reader(run, request, downstream, run.dialect, run.home, traits, after=after, numbers=numbers, comes_back=True)
        reader.notes = [*stream_notes(run), *place_notes(run, gap)]
        if get(request.head.headers, HOP) is not None:
            reader.notes.append((b"X-Txsse-Dialect", run.dialect.name.encode("ascii")))
        return self._conduct(reader)

    def _all_read(self, request: Request, downstream: Downstream, route: BoundRoute, notes: Headers, request_id: bytes) -> Exchange:
        """It is over and there is nothing left: EventSource does not come back after a 204."""
        notes = [*notes, *cors_headers(request.head.headers, route.config.cors_origins)]
        downstream.start(204, b"No Content", notes, has_body=False)
        downstream.finish()
        self._answered(request, route, request_id, 204, 0)
        return NOBODY

    # -- streams of other machines

    def _is_elsewhere(self, sid: str) -> bool:
        return self._shared is not None and not self._resumption.streams.knows(sid)

    def _look_elsewhere(
        self, sid: str, cursor: Cursor, request: Request, downstream: Downstream, scopes: Callable[[str], bytes], traits: Traits
    ) -> Exchange:
        assert self._shared is not None
        steps = self._shared.place(sid, cursor, scopes)
        admit = partial(self._go_on_elsewhere, request, downstream, traits)
        admission = Admission(request, downstream, steps, admit, self._admission_over)
        self._admissions.add(admission)
        admission.go(self._cooperator)
        return admission

    def _go_on_elsewhere(self, request: Request, downstream: Downstream, traits: Traits, spot: Spot | ProxyError) -> Exchange:
        assert self._shared is not None
        if isinstance(spot, ProxyError):
            self._refuse(spot, request, downstream)
            return NOBODY
        route, request_id = spot.route, traits["request_id"]
        if spot.after is None:
            return self._all_read(request, downstream, route, [*spot.notes, (b"X-Request-Id", request_id)], request_id)
        numbers = wants_ids(route.config.resume.mode, request, spot.dialect)
        traits = {**traits, "interval": route.policy.interval}
        source, after = self._shared.source(spot), spot.after
        reader = self._reader(source, request, downstream, spot.dialect, route, traits, after=after, numbers=numbers, comes_back=True)
        reader.notes = spot.notes
        return self._conduct(reader)

    def _reader(
        self, source: Source, request: Request, downstream: Downstream, dialect: Dialect, route: BoundRoute, traits: Traits, **more: Any
    ) -> Reader:
        for_readers = route if route.for_readers is None else route.for_readers
        return Reader(self._owner, for_readers, request, downstream, dialect, source=source, **traits, **more)

    # -- of runs (RunWatcher)

    def run_complete(self, run: Run) -> None:
        self._caching.run_complete(run)
        usage, model = run.told
        if usage is not None and not run.followers and run.charge():  # nobody is there to be charged with it
            self._metrics.count_tokens(run.home.name, model or run.model, usage, cached=False)

    def run_over(self, run: Run) -> None:
        self._caching.run_over(run)
        self._resumption.streams.ended(run)
        self._metrics.reading[run.home.name] += 1


_FOREIGN: Final[Traits] = {
    "streaming": True,
    "commits": True,
    "pads": False,
    "interval": 15.0,
    "members": {},
    "show_text": False,
    "request_id": b"",
}
"""Those of a request of which nothing is known but that it reads a stream."""


def _from(first: Any, rest: Generator[Deferred[Any] | None, None, T]) -> Generator[Deferred[Any] | None, None, T]:
    yield first
    return (yield from rest)
