"""The exchange that reads what another one asked for: a run in progress, or something that was stored.

It is an exchange like any other: it may be held with the run, commits, speaks while the run is silent, and ends with the run's error in
its own client's terms. Only it never waits at a gate and never takes a slot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from txsse.dialects.usage import Usage
from txsse.errors import ProxyError
from txsse.exchange import actions as act
from txsse.exchange import events as ev
from txsse.exchange.relay import StreamRelay
from txsse.exchange.table import State
from txsse.exchange.voice import HoldStatus
from txsse.proxy.answers import objection_to
from txsse.proxy.conductor import Conductor
from txsse.proxy.cors import shared_anew
from txsse.proxy.subscription import MOST_AT_ONCE, Follower
from txsse.recordings.numbering import Ids
from txsse.wire.headers import Headers, get, without
from txsse.wire.http1 import ResponseHead

if TYPE_CHECKING:
    from txsse.proxy.audience import Audience


def cache_notes(result: str, reason: str = "", age: float | None = None) -> Headers:
    """The fields that tell a client what the cache said. (Who has the cache left out knows why; a refusal says it.)"""
    told = f"{result.upper()}; reason={reason}" if result == "uncacheable" else result.upper()
    notes = [(b"X-Txsse-Cache", told.encode())]
    if age is not None:
        notes.append((b"Age", b"%d" % age))
    return notes


class Playing(Protocol):
    """A dispatch that has not begun to tell."""

    def start(self) -> None: ...

    def abort(self) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Source(Protocol):
    """What is read."""

    @property
    def resumable(self) -> bool:
        """Who leaves can come back and go on with it."""

    @property
    def most_at_once(self) -> int:
        """Bytes that a reader is handed at a time of what is there already."""

    @property
    def held(self) -> bool:
        """It waits for its upstream."""

    def join(self, follower: Follower) -> None: ...

    def leave(self, follower: Follower) -> None: ...

    def wait(self, follower: Follower) -> None: ...

    def stop_waiting(self, follower: Follower) -> None: ...

    def subscribe(self, follower: Follower) -> Playing: ...

    def hold_status(self) -> HoldStatus: ...

    def usage(self) -> tuple[Usage | None, str]: ...

    def charge(self) -> bool:
        """Somebody is to be charged with the tokens: the first who asks."""

    def before_error(self, error: ProxyError | None, ids: Ids) -> bytes:
        """Lines for the head of an error frame, for those who may come back.

        :param error: what the source has given up with, if it has.
        :param ids: those that the reader wants.
        """


_LAST_WORDS: Final = (State.FAILING, State.ENDED)


class Reader(Conductor):
    """
    :param source: what it reads.
    :param asked: the run was made for it: it is the first.
    :param after: the number of the event after which it goes on, where it may choose.
    :param numbers: which events it wants with ids of ours.
    :param comes_back: it is for a stream that was asked for before, maybe from another page: who may read it is told anew.
    """

    __slots__ = ("_comes_back", "_given", "_lent_to", "_opened", "_starting", "_waits_since", "after", "asked", "numbers", "source")

    reads = True

    def __init__(
        self,
        *args: Any,
        source: Source,
        asked: bool = False,
        after: int = 0,
        numbers: Ids = Ids.NONE,
        comes_back: bool = False,
        **traits: Any,
    ) -> None:
        super().__init__(*args, **traits)
        self._comes_back = comes_back
        self._given: ProxyError | None = None
        self.source = source
        self.asked = asked
        self.after = after
        self.numbers = numbers
        self._lent_to: Audience | None = None
        self._opened: Playing | None = None
        self._starting = False
        self._waits_since: float | None = None

    @property
    def may_come_back(self) -> bool:
        return self.source.resumable

    def begin(self) -> None:
        source = self.source
        source.join(self)
        if source.most_at_once < MOST_AT_ONCE:
            self.downstream.hold_little()
        self._drive(ev.Begin(not source.held))

    # -- from the source (Follower)

    @property
    def joined(self) -> bool:
        return self.cache == "coalesced"

    @property
    def answered(self) -> bool:
        return self.tally.status != 0

    def response_started(self, head: ResponseHead) -> None:
        if self.asked and self.cache == "miss" and (reason := objection_to(head)):
            self.notes = [*cache_notes("uncacheable", reason), *without(self.notes, (b"x-txsse-cache",))]
        if self._comes_back:
            head = shared_anew(head, self.request.head.headers, self.home.config.cors_origins)
        if self.source.resumable and get(head.headers, b"location") is not None:
            # Two are none to a browser. Upstream's means nothing in a 200, and is what a redirect or a 201 is about.
            if head.status == 200:
                head = ResponseHead(head.status, head.reason, head.version, without(head.headers, (b"location",)))
            else:
                self.notes = without(self.notes, (b"location",))
        super().response_started(head)

    def body_received(self, data: bytes) -> None:
        # As the conductor's own, which would be called by way of super(): 0.3 us an event.
        try:
            relay = self._relay
            if relay is None:
                self._collect(data)
            else:
                out = relay.feed(data)
                now = self._alarms.seconds()
                if not relay.quiet:
                    self.read = now
                if out:
                    self._relayed(out, now)
        except Exception:
            self.broke()  # it is this reader's bug alone, not that of all who read the same
        if self._starting and self.tally.relayed >= self.source.most_at_once:
            self._starting = False
            self._take_breath()

    @property
    def in_step(self) -> bool:
        relay = self._relay
        return isinstance(relay, StreamRelay) and not relay.attentive and relay.tracker.clean

    def lend(self, audience: Audience) -> Callable[[bytes], None]:
        self._lent_to = audience
        return self.downstream.write

    def passed(self, count: int, now: float) -> None:
        self.read = self.wrote = now
        self.tally.bytes_out += count
        self.tally.relayed += count

    def broke(self) -> None:
        self._log.failure("an exchange broke")
        self._break_off()

    def wake(self) -> None:
        if self._lent_to is not None:
            self._lent_to.settle()
        super().wake()

    def response_ended(self) -> None:
        try:
            super().response_ended()
        except Exception:
            self.broke()

    def go_on(self, *, cold: bool) -> None:
        self._waited()
        self._drive(ev.UpstreamReady(cold))

    def given_up(self, error: ProxyError) -> None:
        self._given = error
        self._waited()
        self._landed()
        self._collector = None
        self.source.leave(self)
        self._drive(ev.UpstreamFailed(error))

    # -- driving the machine

    def _drive(self, event: ev.Event) -> None:
        super()._drive(event)
        # Not while the machine is being driven: the source may have everything to tell already, and body bytes do not wait for a turn.
        opened = self._opened
        if opened is not None and not self._driving:
            self._opened, self._starting = None, True
            opened.start()
            self._starting = False

    def _take_breath(self) -> None:
        """The front does not know whom to tell that its client is slow before we have returned to it, and there is much to read already."""
        if self._dispatch is not None and not self.paused:
            self._dispatch.pause()
            self._alarms.set(0.0, self._read_on)

    def _read_on(self) -> None:
        if self._dispatch is not None and not self.paused:
            self._dispatch.resume()

    # -- actions

    def _await_ready(self, action: act.AwaitReady) -> None:
        self.tally.was_held = True
        self._waits_since = self._alarms.seconds()
        self.source.wait(self)

    def _stop_waiting(self, action: act.StopWaiting) -> None:
        self._waited()
        self.source.stop_waiting(self)

    def _waited(self) -> None:
        since, self._waits_since = self._waits_since, None
        if since is not None:
            self.tally.hold += self._alarms.seconds() - since

    def _send_upstream(self, action: act.Dispatch) -> None:
        self.tally.dispatched = self._alarms.seconds()
        dispatch = self._dispatch = self._opened = self.source.subscribe(self)
        if self.paused:
            dispatch.pause()

    def _send(self, action: act.Send | act.Commit) -> None:
        machine = self._machine
        if self.numbers and isinstance(action, act.Send) and machine is not None and machine.state in _LAST_WORDS:
            action = act.Send(self.source.before_error(self._given, self.numbers) + action.data)
        super()._send(action)

    def _abort_upstream(self, action: act.AbortUpstream) -> None:
        super()._abort_upstream(action)
        self.source.leave(self)  # not only when the last words are with the client

    def _fall_back(self, action: act.FallBack) -> None:
        raise AssertionError("a reader's policy has no fallback")

    def _mark_down(self, action: act.MarkDown) -> None:
        """The run has done so."""

    def _mark_loading(self, action: act.MarkLoading) -> None:
        """The run has done so."""

    def usage(self) -> tuple[Usage | None, str]:
        return self.source.usage()

    def charged(self) -> bool:
        return self.source.charge()

    def _put_away(self) -> None:
        super()._put_away()
        self._lent_to = None
        self.source.leave(self)

    # -- for the voice (Source)

    def hold_status(self) -> HoldStatus:
        status = self.source.hold_status()
        status.elapsed = self._alarms.seconds() - self.request.received
        return status
