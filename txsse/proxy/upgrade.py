"""The exchange of a request that asks for a WebSocket: it does not wait, and becomes a tunnel when upstream agrees.

RFC 6455 section 4; for proxies RFC 9110 section 7.8.

Up to upstream's 101 it is as any other, and any other answer is relayed as such. From there on each side is sent what the other one sends,
as it is: upstream's bytes the way bodies go, the client's from here. Each side is read no faster than the other one reads.

A FIN is passed on and the other direction goes on; over TLS, where there is no such thing, the end of one side is that of both. A reset
of one side is a reset of the other.
"""

from __future__ import annotations

from typing import ClassVar, cast

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from txsse.errors import ProxyError
from txsse.exchange import actions as act
from txsse.exchange import events as ev
from txsse.exchange import failures
from txsse.interfaces import FarEnd, NearEnd, Request, Upgradable
from txsse.proxy.conductor import Owner
from txsse.proxy.forwarder import Forwarder
from txsse.proxy.routes import BoundRoute
from txsse.proxy.stand_ins import Instead
from txsse.wire.http1 import ResponseHead


@implementer(IPushProducer)
class Upgrade(Forwarder):
    """Implements :class:`~txsse.interfaces.Tunnel` towards both ends, and to upstream's transport it is the producer that writes there."""

    __slots__ = ("_client_ended", "_far", "_near", "_upstream_ended")

    upgrades: ClassVar[bool] = True

    def __init__(self, owner: Owner, route: BoundRoute, request: Request, downstream: Upgradable, request_id: bytes) -> None:
        super().__init__(
            owner,
            route,
            request,
            downstream,
            route.dialect(request.head.decoded_path),
            streaming=False,
            commits=False,
            interval=route.policy.interval,
            members={},
            show_text=False,
            request_id=request_id,
        )
        self._near: NearEnd | None = None  # both from the 101 to the end
        self._far: FarEnd | None = None
        self._client_ended = self._upstream_ended = False

    # -- instead of a wait

    def _await_ready(self, action: act.AwaitReady) -> None:
        gate = self.route.backend.gate
        if not gate.ready:
            super()._await_ready(action)
            return
        if self._slot:
            self._give_slot_back()
        self._slot = gate.admit()
        self._drive(ev.UpstreamReady(self.cold) if self._slot else ev.UpstreamFailed(failures.no_slot(self.route.backend.name)))

    def _instead_of_waiting(self) -> Instead | None:
        """It would be held without a byte that its client could understand. So that one is sent away, and upstream woken for when it is
        back; unless the request is one of those that wake nobody."""
        instead, stand_ins, backend = super()._instead_of_waiting(), self.route.stand_ins, self.route.backend
        if stand_ins is None or (instead is not None and instead.vigil is None):
            return instead
        text = f"The upstream {backend.name} is not ready (it is {backend.state}), and a WebSocket does not wait. Try again in a moment."
        return Instead(ProxyError("readiness_timeout", text, retry_after=backend.gate.eta), stand_ins.vigil)

    # -- upstream's side (Tunnel)

    def switched(self, head: ResponseHead, far: FarEnd) -> None:
        self._far = far
        self.read = self._alarms.seconds()
        self._drive(ev.Switched(head))

    def _relay_head(self, action: act.RelayHead) -> None:
        far = self._far
        if far is None:
            super()._relay_head(action)
            return
        self.tally.status = action.head.status
        self.tally.first_byte = self.read  # the next one may come much later, and that tells nothing of upstream
        common, own = self._owner.relayed_headers(self, action.head)
        near = self._near = cast(Upgradable, self.downstream).switch(action.head.reason, own, common)
        if near is not None:
            far.open(self)
            near.open(self)

    def upstream_ended(self) -> None:
        near = self._near
        if near is None or self._upstream_ended:
            return
        self._upstream_ended = True
        if self._client_ended or not near.half_close():
            self._both_ended()
        else:
            self._one_ended()

    # -- the client's side (Tunnel)

    def client_sent(self, data: bytes) -> None:
        if self._far is not None:
            self.read = self._alarms.seconds()
            self.tally.bytes_in += len(data)
            self._far.write(data)

    def client_ended(self, *, reads: bool) -> None:
        far = self._far
        if far is None or (self._client_ended and reads):
            return
        self._client_ended = True
        if self._upstream_ended or not reads or not far.half_close():
            self._both_ended()
        else:
            self._one_ended()

    def _one_ended(self) -> None:
        self.read = self._alarms.seconds()  # it may have been silent as long as it liked
        self._drive(ev.HalfClosed())

    def _both_ended(self) -> None:
        assert self._far is not None
        self._landed(well=True)
        self._far.finish()
        self._drive(ev.BodyEnded())

    # -- flow control (IPushProducer, called by upstream's transport)

    def pauseProducing(self) -> None:
        if self._near is not None:
            self._near.pause()

    def resumeProducing(self) -> None:
        if self._near is not None:
            self._near.resume()

    def stopProducing(self) -> None:
        """The connection is lost; the receiver hears of it."""

    def _put_away(self) -> None:
        super()._put_away()
        self._near = self._far = None
