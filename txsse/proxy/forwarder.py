"""The exchange that asks an upstream itself: waits at its gate, takes a slot, dispatches, and tells the gate what it came to know."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from txsse.exchange import actions as act
from txsse.exchange import events as ev
from txsse.exchange import failures
from txsse.exchange.voice import HoldStatus
from txsse.interfaces import Failed, Fault
from txsse.proxy.conductor import Conductor
from txsse.proxy.hold import Hold
from txsse.proxy.progress import progress_of
from txsse.upstream.servers import Server
from txsse.wire.headers import NO_FIELDS, Headers, Prepared

if TYPE_CHECKING:
    from txsse.proxy.stand_ins import Instead

# What tells of a server that it fails: not STALE, which every kept-alive connection comes to, nor TRUNCATED, for it did answer.
_BLAMED: Final = frozenset((Fault.UNREACHABLE, Fault.RESET, Fault.INVALID))


class _TakingOff:
    """The dispatch of which there is no handle yet."""

    def abort(self) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...


_TAKING_OFF: Final = _TakingOff()


class Nowhere:
    """The client of a forwarder that has none."""

    stall_timeout = 0.0

    def start(self, status: int, reason: bytes, headers: Headers, *, common: Prepared = NO_FIELDS, has_body: bool = True) -> None: ...

    def write(self, data: bytes) -> None: ...

    def cork(self) -> None: ...

    def uncork(self) -> None: ...

    def finish(self) -> None: ...

    def cut(self) -> None: ...

    def abort(self) -> None: ...

    def pending(self) -> int:
        return 0

    def forget_body(self) -> None: ...

    def hold_little(self) -> None: ...


NOWHERE: Final = Nowhere()


class Forwarder(Conductor):
    """The conductor of a request that goes upstream."""

    __slots__ = ("_hold", "_server")

    _hold: Hold | None
    _server: Server | None
    """Who was asked last."""
    upgrades: ClassVar[bool] = False
    """It asks for a WebSocket."""

    def begin(self) -> None:
        self._hold = self._server = None
        self._slot = self.route.backend.gate.admit()
        self._drive(ev.Begin(self._slot))

    # -- from the upstream (Receiver)

    def dispatch_failed(self, failed: Failed) -> None:
        if failed.fault in _BLAMED:
            self._blame(failed.detail, gone=failed.fault is Fault.UNREACHABLE)
        if failed.fault is Fault.TRUNCATED or failed.fault is Fault.INVALID:
            self._log.debug("upstream {upstream}: {detail}", upstream=self.route.backend.name, detail=failed.detail)
        super().dispatch_failed(failed)

    # -- actions

    def _await_ready(self, action: act.AwaitReady) -> None:
        if self._slot:
            self._give_slot_back()  # of the dispatch that came to nothing
        self._hold = Hold(self.route, self._alarms, self.tally, self._waited, self._instead_of_waiting())
        self._hold.begin(self.request.received)

    def _instead_of_waiting(self) -> Instead | None:
        return self._owner.instead_of_waiting(self)

    def _waited(self, event: ev.Event) -> None:
        self._hold = None
        if isinstance(event, ev.UpstreamReady):
            self._slot = True
            if self._machine is None:
                self._give_slot_back()
        self._drive(event)

    def _fall_back(self, action: act.FallBack) -> None:
        fallback = self.route.fallback
        assert fallback is not None
        self.route = fallback
        # Ready or not: it gets no hold of its own. But no more of its slots than there are.
        self._slot = fallback.backend.gate.take_slot()
        self._drive(ev.UpstreamReady(self.cold) if self._slot else ev.UpstreamFailed(failures.no_slot(fallback.backend.name)))

    def _give_slot_back(self) -> None:
        self._slot = False
        self.route.backend.gate.give_back()

    def _stop_waiting(self, action: act.StopWaiting) -> None:
        hold, self._hold = self._hold, None
        if hold is not None:
            hold.stop()

    def _send_upstream(self, action: act.Dispatch) -> None:
        request = self.request
        server = self._server = self.route.backend.servers.pick()
        head = self._owner.upstream_head(self, server.authority)
        server.in_flight += 1
        self.tally.dispatched = self._alarms.seconds()
        self._dispatch = _TAKING_OFF
        dispatch = server.pool.dispatch(head, request.body, request.head.method, self, fresh=action.fresh, upgrades=self.upgrades)
        # It may have failed before this returns: then `dispatch_failed` was heard already, and the handle is a dead one.
        if self._dispatch is not None:
            self._dispatch = dispatch
            if self.paused:
                dispatch.pause()

    def _mark_down(self, action: act.MarkDown) -> None:
        assert self._server is not None
        self.route.backend.mark_down(self._server, action.detail)

    def _mark_loading(self, action: act.MarkLoading) -> None:
        assert self._server is not None
        self.route.backend.mark_loading(self._server, action.detail)

    def _too_late(self) -> None:
        self._blame("no answer in time")

    def _blame(self, detail: str, *, gone: bool = False) -> None:
        if self._server is not None:
            self.route.backend.servers.blame(self._server, detail, gone=gone)

    def _landed(self, *, well: bool = False) -> None:
        if self._dispatch is not None and self._server is not None:
            self._server.in_flight -= 1
            if well:
                self._server.failed = 0
        self._dispatch = None

    def hold_status(self) -> HoldStatus:
        place = None if self._hold is None else self._hold.place
        return progress_of(self.route.backend, self._alarms.seconds() - self.request.received, place)
