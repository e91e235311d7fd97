"""What the real process does per event and per request, in function calls and in system calls, is what it did when it was recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.budget import process_calls, system_calls
from tests.budget.figures import PROCESS_CALLS, SYSTEM_CALLS, Recorded
from tests.budget.lockstep import reactors

REACTORS = pytest.mark.parametrize("reactor", ["default", "txsse"])


@pytest.fixture(scope="module")
def present() -> list[str]:
    return reactors()


@REACTORS
def test_function_calls(reactor: str, present: list[str], tmp_path: Path) -> None:
    if reactor not in present:
        pytest.skip(f"twistd has no reactor {reactor}")
    recorded = Recorded.load()
    measured = process_calls.measure(tmp_path, reactor)
    assert 2 <= measured["event"] < measured["JSON request"]
    assert recorded.complaints(recorded.process_calls.get(reactor), measured, PROCESS_CALLS) == []


@REACTORS
def test_system_calls(reactor: str, present: list[str], tmp_path: Path) -> None:
    if why := system_calls.missing():
        pytest.skip(why)
    if reactor not in present:
        pytest.skip(f"twistd has no reactor {reactor}")
    recorded = Recorded.load()
    measured = system_calls.measure(tmp_path, reactor)
    assert 2 <= measured["event"] < measured["JSON request"], "an event is read and written"
    assert recorded.complaints(recorded.system_calls.get(reactor), measured, SYSTEM_CALLS) == []
