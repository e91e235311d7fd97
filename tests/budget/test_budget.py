"""What an event, a request and a waiting stream cost, in counts that no clock has a part in, is what it cost when it was recorded."""

from __future__ import annotations

import attrs
import pytest

from tests.budget.counting import count, possible
from tests.budget.figures import ELSEWHERE, Recorded, versions
from tests.budget.scenarios import COUNTS, MEMORY

watched = pytest.mark.skipif(not possible(), reason="somebody else watches the interpreter")


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    return Recorded.load()


@watched
@pytest.mark.parametrize("scenario", COUNTS)
def test_count(scenario: str, recorded: Recorded) -> None:
    assert recorded.complaints(recorded.counts.get(scenario), attrs.asdict(COUNTS[scenario]())) == []


@watched
@pytest.mark.parametrize("scenario", MEMORY)
def test_memory(scenario: str, recorded: Recorded) -> None:
    assert recorded.complaints(recorded.memory.get(scenario), attrs.asdict(MEMORY[scenario]())) == []


def test_nothing_recorded_is_out_of_use(recorded: Recorded) -> None:
    assert [*recorded.counts] == [*COUNTS]
    assert [*recorded.memory] == [*MEMORY]


@watched
def test_counting() -> None:
    namespace: dict[str, object] = {}
    exec(compile("def work():\n    for _ in range(3): inner()\ndef inner(): len(())", "elsewhere.py", "exec"), namespace)
    work = namespace["work"]
    assert callable(work)
    count(work)  # Python 3.12 misses some bytecodes of what it traces for the first time
    once, again = count(work), count(work)
    assert once == again
    assert (once.calls, once.c_calls) == (4, 3)  # range is a type, and no function
    assert once.bytecodes > 20
    assert once.per(2).calls == 2


def test_what_is_too_far() -> None:
    recorded = Recorded(versions())
    assert recorded.complaints({"calls": 100}, {"calls": 100}) == []
    assert len(recorded.complaints({"calls": 100}, {"calls": 101})) == 1
    assert len(recorded.complaints({"calls": 100}, {"calls": 99})) == 1
    assert recorded.complaints({"bytes": 100}, {"bytes": 103}) == []
    assert len(recorded.complaints({"bytes": 100}, {"bytes": 104})) == 1
    assert len(recorded.complaints({"event": 10}, {"event": 10.3}, "system calls")) == 1
    assert len(recorded.complaints({}, {"calls": 1})) == 1
    assert len(recorded.complaints(None, {"calls": 1})) == 1


def test_other_versions_have_more_room() -> None:
    recorded = Recorded({**versions(), "Twisted": "1.0"})
    assert recorded.complaints({"calls": 100, "bytecodes": 1}, {"calls": 100 * (1 + ELSEWHERE), "bytecodes": 100}) == []
    assert len(recorded.complaints({"calls": 100}, {"calls": 116})) == 1
