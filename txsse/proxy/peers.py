"""The other proxies: a stream that one of them keeps is read through it, over plain HTTP and without a store (``server.peers``).

The id of a stream begins with the name of the proxy that keeps it. Whoever asks another one for it is served by that one from here, with
keepalives and flow control as for any upstream. Where that one is gone, so is the stream: it ends with ``owner_lost``, at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred, succeed

from txsse.clock import Alarms
from txsse.config import model
from txsse.config.secret import Secret
from txsse.dialects import DIALECTS
from txsse.errors import CODES, ProxyError
from txsse.exchange import actions as act
from txsse.exchange import events as ev
from txsse.exchange.table import State
from txsse.interfaces import Failed, Fault, Request
from txsse.proxy.forwarded import TrustedProxies
from txsse.proxy.forwarder import Forwarder
from txsse.proxy.inquiry import Found, Inquiry, has_stream, question
from txsse.proxy.routes import BoundRoute
from txsse.recordings.courses import is_error
from txsse.upstream.backend import Backend
from txsse.wire.headers import get, without
from txsse.wire.http1 import ResponseHead

HOP: Final = b"x-txsse-hop"
"""Says that a proxy of ours has passed a request on already; from clients it is never taken upstream."""

TIMEOUTS: Final = model.Timeouts(connect=2.0, first_byte=30.0, idle=90.0)
"""Of a peer, in seconds. One that keeps a stream says something every ``keepalive.interval`` (15 s), whatever its upstream does."""

UNDERSTOOD: Final = (b"x-txsse-resume",)
"""What clients tell us that a peer has to know as well."""

PAUSE: Final = 5.0
"""Seconds for which one is not asked again that had no answer in time: requests do not wait for the dead one after the other."""

DIALECT: Final = b"x-txsse-dialect"
"""Tells that proxy which dialect a stream speaks, for errors in it."""

ROUTE: Final = b"x-txsse-route"
"""Tells that proxy which route of predictions has answered it, and that it was one: not what a proxy has behind it, nor another server."""


class PeerForwarder(Forwarder):
    """The conductor of a request for a stream that another proxy keeps."""

    __slots__ = ("_last",)

    def begin(self) -> None:
        self._last = b""
        super().begin()

    def response_started(self, head: ResponseHead) -> None:
        spoken = get(head.headers, DIALECT)
        dialect = None if spoken is None else DIALECTS.get(spoken.decode("latin-1"))
        if dialect is not None and self._machine is not None:
            self.dialect = dialect
            self._machine.speak(dialect)
        super().response_started(ResponseHead(head.status, head.reason, head.version, without(head.headers, (DIALECT, ROUTE))))

    def dispatch_failed(self, failed: Failed) -> None:
        if failed.fault is Fault.STALE:  # it tells nothing of the peer: once more, on a fresh connection
            super().dispatch_failed(failed)
            return
        self._landed()
        self._collector = None
        if failed.fault is Fault.TRUNCATED and (error := _error_in(self._last)) is not None:
            self._drive(ev.UpstreamFailed(error))
            return
        text = f"The proxy that kept this stream cannot be reached ({failed.detail}). Send the request anew."
        self._drive(ev.UpstreamFailed(ProxyError("owner_lost", text)))

    def _relayed(self, data: bytes, now: float) -> None:
        self._last = data
        super()._relayed(data, now)

    def _send(self, action: act.Send | act.Commit) -> None:
        machine = self._machine
        if machine is None or machine.state is not State.FAILING or _error_in(self._last) is None:  # the client was told already
            super()._send(action)


def _error_in(told: bytes) -> ProxyError | None:
    """The error that what a peer told ends with: its last word."""
    for line in told.rstrip().rpartition(b"\n\n")[2].splitlines():
        try:
            found = json.loads(line.removeprefix(b"data:"))
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and (is_error(found) or found.get("type") == "response.failed"):
            error = found.get("error")
            code = error.get("code") if isinstance(error, dict) else None
            return ProxyError(code if isinstance(code, str) and code in CODES else "upstream_error", "The stream ended with an error.")
    return None


class Peers:
    """Of one proxy.

    :param node: its own name.
    :param backend: makes what speaks to a peer.
    """

    def __init__(
        self, node: str, urls: Mapping[str, str], backend: Callable[[model.Upstream], Backend], instance: str, trusted: TrustedProxies
    ) -> None:
        self.node = node
        self._backends: list[Backend] = []
        self._routes: dict[str, BoundRoute] = {}
        self._silent: dict[str, float] = {}  # until when one is not asked that had no answer
        for name, url in urls.items():
            if name != node:
                self._routes[name] = self._route(node, name, url, backend, instance, trusted)

    def _route(self, node: str, name: str, url: str, make: Callable[[model.Upstream], Backend], instance: str, trusted: Any) -> BoundRoute:
        upstream = model.Upstream(
            name=f"peer-{name}",
            url=url,
            host="preserve",
            set_headers={"X-Txsse-Hop": Secret(node)},
            probe=model.Probe(preset="none"),
            timeouts=TIMEOUTS,
        )
        backend = make(upstream)
        self._backends.append(backend)
        route = BoundRoute.bind(model.Route(name=f"peer-{name}", upstream=upstream.name), backend, instance, trusted)
        route.forwarding = attrs.evolve(route.forwarding, understood=UNDERSTOOD)
        return route

    def keeper(self, sid: str) -> BoundRoute | None:
        """The way to who keeps the stream of this id; ``None``: we do, or nobody we know of."""
        name, mark, _ = sid.partition("~")
        return self._routes.get(name) if mark and name != self.node else None

    def who_knows(self, request: Request, route: str, ident: bytes, alarms: Alarms) -> Deferred[BoundRoute | None]:
        """The way to who has had this request before, by its ``Idempotency-Key``; ``None``: nobody we know of.

        Fires within :data:`~txsse.proxy.inquiry.DEADLINE`, and never fails.

        :param request: with the client's credential.
        :param route: the name of the one that it met.
        """
        return self.inquire(question(request, route), has_stream, ident, alarms).addCallback(lambda found: found.way)

    def inquire(self, asked: Request, knows: Callable[[ResponseHead], bool], ident: bytes, alarms: Alarms) -> Deferred[Found]:
        """Ask all at once, but for those that had no answer lately; see :meth:`who_knows` for when it fires.

        :param asked: has no body.
        :param knows: tells a yes by its head.
        """
        now = alarms.seconds()
        ways = [way for way in self._routes.values() if self._silent.get(way.name, now) <= now]
        left_out = len(ways) < len(self._routes)
        if not ways:
            return succeed(Found(None, complete=not left_out))
        inquiry = Inquiry(asked, knows, ident, alarms)
        inquiry.ask(ways)

        def done(way: BoundRoute | None) -> Found:
            self._silent.update((each.name, alarms.seconds() + PAUSE) for each in inquiry.silent)
            return Found(way, complete=not (left_out or inquiry.silent or inquiry.failed))

        return inquiry.answer.addCallback(done)

    def close(self) -> None:
        for backend in self._backends:
            backend.close()
