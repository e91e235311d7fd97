"""replicate/cog's integration cases about streams, metrics and failures, restated: those that need no recording."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from klein import Klein
from twisted.internet.testing import MemoryReactorClock

from tests.conftest import ExpectedErrors
from tests.web.bench import Client, Service, sleep
from txsse import streaming
from txsse.web.app import StreamingApp
from txsse.web.context import Context

EVENTS = "Accept: text/event-stream"


def predictions(clock: MemoryReactorClock) -> Any:
    app = StreamingApp()

    @app.route("/output", methods=["POST"])
    @streaming
    async def output(input: Any) -> AsyncIterator[str]:
        await sleep(clock, 0.25)
        yield "chunk-1"
        await sleep(clock, 0.25)
        yield "chunk-2"

    @app.route("/metrics", methods=["POST"])
    @streaming
    def metrics(input: Any, ctx: Context) -> Iterator[str]:
        ctx.metric("temperature", 0.7)
        yield "chunk-1"
        ctx.metric("token_count", 2, "increment")

    @app.route("/modes", methods=["POST"])
    @streaming
    def modes(input: Any, ctx: Context) -> Iterator[str]:
        ctx.metric("temperature", 0.7)
        ctx.metric("token_count", 1, "increment")
        ctx.metric("token_count", 2, "increment")
        ctx.metric("tags", "fast", "append")
        ctx.metric("tags", "cached", "append")
        ctx.metric("timing.preprocess", 0.1)
        yield "ok"

    @app.route("/name", methods=["POST"])
    @streaming
    def name(input: Any, ctx: Context) -> Iterator[str]:
        ctx.metric(input["name"], 1)
        yield "ok"

    @app.route("/explode", methods=["POST"])
    @streaming
    def explode(input: Any) -> Iterator[str]:
        for n in (1, 2, 3):
            yield f"chunk-{n}"
        raise RuntimeError("generator exploded")

    @app.route("/unmarked", methods=["POST"])
    def unmarked(request: object) -> str:
        return '{"output":["chunk-0","chunk-1"]}'

    assert isinstance(app, Klein)
    return app.resource()


def ask(path: str, *fields: str, **given: object) -> Client:
    service = Service(predictions)
    client = service.ask("POST", path, *fields, body=json.dumps({"input": given}).encode())
    service.pass_time(1)
    return client


def test_sse_streaming_output() -> None:
    client = ask("/output", EVENTS)
    assert [name for name, _ in client.told] == ["start", "output", "output", "completed"]
    assert b'event: output\ndata: {"chunk":"chunk-1","index":0}\n\n' in client.body
    assert b'event: output\ndata: {"chunk":"chunk-2","index":1}\n\n' in client.body
    assert client.told[-1][1]["status"] == "succeeded"


def test_sse_streaming_metrics() -> None:
    client = ask("/metrics", EVENTS)
    assert [name for name, _ in client.told] == ["start", "metric", "output", "metric", "completed"]
    assert client.told[1][1] == {"name": "temperature", "value": 0.7, "mode": "replace"}
    assert client.told[3][1] == {"name": "token_count", "value": 2, "mode": "increment"}
    metrics = client.told[-1][1]["metrics"]
    assert (metrics["temperature"], metrics["token_count"]) == (0.7, 2) and "predict_time" in metrics


def test_sse_requires_streaming_opt_in() -> None:
    assert ask("/unmarked").document["output"] == ["chunk-0", "chunk-1"]
    assert ask("/unmarked", EVENTS).answer.status == 406


def test_coglet_metrics() -> None:
    metrics = ask("/modes").document["metrics"]
    assert metrics.pop("predict_time") >= 0
    assert metrics == {"temperature": 0.7, "token_count": 3, "tags": ["fast", "cached"], "timing": {"preprocess": 0.1}}


def test_coglet_metrics_validation(expected_errors: ExpectedErrors) -> None:
    document = ask("/name", name="_invalid").document
    assert document["status"] == "failed" and "must start with a letter" in document["error"]
    assert len(expected_errors.flush(ValueError)) == 1
    assert ask("/name", name="valid_name").document["metrics"]["valid_name"] == 1


@pytest.mark.parametrize("fields", [[], [EVENTS]])
def test_iterator_error_midstream(fields: list[str], expected_errors: ExpectedErrors) -> None:
    client = ask("/explode", *fields)
    document = client.told[-1][1] if fields else client.document
    assert client.answer.status == 200
    assert (document["status"], document["error"]) == ("failed", "generator exploded")
    assert document["output"] == ["chunk-1", "chunk-2", "chunk-3"] and "predict_time" in document["metrics"]
    assert len(expected_errors.flush(RuntimeError)) == 1
