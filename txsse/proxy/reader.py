"""The exchange that reads what another one asked for: a run in progress, or something that was stored.

It is an exchange like any other: it may be held with the run, commits, speaks while the run is silent, and ends with the run's error in
its own client's terms. Only it never waits at a gate and never takes a slot.
"""

from __future__ import annotations

from typing import Protocol

from txsse.dialects.usage import Usage
from txsse.errors import ProxyError
from txsse.exchange import actions as act
from txsse.exchange import events as ev
from txsse.exchange.voice import HoldStatus
from txsse.proxy.conductor import Conductor
from txsse.proxy.run import Follower
from txsse.recordings.heads import objection
from txsse.wire.headers import Headers
from txsse.wire.http1 import ResponseHead


def cache_notes(result: str, reason: str = "", age: float | None = None) -> Headers:
    """The fields that tell a client what the cache said."""
    notes = [(b"X-Txsse-Cache", (f"{result.upper()}; reason={reason}" if reason else result.upper()).encode())]
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
    def held(self) -> bool:
        """It waits for its upstream."""

    def join(self, follower: Follower) -> None: ...

    def leave(self, follower: Follower) -> None: ...

    def wait(self, follower: Follower) -> None: ...

    def stop_waiting(self, follower: Follower) -> None: ...

    def subscribe(self, follower: Follower) -> Playing: ...

    def hold_status(self) -> HoldStatus: ...

    def usage(self) -> tuple[Usage | None, str]: ...


class Reader(Conductor):
    """
    :ivar source: what it reads; set before it begins.
    :ivar asked: the run was made for it: it is the first.
    """

    __slots__ = ("_opened", "_waits_since", "asked", "source")

    source: Source
    asked: bool
    _opened: Playing | None
    _waits_since: float | None

    def begin(self) -> None:
        source = self.source
        self._waits_since = self._opened = None
        source.join(self)
        if not self.asked:
            self._forget_body()
        self._drive(ev.Begin(not source.held))

    # -- from the source (Follower)

    def response_started(self, head: ResponseHead) -> None:
        if self.asked and self.cache == "miss" and (reason := objection(head)):
            self.notes = cache_notes("uncacheable", reason)
        super().response_started(head)

    def go_on(self, *, cold: bool) -> None:
        self._waited()
        self._drive(ev.UpstreamReady(cold))

    def given_up(self, error: ProxyError) -> None:
        self._waited()
        self._landed()
        self._collector = None
        self._drive(ev.UpstreamFailed(error))

    # -- driving the machine

    def _drive(self, event: ev.Event) -> None:
        super()._drive(event)
        # Not while the machine is being driven: the source may have everything to tell already, and body bytes do not wait for a turn.
        opened = self._opened
        if opened is not None and not self._driving:
            self._opened = None
            opened.start()

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

    def _fall_back(self, action: act.FallBack) -> None:
        raise AssertionError("a reader's policy has no fallback")

    def _mark_down(self, action: act.MarkDown) -> None:
        """The run has done so."""

    def _mark_loading(self, action: act.MarkLoading) -> None:
        """The run has done so."""

    def usage(self) -> tuple[Usage | None, str]:
        return self.source.usage()

    def _put_away(self) -> None:
        super()._put_away()
        self.source.leave(self)

    # -- for the voice (Source)

    def hold_status(self) -> HoldStatus:
        status = self.source.hold_status()
        status.elapsed = self._alarms.seconds() - self.request.received
        return status
