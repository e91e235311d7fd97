"""What the admin listener listens with. Light: the site behind it is made, and twisted.web, Klein and werkzeug are imported, when
somebody connects. A proxy that nobody looks at is spared their 9 MiB."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory, Protocol

from txsse.admin.guard import Guard

if TYPE_CHECKING:
    from twisted.web.server import Site

    from txsse.admin.view import AdminView


class AdminFactory(Factory[Protocol]):
    """Serves the proxy behind *view*.

    :param hosts: ``server.admin_hosts``.
    :param token: ``server.admin_token``.
    """

    noisy = False

    def __init__(self, view: AdminView, reactor: IReactorTime, *, hosts: Iterable[str] = (), token: str = "") -> None:
        self._view = view
        self._reactor = reactor
        self._guard = Guard(hosts, token)
        self._site: Site | None = None

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        if self._site is None:
            from txsse.admin.site import make_site

            self._site = make_site(self._view, self._guard, self._reactor)
        made: Protocol | None = self._site.buildProtocol(addr)
        return made
