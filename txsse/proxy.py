"""The proxy behind every front: admits requests, finds their route, and keeps account of what becomes of them."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, Final

from twisted.internet.task import Cooperator, SchedulerStopped
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse.auth import Keys
from txsse.clock import Alarms
from txsse.conductor import Conductor, reason_of
from txsse.config import model
from txsse.config.model import Configuration
from txsse.cors import cors_headers, is_preflight, preflight_headers
from txsse.dialects import Dialect, detect
from txsse.errors import CODES, ProxyError
from txsse.exchange import actions as act
from txsse.forwarded import TrustedProxies, request_id, response_headers, seen_own_via, upstream_head
from txsse.front.peek import is_true, scan, string_value
from txsse.interfaces import Downstream, Exchange, Request
from txsse.logs import AccessLog, Entry
from txsse.metrics import Metrics
from txsse.routes import BoundRoute, RouteTable
from txsse.upstream.backend import Backend
from txsse.upstream.state import State
from txsse.wire.headers import Headers, get, tokens, without
from txsse.wire.http1 import RequestHead, ResponseHead, decoded_path, split_target

RETRY_AFTER: Final = 5
"""Seconds a client is asked to wait where nothing better is known."""
LONGEST_RETRY_AFTER: Final = 60
"""The AI SDK ignores more; openai-python does not retry at all above 120."""
CLIENT_CLOSED: Final = 499
"""The status that log and metrics show for a client that left before it was sent one (nginx's number)."""
PEEK_AT_ONCE: Final = 256 * 1024
"""Bytes of a body that are looked through in one go; larger ones give the reactor a turn in between."""

Members = dict[str, bytes]
"""The top-level members of a JSON body that matter to us, as raw JSON texts; ``None`` in its place: the body is no JSON object."""

_NOT_SPOKEN: Final = (b"/api/chat", b"/api/generate")
"""Ollama's streams are lines of JSON: a head and comments of ours would break them, so until they are spoken they are held silently."""

_WANTED: Final = frozenset(("stream", "model", "tools", "functions", "response_format", "n", "logprobs"))


class Proxy:
    """Implements ``Handler`` for the fronts and ``Owner`` for the conductors.

    :param access_log: ``None`` writes no lines.
    """

    _log = Logger()

    def __init__(self, configuration: Configuration, reactor: Any, instance: str, access_log: AccessLog | None = None) -> None:
        self.alarms = Alarms(reactor)
        self.metrics = Metrics(upstreams=lambda: self.backends.values())
        self.instance = instance
        self.exchanges: set[Conductor] = set()
        self.backends: dict[str, Backend] = {}
        self.draining = False
        self._reactor = reactor
        self._access_log = access_log
        self._cooperator = Cooperator(scheduler=lambda turn: reactor.callLater(0, turn))
        self._admissions: set[_Admission] = set()
        self.configure(configuration)

    def configure(self, configuration: Configuration) -> None:
        """Take a (new) configuration for the requests to come. Those under way keep what they began with.

        :raises ValueError: a file it names cannot be used; nothing has changed then.
        """
        auth = configuration.auth
        keys = Keys.load(auth.keys_file, cookie=auth.cookie, query=auth.query) if auth.keys_file else None
        trusted = TrustedProxies.parse(configuration.server.trusted_proxies)
        made: list[Backend] = []
        try:
            backends = {upstream.name: self._backend(upstream, made) for upstream in configuration.upstream}
            routes = [BoundRoute.bind(route, backends[route.upstream], self.instance, trusted) for route in configuration.route]
        except ValueError:
            for backend in made:
                backend.close()
            raise
        for name, backend in self.backends.items():
            if backends.get(name) is not backend:
                backend.retire()
        self.configuration = configuration
        self.backends = backends
        self.table = RouteTable(routes)
        self._keys = keys

    def _backend(self, upstream: model.Upstream, made: list[Backend]) -> Backend:
        """The backend that *upstream* has already, if nothing about it changed (its state and its connections stay); else a new one."""
        old = self.backends.get(upstream.name)
        if old is not None and old.config == upstream:
            return old
        made.append(Backend(upstream, self._reactor, self.alarms, self._upstream_changed))
        return made[-1]

    def _upstream_changed(self, name: str, old: State, new: State, detail: str) -> None:
        self._log.info(
            "upstream {upstream}: {old} -> {new}{why}", upstream=name, old=old.value, new=new.value, why=f" ({detail})" if detail else ""
        )

    # -- from the fronts (Handler)

    def screen(self, head: RequestHead, host: bytes, path: bytes, peer: str) -> ProxyError | None:
        if seen_own_via(head.headers, self.instance):
            return ProxyError("loop_detected", "This request has come through this proxy before. Check what the upstream's URL points to.")
        route = self.table.find(head, host, decoded_path(path), any_model=True)
        if route is not None and is_preflight(head) and route.config.cors_origins:
            return None  # browsers send preflights without credentials
        if self._keys is not None and self._keys.check(head.headers, path) is None:
            return ProxyError("invalid_api_key", "The API key is missing or not one of this proxy's. Send it as Authorization: Bearer.")
        return None if route is not None else _no_route()

    def open(self, request: Request, downstream: Downstream) -> Exchange:
        if request.body and self._to_be_peeked(request):
            look = scan(request.body, _WANTED)
            if len(request.body) > PEEK_AT_ONCE:
                admission = _Admission(self, request, downstream)
                self._admissions.add(admission)
                admission.go(self._cooperator, look)
                return admission
            return self._start(request, downstream, _run(look))
        return self._start(request, downstream, None if request.body else {})

    def refuse(self, error: ProxyError, head: RequestHead | None, path: bytes, peer: str, downstream: Downstream) -> None:
        route = None if head is None else self.table.find(head, split_target(head)[0], decoded_path(path), any_model=True)
        ident = request_id(head.headers if head is not None else [])
        name = route.name if route is not None else ""
        size = self._answer(error, head, path, ident, route, downstream)
        self.metrics.requests[name, error.http_status, "rejected"] += 1
        if self._access_log is not None:
            self._access_log.add(
                Entry(
                    time=time.time(),
                    peer=peer,
                    method=head.method if head is not None else b"-",
                    path=path,
                    version=head.version if head is not None else b"-",
                    status=error.http_status,
                    route=name,
                    upstream="",
                    code=error.code,
                    outcome="rejected",
                    bytes_in=0,
                    bytes_out=size,
                    hold=None,
                    first_byte=None,
                    total=0.0,
                    keepalives=0,
                    cold=False,
                    streaming=False,
                    request_id=ident,
                )
            )

    # -- admission

    def _to_be_peeked(self, request: Request) -> bool:
        coding = get(request.head.headers, b"content-encoding")
        return coding is None or coding.strip().lower() == b"identity"

    def _start(self, request: Request, downstream: Downstream, members: Members | None) -> Exchange:
        """Everything about the request is known: find its route and let it live."""
        path = decoded_path(request.path)
        model = string_value(members.get("model")) if members else None
        route = self.table.find(request.head, request.host, path, model)
        if route is None:
            self.refuse(_no_route(), request.head, request.path, request.peer, downstream)
            return NOBODY
        if self._answer_preflight(request, route, downstream):
            return NOBODY
        if self._keys is not None and not self.configuration.auth.forward:
            request = self._keys.strip(request)
        dialect = route.dialect(path)
        conductor = Conductor(
            self,
            route,
            request,
            downstream,
            dialect,
            streaming=_is_streaming(route, request, members or {}),
            model=lambda: model or "",
            show_text=members is not None and dialect.may_show_text(members),
            request_id=request_id(request.head.headers),
        )
        self.exchanges.add(conductor)
        self.metrics.in_flight[route.name] += 1
        conductor.begin()
        return conductor

    def _answer_preflight(self, request: Request, route: BoundRoute, downstream: Downstream) -> bool:
        """A browser's preflight must not have to wait for a model to load; a ready upstream answers it itself."""
        if not route.config.cors_origins or route.backend.ready or not is_preflight(request.head):
            return False
        headers = preflight_headers(request.head.headers, route.config.cors_origins)
        if headers is None:
            return False
        downstream.start(204, reason_of(204), headers, has_body=False)
        downstream.finish()
        self.metrics.requests[route.name, 204, "ok"] += 1
        return True

    def admitted(self, admission: _Admission, members: Members | None) -> Exchange:
        """A large body has been looked through."""
        self._admissions.discard(admission)
        return self._start(admission.request, admission.downstream, members)

    def abandoned(self, admission: _Admission) -> None:
        """The client left while we were looking."""
        self._admissions.discard(admission)

    # -- for the conductors (Owner)

    def upstream_head(self, conductor: Conductor) -> bytes:
        return upstream_head(
            conductor.request,
            conductor.route.forwarding,
            request_id=conductor.request_id,
            writes_stream=conductor.streaming,
        )

    def relayed_headers(self, conductor: Conductor, head: ResponseHead) -> Headers:
        name = self.configuration.server.cold_start_header.encode("latin-1")
        headers = without(response_headers(head), (name.lower(),)) if name else response_headers(head)
        headers += self._about(conductor, id_too=get(headers, b"x-request-id") is None)
        return headers

    def committed_headers(self, conductor: Conductor) -> Headers:
        return [
            (b"Content-Type", conductor.dialect.content_type),
            (b"Cache-Control", b"no-cache, no-transform"),
            (b"X-Accel-Buffering", b"no"),
            *self._about(conductor),
            *cors_headers(conductor.request.head.headers, conductor.route.config.cors_origins),
        ]

    def _about(self, conductor: Conductor, *, id_too: bool = True) -> Headers:
        headers: Headers = []
        if name := self.configuration.server.cold_start_header:
            headers.append((name.encode("latin-1"), b"true" if conductor.cold else b"false"))
        if id_too:
            headers.append((b"X-Request-Id", conductor.request_id))
        return headers

    def answer_error(self, conductor: Conductor, error: ProxyError) -> None:
        request = conductor.request
        extra = self._about(conductor, id_too=False)
        size = self._answer(
            error, request.head, request.path, conductor.request_id, conductor.route, conductor.downstream, conductor.dialect, extra
        )
        conductor.tally.bytes_out += size

    def count_keepalive(self, phase: str) -> None:
        self.metrics.keepalives[phase] += 1  # type: ignore[index]  # the machine's words are the label's values

    def exchange_ended(self, conductor: Conductor, done: act.Done) -> None:
        tally, route, metrics = conductor.tally, conductor.route, self.metrics
        now = self.alarms.seconds()
        request = conductor.request
        status = tally.status or CLIENT_CLOSED
        first_byte = None if tally.first_byte is None else tally.first_byte - tally.dispatched
        self.exchanges.discard(conductor)
        metrics.in_flight[route.name] -= 1
        metrics.requests[route.name, status, done.outcome] += 1  # type: ignore[index]  # the machine's words are the label's values
        metrics.relayed_bytes[route.name] += tally.bytes_out
        if tally.was_held:
            metrics.hold_seconds[route.backend.name].observe(tally.hold)
        if first_byte is not None:
            metrics.first_byte_seconds[route.name].observe(first_byte)
        if done.unterminated:
            metrics.unterminated[route.name] += 1
        if done.code in CODES and not tally.refused:
            metrics.stream_errors[done.code] += 1
        if self._access_log is not None:
            self._access_log.add(
                Entry(
                    time=time.time(),
                    peer=request.peer,
                    method=request.head.method,
                    path=request.path,
                    version=request.head.version,
                    status=status,
                    route=route.name,
                    upstream=route.backend.name,
                    code=done.code,
                    outcome=done.outcome,
                    bytes_in=tally.bytes_in,
                    bytes_out=tally.bytes_out,
                    hold=tally.hold if tally.was_held else None,
                    first_byte=first_byte,
                    total=now - request.began,
                    keepalives=tally.keepalives,
                    cold=conductor.cold,
                    streaming=conductor.streaming,
                    request_id=conductor.request_id,
                )
            )

    def _answer(
        self,
        error: ProxyError,
        head: RequestHead | None,
        path: bytes,
        ident: bytes,
        route: BoundRoute | None,
        downstream: Downstream,
        dialect: Dialect | None = None,
        extra: Headers | None = None,
    ) -> int:
        """Send *error* as an ordinary response; returns the size of its body."""
        status = error.http_status
        where = decoded_path(path)
        speaks = dialect or (route.dialect(where) if route is not None else detect(where))
        body = speaks.error_body(error)
        headers: Headers = [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(body))]
        if status in (429, 503):
            seconds = RETRY_AFTER if error.retry_after is None else error.retry_after
            headers.append((b"Retry-After", b"%d" % max(1, min(round(seconds), LONGEST_RETRY_AFTER))))
        if status == 401:
            headers.append((b"WWW-Authenticate", b"Bearer"))
        if error.allow:
            headers.append((b"Allow", error.allow))
        headers += extra or []
        headers.append((b"X-Request-Id", ident))
        if head is not None and route is not None:
            headers += cors_headers(head.headers, route.config.cors_origins)
        self.metrics.rejections[error.code] += 1
        has_body = head is None or head.method != b"HEAD"
        downstream.start(status, reason_of(status), headers, has_body=has_body)
        if has_body:
            downstream.write(body)
        downstream.finish()
        return len(body) if has_body else 0

    # -- the end

    def shut_down(self) -> None:
        """End every exchange, each in the way its client understands."""
        for admission in list(self._admissions):
            admission.client_gone()
            admission.downstream.abort()
        for conductor in list(self.exchanges):
            conductor.shut_down()

    def close(self) -> None:
        """Close idle upstream connections and stop every clock."""
        for backend in self.backends.values():
            backend.close()
        self._cooperator.stop()
        self.alarms.stop()
        if self._access_log is not None:
            self._access_log.stop()


class _Nobody:
    """The exchange of a request that was answered at once."""

    def client_paused(self) -> None: ...

    def client_resumed(self) -> None: ...

    def client_gone(self) -> None: ...

    def client_stalled(self) -> None: ...


NOBODY: Final = _Nobody()


class _Admission:
    """Stands for an exchange while its large body is looked through, a slice a reactor turn."""

    _log = Logger()

    def __init__(self, proxy: Proxy, request: Request, downstream: Downstream) -> None:
        self.request = request
        self.downstream = downstream
        self._proxy = proxy
        self._exchange: Exchange | None = None
        self._over = False

    def go(self, cooperator: Cooperator, look: Generator[None, None, Members | None]) -> None:
        cooperator.coiterate(self._steps(look)).addErrback(self._broken_off)

    def _broken_off(self, failure: Failure) -> None:
        """The proxy was closed meanwhile, or a bug of ours: then nothing may hang because of it."""
        if not failure.check(SchedulerStopped):
            self._log.failure("an admission broke", failure)
            self._over = True
            self._proxy.abandoned(self)
            self.downstream.abort()

    def _steps(self, look: Generator[None, None, Members | None]) -> Generator[None, None, None]:
        while not self._over:
            try:
                next(look)
            except StopIteration as end:
                self._over = True
                self._exchange = self._proxy.admitted(self, end.value)
                return
            yield

    def client_paused(self) -> None:
        if self._exchange is not None:
            self._exchange.client_paused()

    def client_resumed(self) -> None:
        if self._exchange is not None:
            self._exchange.client_resumed()

    def client_gone(self) -> None:
        if self._exchange is not None:
            self._exchange.client_gone()
        elif not self._over:
            self._over = True
            self._proxy.abandoned(self)

    def client_stalled(self) -> None:
        if self._exchange is not None:
            self._exchange.client_stalled()


def _run(look: Generator[None, None, Members | None]) -> Members | None:
    while True:
        try:
            next(look)
        except StopIteration as end:
            members: Members | None = end.value
            return members


def _is_streaming(route: BoundRoute, request: Request, members: Members) -> bool:
    """By the body, or by GET and Accept; never by Accept on a POST, for SDKs send application/json there with ``"stream": true``."""
    if route.config.streaming != "auto":
        return route.config.streaming == "always"
    if request.path.partition(b"?")[0].endswith(_NOT_SPOKEN):
        return False
    if request.head.method == b"GET":
        return any(token.partition(b";")[0].strip() == b"text/event-stream" for token in tokens(request.head.headers, b"accept"))
    return is_true(members.get("stream"))


def _no_route() -> ProxyError:
    return ProxyError("no_route", "No route of this proxy takes this host, path and method.")
