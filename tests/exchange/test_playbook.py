"""The playbook itself: a test helper that passes everything would make every other test worthless."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pytest

from tests.exchange.playbook import Playbook, Wait
from txsse.exchange import actions as act
from txsse.exchange import events as ev
from txsse.exchange.events import Timer
from txsse.exchange.machine import IllegalEvent


def _gone() -> Playbook:
    return Playbook() >> Wait(1) >> ev.ClientGone()


def test_a_script_that_says_everything_is_true() -> None:
    assert _gone() << act.Done("client_closed")


@pytest.mark.parametrize(
    "script",
    [
        lambda: _gone(),
        lambda: _gone() << act.Done("client_closed") << act.Cut(),
        lambda: _gone() << act.Done("ok"),
        lambda: _gone() << act.Done("client_closed") << act.Cut(),
    ],
    ids=["too little", "another order", "another value", "too much"],
)
def test_any_other_script_fails_and_both_are_printed(script: Any) -> None:
    with pytest.raises(AssertionError, match=r"(?s)- expected, \+ found.*>> ClientGone.*<< Done"):
        bool(script())


def test_a_playbook_that_nobody_asserts_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    complaints: list[BaseException | None] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda it: complaints.append(it.exc_value))
    _gone()
    gc.collect()
    assert [str(each) for each in complaints] == ["a playbook was written and never asserted"]


def test_an_event_without_a_row_is_an_error_with_a_name() -> None:
    with pytest.raises(IllegalEvent, match=r"Elapsed.* while new"):
        Playbook() >> ev.Elapsed(Timer.IDLE)
