"""What is known of an upstream that can be started: states, events, the table that joins them, and one upstream's place in it.

Every transition is in :data:`TABLE`; the docs draw their diagram from it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias


class State(enum.Enum):
    """What is known of an upstream; the values are the names in logs, metrics and on the status page."""

    UNKNOWN = "unknown"  # nobody has asked yet; not ready until one probe said so
    DOWN = "down"  # not running, refused, unreachable, or answering with a failure
    WAKING = "waking"  # it is being started, and does not answer yet
    LOADING = "loading"  # it answers, and says that it is not ready yet
    READY = "ready"
    FAILING = "failing"  # its last start failed; until the cool-down is over there is no other
    STOPPING = "stopping"  # nobody new is let through: open requests come to their end, then its process does


class Event(enum.Enum):
    """What can be heard of an upstream; the values are the labels of the diagram's arrows."""

    PROBE_PASSED = "probe passed"
    PROBE_LOADING = "probe: loading"
    PROBE_FAILED = "probe failed"
    DISPATCH_REFUSED = "dispatch refused"
    DISPATCH_LOADING = "dispatch: loading"
    WAKE = "wake"
    WAKE_FAILED = "wake failed"
    COOLED = "cooled down"
    STOP = "stop"
    CALLED_OFF = "stop called off"
    STOPPED = "stopped"


class IllegalTransition(Exception):
    """An event came in a state that does not know it: a mistake in the caller."""


_LATE: Final = (Event.DISPATCH_REFUSED, Event.DISPATCH_LOADING)
"""Requests that were under way when the upstream was still taken for ready report late."""

_NOT_READY: Final[Mapping[Event, State]] = {
    Event.PROBE_PASSED: State.READY,
    Event.PROBE_LOADING: State.LOADING,
    Event.PROBE_FAILED: State.DOWN,
    Event.DISPATCH_REFUSED: State.DOWN,
    Event.DISPATCH_LOADING: State.LOADING,
    Event.WAKE: State.WAKING,
}

# Where a process of ours may run. It may end by itself, or a start be given up.
_RUNNING: Final[Mapping[Event, State]] = {Event.STOP: State.STOPPING, Event.STOPPED: State.DOWN}

TABLE: Final[Mapping[State, Mapping[Event, State]]] = {
    State.UNKNOWN: _NOT_READY,
    State.DOWN: {
        **_NOT_READY,
        **_RUNNING,
        Event.WAKE_FAILED: State.FAILING,  # of a start that was loading until a late request was refused
    },
    State.WAKING: {
        **_NOT_READY,
        **_RUNNING,
        Event.PROBE_FAILED: State.WAKING,  # not yet
        Event.DISPATCH_REFUSED: State.WAKING,
        Event.WAKE_FAILED: State.FAILING,
    },
    State.LOADING: {**_NOT_READY, **_RUNNING, Event.WAKE_FAILED: State.FAILING},
    # No probe runs against a ready upstream, so only the data path, or the end of its process, can tell that it no longer is.
    State.READY: {Event.DISPATCH_REFUSED: State.DOWN, Event.DISPATCH_LOADING: State.LOADING, **_RUNNING},
    State.FAILING: {**dict.fromkeys(_LATE, State.FAILING), Event.COOLED: State.DOWN, Event.WAKE: State.WAKING},
    State.STOPPING: {**dict.fromkeys(_LATE, State.STOPPING), Event.CALLED_OFF: State.READY, Event.STOPPED: State.DOWN},
}


def after(state: State, event: Event) -> State:
    """The state that follows *state* when *event* is heard.

    :raises IllegalTransition: *state* does not know *event*.
    """
    try:
        return TABLE[state][event]
    except KeyError:
        raise IllegalTransition(f"{event.value!r} in state {state.value!r}") from None


Changed: TypeAlias = Callable[[State, State, str], None]


class Standing:
    """Where one upstream is in the table: what its gate and its starter know together.

    :param seconds: the time.
    :param on_change: called with the old state, the new one and the detail, after each change of state. For logs and metrics: it
        must not call anybody who tells us.
    :ivar since: when the state was entered.
    :ivar detail: why it is not ready, fit for a client; "" while it is.
    """

    def __init__(self, seconds: Callable[[], float], on_change: Changed, state: State = State.UNKNOWN) -> None:
        self.state = state
        self.since = seconds()
        self.detail = ""
        self._seconds = seconds
        self._on_change = on_change

    def hear(self, event: Event, detail: str | None = None) -> None:
        """Take the step the table names for *event*; without a *detail* the old one stays."""
        old, self.state = self.state, after(self.state, event)
        if detail is not None:
            self.detail = detail
        if self.state is not old:
            self.since = self._seconds()
            self._on_change(old, self.state, self.detail)
