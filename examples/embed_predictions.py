"""A service of your own that makes predictions: one Python function, and replicate/cog's HTTP API over it.

Run it as::

    python examples/embed_predictions.py         # on http://127.0.0.1:8891/

and ask it, from another terminal::

    curl -N -X PUT http://127.0.0.1:8891/predictions/one -H 'Content-Type: application/json' \\
         -H 'Accept: text/event-stream' -d '{"input": {"prompt": "spring"}}'

Stop curl in the middle and start it anew: the prediction was cancelled, for nobody else followed it. With ``-H 'Prefer: respond-async'``
it goes on, and the second curl gets all of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from twisted.internet.task import deferLater
from twisted.web.resource import IResource
from twisted.web.server import Site

from txsse import streaming
from txsse.predictions.app import PredictionsApp
from txsse.predictions.handlers import HandlerModels
from txsse.web.context import Context

POEM = "An old silent pond . A frog jumps into the pond . Splash ! Silence again ."


def make_site(reactor: Any, pace: float = 0.2) -> Site:
    """The service. *pace*: seconds that the model takes for a word."""

    @streaming  # it may be asked for events
    async def predict(input: dict[str, Any], ctx: Context) -> AsyncIterator[str]:
        ctx.log(f"a poem about {input['prompt']}")
        for word in POEM.split():
            await deferLater(reactor, pace)
            ctx.metric("words", 1, "increment")
            yield word

    app = PredictionsApp.over(HandlerModels(predict, slots=2), reactor)
    resource: IResource = app.app.resource()
    return Site(resource, reactor=reactor)


def main() -> None:
    from twisted.internet import reactor

    any_reactor: Any = reactor  # no interface has both listenTCP and run
    any_reactor.listenTCP(8891, make_site(reactor), interface="127.0.0.1")
    any_reactor.run()


if __name__ == "__main__":
    main()
