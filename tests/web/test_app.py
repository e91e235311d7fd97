"""406 where a handler does not stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request

from tests.web.bench import Service
from txsse import EventStream, streaming
from txsse.web.app import StreamingApp


class Leaf(Resource):
    isLeaf = True

    def render_GET(self, request: Request) -> bytes:
        return b"below " + b"/".join(request.postpath or [])


def function_app() -> IResource:
    app = StreamingApp()

    @app.route("/plain")
    def plain(request: Request) -> str:
        return "plain"

    @app.route("/marked")
    @streaming
    async def marked(request: Request) -> AsyncIterator[str]:
        yield "chunk"

    @app.route("/events")
    @streaming
    def events(request: Request) -> EventStream:
        return EventStream(["event"])

    @app.route("/below/", branch=True)
    @streaming
    def below(request: Request) -> Resource:
        return Leaf()

    resource: IResource = app.resource()
    return resource


class Methods:
    app = StreamingApp()

    @app.route("/plain")
    def plain(self, request: Request) -> str:
        return "plain"

    @app.route("/marked")
    @streaming
    async def marked(self, request: Request) -> AsyncIterator[str]:
        yield "chunk"

    @app.route("/events")
    @streaming
    def events(self, request: Request) -> EventStream:
        return EventStream(["event"])

    @app.route("/below/", branch=True)
    @streaming
    def below(self, request: Request) -> Resource:
        return Leaf()


both = pytest.mark.parametrize("make", [function_app, lambda: Methods().app.resource()])


@both
@pytest.mark.parametrize("accept", ["text/event-stream", "application/json, text/event-stream"])
def test_events_of_a_handler_that_is_not_marked_are_refused(make: Any, accept: str) -> None:
    client = Service(lambda clock: make()).ask("GET", "/plain", f"Accept: {accept}")
    assert client.answer.status == 406
    assert client.document["error"]["code"] == "not_streamable"


@both
def test_everything_else_is_as_ever(make: Any) -> None:
    service = Service(lambda clock: make())
    assert service.ask("GET", "/plain").body == b"plain"
    assert service.ask("GET", "/plain", "Accept: text/event-stream;q=0").body == b"plain"
    assert service.ask("GET", "/nowhere", "Accept: text/event-stream").answer.status == 404
    assert service.ask("GET", "/marked").document["output"] == ["chunk"]


@both
def test_handlers_that_are_marked_stream(make: Any) -> None:
    service = Service(lambda clock: make())
    fields = "Accept: text/event-stream"
    assert [name for name, _ in service.ask("GET", "/marked", fields).told] == ["start", "output", "completed"]
    assert service.ask("GET", "/events", fields).body == b"data: event\n\n"
    assert service.ask("GET", "/below/a/b", fields).body == b"below a/b"
    assert service.ask("HEAD", "/below/a/b", fields).answer.header("content-length") == b"9", "it has a HEAD of its own"
