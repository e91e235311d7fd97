"""Where requests for predictions go. Light: twisted.web, Klein and werkzeug are imported when the first of them comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory, Protocol

from txsse.front.handover import Pages
from txsse.wire.http1 import RequestHead

if TYPE_CHECKING:
    from twisted.web.server import Site

    from txsse.predictions.jobs import Jobs
    from txsse.predictions.model import Models
    from txsse.webhooks.sender import Sender


def serve_predictions(
    models: Models, jobs: Jobs, sender: Sender | None, is_ours: Callable[[RequestHead], bool], reactor: IReactorTime
) -> Pages:
    """The HTTP API of *models*, for the listeners of a proxy.

    :param is_ours: true of the head of a request for it.
    """
    return Pages(_PredictionsFactory(models, jobs, sender, reactor), is_ours)


class _PredictionsFactory(Factory[Protocol]):
    noisy = False

    def __init__(self, models: Models, jobs: Jobs, sender: Sender | None, reactor: IReactorTime) -> None:
        self._given = (models, jobs, sender)
        self._reactor = reactor
        self._site: Site | None = None

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        if self._site is None:
            from txsse.pages.site import make_site
            from txsse.predictions.app import PredictionsApp

            self._site = make_site(PredictionsApp(*self._given).app.resource(), self._reactor)
        made: Protocol | None = self._site.buildProtocol(addr)
        return made
