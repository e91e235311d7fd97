"""The table of upstream states, and an upstream's way through it."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from txsse.upstream.state import TABLE, Event, IllegalTransition, Standing, State, after

PROBES = (Event.PROBE_PASSED, Event.PROBE_LOADING, Event.PROBE_FAILED)
MARKS = (Event.DISPATCH_REFUSED, Event.DISPATCH_LOADING)


def test_every_state_has_a_row_and_can_be_left() -> None:
    assert set(TABLE) == set(State)
    for state, row in TABLE.items():
        assert any(target is not state for target in row.values())


def test_every_state_but_the_first_is_reached_from_it() -> None:
    reached, todo = {State.UNKNOWN}, [State.UNKNOWN]
    while todo:
        for target in TABLE[todo.pop()].values():
            if target not in reached:
                reached.add(target)
                todo.append(target)
    assert reached == set(State)
    assert all(State.UNKNOWN not in row.values() for row in TABLE.values())


def test_an_upstream_that_nobody_starts_knows_four_states() -> None:
    reached, todo = {State.UNKNOWN}, [State.UNKNOWN]
    while todo:
        state = todo.pop()
        for event in (*PROBES, *MARKS):
            target = TABLE[state].get(event)
            if target is not None and target not in reached:
                reached.add(target)
                todo.append(target)
    assert reached == {State.UNKNOWN, State.DOWN, State.LOADING, State.READY}


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("event", MARKS)
def test_what_the_data_path_tells_is_legal_in_every_state(state: State, event: Event) -> None:
    assert after(state, event) in (State.DOWN, State.LOADING, State.WAKING, state)


@pytest.mark.parametrize("state", [State.READY, State.FAILING, State.STOPPING])
@pytest.mark.parametrize("event", PROBES)
def test_no_probe_is_heard_where_none_may_run(state: State, event: Event) -> None:
    with pytest.raises(IllegalTransition, match=rf"'{event.value}' in state '{state.value}'"):
        after(state, event)


def test_ready_is_only_what_a_probe_found_or_what_was_ready_before() -> None:
    ways = {(state, event) for state, row in TABLE.items() for event, target in row.items() if target is State.READY}
    assert {event for _, event in ways} == {Event.PROBE_PASSED, Event.CALLED_OFF}
    assert [state for state, event in ways if event is Event.CALLED_OFF] == [State.STOPPING]


def test_a_standing_knows_since_when_and_why() -> None:
    clock, changes = Clock(), list[tuple[State, State, str]]()
    standing = Standing(clock.seconds, lambda *change: changes.append(change))
    clock.advance(3)
    standing.hear(Event.PROBE_FAILED, "connection refused")
    clock.advance(3)
    standing.hear(Event.PROBE_FAILED, "HTTP 500")
    assert (standing.state, standing.since, standing.detail) == (State.DOWN, 3, "HTTP 500")
    assert changes == [(State.UNKNOWN, State.DOWN, "connection refused")]


def test_an_event_without_a_detail_keeps_the_last_one() -> None:
    standing = Standing(Clock().seconds, lambda *_: None, State.DOWN)
    standing.hear(Event.WAKE, "")
    standing.hear(Event.WAKE_FAILED, "its process exited with status 3")
    standing.hear(Event.COOLED)
    assert (standing.state, standing.detail) == (State.DOWN, "its process exited with status 3")


def test_an_illegal_event_changes_nothing() -> None:
    standing = Standing(Clock().seconds, lambda *_: None, State.READY)
    with pytest.raises(IllegalTransition):
        standing.hear(Event.COOLED, "nonsense")
    assert (standing.state, standing.detail) == (State.READY, "")
