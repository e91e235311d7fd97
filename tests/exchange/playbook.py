"""Scripts for the machine: what happens to an exchange (``>>``) and what has to follow from it (``<<``), with time.

::

    assert (
        Playbook()
        >> ev.Begin(ready=True)
        << Starts(Timer.COMMIT, 5)
        << Starts(Timer.FIRST_BYTE, 600)
        << act.Dispatch()
        >> Wait(1)
        >> ev.ClientGone()
        << act.AbortUpstream()
        << act.Done("client_closed")
    )

A script says everything: each action in its order, and after each step which clocks run and for how long. On a mismatch both scripts
are printed. A playbook that nobody asserts fails when
it is dropped, for a test that forgets ``assert`` would pass whatever the machine did.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, Final
from unittest.mock import ANY

import attrs

from txsse.config import model
from txsse.dialects import DIALECTS, Dialect, Speaker
from txsse.exchange import actions as act
from txsse.exchange import events as ev
from txsse.exchange.events import Timer
from txsse.exchange.machine import Machine
from txsse.exchange.policy import Policy
from txsse.exchange.relay import Phase, Relay
from txsse.exchange.table import TABLE, HeadOf, State
from txsse.exchange.voice import HoldStatus, Voice
from txsse.proxy.routes import policy_of
from txsse.wire.http1 import ResponseHead

SPEAKER: Final = Speaker("0123456789abcdef", 1_700_000_000, "tiny")
PHASES: Final[dict[Phase, ev.Event]] = {
    Phase.FIRST_BYTE: ev.FirstByte(),
    Phase.FIRST_EVENT: ev.FirstEvent(),
    Phase.TERMINAL: ev.TerminalEvent(),
}
Visit = tuple[State, "type[Any] | Timer", State]

STREAM_HEAD: Final = ResponseHead(200, b"OK", b"HTTP/1.1", [(b"Content-Type", b"text/event-stream")])
FOLLOW_BYTES: Final = frozenset((Timer.KEEPALIVE, Timer.IDLE))
RELAY: Final[Any] = ANY
"""Stands in a script for the relay that the machine opens."""


@attrs.frozen
class Wait:
    """``>> Wait(seconds)``: time passes, and no timer rings."""

    seconds: float


@attrs.frozen
class Feed:
    """``>> Feed(data)``: body bytes go through the open relay; the turns of the stream that it tells are events for the machine."""

    data: bytes


@attrs.frozen
class FeedEnd:
    """``>> FeedEnd()``: upstream's body is complete; what the relay kept back goes out before the machine hears of it."""


@attrs.frozen
class Through:
    """``<< Through(data)``: upstream's bytes that the relay let pass."""

    data: bytes


@attrs.frozen
class Starts:
    """``<< Starts(timer, delay)``: it runs from now on; KEEPALIVE and IDLE with their interval."""

    timer: Timer
    delay: float


@attrs.frozen
class Stops:
    """``<< Stops(timer)``: it runs no more."""

    timer: Timer


Step = ev.Event | Wait | Feed | FeedEnd
Outcome = act.Action | Through
Word = Outcome | Starts | Stops


def make_policy(**changes: Any) -> Policy:
    """The defaults of the product, with *changes*."""
    return attrs.evolve(policy_of(model.Route(), model.Upstream()), **changes)


@attrs.frozen
class FixedSource:
    speaks: Speaker = SPEAKER

    def speaker(self) -> Speaker:
        return self.speaks

    def hold_status(self) -> HoldStatus:
        return HoldStatus("llama", "down", 12.34, "connection refused")


class Player:
    """A machine at work, without a script: hears steps, writes down what follows, and keeps what the client has.

    :param dialect: its name, or the dialect of a style.
    :param client: the User-Agent of the request.
    :param policy: what is different from the defaults.
    """

    def __init__(
        self,
        *,
        dialect: str | Dialect = "openai-chat",
        streaming: bool = True,
        show_text: bool = True,
        pads: bool = False,
        follows: bool = False,
        client: str = "",
        **policy: Any,
    ) -> None:
        self.policy = make_policy(**policy)
        self.dialect = DIALECTS[dialect] if isinstance(dialect, str) else dialect
        source = FixedSource(attrs.evolve(SPEAKER, client=client))
        self.voice = Voice(self.dialect, self.policy, source, show_text and not pads, pads)
        self.now = 100.0
        self.machine = Machine(
            self.policy,
            self.voice,
            commits=streaming or pads,
            interval=self.policy.interval,
            follows=follows,
            began=self.now,
            received=self.now,
            turns=self,
        )
        self.relay: Relay | None = None
        self.outcomes: list[Outcome] = []
        self.client = b""
        """Body bytes the client has, if it got a stream."""
        self.visited: set[Visit] = set()

    @property
    def head_of(self) -> HeadOf:
        return self.machine.head_of

    @property
    def state(self) -> State:
        return self.machine.state

    @property
    def running(self) -> dict[Timer, float]:
        """The clocks that run: seconds left, or the interval of those that follow the bytes."""
        clocks = self.machine.clocks
        at = {timer: clocks._at[timer] for timer in Timer if clocks.runs(timer)}
        return {timer: round(due if timer in FOLLOW_BYTES else due - self.now, 6) for timer, due in at.items()}

    def turned(self, phase: Phase) -> None:
        self._hear(PHASES[phase])

    def play(self, *steps: Step) -> list[Outcome]:
        """Hear *steps*; answers with what followed from them."""
        at = len(self.outcomes)
        for step in steps:
            match step:
                case Wait(seconds):
                    self.now += seconds
                case Feed(data):
                    assert self.relay is not None, "body bytes, but no relay is open"
                    self._through(self.relay.feed(data))
                case FeedEnd():
                    assert self.relay is not None, "an end, but no relay is open"
                    self._through(self.relay.end())
                    self._hear(ev.BodyEnded())
                case _:
                    self._hear(step)
        return self.outcomes[at:]

    def _through(self, data: bytes) -> None:
        if data:
            self.client += data
            self.outcomes.append(Through(data))

    def _hear(self, event: ev.Event) -> None:
        before = self.machine.state
        actions = self.machine.handle(event, self.now)
        self.visited.add((before, event.timer if isinstance(event, ev.Elapsed) else type(event), self.machine.state))
        for action in actions:
            self.outcomes.append(action)
            match action:
                case act.Commit(data) | act.Send(data) | act.PassOn(data):
                    self.client += data
                case act.OpenRelay(relay):
                    self.relay = relay


class Playbook:
    """A script and the machine to try it on. Keyword arguments: as for :class:`Player`."""

    def __init__(self, **player: Any) -> None:
        self.player = Player(**player)
        self._expected: list[tuple[str, Any]] = []
        self._found: list[tuple[str, Any]] = []
        self._running: dict[Timer, float] = {}  # by the script
        self._asserted = False

    def __rshift__(self, step: Step) -> Playbook:
        self._compare_clocks()
        match step:
            case Wait(seconds):
                for timer in self._running.keys() - FOLLOW_BYTES:
                    self._running[timer] = round(self._running[timer] - seconds, 6)
            case ev.Elapsed(timer) if timer not in FOLLOW_BYTES:
                self._running.pop(timer, None)
        self._expected.append((">>", step))
        self._found.append((">>", step))
        try:
            self._found += [("<<", outcome) for outcome in self.player.play(step)]
        except BaseException:
            self._asserted = True  # the failure is told already
            raise
        return self

    def __lshift__(self, word: Word) -> Playbook:
        match word:
            case Starts(timer, delay):
                self._running[timer] = delay
            case Stops(timer):
                self._running.pop(timer, None)
            case _:
                self._expected.append(("<<", word))
        return self

    def _compare_clocks(self) -> None:
        """What runs after a step is part of the script: all of it, so that a clock that was forgotten shows as well. An error frame, and
        the end, stop them all."""
        if self.player.state in (State.FAILING, State.ENDED):
            self._running = {timer: left for timer, left in self._running.items() if timer is Timer.LINGER}
            self._running = {} if self.player.state is State.ENDED else self._running
        self._expected.append(("clocks", _told(self._running)))
        self._found.append(("clocks", _told(self.player.running)))

    def __bool__(self) -> bool:
        self._compare_clocks()
        self._asserted = True
        if self._expected != self._found:
            raise AssertionError("the machine plays another script (- expected, + found)\n" + "\n".join(self._difference()))
        return True

    def _difference(self) -> Iterable[str]:
        expected: list[str] = []
        found = [f"{sign} {each!r}" for sign, each in self._found]
        for at, (sign, each) in enumerate(self._expected):
            # What a script leaves open ("any relay") is no difference.
            met = at < len(found) and self._found[at] == (sign, each)
            expected.append(found[at] if met else f"{sign} {each!r}")
        return difflib.ndiff(expected, found)

    def __del__(self) -> None:
        if not self._asserted:
            raise AssertionError("a playbook was written and never asserted")


def _told(running: dict[Timer, float]) -> str:
    return ", ".join(f"{timer.name} {left:g}" for timer, left in sorted(running.items()))


def all_rows() -> set[tuple[State, type[Any] | Timer]]:
    """Every cell of the table."""
    return {(state, key) for state, rows in TABLE.items() for key in rows}
