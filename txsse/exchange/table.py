"""The life of one request as a table: states, events, and what follows from each pair.

Rule: every transition stands in :data:`TABLE`, and nothing outside :mod:`txsse.exchange.machine`, which takes the steps, changes an
exchange's state. The documentation's diagram is drawn from the table. A step may only move to the states its row names; an event without
a row is a bug and raises.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final

import attrs

from txsse.exchange import events as ev
from txsse.exchange.events import Timer


class State(enum.Enum):
    """Where an exchange is in its life."""

    __hash__ = object.__hash__  # Enum's own is Python code, and states are looked up for each event

    NEW = "new"
    HELD = "held"  # waiting for readiness or a slot
    SENT = "sent"  # dispatched, no response head yet
    JUDGING = "judging"  # an unwelcome head came; its body decides: loading, or an error to pass on
    PLAIN = "plain"  # relaying a body that is none of our business
    STREAMING = "streaming"  # relaying an event stream, speaking in its gaps
    TUNNELLED = "tunnelled"  # a WebSocket: bytes both ways, none of ours among them
    TRAILING = "trailing"  # the terminal event has passed
    FAILING = "failing"  # an error frame is on its way; then the cut
    ENDED = "ended"


class HeadOf(enum.Enum):
    """Whose response head the client has: what may still be said depends on it."""

    NOBODY = "nobody"
    US = "us"
    UPSTREAM = "upstream"


@attrs.frozen
class Row:
    """One cell of the table: the step taken, the states it may lead to, and the sentence for the documentation."""

    step: str
    to: tuple[State, ...]
    why: str


_OVER: Final = (State.FAILING, State.ENDED)
Key = type[Any] | Timer
"""An event, or the timer that rang."""

_LEAVE: Final[dict[Key, Row]] = {
    ev.ClientGone: Row("_client_gone", (State.ENDED,), "the client left: whatever was under way for it stops"),
    ev.ClientStalled: Row("_client_stalled", (State.ENDED,), "the client's socket took nothing for stall_timeout: reset"),
    ev.Shutdown: Row("_shut_down", _OVER, "the drain is over: shutting_down"),
}


def _anytime(state: State) -> dict[Key, Row]:
    """What can happen whenever something is under way."""
    return {
        **_LEAVE,
        ev.ClientPaused: Row("_pause", (state,), "the client reads too slowly: read no more from upstream"),
        ev.ClientResumed: Row("_resume", (state,), "the client has caught up: read on"),
    }


_GIVEN_UP: Final[dict[Key, Row]] = {
    ev.UpstreamFailed: Row("_given_up", _OVER, "the stream that it follows has failed, for everybody who does: its own code"),
}


def _waiting(state: State) -> dict[Key, Row]:
    """What can happen whenever no upstream byte was relayed yet."""
    return {
        **_anytime(state),
        Timer.COMMIT: Row("_commit", (state,), "the grace is over: 200 and a streaming head of our own, with the first words"),
        Timer.KEEPALIVE: Row("_keep_alive", (state,), "nothing was written for an interval: a sign of life"),
        Timer.HEARTBEAT: Row("_beat", (state,), "a parsed no-op event, for clients that count events"),
        Timer.TOTAL: Row("_too_late", _OVER, "timeouts.total is over: upstream_timeout"),
    }


TABLE: Final[Mapping[State, Mapping[Key, Row]]] = {
    State.NEW: {
        **_LEAVE,
        ev.Begin: Row("_begin", (State.HELD, State.SENT), "ready: dispatch at once; else wait at the gate"),
    },
    State.HELD: {
        **_waiting(State.HELD),
        ev.UpstreamReady: Row("_dispatch", (State.SENT,), "the gate opened: send the request"),
        ev.UpstreamFailed: Row("_give_up", (State.HELD, *_OVER), "it will not become ready: the fallback, or the failure's own code"),
        Timer.HOLD: Row("_hold_over", (State.HELD, *_OVER), "hold.timeout is over: the fallback, or readiness_timeout"),
    },
    State.SENT: {
        **_waiting(State.SENT),
        **_GIVEN_UP,
        ev.HeadCame: Row(
            "_judge_head",
            (State.STREAMING, State.PLAIN, State.JUDGING, *_OVER),
            "inside the grace the head goes out as it is; after a commit only the expected stream is welcome",
        ),
        ev.Switched: Row("_switch", (State.TUNNELLED,), "upstream agrees to a WebSocket: 101, and bytes from there on"),
        ev.DispatchFailed: Row(
            "_dispatch_failed",
            (State.HELD, State.SENT, *_OVER),
            "refused: back to hold; a stale pooled connection: once more on a fresh one; else 502",
        ),
        Timer.FIRST_BYTE: Row("_too_late", _OVER, "timeouts.first_byte is over: upstream_timeout"),
    },
    State.JUDGING: {
        **_waiting(State.JUDGING),
        **_GIVEN_UP,
        ev.BodyCollected: Row(
            "_judge_body",
            (State.HELD, State.PLAIN, *_OVER),
            "a loading answer: back to hold; else pass it on: as it is, or as an error frame if committed",
        ),
        ev.DispatchFailed: Row("_answer_lost", _OVER, "it died inside its answer: upstream_invalid"),
        Timer.FIRST_BYTE: Row("_too_late", _OVER, "timeouts.first_byte is over: upstream_timeout"),
    },
    State.PLAIN: {
        **_anytime(State.PLAIN),
        **_GIVEN_UP,
        Timer.KEEPALIVE: Row("_keep_alive", (State.PLAIN,), "a JSON body that has not begun after a head of ours: a blank before it"),
        ev.FirstByte: Row("_body_began", (State.PLAIN,), "it has begun: no blank any more"),
        Timer.FIRST_BYTE: Row("_too_late", _OVER, "it did not begin in time: upstream_timeout"),
        ev.BodyEnded: Row("_finish", (State.ENDED,), "complete: a clean end"),
        ev.DispatchFailed: Row("_body_lost", _OVER, "it died inside the body: cut, never a clean end"),
        Timer.IDLE: Row("_too_late", _OVER, "timeouts.idle is over: upstream_timeout"),
        Timer.TOTAL: Row("_too_late", _OVER, "timeouts.total is over: upstream_timeout"),
    },
    State.STREAMING: {
        **_anytime(State.STREAMING),
        **_GIVEN_UP,
        ev.FirstByte: Row("_first_byte", (State.STREAMING,), "upstream's first bytes: the separator goes before them"),
        ev.FirstEvent: Row("_first_event", (State.STREAMING,), "no heartbeat any more"),
        ev.TerminalEvent: Row("_terminal", (State.TRAILING,), "the stream has said its last word: no keepalive after it"),
        ev.BodyEnded: Row("_stream_ended", _OVER, "a clean end, unless require_done misses the terminal event"),
        ev.DispatchFailed: Row("_body_lost", _OVER, "it died inside the stream: upstream_disconnected, then the cut"),
        Timer.KEEPALIVE: Row(
            "_keep_alive_between", (State.STREAMING,), "nothing was written for an interval: a comment, between events only"
        ),
        Timer.HEARTBEAT: Row("_beat", (State.STREAMING,), "a parsed no-op event before upstream's first one"),
        Timer.FIRST_BYTE: Row("_too_late", _OVER, "no event in time: upstream_timeout"),
        Timer.IDLE: Row("_too_late", _OVER, "timeouts.idle is over: upstream_timeout"),
        Timer.TOTAL: Row("_too_late", _OVER, "timeouts.total is over: upstream_timeout"),
    },
    State.TUNNELLED: {
        **_anytime(State.TUNNELLED),
        ev.HalfClosed: Row("_half_closed", (State.TUNNELLED,), "one side has ended: silence of the other is bounded from here on"),
        ev.BodyEnded: Row("_finish", (State.ENDED,), "both sides have ended: a clean end"),
        ev.DispatchFailed: Row("_body_lost", _OVER, "upstream's side was reset, so the client's is too"),
        Timer.IDLE: Row("_too_late", _OVER, "half-closed and silent for timeouts.idle: reset"),
        Timer.TOTAL: Row("_too_late", _OVER, "timeouts.total is over: reset"),
    },
    State.TRAILING: {
        **_anytime(State.TRAILING),
        ev.Shutdown: Row("_finish", (State.ENDED,), "complete already: a clean end"),
        ev.BodyEnded: Row("_finish", (State.ENDED,), "complete: a clean end"),
        ev.DispatchFailed: Row("_finish", (State.ENDED,), "the stream was complete before it died: a clean end"),
        ev.UpstreamFailed: Row("_finish", (State.ENDED,), "the stream that it follows was complete before it failed: a clean end"),
        Timer.TRAIL: Row("_finish", (State.ENDED,), "upstream did not end by itself within a second: a clean end"),
        Timer.TOTAL: Row("_finish", (State.ENDED,), "complete already: a clean end"),
    },
    State.FAILING: {
        ev.ClientDrained: Row("_linger", (State.FAILING,), "the error frame has left: give the client 200 ms to read it"),
        Timer.LINGER: Row("_cut", (State.ENDED,), "no last chunk: a failure must not look like a success"),
        ev.ClientGone: Row("_cut", (State.ENDED,), "it has read enough"),
        ev.ClientStalled: Row("_client_stalled", (State.ENDED,), "it does not read: reset"),
        ev.ClientPaused: Row("_stay", (State.FAILING,), "the frame waits in our buffer"),
        ev.ClientResumed: Row("_stay", (State.FAILING,), "the frame is leaving"),
        ev.Shutdown: Row("_stay", (State.FAILING,), "it is ending already"),
    },
    State.ENDED: {},
}
