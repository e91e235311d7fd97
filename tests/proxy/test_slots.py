"""Slots are given back exactly once, whatever becomes of a dispatch; and a wait for one is no cold start."""

from __future__ import annotations

import pytest
from twisted.internet.defer import succeed
from twisted.internet.task import Clock

from tests.exchange.scripts import EVENT
from tests.fakes import FakeDispatch, Stage
from txsse.config import model
from txsse.interfaces import Failed, Fault
from txsse.upstream.gate import Gate
from txsse.upstream.lookout import Verdict

REFUSED = Failed(Fault.UNREACHABLE, "connection refused")
STALE = Failed(Fault.STALE, "kept-alive connection closed")


def stage_with(gate: Gate, clock: Clock) -> Stage:
    stage = Stage(model.Route(name="llama", hold=model.Hold(commit_after=0.05)), clock=clock)
    stage.backend.gate = gate  # type: ignore[assignment]  # a real one
    return stage


def real_gate(clock: Clock, slots: int) -> Gate:
    return Gate(clock, lambda: succeed(Verdict(True)), model.Probe(preset="none"), True, slots=slots)


@pytest.mark.parametrize("failed", [REFUSED, STALE])
def test_a_dispatch_that_comes_to_nothing_keeps_one_slot_at_most(failed: Failed) -> None:
    """Another server is ready, so the request goes on at once; its first slot must not be lost on the way."""
    clock = Clock()
    gate = real_gate(clock, 2)
    stage = stage_with(gate, clock)

    def fail_once(dispatch: FakeDispatch) -> None:
        if len(stage.backend.dispatches) == 1:
            dispatch.receiver.dispatch_failed(failed)

    stage.backend.on_dispatch = fail_once
    stage.begin()
    assert len(stage.backend.dispatches) == 2
    assert gate.slots == (2, 1)
    stage.answer()
    stage.body(EVENT)
    stage.ended()
    clock.advance(1)
    assert gate.slots == (2, 0)


def test_waiting_for_a_slot_is_no_cold_start() -> None:
    clock = Clock()
    gate = real_gate(clock, 1)
    assert gate.admit()  # somebody else's
    stage = stage_with(gate, clock)
    stage.begin()
    stage.wait(0.1)
    assert stage.downstream.status == 200
    assert stage.downstream.header(b"cold") == b"false"
    assert stage.downstream.body.startswith(b': txsse {"state":"ready"')
    gate.give_back()
    clock.advance(0)
    assert len(stage.backend.dispatches) == 1
    stage.conductor.client_gone()
    clock.advance(1)
    assert gate.slots == (1, 0)
