"""Python functions that make predictions: what they may be, how they end, how many at a time, at whose pace."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from tests.conftest import ExpectedErrors
from tests.predictions.bench import ASYNC, EVENTS, FunctionBench
from tests.web.bench import sleep
from txsse import streaming
from txsse.predictions.handlers import HandlerModels
from txsse.web.context import Context
from txsse.web.handler import Function


async def late(input: dict[str, Any]) -> str:
    return str(input["prompt"]).upper()


async def iterator(input: Any) -> Iterator[int]:
    return iter([1, 2])


def nothing(input: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "output"),
    [
        (lambda input: input["prompt"], ["p"]),
        (late, ["P"]),
        (iterator, [1, 2]),
        (nothing, []),
        (lambda input, ctx: [{"a": 1}], [[{"a": 1}]]),
    ],
)
def test_what_a_function_may_be(function: Function, output: list[Any]) -> None:
    document = FunctionBench(function).post(prompt="p").document
    assert (document["status"], document["output"]) == ("succeeded", output)


def test_a_function_of_requests_is_none() -> None:
    with pytest.raises(ValueError, match="parameter input"):
        HandlerModels(lambda request: "x")


@pytest.mark.parametrize("fields", [[], [EVENTS]])
def test_a_failure_is_data(fields: list[str], expected_errors: ExpectedErrors) -> None:
    @streaming
    def predict(input: Any) -> Iterator[str]:
        yield "a"
        raise ValueError("no more")

    client = FunctionBench(predict).post(*fields)
    document = client.told[-1][1] if fields else client.document
    assert client.answer.status == 200
    assert (document["status"], document["error"], document["output"]) == ("failed", "no more", ["a"])
    assert len(expected_errors.flush(ValueError)) == 1


class Heard:
    """A function that waits, and what it heard."""

    def __init__(self, **given: Any) -> None:
        self.heard: list[str] = []

        @streaming
        async def predict(input: Any, ctx: Context) -> AsyncIterator[str]:
            try:
                yield "a"
                await sleep(self.bench.clock, 5)
                yield "b"
            except CancelledError:
                self.heard.append("cancelled")
                raise
            finally:
                self.heard.append("finally")

        self.bench = FunctionBench(predict, **given)


@pytest.mark.parametrize("fields", [[], [EVENTS]])
def test_who_leaves_cancels(fields: list[str]) -> None:
    heard = Heard()
    heard.bench.put("one", *fields).leave()
    assert heard.heard == ["cancelled", "finally"]
    assert heard.bench.look("one").document["status"] == "canceled"


def test_cancel() -> None:
    heard = Heard()
    client = heard.bench.put("one", EVENTS, ASYNC)
    assert heard.bench.ask("POST", "/predictions/one/cancel").document == {}
    assert heard.heard == ["cancelled", "finally"]
    assert client.told[-1][1]["status"] == "canceled"
    assert client.told[-1][1]["output"] == ["a"]


def test_without_readers_it_goes_on_as_long_as_it_may() -> None:
    heard = Heard(max_orphan=2)
    heard.bench.put("one", ASYNC)
    heard.bench.wait(3)
    assert heard.bench.look("one").document["status"] == "canceled"
    again = Heard(max_orphan=10)
    again.bench.put("one", ASYNC)
    again.bench.wait(6)
    assert again.bench.look("one").document["status"] == "succeeded"


def test_continue() -> None:
    heard = Heard(on_disconnect="continue")
    heard.bench.put("one").leave()
    heard.bench.wait(6)
    assert heard.bench.look("one").document["output"] == ["a", "b"]


def test_slots() -> None:
    heard = Heard(slots=1)
    heard.bench.put("one", ASYNC)
    assert heard.bench.put("two").answer.status == 409
    assert heard.bench.ask("GET", "/health-check").document["status"] == "BUSY"
    heard.bench.wait(6)
    assert heard.bench.ask("GET", "/health-check").document["status"] == "READY"
    assert heard.bench.put("two", ASYNC).answer.status == 202
    heard.bench.wait(6)


def test_a_function_yields_at_the_pace_of_its_only_reader() -> None:
    made = 0
    begin: Deferred[None] = Deferred()

    @streaming
    async def predict(input: Any) -> AsyncIterator[str]:
        nonlocal made
        await begin
        while made < 1000:
            made += 1
            yield "x" * 100

    bench = FunctionBench(predict, max_bytes=20_000)
    client = bench.put("one", EVENTS)
    client.stop_reading()
    begin.callback(None)
    assert 50 < made < 110, "until its recording is half full"
    client.read_on()
    assert made == 1000
    assert [told["index"] for name, told in client.told if name == "output"] == list(range(1000))


def test_a_function_that_waits_for_its_reader_can_be_cancelled() -> None:
    closed: list[str] = []

    @streaming
    async def predict(input: Any) -> AsyncIterator[str]:
        await sleep(bench.clock, 1)
        try:
            while True:
                yield "x" * 1000
        finally:
            closed.append("x")

    bench = FunctionBench(predict, max_bytes=20_000)
    client = bench.put("one", EVENTS)
    client.stop_reading()
    bench.wait(2)
    client.leave()
    assert bench.look("one").document["status"] == "canceled" and closed == ["x"]
