"""A handler at work, and how its run ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from twisted.internet.defer import CancelledError, Deferred

from tests.conftest import ExpectedErrors
from tests.web.bench import Script
from txsse.web.prediction import Prediction
from txsse.web.pump import Room, Source
from txsse.web.run import Run


def started(source: Source[object], room: Deferred[None] | None = None) -> Run:
    def ask() -> Room:
        return room

    run = Run(Prediction("p1", lambda: 0.0), ask)
    run.prediction.start()
    run.begin(source)
    return run


def test_what_is_yielded_is_the_output() -> None:
    script = Script()
    run = started(script.items())
    ended: list[None] = []
    run.finished().addCallback(ended.append)
    run.finished().addCallback(ended.append)
    script.give("a")
    script.give({"b": 1})
    assert (run.prediction.document()["output"], run.prediction.status, ended) == (["a", {"b": 1}], "processing", [])
    script.end()
    assert (run.prediction.status, ended) == ("succeeded", [None, None])
    assert run.finished().called
    run.cancel()
    assert run.prediction.status == "succeeded", "what is over stays as it is"


def test_it_waits_for_room() -> None:
    script, room = Script(), Deferred[None]()
    run = started(script.items(), room)
    script.give("a")
    assert script.asked == 1
    room.callback(None)
    assert script.asked == 2
    run.cancel()


def test_a_failure_is_told_and_logged(expected_errors: ExpectedErrors) -> None:
    script = Script()
    run = started(script.items())
    script.give("a")
    script.give(RuntimeError("generator exploded"))
    document = run.prediction.document()
    assert (document["status"], document["error"], document["output"]) == ("failed", "generator exploded", ["a"])
    assert len(expected_errors.flush(RuntimeError)) == 1


def test_a_failure_without_a_text_is_told_by_its_name(expected_errors: ExpectedErrors) -> None:
    script = Script()
    run = started(script.items())
    script.give(NotImplementedError())
    assert run.prediction.document()["error"] == "NotImplementedError"
    expected_errors.flush(NotImplementedError)


def test_a_chunk_that_cannot_be_told_is_a_failure(expected_errors: ExpectedErrors) -> None:
    script = Script()
    run = started(script.items())
    script.give(b"bytes")
    assert run.prediction.status == "failed" and script.heard == ["closed", "finally"]
    expected_errors.flush(TypeError)


def test_cancelled_where_it_waits() -> None:
    script = Script()
    run = started(script.items())
    run.cancel()
    assert script.heard == ["cancelled", "finally"]
    assert run.prediction.document() | {"metrics": {}} == {"id": "p1", "status": "canceled", "output": [], "logs": "", "metrics": {}}
    run.cancel()


def test_cancelled_where_it_yields() -> None:
    script = Script()
    run = started(script.items(), Deferred())
    script.give("a")
    run.cancel()
    assert script.heard == ["closed", "finally"] and run.prediction.status == "canceled"


def test_cancelled_before_it_begins() -> None:
    script = Script()
    run = Run(Prediction("p1", lambda: 0.0))
    run.prediction.start()
    run.cancel()
    assert not run.prediction.over
    run.begin(script.items())
    assert script.heard == ["cancelled", "finally"] and run.prediction.status == "canceled"


def test_it_is_over_when_it_has_cleaned_up() -> None:
    cleaned: Deferred[None] = Deferred()

    async def source() -> AsyncIterator[str]:
        try:
            await Deferred()
            yield "never"
        finally:
            await cleaned

    run = started(source())
    finished = run.finished()
    run.cancel()
    assert not finished.called and run.prediction.status == "processing"
    cleaned.callback(None)
    assert finished.called and run.prediction.status == "canceled"


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_handler_that_does_not_hear_is_canceled_all_the_same(goes_on: bool) -> None:
    async def source() -> AsyncIterator[str]:
        with suppress(CancelledError):
            await Deferred()
        if goes_on:
            yield "late"

    run = started(source())
    run.cancel()
    assert (run.prediction.status, run.prediction.document()["output"]) == ("canceled", [])


def test_a_failure_in_cleaning_up_is_logged(expected_errors: ExpectedErrors) -> None:
    async def source() -> AsyncIterator[str]:
        try:
            await Deferred()
            yield "never"
        finally:
            raise KeyError("x")

    run = started(source())
    run.cancel()
    assert run.prediction.status == "canceled" and len(expected_errors.flush(KeyError)) == 1


def test_a_cancellation_of_its_own_is_a_failure(expected_errors: ExpectedErrors) -> None:
    script = Script()
    run = started(script.items())
    script.give(CancelledError())
    assert (run.prediction.status, run.prediction.document()["error"]) == ("failed", "CancelledError")
    expected_errors.flush(CancelledError)


def test_who_waits_no_longer_does_not_end_it() -> None:
    script = Script()
    run = started(script.items())
    waiting = run.finished()
    waiting.addErrback(lambda failure: failure.trap(CancelledError))
    waiting.cancel()
    assert not run.prediction.over
    script.end()
    assert run.prediction.status == "succeeded"
