"""Predictions by an upstream of the proxy: its API takes the input as a request's body, and its stream becomes the output."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import attrs
from twisted.internet.task import deferLater
from twisted.web.server import Request as WebRequest

from txsse.config.model import Resume
from txsse.dialects.shapes import dump
from txsse.errors import ProxyError
from txsse.front.limits import malformed
from txsse.front.resource import head_of
from txsse.interfaces import Request
from txsse.logs import shown
from txsse.predictions.asker import Asker
from txsse.predictions.job import Job, Work
from txsse.predictions.jobs import Jobs
from txsse.predictions.model import Health, Invalid
from txsse.proxy.admission import Members, look
from txsse.proxy.conductor import Conductor, Owner
from txsse.proxy.cors import cors_headers
from txsse.proxy.peers import HOP, ROUTE
from txsse.proxy.routes import BoundRoute, RouteTable
from txsse.upstream.state import State
from txsse.wire.headers import Headers, end_to_end, get, without
from txsse.wire.http1 import BadHead, RequestHead

EXPOSED: Final = b"Location, X-Request-Id, X-Stream-State, X-Stream-First, X-Stream-Last, X-Stream-Gap"

# What is said of the client's own body, or of the form of our answer.
_NOT_UPSTREAMS: Final = (
    b"accept",
    b"accept-encoding",
    b"content-encoding",
    b"content-length",
    b"content-type",
    b"expect",
    b"idempotency-key",
    b"last-event-id",
    b"prefer",
)
_FIELDS: Final[Headers] = [(b"Content-Type", b"application/json"), (b"Accept", b"text/event-stream")]
_HEALTH: Final[dict[State, Health]] = {
    State.WAKING: "STARTING",
    State.LOADING: "STARTING",
    State.STOPPING: "STARTING",
    State.FAILING: "SETUP_FAILED",
}


@attrs.frozen(kw_only=True)
class Home:
    """What is needed of the proxy.

    :param screen: what is wrong with a head, if anything.
    :param conduct: lets a conductor live.
    :param request_id: the client's, or a new one.
    :param scope_of: whom a request with these fields, for this path with its query, comes from.
    :param strip: takes this proxy's keys out of a request, unless upstreams get them.
    :param account: a request was answered at once: with this status, and so many bytes.
    """

    owner: Owner
    reactor: Any
    table: Callable[[], RouteTable]
    screen: Callable[[RequestHead, bytes, bytes, str], ProxyError | None]
    conduct: Callable[[Conductor], object]
    request_id: Callable[[RequestHead], bytes]
    scope_of: Callable[[Headers, bytes, str], bytes]
    strip: Callable[[Request], None]
    account: Callable[[Request, BoundRoute, bytes, int, int, ProxyError | None], None]


@attrs.define(eq=False)
class UpstreamModel:
    """A route's upstream, for one request (a :class:`~txsse.predictions.model.Model`)."""

    route: BoundRoute
    name: str
    scope: bytes
    fields: Headers
    _home: Home
    request: Request
    ident: bytes

    @property
    def streams(self) -> bool:
        return True

    @property
    def resume(self) -> Resume:
        return self.route.config.resume

    @property
    def interval(self) -> float:
        return self.route.policy.interval

    @property
    def stall_timeout(self) -> float:
        return self.route.config.stream.stall_timeout

    def health(self) -> Health:
        gate = self.route.backend.gate
        if gate.state is State.DOWN and gate.starter is None:
            return "STARTING"
        return _HEALTH.get(gate.state) or ("BUSY" if self.full else "READY")  # a prediction wakes what sleeps

    @property
    def full(self) -> bool:
        gate = self.route.backend.gate
        slots, taken = gate.slots
        return bool(slots) and taken + gate.waiting >= slots

    async def check(self, given: bytes | None) -> tuple[bytes, Members]:
        """The body for upstream, and what matters of its members."""
        if given is None:
            raise Invalid(("body", "input"), "field required", "value_error.missing")
        steps = look(given)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                members: Members | None = end.value
                break
            await deferLater(self._home.reactor, 0)
        if members is None:
            raise Invalid(("body", "input"), "value is not a valid dict", "type_error.dict")
        return streamed(given, members), members

    def begin(self, given: tuple[bytes, Members], job: Job) -> Work:
        home, route, asked = self._home, self.route, self.request
        body, members = given
        path = route.config.match.path.encode("ascii")
        head = RequestHead(b"POST", path, b"HTTP/1.1", [*_FIELDS, *without(end_to_end(asked.head.headers), _NOT_UPSTREAMS)])
        request = attrs.evolve(asked, head=head, body=body, path=path)
        home.strip(request)
        dialect = route.dialect(head.decoded_path)
        asker = Asker(home.owner, route, request, dialect, job.prediction, members=members, ident=self.ident)
        home.conduct(asker)
        if asker.refused is not None:
            raise asker.refused
        return asker

    def answered(self, status: int, size: int, error: ProxyError | None) -> None:
        self._home.account(self.request, self.route, self.ident, status, size, error)


class Upstreams:
    """The :class:`~txsse.predictions.model.Models` of a proxy: its routes of kind ``predictions``.

    :ivar jobs: their predictions.
    """

    def __init__(self, home: Home, jobs: Jobs) -> None:
        self.jobs = jobs
        self._home = home

    def find(self, request: WebRequest) -> UpstreamModel:
        try:
            head = head_of(request)
        except BadHead as bad:
            raise malformed(str(bad)) from None
        home = self._home
        host = getattr(request.getClientAddress(), "host", "")
        peer = host if isinstance(host, str) else ""
        # Our own front has asked already; the site of a stranger knows nothing of keys.
        error = home.screen(head, head.host, head.path, peer)
        if error is not None:
            raise error
        route = home.table().find(head)
        if route is None or not route.predicts:
            raise ProxyError("no_route", "There is nothing at this path.")
        now = home.owner.alarms.seconds()
        ident = home.request_id(head)
        fields = [(b"X-Request-Id", ident), *cors_headers(head.headers, route.config.cors_origins)]
        if route.config.cors_origins:
            fields.append((b"Access-Control-Expose-Headers", EXPOSED))
        if get(head.headers, HOP) is not None:
            fields.append((ROUTE, route.name.encode("ascii")))
        return UpstreamModel(
            route=route,
            name=route.name,
            scope=home.scope_of(head.headers, head.path, route.config.cache.scope),
            fields=fields,
            home=home,
            request=Request(head, b"", peer, bool(request.isSecure()), head.host, short_path(head), now, now),
            ident=ident,
        )


def streamed(given: bytes, members: Members) -> bytes:
    """The JSON object *given* with ``"stream": true`` as one of its members, and otherwise as it is."""
    told = members.get("stream")
    if told == b"true":
        return given
    if told is None:
        rest = given.rstrip()[:-1]
        return rest + (b'"stream":true}' if rest.strip() == b"{" else b',"stream":true}')
    try:
        return dump({**json.loads(given), "stream": True})
    except (ValueError, RecursionError):
        raise Invalid(("body", "input"), "value is not a valid dict", "type_error.dict") from None


def short_path(head: RequestHead) -> bytes:
    """The path for the log: whoever knows all of an id may read the prediction of a client without a key."""
    first, mark, id = head.path.partition(b"/predictions/")
    id, slash, more = id.partition(b"/")
    return first + mark + shown(id.decode("latin-1")).encode("latin-1") + slash + more
