"""What a route answers in place of an upstream that is not ready: static answers, refusals that wake nobody, placeholders, a page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from txsse.config import model
from txsse.config.errors import shown
from txsse.errors import ProxyError
from txsse.interfaces import Request
from txsse.pages.tickets import Tickets
from txsse.pages.waiting import WaitingPage, wants_page
from txsse.proxy.fixed import Answer, StaticAnswer, read_file
from txsse.proxy.no_wake import NoWake
from txsse.proxy.placeholder import Placeholder
from txsse.proxy.vigil import Vigil
from txsse.upstream.backend import Backend

REFRESH: Final = 5
"""Seconds between two tries of a waiting page without scripts."""


@attrs.define(eq=False, kw_only=True)
class StandIn(ProxyError):
    """Ends a wait that its request is not to see the end of. To the client it is no error: it is sent what *make* makes.

    It has no code, for there is nothing in the table of errors that it would be.
    """

    make: Callable[[], Answer]


@attrs.frozen
class Instead:
    """What a request gets instead of a wait for readiness.

    :param error: a :class:`StandIn`, or why it is refused.
    :param vigil: goes on waiting in its place; ``None``: nobody shall.
    :param also_refused: and if the gate says that there is no use in waiting, it gets that too.
    """

    error: ProxyError
    vigil: Vigil | None = None
    also_refused: bool = False


def load_page(config: model.Placeholder, placeholder: Placeholder | None) -> WaitingPage | None:
    """The page for browsers; ``None`` if they get what everybody gets.

    :raises ValueError: its template cannot be used.
    """
    if config.page == "never" or (config.page == "auto" and placeholder is not None and placeholder.is_page):
        return None
    if not config.page_file:
        return WaitingPage.built_in()
    content = read_file(config.page_file)
    try:
        return WaitingPage(content, own=True)
    except ValueError as error:
        raise ValueError(f"{shown(config.page_file)}: {error}") from None


def check_files(route: model.Route) -> None:
    """Load what *route* would answer with.

    :raises ValueError: a file cannot be used.
    """
    StaticAnswer.load(route.static)
    load_page(route.hold.placeholder, Placeholder.load(route.hold.placeholder))


class StandIns:
    """Of one route.

    :ivar early: there are answers that do not depend on a wait.
    :ivar static: a fixed answer.
    :ivar no_wake: the requests that wake nobody.
    """

    def __init__(self, route: model.Route, backend: Backend, vigil: Vigil, tickets: Tickets) -> None:
        """:raises ValueError: a file cannot be used."""
        placeholder = route.hold.placeholder
        self.static = StaticAnswer.load(route.static)
        self.no_wake = NoWake.compile(route.no_wake)
        self.early = self.static is not None or self.no_wake is not None
        self.vigil = vigil
        self._route = route.name
        self._backend = backend
        self._tickets = tickets
        self._placeholder = Placeholder.load(placeholder)
        self._page = load_page(placeholder, self._placeholder)
        self._page_status = placeholder.status or 503
        self._for_overflow = route.hold.overflow == "placeholder"

    @property
    def shows_page(self) -> bool:
        return self._page is not None

    def holds(self, request: Request, *, streaming: bool) -> bool:
        """Does *request* wait for readiness?"""
        wakes = self.no_wake is None or not self.no_wake.meets(request.head)
        return wakes and self.instead(request, streaming=streaming) is None

    def instead(self, request: Request, *, streaming: bool) -> Instead | None:
        """What *request* gets instead of a wait for readiness; ``None``: it waits. (Those that wake nobody are not looked for here.)"""
        head = request.head
        if self._page is not None and not streaming and wants_page(head):
            error = StandIn("", "The upstream is not ready.", self._page_status, make=self._waiting_page)
            return Instead(error, self.vigil, also_refused=True)
        placeholder = self._placeholder
        if placeholder is None or self._for_overflow:
            return None
        answer = placeholder.answer(head)
        return Instead(StandIn("", "The upstream is not ready.", answer.status, make=lambda: answer), self.vigil)

    def overflow(self, request: Request) -> Answer | None:
        """What *request* gets for which there is no room to wait in; ``None``: the error that says so."""
        return self._placeholder.answer(request.head) if self._placeholder is not None and self._for_overflow else None

    def _waiting_page(self) -> Answer:
        assert self._page is not None
        token = self._tickets.issue(self._route, self._backend.name)
        body, headers = self._page.render(token, self.vigil.status(), REFRESH)
        return Answer(self._page_status, [*headers, (b"Vary", b"Accept")], body)
