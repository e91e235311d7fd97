"""The table of upstream states."""

from __future__ import annotations

import pytest

from txsse.upstream.state import TABLE, Event, IllegalTransition, State, after

MARKS = {Event.DISPATCH_REFUSED: State.DOWN, Event.DISPATCH_LOADING: State.LOADING}


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


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize(("event", "target"), MARKS.items())
def test_what_the_data_path_tells_counts_in_every_state(state: State, event: Event, target: State) -> None:
    assert after(state, event) is target


@pytest.mark.parametrize("state", [State.UNKNOWN, State.DOWN, State.LOADING])
def test_only_a_passed_probe_makes_ready(state: State) -> None:
    assert {event for event in Event if after(state, event) is State.READY} == {Event.PROBE_PASSED}


@pytest.mark.parametrize("event", [Event.PROBE_PASSED, Event.PROBE_LOADING, Event.PROBE_FAILED])
def test_a_probe_of_a_ready_upstream_is_an_error_with_a_name(event: Event) -> None:
    with pytest.raises(IllegalTransition, match=rf"'{event.value}' in state 'ready'"):
        after(State.READY, event)
