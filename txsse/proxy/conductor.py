"""One exchange at work: translates sockets and clocks into the machine's events, and its actions into calls.

It decides nothing. What follows from what is written in ``txsse/exchange/machine.py``; here is only how it is done. The inner loop of
a stream is :meth:`Conductor.body_received`: read, feed, write. Where upstream's answer comes from is the business of the two kinds of
conductor that there are: :mod:`txsse.proxy.forwarder` asks an upstream, :mod:`txsse.proxy.reader` reads what another one asked for.
"""

from __future__ import annotations

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

from twisted.logger import Logger

from txsse.clock import COMMIT_TICK, LONGEST_TICK, Alarms, Bucket
from txsse.dialects import Dialect, Speaker
from txsse.dialects.base import Members
from txsse.dialects.usage import Usage
from txsse.errors import ProxyError
from txsse.exchange import actions as act
from txsse.exchange import events as ev
from txsse.exchange.clocks import NEVER
from txsse.exchange.collector import Collector
from txsse.exchange.events import Timer
from txsse.exchange.machine import Machine
from txsse.exchange.relay import Phase, Relay
from txsse.exchange.table import State
from txsse.exchange.voice import HoldStatus, Voice
from txsse.interfaces import Dispatch, Downstream, Failed, Request
from txsse.proxy.ledger import Tally
from txsse.proxy.routes import BoundRoute
from txsse.wire.headers import Headers, Prepared, get
from txsse.wire.http1 import ResponseHead
from txsse.wire.peek import string_value

if TYPE_CHECKING:
    from txsse.proxy.stand_ins import Instead

DRAIN_LOOK = 0.005
"""Seconds between two looks at whether an error frame has left our buffer."""

LONGEST_SLEEP = 60.0
"""Seconds after which an exchange looks at its clocks at the latest: so a deadline of some minutes that replaces one of ten does not
move anything."""

NEAR = 1.0
"""Seconds before a commit from which on it is waited for on a fine tick."""

_TURNS: Final[dict[Phase, ev.Event]] = {
    Phase.FIRST_BYTE: ev.FirstByte(),
    Phase.FIRST_EVENT: ev.FirstEvent(),
    Phase.TERMINAL: ev.TerminalEvent(),
}
_ROUTER_STATUS: Final = b"/models/sse"  # of llama.cpp's router
_NO_BODY: Final = frozenset((204, 304))  # not 205, which is framed like any other (RFC 9112 section 6.3)


class Owner(Protocol):
    """What a conductor needs of the proxy it belongs to."""

    alarms: Alarms

    def upstream_head(self, conductor: Conductor, authority: bytes) -> bytes:
        """The request's head as the server of its upstream gets it that has this *authority*."""

    def relayed_headers(self, conductor: Conductor, head: ResponseHead) -> tuple[Prepared, Headers]:
        """Upstream's head as the client gets it: what every answer with it has in common, and what is this one's own."""

    def committed_headers(self, conductor: Conductor) -> Headers:
        """The head of a stream of our own."""

    def instead_of_waiting(self, conductor: Conductor) -> Instead | None:
        """What the request gets while its upstream is not ready; ``None``: it waits."""

    def answer_error(self, conductor: Conductor, error: ProxyError) -> None:
        """Send an error response of our own."""

    def count_keepalive(self, phase: str) -> None:
        """One more keepalive was written."""

    def exchange_ended(self, conductor: Conductor, done: act.Done) -> None:
        """The exchange is over, exactly once."""


_PERFORM: Final[Mapping[type[Any], str]] = {
    act.AwaitReady: "_await_ready",
    act.StopWaiting: "_stop_waiting",
    act.Dispatch: "_send_upstream",
    act.FallBack: "_fall_back",
    act.MarkDown: "_mark_down",
    act.MarkLoading: "_mark_loading",
    act.Refuse: "_refuse",
    act.Commit: "_commit",
    act.RelayHead: "_relay_head",
    act.Collect: "_start_collecting",
    act.OpenRelay: "_open_relay",
    act.Send: "_send",
    act.PassOn: "_pass_on",
    act.PauseUpstream: "_pause_upstream",
    act.ResumeUpstream: "_resume_upstream",
    act.AbortUpstream: "_abort_upstream",
    act.AwaitDrain: "_await_drain",
    act.Finish: "_finish",
    act.Cut: "_cut",
    act.AbortClient: "_abort_client",
    act.Done: "_done",
}
_NO_NOTES: Final[Headers] = []
_Perform = Callable[[Any, Any], None]


class Conductor(ABC):
    """Implements ``Exchange`` towards the front and ``Receiver`` towards the upstream.

    :param streaming: the client asked for a stream; *commits*: and may be sent a head of ours.
    :param pads: the answer is JSON that does not stream, and may be kept alive with blanks before it.
    :param interval: of keepalives, in seconds.
    :param members: of the request's body.
    :ivar notes: fields that its response gets besides those that every response gets.
    :ivar cache: what the cache said, as in ``txsse_cache_total``; "" where none was asked.
    """

    __slots__ = (
        "_alarms",
        "_bucket",
        "_collector",
        "_corked",
        "_dispatch",
        "_driving",
        "_has_body",
        "_interval",
        "_later",
        "_machine",
        "_model",
        "_owner",
        "_relay",
        "_sleeps_until",
        "_slot",
        "cache",
        "cold",
        "dialect",
        "downstream",
        "home",
        "notes",
        "pads",
        "paused",
        "read",
        "request",
        "request_id",
        "route",
        "streaming",
        "tally",
        "wrote",
    )

    _log = Logger()
    reads: ClassVar[bool] = False
    """It reads what another one asked for: its upstream has no work with it."""
    records: ClassVar[bool] = False
    """What it relays is kept, so it must not come compressed."""
    _performed: ClassVar[Mapping[type[Any], _Perform]]
    """What is done for each kind of action."""

    def __init_subclass__(cls) -> None:
        cls._performed = {action: getattr(cls, name) for action, name in _PERFORM.items()}

    def __init__(
        self,
        owner: Owner,
        route: BoundRoute,
        request: Request,
        downstream: Downstream,
        dialect: Dialect,
        *,
        streaming: bool,
        commits: bool,
        pads: bool = False,
        interval: float,
        members: Members,
        show_text: bool,
        request_id: bytes,
    ) -> None:
        self.home = self.route = route  # where it belongs, and where it is: those differ after a fallback
        self.request = request
        self.downstream = downstream
        self.dialect = dialect
        self.streaming = streaming
        self.request_id = request_id
        self.pads = pads
        self._model = members.get("model")
        self._interval = interval
        self.cache = ""
        self.notes = _NO_NOTES
        self.cold = False
        self.tally = Tally(bytes_in=len(request.body))
        downstream.stall_timeout = route.config.stream.stall_timeout
        self._owner = owner
        self._alarms = owner.alarms
        self._machine: Machine | None = Machine(
            route.policy,
            Voice(dialect, route.policy, self, show_text, pads),
            commits=commits or pads,
            interval=interval,
            follows=members.get("return_progress") == b"true" or request.path.startswith(_ROUTER_STATUS),
            began=request.began,
            received=request.received,
            turns=self,
        )
        self._bucket: Bucket | None = None
        self._sleeps_until = NEVER
        self._relay: Relay | None = None
        self._collector: Collector | None = None
        self._has_body = True
        self._dispatch: Dispatch | None = None
        self.paused = False
        # When bytes last went through, in reactor seconds:
        self.wrote = self.read = request.received
        self._corked = False  # more of a read is still to be told
        self._driving = False
        self._slot = False  # one of the upstream's is ours
        self._later: list[ev.Event] | None = None

    # -- upstream's side

    @abstractmethod
    def begin(self) -> None:
        """The request is complete: let it live."""

    @abstractmethod
    def _await_ready(self, action: act.AwaitReady) -> None: ...

    @abstractmethod
    def _stop_waiting(self, action: act.StopWaiting) -> None: ...

    @abstractmethod
    def _send_upstream(self, action: act.Dispatch) -> None: ...

    @abstractmethod
    def _fall_back(self, action: act.FallBack) -> None: ...

    @abstractmethod
    def _mark_down(self, action: act.MarkDown) -> None: ...

    @abstractmethod
    def _mark_loading(self, action: act.MarkLoading) -> None: ...

    @abstractmethod
    def hold_status(self) -> HoldStatus:
        """What is known about the wait (for the voice)."""

    def _give_slot_back(self) -> None:
        self._slot = False

    def _too_late(self) -> None:  # noqa: B027 - not every kind has somebody to blame
        """There was no answer in time."""

    def _landed(self, *, well: bool = False) -> None:
        """No dispatch is under way any more; *well*: the upstream has ended its answer as it should."""
        self._dispatch = None

    # -- the whole

    @property
    def model(self) -> str:
        """What the request names, "" for nothing."""
        return string_value(self._model) or ""

    def shut_down(self) -> None:
        """The drain is over."""
        self._drive(ev.Shutdown())

    @property
    def may_come_back(self) -> bool:
        """Its client can go on later with what it reads."""
        return False

    @property
    def held(self) -> bool:
        return self._machine is not None and self._machine.state is State.HELD

    # -- from the front (Exchange)

    def client_paused(self) -> None:
        self.paused = True
        self._drive(ev.ClientPaused())

    def client_resumed(self) -> None:
        self.paused = False
        # Upstream was silent because we did not listen; and the last byte has been written to the client only now.
        self.read = self.wrote = self._alarms.seconds()
        self._drive(ev.ClientResumed())

    def client_gone(self) -> None:
        self._drive(ev.ClientGone())

    def client_stalled(self) -> None:
        self._drive(ev.ClientStalled())

    # -- from the upstream (Receiver)

    def cork(self) -> None:
        self._corked = True
        self.downstream.cork()

    def uncork(self) -> None:
        self._corked = False
        self.downstream.uncork()
        if self._machine is not None:
            self._mind_clocks(self._machine)

    def response_started(self, head: ResponseHead) -> None:
        self.read = self._alarms.seconds()
        self._has_body = self.request.head.method != b"HEAD" and head.status not in _NO_BODY
        self._drive(ev.HeadCame(head, self._has_body))

    def body_received(self, data: bytes) -> None:
        relay = self._relay
        if relay is None:
            self._collect(data)
            return
        out = relay.feed(data)
        now = self._alarms.seconds()
        if not relay.quiet:
            self.read = now
        if out:
            self._relayed(out, now)

    def response_ended(self) -> None:
        self._landed(well=True)
        if self._collector is not None:
            self._end_collecting(complete=True)
        elif self._relay is not None:
            if rest := self._relay.end():
                self._relayed(rest, self._alarms.seconds())
            self._drive(ev.BodyEnded())

    def dispatch_failed(self, failed: Failed) -> None:
        self._landed()
        self._collector = None
        self._drive(ev.DispatchFailed(failed))

    def _relayed(self, data: bytes, now: float) -> None:
        """Upstream's bytes, on to the client."""
        self.wrote = now
        tally = self.tally
        if tally.first_byte is None:
            tally.first_byte = now
        tally.bytes_out += len(data)
        tally.relayed += len(data)
        self.downstream.write(data)

    # -- driving the machine

    def _drive(self, event: ev.Event) -> None:
        """Give the machine an event and do what it says. An event that comes up while doing so waits for its turn."""
        if self._driving:
            self._later = [*(self._later or ()), event]
            return
        machine = self._machine
        if machine is None:
            return
        self._driving = True
        try:
            while True:
                todo = machine.handle(event, self._alarms.seconds())
                self.cold = machine.cold
                for action in todo:
                    self._performed[type(action)](self, action)
                if self._machine is None:
                    return
                if self._later is None:
                    # Not before: what comes next may be the dispatch that the slot was taken for.
                    if self._slot and self._dispatch is None:
                        self._give_slot_back()
                    break
                event, *later = self._later
                self._later = later or None
            if not self._corked:  # the next thing told may be the end
                self._mind_clocks(machine)
        except Exception:
            self._log.failure("an exchange broke")
            self._break_off()
        finally:
            self._driving = False

    def _break_off(self) -> None:
        """A bug of ours: nothing may hang because of it, nor look like a success."""
        if self._machine is None:
            return
        self._stop_waiting(act.StopWaiting())
        if self._dispatch is not None:
            self._abort_upstream(act.AbortUpstream())
        self.downstream.abort()
        self._done(act.Done("upstream_error", "internal"))

    def turned(self, phase: Phase) -> None:
        self._drive(_TURNS[phase])

    # -- the clocks

    def _mind_clocks(self, machine: Machine) -> None:
        if machine.clocks.changed:
            machine.clocks.changed = False
            self._sleep(machine)

    def _sleep(self, machine: Machine, latest: float = NEVER) -> None:
        """Be woken when the next clock is up, or at *latest*. Who is to be woken earlier than that sleeps on and looks then."""
        due = min(machine.clocks.next(self.wrote, self.read), latest)
        if due >= self._sleeps_until:
            return
        self._wake_never()
        now = self._alarms.seconds()
        left = min(max(due - now, 0.0), LONGEST_SLEEP)
        tick = LONGEST_TICK
        if machine.clocks.runs(Timer.COMMIT) or machine.clocks.runs(Timer.LINGER):
            if left > NEAR:
                left *= 0.9  # most answers come before, and need no fine tick at all
            else:
                tick = COMMIT_TICK
        self._sleeps_until = now + left
        self._bucket = self._alarms.enter(self, left, tick=tick)

    def _wake_never(self) -> None:
        bucket, self._bucket = self._bucket, None
        if bucket is not None:
            bucket.pop(self, None)

    def wake(self) -> None:
        """Called by the alarms: let the clocks ring that are up."""
        machine, self._bucket, self._sleeps_until = self._machine, None, NEVER
        if machine is None:
            return
        now = self._alarms.seconds()
        policy = self.route.policy
        if self.paused:
            self.read = now  # upstream is silent because we do not listen
        again = NEVER
        if self.downstream.pending():
            # The client is not reading: more would only queue up. The interval begins when the last byte leaves.
            again = self.wrote = now + self._interval / 10
        while (timer := machine.clocks.up(now, self.wrote, self.read)) is not None:
            if timer is Timer.KEEPALIVE:
                self.wrote = now  # or in a moment; where nothing may be said, the next chance is an interval later
            elif timer is Timer.HEARTBEAT and again != NEVER:
                machine.clocks.start(timer, policy.heartbeat / 10, now)
                continue
            elif timer is Timer.FIRST_BYTE:
                self._too_late()
            self._drive(ev.Elapsed(timer, now - self.read))
            if self._machine is None:
                return
        self._sleep(machine, again)

    # -- actions

    def _abort_upstream(self, action: act.AbortUpstream) -> None:
        self._collector = None
        dispatch = self._dispatch
        self._landed()
        if dispatch is not None:
            dispatch.abort()

    def _pause_upstream(self, action: act.PauseUpstream) -> None:
        if self._dispatch is not None:
            self._dispatch.pause()

    def _resume_upstream(self, action: act.ResumeUpstream) -> None:
        if self._dispatch is not None:
            self._dispatch.resume()

    def _refuse(self, action: act.Refuse) -> None:
        self.tally.status = action.error.http_status
        self.tally.refused = True
        self._owner.answer_error(self, action.error)

    def _commit(self, action: act.Commit) -> None:
        self.tally.status = 200
        self.downstream.cork()  # the first words leave in the same write
        self.downstream.start(200, b"OK", self._owner.committed_headers(self))
        self._send(action)
        if not self._corked:
            self.downstream.uncork()

    def _relay_head(self, action: act.RelayHead) -> None:
        head = action.head
        self.tally.status = head.status
        common, own = self._owner.relayed_headers(self, head)
        self.downstream.start(head.status, head.reason, own, common=common, has_body=action.has_body)
        self.wrote = self._alarms.seconds()
        self._forget_body()

    def _forget_body(self) -> None:
        """Nothing can be sent twice from here on: a long stream must not keep its prompt in memory."""
        self.request.body = b""
        self.downstream.forget_body()

    def _start_collecting(self, action: act.Collect) -> None:
        if self._collector is None:
            self._collector = Collector(action.limit)
        else:
            self._collector.limit = action.limit

    def _collect(self, data: bytes) -> None:
        collector = self._collector
        if collector is not None:
            self.read = self._alarms.seconds()
            if collector.feed(data):
                self._end_collecting(complete=False)

    def _end_collecting(self, *, complete: bool) -> None:
        collector, self._collector = self._collector, None
        assert collector is not None
        self._drive(ev.BodyCollected(collector.body, complete))

    def _open_relay(self, action: act.OpenRelay) -> None:
        self._relay = action.relay
        self._forget_body()

    def _send(self, action: act.Send | act.Commit) -> None:
        if not action.data:
            return
        if action.phase:
            self.tally.keepalives += 1
            self._owner.count_keepalive(action.phase)
        self._write(action.data)

    def _pass_on(self, action: act.PassOn) -> None:
        self._relayed(action.data, self._alarms.seconds())

    def _write(self, data: bytes) -> None:
        self.wrote = self._alarms.seconds()
        self.tally.bytes_out += len(data)
        self.downstream.write(data)

    def _await_drain(self, action: act.AwaitDrain) -> None:
        self._look_drained()

    def _look_drained(self) -> None:
        if self._machine is None:
            return
        if self.downstream.pending():
            self._alarms.set(DRAIN_LOOK, self._look_drained)
        else:
            self._drive(ev.ClientDrained())

    def _finish(self, action: act.Finish) -> None:
        self.downstream.finish()

    def _cut(self, action: act.Cut) -> None:
        self.downstream.cut()

    def _abort_client(self, action: act.AbortClient) -> None:
        self.downstream.abort()

    def _done(self, done: act.Done) -> None:
        if done.outcome == "ok":
            self.tally.usage, self.tally.model = self.usage()
        self._put_away()
        self._owner.exchange_ended(self, done)

    def usage(self) -> tuple[Usage | None, str]:
        """What upstream told of tokens, and the model that it named with it (``None`` and "" for nothing)."""
        return (None, "") if self._relay is None else self._relay.read_usage()

    def charged(self) -> bool:
        """An upstream worked for what :meth:`usage` tells, and nobody else is charged with it. Asked once."""
        return True

    def _put_away(self) -> None:
        # Machine, relay and hold call us back: without these cuts each exchange would be left to the cycle collector.
        self._machine = self._relay = None
        self._wake_never()
        self._forget_body()
        if self._slot:
            self._give_slot_back()

    # -- for the voice (Source)

    def speaker(self) -> Speaker:
        client = get(self.request.head.headers, b"user-agent") or b""
        return Speaker(secrets.token_hex(8), int(time.time()), self.model or "unknown", client.decode("latin-1"))
