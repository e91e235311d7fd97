"""replicate/cog's integration cases for streams (``sse_*.txtar``), restated: the same requests, the same answers.

Differences, all of them where Cog loses something: what is dropped from the replay is told also where nothing is kept, and a reader who
may go on gets the rest unless ``resume.on_gap = "error"``, which is what Cog does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from tests.predictions.bench import ASYNC, EVENTS, FunctionBench
from tests.web.bench import sleep
from txsse import streaming
from txsse.web.context import Context


def test_sse_requires_streaming_opt_in() -> None:
    def predict(input: Any) -> Iterator[str]:
        for index in range(input["count"]):
            yield f"chunk-{index}"

    bench = FunctionBench(predict)
    assert bench.post(count=2).document["output"] == ["chunk-0", "chunk-1"]
    refused = bench.put("no-streaming", EVENTS, count=2)
    assert refused.answer.status == 406
    assert "This model does not support streaming responses" in refused.document["error"]
    assert len(bench.jobs) == 1, "it was not run"


def history(count: int, sleep_after: float, **resume: Any) -> FunctionBench:
    """A prediction that yields so many chunks at once and then takes its time."""

    @streaming
    async def predict(input: Any) -> AsyncIterator[str]:
        for index in range(input["count"]):
            yield f"chunk-{index}"
        await sleep(bench.clock, input["sleep_after"])

    bench = FunctionBench(predict, **resume)
    created = bench.put("replay", ASYNC, count=count, sleep_after=sleep_after)
    assert created.answer.status == 202
    assert created.document["status"] == "starting"
    return bench


TWO_EVENTS = 512 + 3 * 70
"""Bytes in which a recording keeps the last two events of these."""


def test_sse_stream_history_capacity() -> None:
    bench = history(4, 2, max_bytes=TWO_EVENTS, on_gap="error")
    bench.wait(1)
    late = bench.put("replay", EVENTS, count=4, sleep_after=2)
    assert b"event: error\n" in late.body
    assert b"SSE stream replay truncated" in late.body
    assert b'"skipped":3' in late.body, "start, chunk-0 and chunk-1"
    ((name, told),) = late.told
    assert name == "error" and told["first"].endswith(".4")
    bench.wait(2)


def test_sse_stream_history_disabled() -> None:
    bench = history(3, 1, max_bytes=1)
    bench.wait(0.5)
    late = bench.put("replay", EVENTS, count=3, sleep_after=1)
    bench.wait(1)
    assert [name for name, _ in late.told] == ["completed"]
    assert late.told[0][1]["status"] == "succeeded"
    assert b"SSE stream replay truncated" not in late.body
    assert late.answer.header("x-stream-gap") == b"4", "Cog does not tell"


def test_sse_streaming_metrics() -> None:
    @streaming
    def predict(input: Any, ctx: Context) -> Iterator[str]:
        ctx.metric("temperature", 0.7)
        yield "chunk-1"
        ctx.metric("token_count", 2, "increment")

    client = FunctionBench(predict).put("sse-metrics", EVENTS)
    assert [name for name, _ in client.told] == ["start", "metric", "output", "metric", "completed"]
    assert b'data: {"chunk":"chunk-1","index":0}\n' in client.body
    assert client.told[1][1] == {"name": "temperature", "value": 0.7, "mode": "replace"}
    assert client.told[3][1] == {"name": "token_count", "value": 2, "mode": "increment"}
    document = client.told[-1][1]
    assert document["status"] == "succeeded"
    assert document["metrics"].pop("predict_time") >= 0
    assert document["metrics"] == {"temperature": 0.7, "token_count": 2}


def test_sse_streaming_output() -> None:
    @streaming
    async def predict(input: Any) -> AsyncIterator[str]:
        await sleep(bench.clock, 0.25)
        yield "chunk-1"
        await sleep(bench.clock, 0.25)
        yield "chunk-2"

    bench = FunctionBench(predict)
    client = bench.put("sse-stream-test", EVENTS)
    assert client.answer.status == 200
    assert [name for name, _ in client.told] == ["start"]
    bench.wait(1)
    assert [name for name, _ in client.told] == ["start", "output", "output", "completed"]
    assert b'event: output\ndata: {"chunk":"chunk-1","index":0}\n\n' in client.body
    assert b'event: output\ndata: {"chunk":"chunk-2","index":1}\n\n' in client.body
    assert client.told[-1][1]["status"] == "succeeded"
    assert client.told[-1][1]["output"] == ["chunk-1", "chunk-2"]
