"""What the owners of streams and the operator may know of them, and do to them, besides reading them: behind the pages for both."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from heapq import merge
from typing import TYPE_CHECKING, Any, Final

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from txsse.clock import Alarms
from txsse.errors import ProxyError
from txsse.logs import shown
from txsse.proxy.lasting import Lasting
from txsse.proxy.peers import HOP, Peers
from txsse.proxy.resumption import Resumption, id_notes, place_notes, state_of, stream_notes, summary
from txsse.proxy.routes import BoundRoute
from txsse.proxy.streams import not_found
from txsse.recordings.cursor import is_sid
from txsse.recordings.view import StreamGlimpse
from txsse.wire.headers import Headers, get
from txsse.wire.http1 import RequestHead

if TYPE_CHECKING:
    from txsse.predictions.job import Job
    from txsse.proxy.shared import Shared
    from txsse.redis.journal import Found

LOOK: Final = 0.05
"""Seconds between two looks whether another machine has ended a stream that it was asked to end, .."""
LOOKS: Final = 10
""".. as often as that."""


class OwnStream:
    """A stream of this process, for whoever made it (:class:`txsse.pages.streams.OwnStream`)."""

    _log = Logger()

    def __init__(self, run: Lasting) -> None:
        self._run = run

    @property
    def origins(self) -> Collection[str]:
        return self._run.home.config.cors_origins

    @property
    def notes(self) -> Headers:
        return [*stream_notes(self._run), *place_notes(self._run, 0)]

    def state(self) -> dict[str, Any]:
        return summary(self._run)

    async def end(self) -> OwnStream:
        run = self._run
        if not run.over:
            self._log.info("stream {stream} of route {route} is ended by who made it", stream=shown(run.sid), route=run.home.name)
            run.cancel(ProxyError("cancelled", "The stream was ended by request."))
        return self


@attrs.frozen(eq=False)
class StreamElsewhere:
    """A stream of another machine."""

    sid: str
    found: Found
    route: BoundRoute
    shared: Shared
    alarms: Alarms

    @property
    def origins(self) -> Collection[str]:
        return self.route.config.cors_origins

    @property
    def notes(self) -> Headers:
        place = [(b"X-Stream-First", b"%d" % self.found.first), (b"X-Stream-Last", b"%d" % self._last)]
        return [*id_notes(self.sid), (b"X-Stream-State", self._word.encode()), *place]

    @property
    def _last(self) -> int:
        from txsse.proxy.elsewhere import last_of  # which knows Redis

        return last_of(self.found, self.route)

    @property
    def _word(self) -> str:
        terminal = self.found.terminal
        return "live" if terminal is None else "done" if not terminal.code else "error"

    def state(self) -> dict[str, Any]:
        found, terminal = self.found, self.found.terminal
        told = {"id": self.sid, "state": self._word, "created": found.meta.started, "first": found.first, "last": self._last}
        return told if terminal is None or not terminal.code else told | {"error": {"code": terminal.code, "message": terminal.message}}

    async def end(self) -> StreamElsewhere:
        here = self
        if here.found.terminal is None:
            await self.shared.cancel(self.sid)
        for _ in range(LOOKS):
            if here.found.terminal is not None:
                break
            await _pause(self.alarms, LOOK)
            found = await self.shared.open(self.sid)
            if found is None or isinstance(found, ProxyError):
                break
            here = attrs.evolve(here, found=found)
        return here


class StreamControl:
    """Of one proxy. Implements :class:`txsse.pages.streams.StreamsPage` and :class:`txsse.recordings.view.StreamsView`.

    :param scope: whom a request with these fields, for this path with its query, comes from, in terms of ``cache.scope``.
    """

    _log = Logger()

    def __init__(
        self,
        resumption: Resumption,
        peers: Peers | None,
        shared: Shared | None,
        alarms: Alarms,
        wall: Callable[[], float],
        routes: Callable[[], Iterable[BoundRoute]],
        scope: Callable[[Headers, bytes, str], bytes],
        jobs: Callable[[], Iterable[Job]] = tuple,
    ) -> None:
        self._resumption = resumption
        self._streams = resumption.streams
        self._peers = peers
        self._shared = shared
        self._alarms = alarms
        self._wall = wall
        self._routes = routes
        self._scope = scope
        self._jobs = jobs

    # -- for their owners

    @property
    def origins(self) -> Collection[str]:
        """Whose scripts may come back to any stream, and so may hear that there is none."""
        return {origin for route in self._routes() if route.resumes for origin in route.config.cors_origins}

    def passes_on(self, head: RequestHead, sid: str) -> bool:
        return self._peers is not None and get(head.headers, HOP) is None and self._peers.keeper(sid) is not None

    async def find(self, sid: str, headers: Headers, path: bytes) -> OwnStream | StreamElsewhere:
        if not is_sid(sid.encode("utf-8")):
            raise not_found()
        scopes = partial(self._scope, headers, path)
        if self._shared is None or self._streams.knows(sid):
            return OwnStream(self._resumption.find(sid, scopes))
        found, route = self._shared.own(await self._shared.open(sid), scopes)
        return StreamElsewhere(sid, found, route, self._shared, self._alarms)

    # -- for the operator (StreamsView)

    @property
    def kept(self) -> int:
        return len(self._streams) + len([*self._jobs()])

    @property
    def live(self) -> int:
        return self._streams.live + sum(not job.over for job in self._jobs())

    @property
    def size(self) -> int:
        return sum(run.recording.size for run in self._streams) + sum(job.size for job in self._jobs())

    def glimpses(self) -> Iterable[StreamGlimpse]:
        runs, jobs = map(self._glimpse, reversed([*self._streams])), map(self._glimpse_of, reversed([*self._jobs()]))
        return merge(runs, jobs, key=lambda each: each.age)

    def end(self, sid: str) -> Sequence[StreamGlimpse]:
        runs = [run for run in self._streams if run.sid.startswith(sid)]
        jobs = [job for job in self._jobs() if job.sid.startswith(sid)]
        found = [*map(self._glimpse, runs), *map(self._glimpse_of, jobs)]
        if len(found) != 1 or found[0].state in ("done", "error"):
            return found
        self._log.info("{kind} {sid} of route {route} is ended by the operator", kind=found[0].kind, sid=found[0].sid, route=found[0].route)
        for run in runs:
            run.cancel(ProxyError("cancelled", "The stream was ended by the operator of this proxy."))
        for job in jobs:
            job.cancel()
        return [*map(self._glimpse, runs), *map(self._glimpse_of, jobs)]

    def _glimpse_of(self, job: Job) -> StreamGlimpse:
        backend = next((route.backend for route in self._routes() if route.name == job.name.model), None)
        return StreamGlimpse(
            kind="prediction",
            sid=shown(job.sid),
            route=job.name.model,
            state="waiting" if job.prediction.status == "starting" else job.state,
            upstream="" if backend is None else backend.state,
            age=self._alarms.seconds() - job.created,
            first=job.first,
            last=job.last,
            size=job.size,
            readers=job.followers,
        )

    def _glimpse(self, run: Lasting) -> StreamGlimpse:
        recording = run.recording
        return StreamGlimpse(
            kind="stream",
            sid=shown(run.sid),
            route=run.home.name,
            state="waiting" if not run.over and run.head is None else state_of(run),
            upstream=run.home.backend.state,
            age=max(self._wall() - run.created, 0.0),
            first=recording.first,
            last=run.last,
            size=recording.size,
            readers=len(run.followers),
        )


def _pause(alarms: Alarms, seconds: float) -> Deferred[None]:
    done: Deferred[None] = Deferred(lambda _: alarm.cancel())
    alarm = alarms.set(seconds, lambda: done.callback(None))
    return done
