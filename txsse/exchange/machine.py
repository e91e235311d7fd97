"""The steps of an exchange: what is done where :mod:`txsse.exchange.table` says that something happens. Sans-I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from txsse.dialects import DIALECTS, Dialect
from txsse.dialects.usage import UsageWitness
from txsse.errors import ProxyError
from txsse.exchange import actions as act
from txsse.exchange import events as ev
from txsse.exchange import failures
from txsse.exchange.clocks import Clocks
from txsse.exchange.events import Timer
from txsse.exchange.policy import Policy
from txsse.exchange.relay import DocumentRelay, PaddedRelay, PlainRelay, StreamRelay, Turns
from txsse.exchange.table import TABLE, HeadOf, Key, State
from txsse.exchange.voice import Voice
from txsse.interfaces import Fault
from txsse.wire.eventstream import is_event_stream
from txsse.wire.headers import get
from txsse.wire.http1 import ResponseHead

LINGER = 0.2
"""Seconds between an error frame leaving our buffer and the cut: WHATWG streams drop what is queued when they see the cut."""
TRAIL = 1.0
"""Seconds that upstream has to end its body after the event that ended its stream."""
LOADING_LIMIT = 4096
ERROR_LIMIT = 65536

_OK: Final = act.Done("ok")
_NOTHING: Final[list[act.Action]] = []  # what a machine at rest has to say
_PLAIN: Final = act.OpenRelay(PlainRelay())


class IllegalEvent(Exception):
    """An event that cannot happen in this state: a bug in whoever sent it."""


class Machine:
    """One exchange. ``handle`` takes an event and answers with the actions that follow from it, in order.

    :param commits: the proxy may commit on its own account.
    :param interval: of keepalives, in seconds.
    :param follows: upstream may tell of its progress on the stream.
    :param began: when the first byte of the head came; ``received``: when the body was complete (same clock as ``now``).
    :param turns: handed to the relay: told of the turns of a stream; it sends the event of that name.
    :ivar clocks: those that run. Whoever drives the machine looks at them after each event and sends ``Elapsed`` for one that is up.
    """

    __slots__ = (
        "_began",
        "_commits",
        "_dispatched",
        "_done",
        "_fell_back",
        "_follows",
        "_held_since",
        "_hold_left",
        "_interval",
        "_judged",
        "_now",
        "_out",
        "_policy",
        "_received",
        "_relay",
        "_retried",
        "_rows",
        "_spoke",
        "_status",
        "_turns",
        "_voice",
        "clocks",
        "cold",
        "head_of",
        "state",
    )

    def __init__(
        self,
        policy: Policy,
        voice: Voice,
        *,
        commits: bool,
        interval: float,
        follows: bool,
        began: float,
        received: float,
        turns: Turns,
    ) -> None:
        self.state = State.NEW
        self._rows = _STEPS[State.NEW]
        self.clocks = Clocks()
        self.head_of = HeadOf.NOBODY
        self.cold = False
        self._commits = commits
        self._interval = interval
        self._follows = follows
        self._policy = policy
        self._voice = voice
        self._began = began
        self._received = received
        self._turns = turns
        self._now = received
        self._out = _NOTHING
        self._hold_left = policy.hold_timeout
        self._held_since = received
        self._dispatched = False
        self._retried = False
        self._fell_back = False  # there is no other upstream, and no hold, after that
        self._spoke = False
        self._judged: ResponseHead | None = None  # whose body decides
        self._status = 0  # of the last head that upstream sent
        self._relay: StreamRelay | None = None
        self._done = _OK

    def handle(self, event: ev.Event, now: float) -> list[act.Action]:
        """Take *event* at *now* (seconds); the answer is to be performed in order, at once."""
        key: Key = type(event)
        if isinstance(event, ev.Elapsed):
            key = event.timer
            self.clocks.rang(event.timer)
        row = self._rows.get(key)
        if row is None:
            raise IllegalEvent(f"{event} while {self.state.value}")
        out = self._out = []
        self._now = now
        step, allowed = row
        to = step(self, event, now)
        if to not in allowed:
            raise IllegalEvent(f"{event} led from {self.state.value} to {to.value}, which its row does not name")
        if to is not self.state:
            self.state = to
            self._rows = _STEPS[to]
            if to is State.ENDED:
                self.clocks.stop_all()
                out.append(self._done)
        self._out = _NOTHING
        return out

    def speak(self, dialect: Dialect) -> None:
        """The stream to come is in this *dialect* after all."""
        self._voice.dialect = dialect

    # -- holding and dispatching

    def _begin(self, event: ev.Begin, now: float) -> State:
        if self._policy.total:
            self._set(Timer.TOTAL, self._policy.total - (now - self._began))
        return self._send(now, fresh=False) if event.ready else self._hold(now)

    def _hold(self, now: float) -> State:
        """Wait at the gate. All waits of a request share one hold.timeout."""
        self._held_since = now
        if self._policy.hold_timeout:
            self._set(Timer.HOLD, max(self._hold_left, 0))
        if self._commits and self.head_of is HeadOf.NOBODY:
            self._set(Timer.COMMIT, max(self._received + self._policy.hold_commit_after - now, 0))
        self._out.append(act.AwaitReady())
        return State.HELD

    def _dispatch(self, event: ev.UpstreamReady, now: float) -> State:
        self._hold_left -= now - self._held_since
        self.cold = self.cold or event.cold
        self.clocks.stop(Timer.HOLD)
        return self._send(now, fresh=False)

    def _send(self, now: float, *, fresh: bool) -> State:
        self._dispatched = True
        if self._commits and self.head_of is HeadOf.NOBODY:
            self._set(Timer.COMMIT, self._policy.commit_after)
        if self._policy.first_byte:
            self._set(Timer.FIRST_BYTE, self._policy.first_byte)
        self._out.append(act.Dispatch(fresh))
        return State.SENT

    def _dispatch_failed(self, event: ev.DispatchFailed, now: float) -> State:
        self._dispatched = False
        failed = event.failed
        if failed.fault is Fault.STALE and not self._retried:
            # RFC 9110 section 9.2.2: a connection that died unused may be retried; ours was idle in a pool and answered nothing.
            self._retried = True
            return self._send(now, fresh=True)
        if failed.fault is Fault.UNREACHABLE and self._holds:
            self.clocks.stop(Timer.FIRST_BYTE)
            self._out.append(act.MarkDown(failed.detail))
            return self._hold(now)
        return self._fail(failures.no_answer(failed))

    # -- committing and speaking

    def _commit(self, event: ev.Elapsed, now: float) -> State:
        held = self.state is State.HELD
        self._note_cold()
        self.head_of = HeadOf.US
        words = self._voice.while_held() if held else self._voice.keepalive(after_id=False)
        self._spoke = bool(words)
        # A visible message is an answer's first words; anything else keeps the connection alive.
        shown = held and self._voice.text_shown
        self._out.append(act.Commit(words, "" if shown or not words else "hold" if held else "first_byte"))
        if self.state is State.JUDGING:
            self._out.append(act.Collect(ERROR_LIMIT))  # it will be told in an error frame, so its end matters now
        self._start_speaking()
        return self.state

    def _start_speaking(self) -> None:
        if self._policy.form != "none":
            self._set(Timer.KEEPALIVE, self._interval)
        if self._policy.heartbeat and self._commits and not self._voice.pads:
            self._set(Timer.HEARTBEAT, self._policy.heartbeat)

    def _keep_alive(self, event: ev.Elapsed, now: float) -> State:
        held = self.state is State.HELD
        self._say(self._voice.while_held() if held else self._voice.keepalive(after_id=False), "hold" if held else "first_byte")
        return self.state

    def _keep_alive_between(self, event: ev.Elapsed, now: float) -> State:
        relay = self._stream()
        if relay.may_speak():
            told = relay.progress
            self._voice.progress = told if told is not None and told.fraction < 1 else None
            self._say(self._voice.keepalive(relay.id_seen), "gap" if relay.started else "first_byte")
            relay.spoke = True
        return State.STREAMING

    def _beat(self, event: ev.Elapsed, now: float) -> State:
        relay, every = self._relay, self._policy.heartbeat
        if relay is not None and relay.started and event.silent < every:
            self._set(Timer.HEARTBEAT, every - event.silent)  # upstream has spoken meanwhile
        elif relay is not None and not relay.may_speak():
            self._set(Timer.HEARTBEAT, every)
        elif beat := self._voice.heartbeat():
            self._say(beat, "hold" if self.state is State.HELD else "gap" if relay is not None and relay.started else "first_byte")
            if relay is not None:
                relay.spoke = True
            self._set(Timer.HEARTBEAT, every)
        return self.state

    def _say(self, data: bytes, phase: str) -> None:
        if data:
            self._spoke = True
            self._out.append(act.Send(data, phase))

    # -- upstream's answer

    def _judge_head(self, event: ev.HeadCame, now: float) -> State:
        head = event.head
        self._status = head.status
        if self.head_of is HeadOf.NOBODY:
            if self._holds and event.has_body and head.status in self._policy.loading_status:
                return self._judge(head, LOADING_LIMIT)
            return self._relay_theirs(event)
        if head.status == 204 and not self._voice.pads:
            return self._relay_plain()
        wrong = self._objection(head)
        if wrong is None:
            return self._relay_padded() if self._voice.pads else self._relay_stream()
        may_be_loading = self._holds and event.has_body and head.status in self._policy.loading_status
        body_decides = head.status >= 400 or may_be_loading or self._may_tell_all(head)
        return self._judge(head, ERROR_LIMIT) if body_decides else self._fail(wrong)

    def _objection(self, head: ResponseHead) -> ProxyError | None:
        """Why a head cannot be that of what ours has promised."""
        return failures.no_json(head) if self._voice.pads else failures.unexpected(head, self._voice.dialect)

    def _may_tell_all(self, head: ResponseHead) -> bool:
        """One object is a stream of JSON lines too: all that Ollama has to tell of a model that it only had to load."""
        return self._voice.dialect.by_lines and not self._voice.pads and failures.no_json(head) is None

    def _judge(self, head: ResponseHead, limit: int) -> State:
        self._judged = head
        self._out.append(act.Collect(limit))
        return State.JUDGING

    def _relay_theirs(self, event: ev.HeadCame) -> State:
        head = event.head
        self.head_of = HeadOf.UPSTREAM
        self.clocks.stop(Timer.COMMIT)
        self._out.append(act.RelayHead(head, event.has_body))
        kind = get(head.headers, b"content-type")
        aligned = event.has_body and self._voice.dialect.is_stream(kind)
        if event.has_body and not aligned and is_event_stream(kind):
            # Not what was expected here, but a stream it is.
            aligned, self._voice.dialect = True, DIALECTS["sse"]
        if not aligned or failures.is_compressed(head) or get(head.headers, b"content-length") is not None:
            tells = self._policy.counts_tokens and head.status == 200 and (aligned or failures.is_json(kind))
            return self._relay_plain(act.OpenRelay(DocumentRelay(self._voice.dialect.name)) if tells else _PLAIN)
        if self._voice.pads:
            self._voice.pads = self._commits = False  # it did not ask for this stream
        self._start_speaking()
        return self._relay_stream()

    def _relay_plain(self, opened: act.OpenRelay = _PLAIN) -> State:
        for timer in (Timer.FIRST_BYTE, Timer.KEEPALIVE, Timer.HEARTBEAT):
            self.clocks.stop(timer)
        if self._policy.idle:
            self._set(Timer.IDLE, self._policy.idle)
        self._out.append(opened)
        return State.PLAIN

    def _switch(self, event: ev.Switched, now: float) -> State:
        self.head_of = HeadOf.UPSTREAM
        self.clocks.stop(Timer.FIRST_BYTE)  # nor does IDLE run: a WebSocket has pings of its own
        self._out += [act.RelayHead(event.head, has_body=True), _PLAIN]
        return State.TUNNELLED

    def _half_closed(self, event: ev.HalfClosed, now: float) -> State:
        self._watch_idle()
        return State.TUNNELLED

    def _relay_padded(self) -> State:
        self._out.append(act.OpenRelay(PaddedRelay(self._voice.dialect.name, self._turns)))
        return State.PLAIN

    def _body_began(self, event: ev.FirstByte, now: float) -> State:
        self.clocks.stop(Timer.KEEPALIVE)
        self._watch_idle()
        return State.PLAIN

    def _relay_stream(self) -> State:
        dialect = self._voice.dialect
        self._voice.witness = witness = dialect.witness(midstream=self._policy.heartbeat_midstream)
        self._relay = StreamRelay(
            dialect,
            self._policy.hold_bytes,
            self._turns,
            spoke=self._spoke,
            comments_count=self._policy.comments_count,
            watch_ids=self._policy.form == "frame",
            filters=self._voice.filters(),
            witness=witness,
            follow=self._follows,
            usage=UsageWitness(dialect.name) if self._policy.counts_tokens else None,
        )
        self._out.append(act.OpenRelay(self._relay))
        return State.STREAMING

    def _judge_body(self, event: ev.BodyCollected, now: float) -> State:
        head, self._judged = self._head(), None
        if event.complete:
            self._dispatched = False
        if self._holds and self._policy.is_loading(head.status, event.body):
            self._drop_upstream()
            self.clocks.stop(Timer.FIRST_BYTE)
            self._out.append(act.MarkLoading(f"HTTP {head.status}, loading"))
            return self._hold(now)
        if self.head_of is HeadOf.US:
            if event.complete and self._may_tell_all(head) and self._voice.dialect.is_terminal(event.body):
                self._say(self._voice.before_answer(), "")
                self._out.append(act.PassOn(event.body))
                return self._finish(event, now)
            wrong = None if head.status >= 400 else self._objection(head)
            return self._fail(wrong or failures.upstream_error(head, event.body))
        self.head_of = HeadOf.UPSTREAM
        self.clocks.stop(Timer.COMMIT)
        self._out.append(act.RelayHead(head, has_body=True))
        if event.body:
            self._out.append(act.PassOn(event.body))
        if event.complete:
            return self._finish(event, now)
        return self._relay_plain()

    def _answer_lost(self, event: ev.DispatchFailed, now: float) -> State:
        self._dispatched = False
        return self._fail(failures.broken_answer(self._head(), event.failed))

    # -- the stream and its end

    def _first_byte(self, event: ev.FirstByte, now: float) -> State:
        relay = self._stream()
        if separator := self._voice.before_answer():
            relay.spoke = True
            self._say(separator, "")
        if self._policy.comments_count:
            self._watch_idle()
        return State.STREAMING

    def _first_event(self, event: ev.FirstEvent, now: float) -> State:
        if not self._policy.heartbeat_midstream:
            self.clocks.stop(Timer.HEARTBEAT)
        if not self._policy.comments_count:
            self._watch_idle()
        return State.STREAMING

    def _watch_idle(self) -> None:
        self.clocks.stop(Timer.FIRST_BYTE)
        if self._policy.idle:
            self._set(Timer.IDLE, self._policy.idle)

    def _terminal(self, event: ev.TerminalEvent, now: float) -> State:
        for timer in (Timer.KEEPALIVE, Timer.HEARTBEAT, Timer.IDLE, Timer.FIRST_BYTE):
            self.clocks.stop(timer)
        self._set(Timer.TRAIL, TRAIL)
        return State.TRAILING

    def _stream_ended(self, event: ev.BodyEnded, now: float) -> State:
        self._dispatched = False
        unterminated = self._voice.dialect.terminal_pattern is not None
        if unterminated and self._policy.require_done:
            return self._fail(failures.unterminated())
        self._done = act.Done("ok", unterminated=unterminated)
        self._out.append(act.Finish())
        return State.ENDED

    def _finish(self, event: ev.Event, now: float) -> State:
        if isinstance(event, (ev.BodyEnded, ev.DispatchFailed, ev.UpstreamFailed)):
            self._dispatched = False
        self._drop_upstream()
        if self.head_of is HeadOf.UPSTREAM and self._status >= 500:
            self._done = act.Done("upstream_error")
        self._out.append(act.Finish())
        return State.ENDED

    # -- everything that goes wrong

    def _give_up(self, event: ev.UpstreamFailed, now: float) -> State:
        code, policy = event.error.code, self._policy
        if now > self._held_since and code != "too_many_waiting":  # else it was refused at once
            self._note_cold()
        if (code == "wake_failed" and policy.falls_back) or (code == "too_many_waiting" and policy.overflow_falls_back):
            return self._fall_back() or self._fail(event.error)
        return self._fail(event.error)

    def _fall_back(self) -> State | None:
        """Turn to the other upstream, once; the answer is ``UpstreamReady`` or ``UpstreamFailed``."""
        if self._fell_back:
            return None
        self._fell_back = True
        self.clocks.stop(Timer.HOLD)
        self._out.append(act.FallBack())
        return State.HELD

    def _hold_over(self, event: ev.Elapsed, now: float) -> State:
        self._note_cold()
        error = failures.not_ready(self._voice.status(), self._policy)
        due = self._held_since + self._hold_left
        if self._policy.falls_back and not (self._policy.total and self._began + self._policy.total <= due):
            self._out.append(act.StopWaiting())
            return self._fall_back() or self._fail(error)
        return self._fail(error)

    def _too_late(self, event: ev.Elapsed, now: float) -> State:
        self._note_cold()
        return self._fail(failures.too_late(event.timer, self._policy))

    def _body_lost(self, event: ev.DispatchFailed, now: float) -> State:
        self._dispatched = False
        return self._fail(failures.broken_body(event.failed))

    def _given_up(self, event: ev.UpstreamFailed, now: float) -> State:
        self._dispatched = False
        return self._fail(event.error)

    def _shut_down(self, event: ev.Shutdown, now: float) -> State:
        self._note_cold()
        return self._fail(failures.shutting_down())

    def _fail(self, error: ProxyError) -> State:
        """One failure, said in the way that what the client has already read still allows."""
        self._release()
        self._done = act.Done(failures.outcome_of(error.code), error.code)
        if self.head_of is HeadOf.NOBODY or self._policy.unheard:
            self._out.append(act.Refuse(error))
            return State.ENDED
        if not self._may_frame_errors():
            self._out.append(act.Cut())
            return State.ENDED
        frame = self._voice.error(error)
        if self._policy.error_end == "done":
            self._out += [act.Send(frame + self._voice.dialect.done), act.Finish()]
            return State.ENDED
        self._out += [act.Send(frame), act.AwaitDrain()]
        return State.FAILING

    def _may_frame_errors(self) -> bool:
        if self._voice.pads or (self._relay is not None and self._relay.cut_inside_event):
            return False
        if self.head_of is HeadOf.US:
            return True
        return self._relay is not None and (self._voice.dialect.error_after_their_head or self._policy.error_event)

    def _linger(self, event: ev.ClientDrained, now: float) -> State:
        self._set(Timer.LINGER, LINGER)
        return State.FAILING

    def _cut(self, event: ev.Event, now: float) -> State:
        self._out.append(act.Cut())
        return State.ENDED

    # -- the client

    def _client_gone(self, event: ev.ClientGone, now: float) -> State:
        self._release()
        if self.state is not State.TRAILING:  # clients hang up after the terminal event: they have what they came for
            self._done = act.Done("client_closed")
        return State.ENDED

    def _client_stalled(self, event: ev.ClientStalled, now: float) -> State:
        self._release()
        if self.state is not State.FAILING:
            self._done = act.Done("client_closed")
        self._out.append(act.AbortClient())
        return State.ENDED

    def _pause(self, event: ev.ClientPaused, now: float) -> State:
        if self._dispatched:
            self._out.append(act.PauseUpstream())
        return self.state

    def _resume(self, event: ev.ClientResumed, now: float) -> State:
        if self._dispatched:
            self._out.append(act.ResumeUpstream())
        return self.state

    def _stay(self, event: ev.Event, now: float) -> State:
        return self.state

    # -- helpers

    def _set(self, timer: Timer, delay: float) -> None:
        self.clocks.start(timer, delay, self._now)

    def _drop_upstream(self) -> None:
        if self._dispatched:
            self._dispatched = False
            self._out.append(act.AbortUpstream())

    def _release(self) -> None:
        """Nothing of this exchange is to go on elsewhere: no wait, no dispatch, no timer."""
        if self.state is State.HELD:
            self._out.append(act.StopWaiting())
        self._drop_upstream()
        self.clocks.stop_all()

    def _note_cold(self) -> None:
        """A wait for readiness is one whatever becomes of it; a wait for a slot is none."""
        if self.state is State.HELD and not self.cold:
            self.cold = not self._voice.status().queued

    @property
    def _holds(self) -> bool:
        return self._policy.holds and not self._fell_back

    def _head(self) -> ResponseHead:
        assert self._judged is not None
        return self._judged

    def _stream(self) -> StreamRelay:
        assert self._relay is not None
        return self._relay


_Step = Callable[[Machine, Any, float], State]
_STEPS: Final[Mapping[State, Mapping[Key, tuple[_Step, tuple[State, ...]]]]] = {
    state: {key: (getattr(Machine, row.step), row.to) for key, row in rows.items()} for state, rows in TABLE.items()
}
