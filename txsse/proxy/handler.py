"""The proxy behind every front: admits requests, finds their route, and keeps account of what becomes of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Cooperator

from txsse.clock import Alarms
from txsse.config import model
from txsse.config.model import Configuration
from txsse.dialects import Dialect
from txsse.errors import Outcome, ProxyError
from txsse.exchange import actions as act
from txsse.exchange import failures
from txsse.interfaces import Downstream, Exchange, Request, Upgradable
from txsse.logs import AccessLog
from txsse.metrics import Metrics
from txsse.proxy.admission import NOBODY, PEEK_AT_ONCE, Admission, Members, brings_json, is_streaming, look, look_at_once
from txsse.proxy.answers import about, committed, reason_of, relayed, send_error
from txsse.proxy.auth import Keys
from txsse.proxy.backends import Backends
from txsse.proxy.conductor import Conductor
from txsse.proxy.cors import allowed_origin, preflight_headers
from txsse.proxy.forwarded import RequestIds, TrustedProxies
from txsse.proxy.forwarder import Forwarder
from txsse.proxy.ledger import CLIENT_CLOSED, Ledger
from txsse.proxy.plan import plan_of
from txsse.proxy.reception import Reception
from txsse.proxy.routes import BoundRoute, RouteTable
from txsse.proxy.stand_ins import Instead
from txsse.proxy.upgrade import Upgrade
from txsse.proxy.vigil import Vigil
from txsse.upstream.backend import Backend
from txsse.wire.headers import Headers, Prepared
from txsse.wire.http1 import RequestHead, ResponseHead
from txsse.wire.peek import string_value

if TYPE_CHECKING:
    from txsse.predictions.upstream import Upstreams
    from txsse.proxy.asked import Traits
    from txsse.proxy.kept import Kept
    from txsse.proxy.stream_control import StreamControl
    from txsse.proxy.streams import Streams
    from txsse.recordings.lookup import CacheLookup
    from txsse.webhooks.sender import Sender

T = TypeVar("T")

SPREAD: Final = 0.5
"""Seconds over which the ends of streams are spread that clients come back to, at the end of a drain.."""
FEW: Final = 20
""".. if they are more than that."""


class Proxy:
    """Implements ``Handler`` for the fronts and ``Owner`` for the conductors.

    :param instance: this proxy's name in Via fields, by which it knows its own.
    :param access_log: ``None`` writes no lines.
    """

    def __init__(
        self,
        configuration: Configuration,
        reactor: Any,
        instance: str,
        access_log: AccessLog | None = None,
        cache_lookup: CacheLookup | None = None,
    ) -> None:
        self.alarms = Alarms(reactor)
        self._backends = Backends(reactor, self.alarms, configuration.server.state_dir, self._wake_ended)
        self.metrics = Metrics(upstreams=lambda: self.backends.values())
        self.instance = instance
        self.exchanges: set[Conductor] = set()
        self.table = RouteTable(())
        self.draining = False
        self._reactor = reactor
        self._ledger = Ledger(self.metrics, access_log)
        self._reception = Reception(self.alarms, self._ledger)
        self._cooperator = Cooperator(scheduler=lambda turn: reactor.callLater(0, turn))
        self._admissions: set[Admission[Any]] = set()
        self._store = configuration  # what keeps recordings is not changed by a reload either
        self._cache_lookup = cache_lookup
        self._kept: Kept | None = None  # once there is a route that needs any of it
        self.keeps_streams = False  # there may be some that can be come back to
        self._ids = RequestIds()
        self.configure(configuration)

    # -- the configuration

    def configure(self, configuration: Configuration) -> None:
        """Take a (new) configuration for the requests to come. Those under way keep what they began with.

        :raises ValueError: a file it names cannot be used; nothing has changed then.
        """
        auth = configuration.auth
        keys = Keys.load(auth.keys_file, cookie=auth.cookie, query=auth.query) if auth.keys_file else None
        trusted = TrustedProxies.parse(configuration.server.trusted_proxies)
        backends = self._backends.prepare(configuration.upstream)
        try:
            routes = [self._bind(route, backends, trusted) for route in configuration.route]
        except ValueError:
            self._backends.drop(backends)
            raise
        rooms = {route.name: route.room for route in self.table.routes}
        for route in routes:
            route.room = rooms.get(route.name, route.room)
            route.prepare()
        if self._kept is None and (configuration.server.peers or any(route.records or route.predicts for route in routes)):
            self._kept = self._open()
        if self._kept is not None:
            self._kept.configure(configuration.webhooks, predicts=any(route.predicts for route in routes))
        self._reception.take(routes)
        self._backends.take(backends)
        self.configuration = configuration
        self._cold_start_header = configuration.server.cold_start_header.encode("latin-1")
        self.table = RouteTable(routes)
        self.keeps_streams = self.keeps_streams or bool(configuration.server.peers) or any(route.resumes for route in routes)
        self._keys = keys

    def _open(self) -> Kept:
        """:raises ValueError: what the store needs is not there."""
        # A proxy that keeps nothing is spared all of it.
        from txsse.proxy.house import House
        from txsse.proxy.kept import Kept

        house = House(
            owner=self,
            reactor=self._reactor,
            alarms=self.alarms,
            cooperator=self._cooperator,
            metrics=self.metrics,
            instance=self.instance,
            table=lambda: self.table,
            backend=self._backends.make,
            admit=self._admit,
            screen=self.screen,
            conduct=self._conduct,
            refuse=self._refuse_recorded,
            answered=self._answered,
            account=self._account,
            request_id=self._request_id,
            scope_of=self._scope_of,
            strip=self._strip,
        )
        kept = Kept(house, self._store, self._cache_lookup)
        self.metrics.streams_view = lambda: kept.control if self.keeps_streams or kept.predictions is not None else None
        return kept

    def _bind(self, route: model.Route, backends: dict[str, Backend], trusted: TrustedProxies) -> BoundRoute:
        backend = backends[route.upstream]
        bound = BoundRoute.bind(route, backend, self.instance, trusted, backends.get(backend.config.fallback))
        self._reception.furnish(bound)
        return bound

    @property
    def backends(self) -> Mapping[str, Backend]:
        """The upstreams, by name."""
        return self._backends.current

    def _wake_ended(self, name: str, result: str) -> None:
        self.metrics.wakes[name, result] += 1

    # -- from the fronts (Handler)

    def screen(self, head: RequestHead, host: bytes, path: bytes, peer: str) -> ProxyError | None:
        plan = plan_of(head, self.table, self.instance)
        route = plan.route
        if plan.loops:
            return ProxyError("loop_detected", "This request has come through this proxy before. Check what the upstream's URL points to.")
        if plan.preflight:  # browsers send them without credentials
            origins = () if route is None else route.config.cors_origins
            if self._is_stream(path) or allowed_origin(head.headers, origins) is not None:
                return None
        if self._keys is not None and self._keys.check(head.headers, path) is None:
            return ProxyError("invalid_api_key", "The API key is missing or not one of this proxy's. Send it as Authorization: Bearer.")
        return None if route is not None or self._is_stream(path) else _no_route()

    def _is_stream(self, path: bytes) -> bool:
        """A path of a recorded stream, whatever the routes say."""
        return self.keeps_streams and path.startswith(b"/-/streams/")

    def predicts(self, head: RequestHead) -> bool:
        """Is this about a prediction? Then :attr:`predictions` are to be asked instead of :meth:`open`."""
        return plan_of(head, self.table, self.instance).predicts

    def open(self, request: Request, downstream: Downstream) -> Exchange:
        if self.keeps_streams and self._is_stream(request.path):
            return self._resume(request, downstream)
        plan = plan_of(request.head, self.table, self.instance)
        if plan.opaque:
            return self._start(request, downstream, None)
        if len(request.body) <= PEEK_AT_ONCE:
            return self._start(request, downstream, look_at_once(request.body, whole=plan.must_look))
        admit = partial(self._start, request, downstream)
        return self._admit(request, downstream, look(request.body), admit)

    def refuse(
        self,
        error: ProxyError,
        head: RequestHead | None,
        path: bytes,
        peer: str,
        downstream: Downstream,
        dialect: Dialect | None = None,
        notes: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        plan = None if head is None else plan_of(head, self.table, self.instance)
        route = None if plan is None else plan.route
        origins: Collection[str] = ()
        if self._kept is not None and self._is_stream(path):
            route, origins = None, self._kept.control.origins
        # A route that would have taken another model lends its CORS fields and dialect, but the request is not its own.
        name = route.name if route is not None and error.code != "no_route" else ""
        ident = self._request_id(head)
        size = send_error(error, head, path, route, [*notes, *about(ident)], downstream, dialect=dialect, origins=origins)
        self.metrics.rejections[error.code] += 1
        self._ledger.answered(
            head, path, peer, ident, name, error.http_status, error=error, outcome=failures.outcome_of(error.code), bytes_out=size
        )

    # -- admission

    def _admit(
        self, request: Request, downstream: Downstream, steps: Generator[Deferred[Any] | None, None, T], admit: Callable[[T], Exchange]
    ) -> Exchange:
        admission = Admission(request, downstream, steps, admit, self._admission_over)
        self._admissions.add(admission)
        admission.go(self._cooperator)
        return admission

    def _admission_over(self, admission: Admission[Any], abandoned: bool) -> None:
        self._admissions.discard(admission)
        if abandoned:
            request = admission.request
            ident = self._request_id(request.head)
            self._ledger.answered(request.head, request.path, request.peer, ident, "", CLIENT_CLOSED, outcome="client_closed")

    def _start(self, request: Request, downstream: Downstream, members: Members | None) -> Exchange:
        """Everything about the request is known: find its route and let it live."""
        plan = plan_of(request.head, self.table, self.instance)
        name = members.get("model") if members else None
        route = self.table.find(request.head, string_value(name)) if self.table.by_model else plan.route
        request_id = self._request_id(request.head)
        if route is not None and plan.preflight and self._answer_preflight(request, route, request_id, downstream):
            return NOBODY
        if route is None or route.predicts:  # this front has not asked for predictions
            self.refuse(_no_route(), request.head, request.path, request.peer, downstream)
            return NOBODY
        brought = request.head, request.path
        query_key = b""
        if self._keys is not None:
            query_key = self._keys.in_query(request.path)
            self._strip(request)
        if route.stand_ins is not None and route.stand_ins.early:
            found = self._reception.serve(route.stand_ins, route, request, request_id, downstream)
            if found is None:
                return NOBODY
            downstream = found
        if plan.upgrades:
            return self._upgrade(route, request, downstream, request_id)
        dialect = plan.dialect if plan.dialect is not None and route is plan.route else route.dialect(request.head.decoded_path)
        streaming = is_streaming(route.config.streaming, request, members, dialect, takes_events=plan.takes_events)
        # A POST to an API that we do not know: what its clients make of a head that upstream did not send, nobody can tell.
        stranger = dialect.name == "sse" and route.config.dialect == "auto" and request.head.method != b"GET"
        commits = streaming and (not stranger or route.config.streaming == "always")
        traits: Traits = {
            "streaming": streaming,
            "commits": commits,
            "pads": route.policy.pads_json and not streaming and brings_json(request) and request.head.method != b"HEAD",
            "interval": plan.interval(route.policy.interval),
            "members": members or {},
            "show_text": commits and members is not None and dialect.may_show_text(members),
            "request_id": request_id,
        }
        if route.records and self._kept is not None:
            from txsse.proxy.asked import Asked

            return self._kept.recorded.open(
                Asked(
                    request=request,
                    downstream=downstream,
                    route=route,
                    dialect=dialect,
                    traits=traits,
                    brought=brought,
                    query_key=query_key,
                    opaque=plan.opaque,
                )
            )
        return self._conduct(Forwarder(self, route, request, downstream, dialect, **traits))

    def _upgrade(self, route: BoundRoute, request: Request, downstream: Downstream, request_id: bytes) -> Exchange:
        if isinstance(downstream, Upgradable):
            return self._conduct(Upgrade(self, route, request, downstream, request_id))
        error = ProxyError("bad_request", "WebSockets are not served here. Use a listener of the proxy itself.", status=501)
        self.refuse(error, request.head, request.path, request.peer, downstream)
        return NOBODY

    def _strip(self, request: Request) -> None:
        """Take our keys out of it, unless upstreams get them."""
        if self._keys is not None and not self.configuration.auth.forward:
            plan_of(request.head, self.table, self.instance).strip(request, self._keys)

    def _conduct(self, conductor: Conductor) -> Exchange:
        self.exchanges.add(conductor)
        self._ledger.began(conductor)
        conductor.begin()
        return conductor

    def _refuse_recorded(
        self,
        error: ProxyError,
        request: Request,
        downstream: Downstream,
        dialect: Dialect | None = None,
        notes: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        self.refuse(error, request.head, request.path, request.peer, downstream, dialect, notes)

    def _answered(self, request: Request, route: BoundRoute, ident: bytes, status: int, size: int) -> None:
        self._ledger.answered(request.head, request.path, request.peer, ident, route.name, status, bytes_out=size)

    def _account(self, request: Request, route: BoundRoute, ident: bytes, status: int, size: int, error: ProxyError | None) -> None:
        if error is not None:
            self.metrics.rejections[error.code] += 1
        outcome = "ok" if error is None else failures.outcome_of(error.code)
        self._ledger.answered(
            request.head, request.path, request.peer, ident, route.name, status, error=error, outcome=outcome, bytes_out=size
        )

    def _resume(self, request: Request, downstream: Downstream) -> Exchange:
        """Somebody comes back to a stream."""
        assert self._kept is not None
        scopes = partial(self._scope_of, request.head.headers, request.path)
        return self._kept.returning.resume(request, downstream, scopes, self._request_id(request.head))

    def _scope_of(self, headers: Headers, path: bytes, setting: str) -> bytes:
        from txsse.proxy.resumption import scope_or_anonymous

        return scope_or_anonymous(headers, setting, b"" if self._keys is None else self._keys.in_query(path))

    def _request_id(self, head: RequestHead | None) -> bytes:
        """The client's, or a new one."""
        return (head.request_id if head is not None else None) or self._ids.new()

    def _answer_preflight(self, request: Request, route: BoundRoute, ident: bytes, downstream: Downstream) -> bool:
        """A browser's preflight must not have to wait for a model to load; a ready upstream answers it itself."""
        if not route.config.cors_origins or (route.backend.ready and not route.predicts):
            return False
        headers = preflight_headers(request.head.headers, route.config.cors_origins)
        if headers is None:
            return False
        downstream.start(204, reason_of(204), [*headers, *about(ident)], has_body=False)
        downstream.finish()
        self._ledger.answered(request.head, request.path, request.peer, ident, route.name, 204)
        return True

    # -- for the conductors (Owner)

    def upstream_head(self, conductor: Conductor, authority: bytes) -> bytes:
        request = conductor.request
        plan = plan_of(request.head, self.table, self.instance)
        outline = plan.outline(request, conductor.route, writes_stream=conductor.streaming or conductor.pads or conductor.records)
        return outline.fill(authority, conductor.request_id, len(request.body))

    def relayed_headers(self, conductor: Conductor, head: ResponseHead) -> tuple[Prepared, Headers]:
        return relayed(head, self._about(conductor), self._cold_start_header.lower())

    def committed_headers(self, conductor: Conductor) -> Headers:
        content_type = b"application/json" if conductor.pads else conductor.dialect.content_type
        return committed(content_type, conductor.request.head, conductor.route, self._about(conductor))

    def answer_error(self, conductor: Conductor, error: ProxyError) -> None:
        request, ours = conductor.request, self._about(conductor)
        if error.code:
            self.metrics.rejections[error.code] += 1
        if not self._reception.stand_in(conductor, error, ours):
            about = (error, request.head, request.path, conductor.route, ours, conductor.downstream)
            conductor.tally.bytes_out += send_error(*about, dialect=conductor.dialect)

    def instead_of_waiting(self, conductor: Conductor) -> Instead | None:
        return self._reception.instead(conductor)

    def count_keepalive(self, phase: str) -> None:
        self._ledger.kept_alive(phase)

    def exchange_ended(self, conductor: Conductor, done: act.Done) -> None:
        self.exchanges.discard(conductor)
        self._ledger.ended(conductor, done, self.alarms.seconds())

    def _about(self, conductor: Conductor) -> Headers:
        told = about(conductor.request_id, self._cold_start_header, conductor.cold)
        return [*conductor.notes, *told] if conductor.notes else told

    # -- what is kept, once there is a route for it

    @property
    def streams(self) -> Streams | None:
        return None if self._kept is None else self._kept.streams

    @property
    def predictions(self) -> Upstreams | None:
        return None if self._kept is None else self._kept.predictions

    @property
    def webhooks(self) -> Sender | None:
        return None if self._kept is None else self._kept.webhooks

    # -- for our own pages (PagesView)

    @property
    def shows_pages(self) -> bool:
        return self._reception.shows_pages

    def lets_in(self, headers: Headers, path: bytes) -> bool:
        return self._keys is None or self._keys.check(headers, path) is not None

    @property
    def stream_control(self) -> StreamControl | None:
        return None if self._kept is None or not self.keeps_streams else self._kept.control

    def page_asked(self, head: RequestHead) -> bytes:
        return self._request_id(head)

    def page_answered(
        self, head: RequestHead, ident: bytes, peer: str, status: int, size: int, error: ProxyError | None, outcome: Outcome
    ) -> None:
        if error is not None:
            self.metrics.rejections[error.code] += 1
        self._ledger.answered(head, head.path, peer, ident, "", status, error=error, outcome=outcome, bytes_out=size)

    def followed(self, token: str) -> Vigil | None:
        return None if self.draining else self._reception.followed(token)

    # -- the end

    def shut_down(self) -> None:
        """End every exchange, each in the way its client understands. Readers of streams come back: many of them not all at once."""
        for admission in list(self._admissions):
            admission.shut_down()
            request = admission.request
            self.refuse(failures.shutting_down(), request.head, request.path, request.peer, admission.downstream)
        if self._kept is not None:
            self._kept.closing()
        readers = [each for each in self.exchanges if each.may_come_back]
        step = SPREAD / len(readers) if len(readers) > FEW else 0.0
        for number, reader in enumerate(readers if step else ()):
            self.alarms.set(number * step, reader.shut_down)
        for conductor in list(self.exchanges):
            if not step or not conductor.may_come_back:
                conductor.shut_down()

    @property
    def is_read_elsewhere(self) -> bool:
        """Other machines have readers of streams that run here."""
        return self._kept is not None and self._kept.is_read_elsewhere

    def end_streams(self) -> None:
        """End those that nobody reads here, too."""
        if self._kept is not None:
            self._kept.end_streams()

    def stop_upstreams(self) -> Deferred[None]:
        """End every process of ours, and every start; fires when nothing of them is left."""
        return self._backends.stop()

    def close(self) -> None:
        """Close every upstream connection and stop every clock."""
        self._reception.close()
        self._backends.close()
        if self._kept is not None:
            self._kept.close()
        self._cooperator.stop()
        self.alarms.stop()
        self._ledger.close()

    def close_webhooks(self, deadline: float) -> Deferred[None]:
        """Fires when those that tell of an end are delivered, or after *deadline* seconds."""
        return succeed(None) if self._kept is None else self._kept.close_webhooks(deadline)

    def close_store(self) -> Deferred[None]:
        """Fires when what is kept is written."""
        return succeed(None) if self._kept is None else self._kept.close_store()


def _no_route() -> ProxyError:
    return ProxyError("no_route", "No route of this proxy takes this host, path, method and model.")
