"""Readers who go on with a stream: one of ours, one that another proxy keeps, or one that another machine shares through Redis."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from txsse.dialects import DIALECTS, Dialect
from txsse.dialects.shapes import dump
from txsse.errors import ProxyError
from txsse.interfaces import Downstream, Exchange, Request
from txsse.proxy.admission import NOBODY, wants_state
from txsse.proxy.asked import FOREIGN, Asked, Traits
from txsse.proxy.conductor import Owner
from txsse.proxy.cors import cors_headers
from txsse.proxy.house import House
from txsse.proxy.inquiry import KNOWN, route_in
from txsse.proxy.lasting import Lasting
from txsse.proxy.peers import HOP, PeerForwarder, Peers
from txsse.proxy.reader import Reader, Source
from txsse.proxy.resumption import Resumption, claim_of, named_in, place_notes, split_path, stream_notes, wants_ids
from txsse.proxy.routes import BoundRoute
from txsse.proxy.streams import not_found
from txsse.recordings.cursor import Cursor
from txsse.wire.headers import Headers, get

if TYPE_CHECKING:
    from txsse.proxy.elsewhere import Spot
    from txsse.proxy.shared import Shared


class Returning:
    """Of one proxy."""

    def __init__(self, house: House, resumption: Resumption, peers: Peers | None = None, shared: Shared | None = None) -> None:
        self._house = house
        self._resumption = resumption
        self._peers = peers
        self._shared = shared

    def resume(self, request: Request, downstream: Downstream, scopes: Callable[[str], bytes], request_id: bytes) -> Exchange:
        """A request for ``/-/streams/<sid>`` that reads it. The others are for our pages (:mod:`txsse.pages.streams`).

        :param scopes: whom the request comes from, in terms of ``cache.scope``.
        """
        dialect: Dialect | None = None
        try:
            if get(request.head.headers, HOP) is not None and (name := route_in(request.path)) is not None:
                return self._tell_if_known(name, request, downstream, scopes, request_id)
            if (keeper := self._keeper(named_in(request.path), request)) is not None:
                streams = request.head.method == b"GET" and not wants_state(request.head.headers)
                traits: Traits = {**FOREIGN, "streaming": streams, "commits": streams, "request_id": request_id}
                return self._pass_on(keeper, request, downstream, traits)
            sid, query = split_path(request.path)
            if request.head.method != b"GET":
                raise ProxyError("bad_request", "A stream is read by GET.", status=405, allow=b"GET")
            if self._is_elsewhere(sid):
                cursor = self._resumption.cursor(sid, request.head.headers, query)
                traits = {**FOREIGN, "request_id": request_id}
                return self._look_elsewhere(sid, cursor, request, downstream, scopes, traits)
            run = self._resumption.find(sid, scopes)
            dialect = run.dialect
            cursor = self._resumption.cursor(sid, request.head.headers, query)
            members = {"model": dump(run.model)} if run.model else {}
            traits = {**FOREIGN, "interval": run.home.policy.interval, "members": members, "request_id": request_id}
            return self.go_on(run, cursor, request, downstream, traits)
        except ProxyError as error:
            self._house.refuse(error, request, downstream, dialect)
            return NOBODY

    def attach(self, asked: Asked, sid: str) -> Exchange:
        """Go on with the stream that was made before, under the same key."""
        if self._is_elsewhere(sid):
            return self._look_elsewhere(sid, Cursor(), asked.request, asked.downstream, asked.scope_as, asked.traits)
        try:
            run = self._resumption.find(sid, asked.scope_as)
            return self.go_on(run, Cursor(), asked.request, asked.downstream, asked.traits)
        except ProxyError as error:
            self._house.refuse(error, asked.request, asked.downstream)
            return NOBODY

    def abroad(self, asked: Asked, sid: str, after: int, anew: Callable[[Asked], Exchange]) -> Exchange | None:
        """Go on with a stream of another proxy, after the event of this number; ``None``: it is none of theirs.

        :param anew: asks what a GET asks, if nobody knows the stream (:meth:`.Resumption.earlier`).
        """
        if (keeper := self._keeper(sid, asked.request)) is not None:
            return self.pass_on(asked, keeper)
        if self._is_elsewhere(sid):
            otherwise = partial(anew, asked) if asked.request.head.method == b"GET" else None
            return self._look_elsewhere(sid, Cursor(after), asked.request, asked.downstream, asked.scope_as, asked.traits, otherwise)
        return None

    def go_on(self, run: Lasting, cursor: Cursor, request: Request, downstream: Downstream, traits: Traits) -> Exchange:
        """Go on with a stream of ours.

        :raises ProxyError: it cannot.
        """
        place = self._resumption.place(run, cursor)
        if place is None:
            notes = [*stream_notes(run), *place_notes(run, 0)]
            return self._no_content(request, downstream, run.home, notes, traits["request_id"])
        after, gap = place
        numbers = wants_ids(run.resume.mode, request, run.dialect)
        reader = reader_of(
            self._house.owner, run, request, downstream, run.dialect, run.home, traits, after=after, numbers=numbers, comes_back=True
        )
        reader.notes = [*stream_notes(run), *place_notes(run, gap)]
        if get(request.head.headers, HOP) is not None:
            reader.notes.append((b"X-Txsse-Dialect", run.dialect.name.encode("ascii")))
        return self._house.conduct(reader)

    def _no_content(self, request: Request, downstream: Downstream, route: BoundRoute, notes: Headers, request_id: bytes) -> Exchange:
        """There is nothing (left) to be read: EventSource does not come back after a 204."""
        notes = [*notes, (b"X-Request-Id", request_id), *cors_headers(request.head.headers, route.config.cors_origins)]
        downstream.start(204, b"No Content", notes, has_body=False)
        downstream.finish()
        self._house.answered(request, route, request_id, 204, 0)
        return NOBODY

    # -- streams of other proxies, through them

    def who_knows(self, asked: Asked) -> Generator[Deferred[None], None, BoundRoute | None]:
        """The way to another proxy that has had a request before which is not known here: steps that give way with what is to be waited
        for.

        Of those only whose client is spoken to while its stream is silent: so it is between proxies, too.
        """
        if self._peers is None or not asked.traits["commits"] or get(asked.request.head.headers, HOP) is not None:
            return None
        found: list[BoundRoute | None] = []
        asking = self._peers.who_knows(asked.original, asked.route.name, asked.traits["request_id"], self._house.alarms)
        yield asking.addCallback(found.append)
        return found[0]

    def _tell_if_known(
        self, name: str, request: Request, downstream: Downstream, scopes: Callable[[str], bytes], request_id: bytes
    ) -> Exchange:
        """Another proxy asks that.

        :raises ProxyError: there is no such route here, or no key.
        """
        route = next((each for each in self._house.table().routes if each.name == name and each.resumes), None)
        claim = None if route is None else claim_of(name, scopes(route.config.cache.scope), request.head.headers)
        if route is None or claim is None:
            raise not_found()
        notes = [(KNOWN, b"1")] if self._resumption.streams.is_claimed(claim) else []
        return self._no_content(request, downstream, route, notes, request_id)

    def pass_on(self, asked: Asked, keeper: BoundRoute) -> Exchange:
        """Have a request answered by the proxy that *keeper* leads to."""
        return self._pass_on(keeper, asked.original, asked.downstream, asked.traits, asked.dialect)

    def _keeper(self, sid: str, request: Request) -> BoundRoute | None:
        """The way to the proxy that keeps this stream, if it is another one and has not sent the request here itself."""
        return None if self._peers is None or get(request.head.headers, HOP) is not None else self._peers.keeper(sid)

    def _pass_on(
        self, keeper: BoundRoute, request: Request, downstream: Downstream, traits: Traits, dialect: Dialect = DIALECTS["sse"]
    ) -> Exchange:
        return self._house.conduct(PeerForwarder(self._house.owner, keeper, request, downstream, dialect, **traits))

    # -- streams of other machines, through Redis

    def _is_elsewhere(self, sid: str) -> bool:
        return self._shared is not None and not self._resumption.streams.knows(sid)

    def _look_elsewhere(
        self,
        sid: str,
        cursor: Cursor,
        request: Request,
        downstream: Downstream,
        scopes: Callable[[str], bytes],
        traits: Traits,
        otherwise: Callable[[], Exchange] | None = None,
    ) -> Exchange:
        assert self._shared is not None
        steps = self._shared.place(sid, cursor, scopes)
        admit = partial(self._go_on_elsewhere, request, downstream, traits, otherwise)
        return self._house.admit(request, downstream, steps, admit)

    def _go_on_elsewhere(
        self,
        request: Request,
        downstream: Downstream,
        traits: Traits,
        otherwise: Callable[[], Exchange] | None,
        spot: Spot | ProxyError,
    ) -> Exchange:
        assert self._shared is not None
        if isinstance(spot, ProxyError):
            if otherwise is not None and spot.code == "stream_not_found":
                return otherwise()
            self._house.refuse(spot, request, downstream)
            return NOBODY
        route, request_id = spot.route, traits["request_id"]
        if spot.after is None:
            return self._no_content(request, downstream, route, spot.notes, request_id)
        numbers = wants_ids(route.config.resume.mode, request, spot.dialect)
        traits = {**traits, "interval": route.policy.interval}
        source, after = self._shared.source(spot), spot.after
        reader = reader_of(
            self._house.owner, source, request, downstream, spot.dialect, route, traits, after=after, numbers=numbers, comes_back=True
        )
        reader.notes = spot.notes
        return self._house.conduct(reader)


def reader_of(
    owner: Owner,
    source: Source,
    request: Request,
    downstream: Downstream,
    dialect: Dialect,
    route: BoundRoute,
    traits: Traits,
    **more: Any,
) -> Reader:
    """The conductor of a request that reads *source*."""
    for_readers = route if route.for_readers is None else route.for_readers
    return Reader(owner, for_readers, request, downstream, dialect, source=source, **traits, **more)
