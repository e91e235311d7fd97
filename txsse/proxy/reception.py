"""Requests that are answered here, whole: static answers, requests that wake nobody, and those that end before a wait does."""

from __future__ import annotations

from collections.abc import Iterable

from txsse.clock import Alarms
from txsse.errors import ProxyError
from txsse.interfaces import Downstream, Request
from txsse.pages.tickets import Tickets
from txsse.proxy.answers import about, send_answer, send_error
from txsse.proxy.conductor import Conductor
from txsse.proxy.fixed import Answer
from txsse.proxy.ledger import Ledger
from txsse.proxy.models import KnownModels, asks_for_models
from txsse.proxy.no_wake import not_woken
from txsse.proxy.routes import BoundRoute
from txsse.proxy.stand_ins import Instead, StandIn, StandIns
from txsse.proxy.vigil import Vigil
from txsse.wire.headers import Headers


class Reception:
    """Of one proxy.

    :param ledger: keeps account of what never becomes an exchange.
    """

    def __init__(self, alarms: Alarms, ledger: Ledger) -> None:
        self._alarms = alarms
        self._ledger = ledger
        self._tickets = Tickets(alarms.seconds)
        self._models = KnownModels()
        self._routes: tuple[BoundRoute, ...] = ()

    def furnish(self, route: BoundRoute) -> None:
        """Give *route* what it answers itself.

        :raises ValueError: a file cannot be used.
        """
        vigil = Vigil(route.backend, self._alarms, route.config)
        try:
            route.stand_ins = StandIns(route.config, route.backend, vigil, self._tickets)
        except ValueError as error:
            raise ValueError(f"route {route.name}: {error}") from error

    def take(self, routes: Iterable[BoundRoute]) -> None:
        """These are the routes from now on; for those before nobody waits here any more."""
        self.close()
        self._routes = tuple(routes)

    def close(self) -> None:
        for route in self._routes:
            if route.stand_ins is not None:
                route.stand_ins.vigil.stop()

    @property
    def shows_pages(self) -> bool:
        return any(route.stand_ins is not None and route.stand_ins.shows_page for route in self._routes)

    def followed(self, token: str) -> Vigil | None:
        """The wait that *token* is a ticket for; ``None`` if there is no such ticket, or a reload has taken its route away."""
        ticket = self._tickets.find(token)
        for route in self._routes:
            if ticket is not None and (route.name, route.backend.name) == (ticket.route, ticket.upstream):
                return None if route.stand_ins is None else route.stand_ins.vigil
        return None

    # -- before there is an exchange

    def serve(self, stand_ins: StandIns, route: BoundRoute, request: Request, ident: bytes, downstream: Downstream) -> Downstream | None:
        """Answer *request* if that is for us to do. If not, this is where its answer is to be written."""
        static, head, ready = stand_ins.static, request.head, route.backend.ready
        if static is not None and (static.always or not ready):
            self._answer(static.answer, route, request, ident, downstream)
            return None
        if stand_ins.no_wake is None or not stand_ins.no_wake.meets(head):
            return downstream
        if asks_for_models(head, route):
            if ready:
                return self._models.listen(route, request, downstream)
            self._answer(self._models.answer(route, request, self._routes), route, request, ident, downstream)
            return None
        if ready or route.caches:  # what is stored wakes nobody either, and comes first
            return downstream
        self._refuse(not_woken(route.backend.name, route.backend.state), route, request, ident, downstream)
        return None

    def _answer(self, answer: Answer, route: BoundRoute, request: Request, ident: bytes, downstream: Downstream) -> None:
        size = send_answer(answer, request.head, route, about(ident), downstream)
        self._ledger.answered(request.head, request.path, request.peer, ident, route.name, answer.status, bytes_out=size)

    def _refuse(self, error: ProxyError, route: BoundRoute, request: Request, ident: bytes, downstream: Downstream) -> None:
        size = send_error(error, request.head, request.path, route, about(ident), downstream)
        self._ledger.metrics.rejections[error.code] += 1
        self._ledger.answered(
            request.head,
            request.path,
            request.peer,
            ident,
            route.name,
            error.http_status,
            error=error,
            outcome="rejected",
            bytes_out=size,
        )

    # -- instead of a wait

    def instead(self, conductor: Conductor) -> Instead | None:
        """What its request gets instead of a wait for readiness; ``None``: it waits."""
        route, request, stand_ins = conductor.route, conductor.request, conductor.route.stand_ins
        if stand_ins is None or conductor.tally.status:  # it has a head already
            return None
        if stand_ins.no_wake is None or not stand_ins.no_wake.meets(request.head):
            return stand_ins.instead(request, streaming=conductor.streaming)
        error = not_woken(route.backend.name, route.backend.state)
        if asks_for_models(request.head, route):
            error = StandIn("", error.message, 200, make=lambda: self._models.answer(route, request, self._routes))
        return Instead(error)

    def stand_in(self, conductor: Conductor, error: ProxyError, ours: Headers) -> bool:
        """Send what stands in for *error*, if anything does."""
        stand_ins, request, answer = conductor.route.stand_ins, conductor.request, None
        if isinstance(error, StandIn):
            answer = error.make()
        elif stand_ins is not None and error.code == "too_many_waiting":
            answer = stand_ins.overflow(request)
        if answer is None:
            return False
        conductor.tally.status = answer.status
        eta = conductor.route.backend.gate.eta
        conductor.tally.bytes_out += send_answer(answer, request.head, conductor.route, ours, conductor.downstream, retry_after=eta)
        return True
