"""What follows from a request's head alone: worked out once for all requests that bring the same one."""

from __future__ import annotations

import re
from typing import Final

from txsse.dialects import Dialect
from txsse.interfaces import Request
from txsse.proxy.admission import takes_events
from txsse.proxy.auth import Keys
from txsse.proxy.cors import is_preflight
from txsse.proxy.forwarded import Outline, outline, seen_own_via
from txsse.proxy.routes import BoundRoute, RouteTable
from txsse.wire.headers import Headers, get
from txsse.wire.http1 import RequestHead, asks_for_websocket

SHORTEST_INTERVAL: Final = 1.0
"""Seconds below which no announcement of a client brings the interval of its keepalives."""

_TIMEOUTS: Final = (b"x-stainless-read-timeout", b"x-stainless-timeout")
_SECONDS: Final = re.compile(rb"[0-9]{1,9}(?:\.[0-9]{1,9})?")


def announced_timeout(headers: Headers) -> float | None:
    """The seconds that a client of OpenAI's or Anthropic's SDKs says it waits for the next byte, or for the whole answer."""
    told = [float(value) for name in _TIMEOUTS if (value := get(headers, name)) is not None and _SECONDS.fullmatch(value)]
    return min(filter(None, told), default=None)


class Plan:
    """Kept in the head's own ``plan``, as long as the routes stay what they are. Costs 25 us to make and 0.1 us to find again.

    :ivar route: the first one that the head meets, those counted in that ask for a model.
    :ivar loops: it has come through this proxy before.
    :ivar must_look: the body's members matter, whatever they are.
    :ivar opaque: the body is in a content coding, so nothing is known of it.
    :ivar predicts: it is about a prediction.
    :ivar takes_events: Accept names an event stream.
    :ivar upgrades: it asks for a WebSocket.
    """

    __slots__ = (
        "_outline",
        "_outlined",
        "_patience",
        "_stripped",
        "dialect",
        "loops",
        "must_look",
        "opaque",
        "predicts",
        "preflight",
        "route",
        "table",
        "takes_events",
        "upgrades",
    )

    def __init__(self, head: RequestHead, table: RouteTable, instance: str) -> None:
        self.table = table
        self.route: BoundRoute | None = table.find(head, any_model=True)
        self.dialect: Dialect | None = None if self.route is None else self.route.dialect(head.decoded_path)
        self.loops = seen_own_via(head.headers, instance)
        self.preflight = is_preflight(head)
        coding = get(head.headers, b"content-encoding")
        self.opaque = coding is not None and coding.strip().lower() != b"identity"
        self.takes_events = takes_events(head.headers)
        self.upgrades = asks_for_websocket(head)
        # A body in which the word "stream" does not occur has nothing to tell, unless:
        asked_for = self.route is not None and self.route.config.streaming == "always"
        by_itself = self.dialect is not None and self.dialect.streams_unless_told
        self.must_look = table.by_model or asked_for or head.method == b"GET" or by_itself
        found = table.find(head) if table.by_model and table.predictions else self.route
        self.predicts = found is not None and found.predicts and not self.preflight
        self._patience = announced_timeout(head.headers)
        self._outline: Outline | None = None
        self._outlined: tuple[BoundRoute, str, bool, bool] | None = None
        self._stripped: tuple[RequestHead, bytes] | None = None

    def interval(self, configured: float) -> float:
        """Of keepalives, in seconds: a third of the time that the client says it waits, if that is less than the route's."""
        return configured if self._patience is None else min(configured, max(self._patience / 3, SHORTEST_INTERVAL))

    def outline(self, request: Request, route: BoundRoute, *, writes_stream: bool) -> Outline:
        """The head for the upstream. It differs by client; the last one's is kept."""
        key = (route, request.peer, request.secure, writes_stream)
        if self._outline is None or key != self._outlined:
            self._outline = outline(request, route.forwarding, writes_stream=writes_stream, upgrades=self.upgrades)
            self._outlined = key
        return self._outline

    def strip(self, request: Request, keys: Keys) -> None:
        """Take this proxy's keys out of *request*."""
        if self._stripped is None:
            self._stripped = keys.strip(request.head, request.path)
        request.head, request.path = self._stripped


def plan_of(head: RequestHead, table: RouteTable, instance: str) -> Plan:
    """The plan for *head*, and for all that differ from it in their request id alone; made if there is none for these routes."""
    base = head if table.by_request_id else head.shape
    plan = base.plan
    if not isinstance(plan, Plan) or plan.table is not table:
        plan = base.plan = Plan(base, table, instance)
    return plan
