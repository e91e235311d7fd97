"""Requests of routes that keep streams: those that mean an earlier stream go on with it, the others are looked up in the cache, and what
is found nowhere becomes a run, which others may join and come back to."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
from twisted.internet.defer import Deferred

from txsse.dialects.shapes import dump
from txsse.errors import ProxyError
from txsse.interfaces import Exchange
from txsse.proxy.admission import NOBODY
from txsse.proxy.asked import Asked
from txsse.proxy.caching import Caching, Found
from txsse.proxy.conductor import Conductor
from txsse.proxy.cors import cors_headers
from txsse.proxy.forwarder import Forwarder
from txsse.proxy.house import House
from txsse.proxy.lasting import Lasting
from txsse.proxy.playback import Stored
from txsse.proxy.reader import Source, cache_notes
from txsse.proxy.resumable import ResumableRun
from txsse.proxy.resumption import Resumption, body_hash, responds_async, stream_notes, summary, wants_ids
from txsse.proxy.returning import Returning, reader_of
from txsse.proxy.routes import BoundRoute
from txsse.proxy.run import Run
from txsse.proxy.telling import Telling
from txsse.recordings.cursor import ours
from txsse.recordings.numbering import Ids
from txsse.recordings.recording import Space, room_for
from txsse.wire.headers import Headers, without

if TYPE_CHECKING:
    from txsse.proxy.shared import Held, Shared

T = TypeVar("T")


@attrs.frozen
class Looked:
    """What is known of a request before it is answered.

    :param found: what the cache says.
    :param sid: of the stream that it may become.
    :param claimed: what became of its ``Idempotency-Key`` where machines share streams: a claim, or the id of the stream that it led to.
    :param keeper: the way to another proxy that has had the same request before.
    """

    found: Found | None
    sid: str
    claimed: Held | str | ProxyError | None = None
    keeper: BoundRoute | None = None

    @property
    def held(self) -> Held | None:
        return None if isinstance(self.claimed, str | ProxyError) else self.claimed


class RecordedRequests:
    """Of one proxy. Implements :class:`~txsse.proxy.run.RunWatcher`.

    :param space: the memory of all recordings together.
    """

    def __init__(
        self,
        house: House,
        caching: Caching,
        resumption: Resumption,
        space: Space,
        returning: Returning,
        shared: Shared | None = None,
    ) -> None:
        self._house = house
        self._caching = caching
        self._metrics = house.metrics
        self._resumption = resumption
        self._space = space
        self._returning = returning
        self._shared = shared

    def open(self, asked: Asked) -> Exchange:
        """A request of a route that records."""
        if (earlier := self._earlier(asked)) is not None:
            return earlier
        steps = self._look(asked)
        try:
            pause = next(steps)
        except StopIteration as end:
            return self._answer(asked, end.value)
        whole = _from(pause, steps)
        return self._house.admit(asked.request, asked.downstream, whole, partial(self._answer_late, asked))

    def _answer_late(self, asked: Asked, looked: Looked) -> Exchange:
        """It was waited for something: the same request may have come a second time meanwhile, and be the first."""
        earlier = self._earlier(asked)
        if earlier is None:
            return self._answer(asked, looked)
        if self._shared is not None and looked.held is not None:
            self._shared.release(looked.held)
        return earlier

    def _look(self, asked: Asked) -> Generator[Deferred[Any] | None, None, Looked]:
        found = (yield from self._caching.look_up(asked, lasts=self._lasts(asked))) if asked.route.caches else None
        if not asked.route.resumes:  # nobody comes back to it, whatever key it has
            return Looked(found, "")
        sid = self._resumption.new_sid()
        answered = found is not None and (found.source is not None or found.error is not None)
        if answered or not asked.streaming or (claim := asked.claim) is None or not self._records(asked, found):
            return Looked(found, sid)
        if self._shared is None:
            return Looked(found, sid, keeper=(yield from self._returning.who_knows(asked)))
        body, now = body_hash(asked.request.body), self._caching.now
        return Looked(found, sid, (yield from self._shared.claim(claim, body, sid, asked.route, asked.dialect, now)))

    def _earlier(self, asked: Asked) -> Exchange | None:
        """The stream that was made before and that *asked* means, if it does."""
        if not asked.route.resumes:
            return None
        try:
            return self._go_on(asked)
        except ProxyError as error:
            self._house.refuse(error, asked.request, asked.downstream)
            return NOBODY

    def _anew(self, asked: Asked) -> Exchange:
        return self.open(attrs.evolve(asked, anew=True))

    def _go_on(self, asked: Asked) -> Exchange | None:
        """:raises ProxyError: it cannot."""
        named = None if asked.anew else ours(asked.request.head.headers)
        if named is not None and (abroad := self._returning.abroad(asked, named[0].decode("ascii"), named[1], self._anew)) is not None:
            return abroad
        found = self._resumption.earlier(asked.request, asked.claim, asked.scope_as, anew=asked.anew)
        if found is None:
            return None
        if asked.streaming and named is None and responds_async(asked.request.head.headers):
            return self._let_run(found[0], asked, stream_notes(found[0]))
        return self._returning.go_on(*found, asked.request, asked.downstream, asked.traits)

    def _answer(self, asked: Asked, looked: Looked) -> Exchange:
        found = looked.found
        if looked.keeper is not None:
            return self._returning.pass_on(asked, looked.keeper)
        if isinstance(looked.claimed, str):
            return self._returning.attach(asked, looked.claimed)
        if isinstance(looked.claimed, ProxyError):
            self._house.refuse(looked.claimed, asked.request, asked.downstream)
            return NOBODY
        if found is not None and found.error is not None:
            self._house.refuse(found.error, asked.request, asked.downstream, notes=cache_notes(found.result, found.reason, None))
            return NOBODY
        notes: Headers = []
        if found is not None:
            age = self._caching.age(found.source.entry) if isinstance(found.source, Stored) else None
            notes = cache_notes(found.result, found.reason, age)
        source, asks = self._source(asked, looked)
        numbers = Ids.NONE
        if isinstance(source, Lasting):
            notes += stream_notes(source)
            if asked.streaming and responds_async(asked.request.head.headers):
                return self._let_run(source, asked, notes)
            numbers = wants_ids(asked.route.config.resume.mode, asked.request, asked.dialect)
        if source is None:
            conductor: Conductor = Forwarder(self._house.owner, asked.route, asked.request, asked.downstream, asked.dialect, **asked.traits)
        else:
            about = (asked.request, asked.downstream, asked.dialect, asked.route, asked.traits)
            conductor = reader_of(self._house.owner, source, *about, asked=asks, numbers=numbers)
        conductor.cache = "" if found is None else found.result
        conductor.notes = notes
        return self._house.conduct(conductor)

    def _source(self, asked: Asked, looked: Looked) -> tuple[Source | None, bool]:
        """What is read by who *asked*, ``None`` if it is simply forwarded; and whether that was begun for it."""
        source = None if looked.found is None else looked.found.source
        if source is None:
            return (self._run(asked, looked), True) if self._records(asked, looked.found) else (None, False)
        if isinstance(source, Stored) and self._lasts(asked):
            return self._tell(source, asked, looked), False
        if isinstance(source, ResumableRun):
            self._joined(source, asked)
        return source, False

    def _joined(self, run: ResumableRun, asked: Asked) -> None:
        """Who joins a stream under a key of its own is led to it by that from now on."""
        if (claim := asked.claim) is None:
            return
        body = body_hash(asked.request.body)
        if self._resumption.streams.lead(claim, body, run) and run.sharing is not None:
            run.sharing.joined(claim, body)

    def _records(self, asked: Asked, found: Found | None) -> bool:
        """Is it to be a run?"""
        keeps = found is not None and found.question is not None
        if not keeps and not self._lasts(asked):
            return False
        # What is sent in place of a wait nobody is to follow.
        stand_ins, route = asked.route.stand_ins, asked.route
        return stand_ins is None or route.backend.ready or stand_ins.holds(asked.request, streaming=asked.streaming)

    def _lasts(self, asked: Asked) -> bool:
        """Is what answers it to be come back to?"""
        return asked.route.resumes and (asked.streaming or asked.claim is not None)

    def _tell(self, stored: Stored, asked: Asked, looked: Looked) -> Telling:
        streams, alarms, now = self._resumption.streams, self._house.alarms, self._caching.now
        about = (stored, asked.route, asked.dialect, alarms, self._space, streams.ended)
        telling = Telling(*about, sid=looked.sid, scope=asked.scope, created=now)
        claim = asked.claim
        streams.add(telling, claim, b"" if claim is None else body_hash(asked.request.body))
        telling.begin()
        return telling

    def _run(self, asked: Asked, looked: Looked) -> Run:
        traits, route, found = asked.traits, asked.route, looked.found
        question = None if found is None else found.question
        request = asked.request
        if route.resumes and asked.streaming and responds_async(request.head.headers):  # we do: upstream is not to do so as well
            request = attrs.evolve(request, head=attrs.evolve(request.head, headers=without(request.head.headers, (b"prefer",))))
        about = (self._house.owner, self, route, request, asked.dialect)
        limit = max(room_for(route.config.cache.max_entry) if route.caches else 0, route.config.resume.max_bytes if route.resumes else 0)
        more: Any = {
            "streaming": traits["streaming"],
            "members": traits["members"],
            "request_id": traits["request_id"],
            "limit": limit,
            "space": self._space,
        }
        run: Run
        if self._lasts(asked):
            resumable = run = ResumableRun(*about, sid=looked.sid, scope=asked.scope, created=self._caching.now, **more)
            if self._shared is not None and asked.streaming:
                self._shared.share(resumable, looked.held)
            self._resumption.streams.add(resumable, asked.claim, body_hash(asked.request.body))
        else:
            run = Run(*about, **more)
        if question is not None:
            self._caching.keeping.began(run, question)
        self._metrics.reading[route.name] -= 1  # it is no exchange in flight, and yet work for the upstream
        run.begin()
        return run

    def _let_run(self, run: Lasting, asked: Asked, notes: Headers) -> Exchange:
        """Nobody waits for it (RFC 7240 section 4.1)."""
        run.let_run()
        if run.error is not None and run.head is None:  # it was turned away at once
            self._house.refuse(run.error, asked.request, asked.downstream, asked.dialect)
            return NOBODY
        body = dump(summary(run))
        headers: Headers = [
            (b"Content-Type", b"application/json"),
            (b"Content-Length", b"%d" % len(body)),
            (b"Preference-Applied", b"respond-async"),
            *notes,
            (b"X-Request-Id", asked.traits["request_id"]),
            *cors_headers(asked.request.head.headers, asked.route.config.cors_origins),
        ]
        downstream = asked.downstream
        downstream.cork()
        downstream.start(202, b"Accepted", headers)
        downstream.write(body)
        downstream.finish()
        self._house.answered(asked.request, asked.route, asked.traits["request_id"], 202, len(body))
        return NOBODY

    # -- of runs (RunWatcher)

    def run_complete(self, run: Run) -> None:
        self._caching.keeping.run_complete(run)
        usage, model = run.told
        if usage is not None and not run.followers and run.charge():  # nobody is there to be charged with it
            self._metrics.count_tokens(run.home.name, model or run.model, usage, cached=False)

    def run_over(self, run: Run) -> None:
        self._caching.keeping.run_over(run)
        if isinstance(run, ResumableRun):
            self._resumption.streams.ended(run)
        self._metrics.reading[run.home.name] += 1


def _from(first: Any, rest: Generator[Deferred[Any] | None, None, T]) -> Generator[Deferred[Any] | None, None, T]:
    yield first
    return (yield from rest)
