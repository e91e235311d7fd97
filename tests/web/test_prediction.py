"""What is told of a run, as events and as a document."""

from __future__ import annotations

import json
from typing import Any

import pytest

from txsse.web.context import Context
from txsse.web.events import ServerSentEvent
from txsse.web.prediction import Ending, Prediction, PredictionOver


class Log:
    """A prediction, its clock, and the events that came of it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.events: list[tuple[str | None, Any]] = []
        self.prediction = Prediction("p1", lambda: self.now, self._take)

    def _take(self, event: ServerSentEvent) -> None:
        assert isinstance(event.data, bytes) and event.id is None
        self.events.append((event.event, json.loads(event.data)))


def test_a_document_has_its_bound_and_says_so() -> None:
    asked: list[int] = []

    def room(count: int) -> bool:
        asked.append(count)
        return sum(asked) <= 20

    told: list[str | None] = []
    prediction = Prediction("p1", lambda: 0.0, lambda event: told.append(event.event), room)
    prediction.start()
    for chunk in ("12345", "67890", "abcde", "f"):
        prediction.output(chunk)
    prediction.log("no more")
    prediction.end("succeeded")
    document = prediction.document()
    assert (document["output"], document["logs"], document["truncated"]) == (["12345", "67890"], "", True)
    assert told == ["start", *["output"] * 4, "log", "completed"], "the events tell all of it"
    assert len(asked) == 3


def test_a_run_from_its_start_to_its_end() -> None:
    log = Log()
    prediction = log.prediction
    assert prediction.document() == {"id": "p1", "status": "starting", "output": [], "logs": "", "metrics": {}}
    prediction.start()
    prediction.output("Onions")
    prediction.log("thinking")
    prediction.metric("tokens", 1, "increment")
    prediction.output({"text": " bloom"})
    log.now += 0.42
    assert prediction.document()["status"] == "processing" and not prediction.over
    prediction.end("succeeded")
    document = {
        "id": "p1",
        "status": "succeeded",
        "output": ["Onions", {"text": " bloom"}],
        "logs": "thinking\n",
        "metrics": {"tokens": 1, "predict_time": 0.42},
    }
    assert log.events == [
        ("start", {"id": "p1", "status": "processing"}),
        ("output", {"chunk": "Onions", "index": 0}),
        ("log", {"data": "thinking\n", "source": "stdout"}),
        ("metric", {"name": "tokens", "value": 1, "mode": "increment"}),
        ("output", {"chunk": {"text": " bloom"}, "index": 1}),
        ("completed", document),
    ]
    assert prediction.document() == document and prediction.over
    assert list(prediction.document()) == ["id", "status", "output", "logs", "metrics"]


def test_a_failed_one_has_an_error_and_what_there_was() -> None:
    log = Log()
    log.prediction.start()
    log.prediction.output("a")
    log.prediction.end("failed", "generator exploded")
    assert log.events[-1][1] | {"metrics": {}} == {
        "id": "p1",
        "status": "failed",
        "output": ["a"],
        "logs": "",
        "metrics": {},
        "error": "generator exploded",
    }


@pytest.mark.parametrize("status", ["succeeded", "failed", "canceled"])
def test_nothing_is_told_after_the_end(status: Ending) -> None:
    log = Log()
    log.prediction.start()
    log.prediction.end(status)
    context = Context(log.prediction)
    for late in (
        log.prediction.start,
        lambda: log.prediction.output("late"),
        lambda: context.log("late"),
        lambda: context.metric("late", 1),
        lambda: log.prediction.end("failed", "late"),
    ):
        with pytest.raises(PredictionOver, match=f"p1 has {status}"):
            late()
    assert len(log.events) == 2 and log.prediction.status == status


def test_logs_are_lines_from_two_sources() -> None:
    log = Log()
    context = Context(log.prediction)
    context.log("one")
    context.log("two\n", "stderr")
    assert log.events == [("log", {"data": "one\n", "source": "stdout"}), ("log", {"data": "two\n", "source": "stderr"})]
    assert log.prediction.document()["logs"] == "one\ntwo\n"
    assert context.id == "p1"


def test_a_chunk_is_kept_as_it_was() -> None:
    log = Log()
    chunk = {"n": [1]}
    log.prediction.output(chunk)
    chunk["n"].append(2)
    log.prediction.metric("m", chunk)
    chunk["n"].append(3)
    assert log.prediction.document()["output"] == [{"n": [1]}]
    assert log.prediction.document()["metrics"] == {"m": {"n": [1, 2]}}


@pytest.mark.parametrize("chunk", [b"bytes", object(), {1, 2}])
def test_a_chunk_that_json_has_no_form_for_is_none(chunk: object) -> None:
    log = Log()
    with pytest.raises(TypeError):
        log.prediction.output(chunk)
    assert log.events == [] and log.prediction.document()["output"] == []


def test_a_metric_that_is_refused_is_not_told() -> None:
    log = Log()
    with pytest.raises(ValueError, match="start with a letter"):
        Context(log.prediction).metric("_x", 1)
    with pytest.raises(ValueError, match="JSON"):
        Context(log.prediction).metric("x", float("nan"))
    assert log.events == []


def test_a_metric_is_deleted_by_none() -> None:
    log = Log()
    context = Context(log.prediction)
    context.metric("x", (1, 2))
    context.metric("x", None)
    assert [data["value"] for _, data in log.events] == [[1, 2], None]
    assert log.prediction.document()["metrics"] == {}
