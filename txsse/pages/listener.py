"""Where requests for our own pages go. Light: twisted.web, Klein and werkzeug are imported when the first of them comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory, Protocol

from txsse.front.handover import Pages
from txsse.pages.streams import STREAMS, is_for_pages
from txsse.pages.waiting import PROGRESS
from txsse.wire.http1 import RequestHead

if TYPE_CHECKING:
    from twisted.web.server import Site

    from txsse.pages.app import PagesView


def own_pages(view: PagesView, reactor: IReactorTime) -> Pages:
    """The pages of the proxy behind *view*, for its listeners."""
    waits, streams = PROGRESS.encode(), STREAMS.encode()

    def is_ours(head: RequestHead) -> bool:
        if head.path.startswith(waits):
            return view.shows_pages
        page = view.stream_control
        return page is not None and head.path.startswith(streams) and is_for_pages(head, page)

    return Pages(_PagesFactory(view, reactor), is_ours, under=b"/-/")


class _PagesFactory(Factory[Protocol]):
    noisy = False

    def __init__(self, view: PagesView, reactor: IReactorTime) -> None:
        self._view = view
        self._reactor = reactor
        self._site: Site | None = None

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        if self._site is None:
            from txsse.pages.app import PagesApp
            from txsse.pages.site import make_site

            self._site = make_site(PagesApp(self._view).app.resource(), self._reactor, self._view)
        made: Protocol | None = self._site.buildProtocol(addr)
        return made
