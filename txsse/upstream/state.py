"""What is known of an upstream's readiness: states, events, and the table that joins them.

Every transition is in :data:`TABLE`; the docs draw their diagram from it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final


class State(enum.Enum):
    """What is known of an upstream; the values are the names in logs, metrics and on the status page."""

    UNKNOWN = "unknown"  # nobody has asked yet; not ready until one probe said so
    DOWN = "down"  # refused, unreachable, or answering with a failure
    LOADING = "loading"  # it answers, and says that it is not ready yet
    READY = "ready"


class Event(enum.Enum):
    """What can be heard of an upstream; the values are the labels of the diagram's arrows."""

    PROBE_PASSED = "probe passed"
    PROBE_LOADING = "probe: loading"
    PROBE_FAILED = "probe failed"
    DISPATCH_REFUSED = "dispatch refused"
    DISPATCH_LOADING = "dispatch: loading"


class IllegalTransition(Exception):
    """An event came in a state that does not know it: a mistake in the caller."""


_NOT_READY: Final[Mapping[Event, State]] = {
    Event.PROBE_PASSED: State.READY,
    Event.PROBE_LOADING: State.LOADING,
    Event.PROBE_FAILED: State.DOWN,
    # Requests that were under way when the upstream was still taken for ready report late.
    Event.DISPATCH_REFUSED: State.DOWN,
    Event.DISPATCH_LOADING: State.LOADING,
}

TABLE: Final[Mapping[State, Mapping[Event, State]]] = {
    State.UNKNOWN: _NOT_READY,
    State.DOWN: _NOT_READY,
    State.LOADING: _NOT_READY,
    # No probe runs against a ready upstream, so only the data path can tell that it no longer is.
    State.READY: {
        Event.DISPATCH_REFUSED: State.DOWN,
        Event.DISPATCH_LOADING: State.LOADING,
    },
}


def after(state: State, event: Event) -> State:
    """The state that follows *state* when *event* is heard.

    :raises IllegalTransition: *state* does not know *event*.
    """
    try:
        return TABLE[state][event]
    except KeyError:
        raise IllegalTransition(f"{event.value!r} in state {state.value!r}") from None
