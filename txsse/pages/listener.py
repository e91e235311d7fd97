"""Where requests for our own pages go. Light: twisted.web, Klein and werkzeug are imported when the first of them comes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory, Protocol

from txsse.front.handover import Pages
from txsse.pages.waiting import PROGRESS

if TYPE_CHECKING:
    from twisted.web.server import Site

    from txsse.pages.app import PagesView


def own_pages(view: PagesView, reactor: IReactorTime) -> Pages:
    """The pages of the proxy behind *view*, for its listeners."""
    # A bound method of C's, for it is asked of each request.
    return Pages(_PagesFactory(view, reactor), re.compile(re.escape(PROGRESS.encode())).match)


class _PagesFactory(Factory[Protocol]):
    noisy = False

    def __init__(self, view: PagesView, reactor: IReactorTime) -> None:
        self._view = view
        self._reactor = reactor
        self._site: Site | None = None

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        if self._site is None:
            from txsse.pages.site import make_site

            self._site = make_site(self._view, self._reactor)
        made: Protocol | None = self._site.buildProtocol(addr)
        return made
