"""Predictions of other proxies, through them and without a store (``server.peers``).

An id that a proxy makes begins with its name, and so do those of the events of all its predictions: that proxy answers who brings one. Of
an id that a client has made nobody but its proxy knows, so all are asked.
"""

from __future__ import annotations

from functools import partial
from secrets import token_hex
from typing import TYPE_CHECKING, Final

import attrs
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from twisted.web.server import Request as WebRequest

from txsse.dialects.base import Dialect, Speaker, Witness
from txsse.dialects.shapes import dump
from txsse.errors import ProxyError
from txsse.exchange import actions as act
from txsse.front.limits import Budget
from txsse.front.resource import WebResponse
from txsse.interfaces import Request
from txsse.predictions.elsewhere import Claim, PassedOn
from txsse.predictions.retold import completed, lost_document
from txsse.predictions.upstream import UpstreamModel, short_path
from txsse.proxy.admission import takes_events
from txsse.proxy.house import House
from txsse.proxy.inquiry import Found
from txsse.proxy.peers import HOP, ROUTE, PeerForwarder, Peers
from txsse.proxy.routes import BoundRoute
from txsse.proxy.streams import new_sid
from txsse.recordings.cursor import ours
from txsse.wire.headers import get, without
from txsse.wire.http1 import RequestHead, ResponseHead

if TYPE_CHECKING:
    from txsse.predictions.elsewhere import AnyJob
    from txsse.predictions.model import Model

LONGEST_WAIT: Final = 600.0
"""Seconds for which another proxy is waited for that waits for the end of a prediction."""

_NOT_ASKED: Final = (
    b"accept",
    b"content-encoding",
    b"content-length",
    b"content-type",
    b"expect",
    b"last-event-id",
    b"prefer",
    b"transfer-encoding",
)


class PeerPredictions:
    """Of one proxy. Implements :class:`~txsse.predictions.elsewhere.Elsewhere`."""

    def __init__(self, house: House, peers: Peers) -> None:
        self._house = house
        self._peers = peers

    async def find(self, model: Model, id: str) -> AnyJob | None:
        found = await self._look(model, id)
        if found.way is not None:
            raise self._passed_on(found.way, model, id)
        if not found.complete:
            text = "Not all proxies can be reached that may have this prediction. Try again in a moment."
            raise ProxyError("upstream_unavailable", text, status=503)
        return None

    async def of_sid(self, model: Model, sid: str, body: bytes) -> AnyJob | None:
        keeper = self._keeper(model, sid)
        if keeper is not None:
            raise self._passed_on(keeper, model, "", body)
        return None

    async def claim(self, model: Model, id: str, body: bytes) -> AnyJob | Claim:
        found = await self._look(model, id)
        if found.way is not None:
            raise self._passed_on(found.way, model, id, body)
        return Claim(id, new_sid(self._peers.node))

    def claim_new(self, model: Model) -> Claim:
        node = self._peers.node
        return Claim(f"{node}~{token_hex(16)}", new_sid(node))

    def _keeper(self, model: Model, id: str) -> BoundRoute | None:
        """The way to the proxy that an id names, unless it is this one or has sent the request here."""
        return None if _has_come_from_peer(model) else self._peers.keeper(id)

    async def _look(self, model: Model, id: str) -> Found:
        named = ours(_of(model).request.head.headers)
        keeper = self._keeper(model, id) or (None if named is None else self._keeper(model, named[0].decode("ascii")))
        if keeper is not None or _has_come_from_peer(model) or id.startswith(self._peers.node + "~"):
            return Found(keeper, complete=True)
        return await self._peers.inquire(_question(_of(model), id), partial(_had, model.name), _of(model).ident, self._house.alarms)

    def _passed_on(self, keeper: BoundRoute, model: Model, id: str, body: bytes = b"") -> PassedOn:
        return PassedOn(_Elsewhere(self._house, keeper, _of(model), id, body))


def _of(model: Model) -> UpstreamModel:
    assert isinstance(model, UpstreamModel)  # a proxy has no others
    return model


def _question(model: UpstreamModel, id: str) -> Request:
    """Whether they know the prediction of this id, asked by whom *model* is for."""
    head = RequestHead(b"HEAD", b"/predictions/" + id.encode("ascii"), b"HTTP/1.1", without(model.request.head.headers, _NOT_ASKED))
    return attrs.evolve(model.request, head=head, path=head.path)


def _had(route: str, head: ResponseHead) -> bool:
    """Who has had it once tells that it is gone."""
    return head.status in (200, 410) and get(head.headers, ROUTE) == route.encode("ascii")


def _has_come_from_peer(model: Model) -> bool:
    return get(_of(model).request.head.headers, HOP) is not None


class _Elsewhere(Resource):
    """Answers one request with what another proxy answers."""

    isLeaf = True

    def __init__(self, house: House, keeper: BoundRoute, model: UpstreamModel, id: str, body: bytes) -> None:
        super().__init__()
        self._house = house
        patient = attrs.evolve(keeper.policy, first_byte=LONGEST_WAIT, error_end="done")
        self._keeper = attrs.evolve(keeper, policy=patient)
        self._request = attrs.evolve(model.request, body=body, path=model.request.head.path)
        self._model = model
        self._id = id

    def render(self, request: WebRequest) -> int:
        house, asked = self._house, self._request
        downstream = WebResponse(request, house.alarms, Budget(0))
        forwarder = _Forwarder(
            house.owner,
            self._keeper,
            asked,
            downstream,
            _Documents(self._id),
            streaming=asked.head.method != b"HEAD" and takes_events(asked.head.headers),
            commits=False,
            interval=self._model.interval,
            members={},
            show_text=False,
            request_id=self._model.ident,
        )
        downstream.attend(house.conduct(forwarder))
        return NOT_DONE_YET


class _Forwarder(PeerForwarder):
    __slots__ = ()

    def _done(self, done: act.Done) -> None:
        self.request.path = short_path(self.request.head)  # for the log
        super()._done(done)


class _Documents(Dialect):
    """How a prediction says that its proxy is gone, of which nothing but its id is known here."""

    name = "predictions"

    def __init__(self, id: str) -> None:
        self._id = id

    def error_frame(self, error: ProxyError, speaker: Speaker, witness: Witness | None) -> bytes:
        return completed(lost_document(self._id, error))

    def error_body(self, error: ProxyError) -> bytes:
        failed = {"id": self._id, "status": "failed"} if error.code == "owner_lost" else {}
        return dump({**failed, "error": error.message, "code": error.code})
