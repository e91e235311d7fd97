"""One handler, three forms of answer."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.web.server import Request
from werkzeug.exceptions import BadRequest

from tests.conftest import ExpectedErrors
from tests.web.bench import Client, Script, Service, sleep
from txsse import EventStream, streaming
from txsse.web.context import Context
from txsse.web.handler import chunks_of, handler_of
from txsse.web.prediction import Prediction
from txsse.web.run import Run

EVENTS = "Accept: application/json, text/event-stream"
ASYNC = "Prefer: respond-async"


class Kept:
    """A registry: a dict."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}

    def keep(self, run: Run) -> str:
        assert run.prediction.status == "processing"
        self.runs[run.prediction.id] = run
        return f"/runs/{run.prediction.id}"


class Bench:
    """A handler that counts to three, a chunk a second; a prediction; and one that does what a script says."""

    def __init__(self, registry: Kept | None = None) -> None:
        self.script = Script()
        self.registry = registry
        self.service = Service(self._make)

    def _make(self, clock: MemoryReactorClock) -> Any:
        app = Klein()

        @app.route("/count/<int:first>")
        @streaming
        async def count(request: Request, first: int) -> AsyncIterator[object]:
            for n in range(first, first + 3):
                await sleep(clock, 1)
                yield {"n": n}

        @app.route("/predictions", methods=["POST"])
        @streaming
        async def predict(input: Any, ctx: Context) -> AsyncIterator[str]:
            ctx.log("reading")
            await sleep(clock, 1)
            for word in input["prompt"].split():
                ctx.metric("words", 1, "increment")
                yield word

        @app.route("/script")
        @streaming(registry=self.registry, interval=5.0)
        def scripted(request: Request) -> AsyncIterator[object]:
            items: AsyncIterator[object] = self.script.items()
            return items

        return app.resource()

    def ask(self, method: str, path: str, *fields: str, body: bytes = b"") -> Client:
        return self.service.ask(method, path, *fields, body=body)


def serve(function: Any, **options: Any) -> Service:
    """*function*, marked, at every path."""
    app = Klein()
    app.route("/")(streaming(**options)(function) if options else streaming(function))
    return Service(lambda clock: app.resource())


def test_a_document_when_it_is_done() -> None:
    bench = Bench()
    client = bench.ask("GET", "/count/5")
    bench.service.pass_time(2.5)
    assert client.transport.value() == b""
    bench.service.pass_time(1)
    answer, document = client.answer, client.document
    assert (answer.status, answer.header("content-type"), answer.complete) == (200, b"application/json", True)
    assert document.pop("metrics")["predict_time"] == pytest.approx(3, abs=0.2)
    assert len(document.pop("id")) == 22
    assert document == {"status": "succeeded", "output": [{"n": 5}, {"n": 6}, {"n": 7}], "logs": ""}
    assert answer.header("vary") == b"Accept, Prefer"
    bench.service.assert_nothing_ticks()


def test_events_as_they_happen() -> None:
    bench = Bench()
    client = bench.ask("GET", "/count/0", EVENTS)
    assert client.answer.header("content-type") == b"text/event-stream; charset=utf-8"
    assert [name for name, _ in client.told] == ["start"]
    bench.service.pass_time(1.1)
    assert client.told[1] == ("output", {"chunk": {"n": 0}, "index": 0})
    bench.service.pass_time(3)
    assert [name for name, _ in client.told] == ["start", "output", "output", "output", "completed"]
    assert client.told[-1][1]["output"] == [{"n": 0}, {"n": 1}, {"n": 2}] and client.told[-1][1]["id"] == client.told[0][1]["id"]
    assert client.answer.complete
    bench.service.assert_nothing_ticks()


def test_a_prediction_takes_an_input_and_tells_of_its_work() -> None:
    bench = Bench()
    client = bench.ask("POST", "/predictions", EVENTS, body=b'{"input":{"prompt":"Onions bloom"}}')
    assert [name for name, _ in client.told] == ["start", "log"], "what is told leaves before the next chunk"
    bench.service.pass_time(1.1)
    assert client.told[1:6] == [
        ("log", {"data": "reading\n", "source": "stdout"}),
        ("metric", {"name": "words", "value": 1, "mode": "increment"}),
        ("output", {"chunk": "Onions", "index": 0}),
        ("metric", {"name": "words", "value": 1, "mode": "increment"}),
        ("output", {"chunk": "bloom", "index": 1}),
    ]
    name, document = client.told[6]
    assert (name, document["status"], document["logs"], document["metrics"]["words"]) == ("completed", "succeeded", "reading\n", 2)


def test_the_same_as_a_document() -> None:
    bench = Bench()
    client = bench.ask("POST", "/predictions", body=b'{"input":{"prompt":"Onions bloom"}}')
    bench.service.pass_time(1.1)
    assert client.document["output"] == ["Onions", "bloom"]


def test_202_and_it_works_on() -> None:
    bench = Bench()
    client = bench.ask("GET", "/script", ASYNC)
    assert client.answer.status == 202 and client.answer.complete
    assert client.answer.header("preference-applied") == b"respond-async"
    assert client.answer.header("location") is None, "nobody keeps it"
    assert client.document["status"] == "processing"
    client.leave()
    bench.script.give("a")
    bench.script.end()
    assert bench.script.heard == ["finally"]


def test_202_tells_where_it_is_kept() -> None:
    bench = Bench(kept := Kept())
    client = bench.ask("GET", "/script", ASYNC)
    (run,) = kept.runs.values()
    assert client.answer.header("location") == f"/runs/{client.document['id']}".encode()
    assert run.prediction.id == client.document["id"]
    client.leave()
    bench.script.give("a")
    assert run.prediction.document()["output"] == ["a"]
    run.cancel()
    assert (run.prediction.status, bench.script.heard) == ("canceled", ["cancelled", "finally"])


def test_only_what_goes_on_without_a_client_is_kept() -> None:
    bench = Bench(kept := Kept())
    client = bench.ask("GET", "/script")
    bench.script.end()
    assert client.answer.complete and kept.runs == {}


@pytest.mark.parametrize("fields", [[], [EVENTS]])
def test_who_leaves_cancels_it(fields: list[str]) -> None:
    bench = Bench()
    client = bench.ask("GET", "/script", *fields)
    bench.script.give("a")
    client.leave()
    assert bench.script.heard == ["cancelled", "finally"]
    bench.service.assert_nothing_ticks()


def test_who_leaves_while_it_cleans_up_is_waited_for_no_more() -> None:
    cleaned: Deferred[None] = Deferred()

    async def slow(request: Request) -> AsyncIterator[str]:
        try:
            await Deferred()
            yield "never"
        finally:
            await cleaned

    service = serve(slow)
    client = service.ask("GET", "/")
    client.leave()
    cleaned.callback(None)
    assert client.transport.value() == b""


def test_events_and_prefer_leaving_does_not_cancel_it() -> None:
    bench = Bench(kept := Kept())
    client = bench.ask("GET", "/script", EVENTS, ASYNC)
    (run,) = kept.runs.values()
    assert client.answer.header("location") == f"/runs/{run.prediction.id}".encode()
    assert client.answer.header("preference-applied") == b"respond-async"
    bench.script.give("a")
    assert [name for name, _ in client.told] == ["start", "output"]
    client.leave()
    assert bench.script.heard == []
    bench.script.give("b")
    bench.script.give("c")
    bench.script.end()
    assert run.prediction.document()["output"] == ["a", "b", "c"]
    bench.service.assert_nothing_ticks()


def test_who_does_not_read_is_not_produced_for() -> None:
    bench = Bench()
    client = bench.ask("GET", "/script", EVENTS)
    client.stop_reading()
    bench.script.give("a")
    bench.service.pass_time(10)
    assert bench.script.asked == 1
    client.read_on()
    assert bench.script.asked == 2 and client.told[-1] == ("output", {"chunk": "a", "index": 0})
    client.leave()


def test_a_stream_is_kept_alive() -> None:
    bench = Bench()
    client = bench.ask("GET", "/script", EVENTS)
    bench.service.pass_time(11)
    assert client.comments == ["txsse"] * 2
    client.leave()


@pytest.mark.parametrize("fields", [[], [EVENTS]])
def test_a_failure_is_an_outcome(fields: list[str], expected_errors: ExpectedErrors) -> None:
    bench = Bench()
    client = bench.ask("GET", "/script", *fields)
    bench.script.give("a")
    bench.script.give(RuntimeError("generator exploded"))
    assert client.answer.status == 200 and client.answer.complete
    document = client.told[-1][1] if fields else client.document
    assert (document["status"], document["error"], document["output"]) == ("failed", "generator exploded", ["a"])
    assert b"Traceback" not in client.body
    assert len(expected_errors.flush(RuntimeError)) == 1


@pytest.mark.parametrize("body", [b"prompt=x", b"[]", b"{"])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    client = Bench().ask("POST", "/predictions", body=body)
    assert client.answer.status == 400 and client.document["error"]["code"] == "bad_request"


@pytest.mark.parametrize(("fields", "kind"), [([], b"application/json"), ([EVENTS], b"text/event-stream; charset=utf-8")])
def test_head_runs_nothing(fields: list[str], kind: bytes) -> None:
    bench = Bench()
    client = bench.ask("HEAD", "/script", *fields)
    assert client.answer.status == 200 and client.answer.header("content-type") == kind
    assert bench.script.asked == 0


def test_an_ordinary_generator_is_a_handler_too() -> None:
    @streaming()
    def count(request: Request) -> Iterator[int]:
        yield 1
        yield 2

    app = Klein()
    app.route("/")(count)
    service = Service(lambda clock: app.resource())
    assert service.ask("GET", "/").document["output"] == [1, 2]
    assert [name for name, _ in service.ask("GET", "/", EVENTS).told] == ["start", "output", "output", "completed"]


def test_a_coroutine_may_return_the_iterator() -> None:
    ready: Deferred[None] = Deferred()

    async def later(request: Request, ctx: Context) -> Iterator[str]:
        ctx.log("called")
        await ready
        return iter(["a"])

    service = serve(later)
    client = service.ask("GET", "/", EVENTS)
    ready.callback(None)
    assert [name for name, _ in client.told] == ["start", "log", "output", "completed"]


def test_what_it_raises_before_it_streams_is_kleins() -> None:
    def refusing(request: Request) -> Iterator[str]:
        raise BadRequest

    assert serve(refusing).ask("GET", "/", EVENTS).answer.status == 400


def test_what_is_no_iterator_is_a_mistake(expected_errors: ExpectedErrors) -> None:
    def wrong(request: Request) -> object:
        return ["a"]

    assert serve(wrong).ask("GET", "/").answer.status == 500
    (failure,) = expected_errors.flush(TypeError)
    assert "list is none" in failure.getErrorMessage()


def test_a_resource_is_its_own_answer() -> None:
    def events(request: Request) -> EventStream:
        return EventStream(["a"])

    assert serve(events).ask("GET", "/", EVENTS).body == b"data: a\n\n"


def test_a_method_of_a_service() -> None:
    class Words:
        app = Klein()
        words = ("a", "b")

        @app.route("/<name>", methods=["POST"])
        @streaming
        async def say(self, input: Any, ctx: Context, name: str) -> AsyncIterator[str]:
            """Says it."""
            for word in self.words:
                yield f"{name} {word} {input}"

    service = Service(lambda clock: Words().app.resource())
    assert service.ask("POST", "/x", body=b'{"input":1}').document["output"] == ["x a 1", "x b 1"]
    assert Words.say.__doc__ == "Says it."


def test_a_variable_of_the_path_may_be_called_input() -> None:
    app = Klein()

    @app.route("/<input>")
    @streaming
    async def echo(request: Request, input: str) -> AsyncIterator[str]:
        yield input

    assert Service(lambda clock: app.resource()).ask("GET", "/x", body=b"no JSON").document["output"] == ["x"]


def test_a_marked_function_can_be_run_by_others() -> None:
    @streaming
    async def predict(input: str, ctx: Context) -> AsyncIterator[str]:
        ctx.log("hello")
        yield input

    handler = handler_of(predict)
    assert handler is not None
    prediction = Prediction("p1", lambda: 0.0)
    run = Run(prediction)
    prediction.start()
    Deferred.fromCoroutine(handler.call(prediction, input="x")).addCallback(lambda result: run.begin(chunks_of(result)))
    assert (prediction.status, prediction.document()["output"], prediction.document()["logs"]) == ("succeeded", ["x"], "hello\n")


def test_its_time_may_be_another_than_that_of_the_site() -> None:
    clock = MemoryReactorClock()

    async def count(request: Request) -> AsyncIterator[int]:
        await sleep(clock, 2)
        yield 1

    service = serve(count, reactor=clock)
    client = service.ask("GET", "/")
    service.pass_time(10)
    clock.advance(2)
    assert client.document["metrics"]["predict_time"] == 2


def test_nothing_that_was_not_awaited_is_left() -> None:
    bench = Bench()
    bench.ask("GET", "/script", EVENTS).leave()
    bench.ask("GET", "/count/1").leave()
    gc.collect()  # which would complain
    bench.service.assert_nothing_ticks()
