"""A service of your own that streams: a clock for browsers, and a model whose clients choose how they are answered.

Run it as::

    python examples/embed_streaming.py           # on http://127.0.0.1:8890/

and ask it, from another terminal::

    curl -N http://127.0.0.1:8890/clock
    curl -N http://127.0.0.1:8890/predictions -d '{"input":{"prompt":"spring"}}' -H 'Accept: text/event-stream'
    curl http://127.0.0.1:8890/predictions -d '{"input":{"prompt":"spring"}}'
    curl -i http://127.0.0.1:8890/predictions -d '{"input":{"prompt":"spring"}}' -H 'Prefer: respond-async'
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from twisted.internet.task import deferLater
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from txsse import EventStream, ServerSentEvent, streaming
from txsse.web.app import StreamingApp
from txsse.web.context import Context
from txsse.web.run import Run

POEM = "An old silent pond . A frog jumps into the pond . Splash ! Silence again ."
KEPT = 100

PAGE = b"""<!doctype html><title>Clock</title><h1 id="time">-</h1>
<script>new EventSource("/clock").addEventListener("tick", event => time.textContent = JSON.parse(event.data).seconds)</script>
"""


class Runs:
    """Where runs are kept that go on without a client: the last hundred, by their id."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}

    def keep(self, run: Run) -> str:
        while len(self._runs) >= KEPT:
            self._runs.pop(next(iter(self._runs))).cancel()
        self._runs[run.prediction.id] = run
        return f"/predictions/{run.prediction.id}"

    def get(self, id: str) -> Run | None:
        return self._runs.get(id)

    def stop(self) -> None:
        for run in self._runs.values():
            run.cancel()


async def ticks(reactor: Any, every: float) -> AsyncIterator[ServerSentEvent]:
    """A count of seconds. When the client has left, the ``finally`` runs."""
    began = reactor.seconds()
    try:
        while True:
            yield ServerSentEvent({"seconds": round(reactor.seconds() - began)}, "tick")
            await deferLater(reactor, every)
    finally:
        print("a clock stops")


def make_site(reactor: Any, runs: Runs, pace: float = 0.2) -> Site:
    """The service. *pace*: seconds that the model takes for a word."""
    app = StreamingApp()

    @app.route("/")
    def home(request: Request) -> bytes:
        return PAGE

    @app.route("/clock")
    @streaming
    def clock(request: Request) -> EventStream:
        return EventStream(ticks(reactor, 1.0), retry=2000)

    @app.route("/predictions", methods=["POST"])
    @streaming(registry=runs)
    async def predict(input: Any, ctx: Context) -> AsyncIterator[str]:
        ctx.log(f"a poem about {input['prompt']}")
        for word in POEM.split():
            await deferLater(reactor, pace)
            ctx.metric("words", 1, "increment")
            yield word

    @app.route("/predictions/<id>", methods=["GET"])
    def state(request: Request, id: str) -> bytes:
        run = runs.get(id)
        request.setHeader(b"Content-Type", b"application/json")
        if run is None:
            request.setResponseCode(404)
            return b'{"error":{"message":"There is no such prediction.","code":"not_found"}}'
        return json.dumps(run.prediction.document()).encode()

    @app.route("/predictions/<id>/cancel", methods=["POST"])
    def cancel(request: Request, id: str) -> bytes:
        run = runs.get(id)
        if run is not None:
            run.cancel()
        return state(request, id)

    resource: IResource = app.resource()
    return Site(resource, reactor=reactor)


def main() -> None:
    from twisted.internet import reactor

    any_reactor: Any = reactor  # no interface has both listenTCP and run
    runs = Runs()
    any_reactor.listenTCP(8890, make_site(reactor, runs), interface="127.0.0.1")
    any_reactor.addSystemEventTrigger("before", "shutdown", runs.stop)
    any_reactor.run()


if __name__ == "__main__":
    main()
