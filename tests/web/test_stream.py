"""An event stream whole: raw requests into a site, raw answers out of it."""

from __future__ import annotations

import gc
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from klein import Klein
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request
from twisted.web.test.requesthelper import DummyRequest

from tests.conftest import ExpectedErrors
from tests.web.bench import Script, Service, read
from txsse import EventStream, ServerSentEvent
from txsse.web.pump import Source
from txsse.web.stream import clock_of

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
COMMENT = "txsse"


def in_klein(make: Callable[[Request], EventStream]) -> Service:
    """A Klein application whose handler returns the stream."""
    app = Klein()

    @app.route("/")
    def handler(request: Request) -> EventStream:
        return make(request)

    return Service(lambda clock: app.resource())


def in_klein_later(make: Callable[[Request], EventStream]) -> Service:
    """The same with a coroutine."""
    app = Klein()

    @app.route("/")
    async def handler(request: Request) -> EventStream:
        return make(request)

    return Service(lambda clock: app.resource())


def in_a_resource(make: Callable[[Request], EventStream]) -> Service:
    """A resource of twisted.web's that returns what render returns."""

    class Events(Resource):
        isLeaf = True

        def render_GET(self, request: Request) -> int:
            return make(request).render(request)

        render_HEAD = render_GET

    return Service(lambda clock: Events())


everywhere = pytest.mark.parametrize("serve", [in_klein, in_klein_later, in_a_resource])
Serve = Callable[[Callable[[Request], EventStream]], Service]


def serving(source: Source[object], **options: Any) -> Service:
    return in_klein(lambda request: EventStream(source, **options))


@everywhere
def test_what_a_source_yields_are_events(serve: Serve) -> None:
    script = Script()
    service = serve(lambda request: EventStream(script.items()))
    client = service.ask("GET", "/")
    script.give("one")
    script.give({"two": 2})
    script.give(ServerSentEvent("three", "tick", "3"))
    assert [(each.type, each.data, each.id) for each in client.events] == [
        ("message", "one", ""),
        ("message", '{"two":2}', ""),
        ("tick", "three", "3"),
    ]
    assert not client.answer.complete
    script.end()
    assert client.answer.complete and client.answer.status == 200
    service.assert_nothing_ticks()


def test_its_head_keeps_intermediaries_from_holding_it_back() -> None:
    client = serving(["a"]).ask("GET", "/")
    fields = {(name, value) for name, value in client.answer.headers if name in (b"Content-Type", b"Cache-Control", b"X-Accel-Buffering")}
    assert fields == {
        (b"Content-Type", b"text/event-stream; charset=utf-8"),
        (b"Cache-Control", b"no-cache, no-transform"),
        (b"X-Accel-Buffering", b"no"),
    }


def test_fields_of_the_handler_are_sent() -> None:
    def make(request: Request) -> EventStream:
        request.setHeader(b"Cache-Control", b"no-store")
        request.setHeader(b"Access-Control-Allow-Origin", b"*")
        return EventStream(["a"])

    answer = in_klein(make).ask("GET", "/").answer
    assert answer.header_all("cache-control") == [b"no-store"]
    assert answer.header("access-control-allow-origin") == b"*"


def test_the_head_leaves_at_once_with_a_comment() -> None:
    script = Script()
    client = serving(script.items()).ask("GET", "/")
    assert client.answer.status == 200 and client.body == b": txsse\n"
    client.leave()


def test_with_no_comment_if_there_is_an_event() -> None:
    async def source() -> AsyncIterator[str]:
        yield "now"
        await Deferred()

    client = serving(source()).ask("GET", "/")
    assert client.body == b"data: now\n\n"
    client.leave()


def test_the_reconnection_time_stands_in_the_first_event() -> None:
    client = serving(["a", "b"], retry=2000).ask("GET", "/")
    assert client.body == b"retry: 2000\ndata: a\n\ndata: b\n\n"


def test_silence_is_filled_with_comments() -> None:
    script = Script()
    service = serving(script.items(), interval=10.0)
    client = service.ask("GET", "/")
    script.give("a")
    service.pass_time(9.9)
    assert client.comments == [COMMENT]
    service.pass_time(1.1)
    assert client.comments == [COMMENT] * 2
    service.pass_time(5)
    script.give("b")
    service.pass_time(9.9)
    assert client.comments == [COMMENT] * 2, "the interval begins with the last byte"
    service.pass_time(1.1)
    assert client.comments == [COMMENT] * 3
    script.end()
    service.assert_nothing_ticks()
    assert client.body.endswith(b"data: b\n\n: txsse\n")


def test_who_does_not_read_gets_no_comments_and_is_not_produced_for() -> None:
    script = Script()
    service = serving(script.items(), interval=5.0, stall_timeout=100.0)
    client = service.ask("GET", "/")
    client.stop_reading()
    script.give("a")
    asked = script.asked
    service.pass_time(50)
    assert client.comments == [COMMENT] and script.asked == asked
    client.read_on()
    assert script.asked == asked + 1
    service.pass_time(6)
    assert client.comments == [COMMENT] * 2
    client.leave()
    service.assert_nothing_ticks()


def test_a_reader_that_is_slow_is_never_far_behind() -> None:
    made = 0

    def source() -> Iterator[str]:
        nonlocal made
        while made < 1000:
            made += 1
            yield "x" * 1000

    service = serving(source())
    transport = service.connect_slowly(GET)
    assert made * 1000 < 70_000
    transport.accept(100_000)
    assert made * 1000 < 100_000 + 70_000
    while transport.queued:
        transport.accept(1_000_000)
    answer = read(transport.sent)
    assert made == 1000 and answer.complete and answer.body.count(b"data: ") == 1000


def test_who_leaves_cancels_what_is_waited_for() -> None:
    script = Script()
    service = serving(script.items())
    client = service.ask("GET", "/")
    client.leave()
    assert script.heard == ["cancelled", "finally"]
    service.assert_nothing_ticks()


def test_who_leaves_without_having_read_closes_it_where_it_yields() -> None:
    script = Script()
    service = serving(script.items())
    client = service.ask("GET", "/")
    client.stop_reading()
    script.give("a")
    client.leave()
    assert script.heard == ["closed", "finally"]
    service.assert_nothing_ticks()


def test_a_source_that_does_not_hear_is_closed_at_its_next_item() -> None:
    heard: list[str] = []
    first: Deferred[None] = Deferred()
    second: Deferred[None] = Deferred()

    async def source() -> AsyncIterator[str]:
        try:
            await first
        except CancelledError:
            heard.append("ignored")
        await second
        try:
            yield "late"
        finally:
            heard.append("closed")

    client = serving(source()).ask("GET", "/")
    client.leave()
    assert heard == ["ignored"]
    second.callback(None)
    assert heard == ["ignored", "closed"]


def test_a_source_whose_cleaning_up_fails_is_told_of_in_the_log(expected_errors: ExpectedErrors) -> None:
    async def source() -> AsyncIterator[str]:
        try:
            yield "a"
            await Deferred()
        finally:
            raise KeyError("cleaning up")

    serving(source()).ask("GET", "/").leave()
    assert len(expected_errors.flush(KeyError)) == 1


class Aborting(Resource):
    """Its source loses the connection before it waits for the first time."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    async def source(self, request: Request) -> AsyncIterator[str]:
        channel: Any = request.channel
        channel.transport.abortConnection()
        try:
            await Deferred()
        except CancelledError:
            self.heard.append("cancelled")
            raise
        yield "never"

    def render_GET(self, request: Request) -> int:
        return EventStream(self.source(request)).render(request)


def test_who_leaves_while_it_begins_is_noticed() -> None:
    resource = Aborting()
    service = Service(lambda clock: resource)
    service.ask("GET", "/")
    assert resource.heard == ["cancelled"]
    service.assert_nothing_ticks()


def test_who_has_left_before_it_begins_is_not_answered() -> None:
    script = Script()
    ready: Deferred[None] = Deferred()
    app = Klein()

    @app.route("/")
    async def handler(request: Request) -> EventStream:
        with suppress(CancelledError):
            await ready
        return EventStream(script.items())

    service = Service(lambda clock: app.resource())
    client = service.ask("GET", "/")
    client.leave()
    gc.collect()  # whatever was not closed would complain now
    assert client.transport.value() == b"" and script.asked == 0
    service.assert_nothing_ticks()


@everywhere
def test_a_failure_is_told_and_does_not_look_like_an_end(serve: Serve, expected_errors: ExpectedErrors) -> None:
    script = Script()
    service = serve(lambda request: EventStream(script.items()))
    client = service.ask("GET", "/")
    script.give("a")
    script.give(KeyError("a secret"))
    assert [each.type for each in client.events] == ["message", "error"]
    assert set(json.loads(client.events[-1].data)["error"]) == {"message", "type", "code"}
    assert b"secret" not in client.body and b"Traceback" not in client.body and b"KeyError" in client.body
    service.pass_time(0.1)
    assert not client.transport.gone, "the client shall have time to read it"
    service.pass_time(0.2)
    assert client.transport.gone and not client.answer.complete
    assert len(expected_errors.flush(KeyError)) == 1
    service.assert_nothing_ticks()


def test_so_is_an_item_that_cannot_be_sent(expected_errors: ExpectedErrors) -> None:
    script = Script()
    service = serving(script.items())
    client = service.ask("GET", "/")
    script.give(object())
    assert script.heard == ["closed", "finally"] and client.events[-1].type == "error"
    service.pass_time(1)
    assert client.transport.gone and not client.answer.complete
    assert len(expected_errors.flush(TypeError)) == 1


def test_a_cancellation_of_its_own_is_a_failure(expected_errors: ExpectedErrors) -> None:
    script = Script()
    service = serving(script.items())
    client = service.ask("GET", "/")
    script.give(CancelledError())
    assert client.events[-1].type == "error"
    client.leave()
    assert len(expected_errors.flush(CancelledError)) == 1
    service.assert_nothing_ticks()


def test_to_http_1_0_a_failure_is_a_reset(expected_errors: ExpectedErrors) -> None:
    script = Script()
    service = serving(script.items())
    client = service.ask("GET", "/", version="HTTP/1.0")
    script.give(KeyError("x"))
    service.pass_time(1)
    assert client.transport.aborted and not client.answer.complete
    assert len(expected_errors.flush(KeyError)) == 1


def test_to_http_1_0_the_end_is_that_of_the_connection() -> None:
    client = serving(["a"]).ask("GET", "/", version="HTTP/1.0")
    assert client.body == b"data: a\n\n" and client.transport.gone and client.answer.complete


def test_a_failure_waits_until_the_client_has_what_came_before(expected_errors: ExpectedErrors) -> None:
    script = Script()
    service = serving(script.items())
    transport = service.connect_slowly(GET)
    transport.accept(10_000)
    script.give(KeyError("x"))
    service.pass_time(5)
    assert not transport.disconnecting and transport.queued
    transport.accept(10_000)
    assert b"event: error" in transport.sent
    service.pass_time(0.1)
    assert not transport.disconnecting
    service.pass_time(0.3)
    assert transport.disconnecting and not transport.sent.endswith(b"0\r\n\r\n")
    assert len(expected_errors.flush(KeyError)) == 1


@everywhere
def test_head_gets_the_head(serve: Serve) -> None:
    script = Script()
    service = serve(lambda request: EventStream(script.items()))
    client = service.ask("HEAD", "/")
    assert client.answer.header("content-type") == b"text/event-stream; charset=utf-8"
    assert client.transport.value().endswith(b"\r\n\r\n") and client.answer.complete
    assert script.asked == 0
    assert client.ask("GET", "/").answer.status == 200, "the connection serves on"
    client.leave()


def test_it_answers_one_request(expected_errors: ExpectedErrors) -> None:
    stream = EventStream(["a"])
    service = in_klein(lambda request: stream)
    assert service.ask("GET", "/").answer.status == 200
    assert service.ask("GET", "/").answer.status == 500
    assert len(expected_errors.flush(RuntimeError)) == 1


@pytest.mark.parametrize("busy", [True, False])
def test_who_takes_nothing_is_given_up(busy: bool) -> None:
    """Whether the buffer is full, or a few bytes of a quiet stream are stuck."""
    script = Script()
    service = serving(script.items(), interval=5.0, stall_timeout=20.0)
    transport = service.connect_slowly(GET)
    transport.accept(10_000)
    for _ in range(100 if busy else 1):
        script.give("x" * 1000)
    service.pass_time(15)
    assert not transport.aborted
    service.pass_time(15)
    assert transport.aborted and script.heard[-1] == "finally"
    service.assert_nothing_ticks()


def test_who_takes_a_little_now_and_then_is_not() -> None:
    script = Script()
    service = serving(script.items(), interval=5.0, stall_timeout=20.0)
    transport = service.connect_slowly(GET)
    script.give("x" * 1000)
    for _ in range(10):
        service.pass_time(10)
        transport.accept(50)
    assert not transport.aborted
    transport.accept(10_000)
    service.pass_time(4)
    transport.connectionLost(CancelledError())  # type: ignore[arg-type]  # any reason will do
    service.assert_nothing_ticks()


@pytest.mark.parametrize("options", [{"interval": 0.0}, {"stall_timeout": -1.0}])
def test_times_are_more_than_nothing(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        EventStream([], **options)  # type: ignore[arg-type]  # floats only


def test_its_time_may_be_another_than_that_of_the_site() -> None:
    clock = MemoryReactorClock()
    script = Script()
    service = serving(script.items(), reactor=clock, interval=1.0)
    client = service.ask("GET", "/")
    service.pass_time(5)
    assert client.comments == [COMMENT]
    clock.pump([0.1] * 11)
    assert client.comments == [COMMENT] * 2
    client.leave()


def test_without_a_site_it_is_that_of_the_global_reactor() -> None:
    from twisted.internet import reactor

    request: Any = DummyRequest([b""])
    request.site = None
    assert clock_of(request) is reactor


def test_a_handler_is_an_iresource_to_klein() -> None:
    assert IResource.providedBy(EventStream([])) and not IRequest.providedBy(EventStream([]))
