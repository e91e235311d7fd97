"""Which of the other proxies has a prediction: all of them are asked at once, and not waited for long."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

import attrs
from twisted.internet.defer import Deferred

from txsse.clock import Alarms
from txsse.interfaces import Dispatch, Failed
from txsse.predictions.upstream import UpstreamModel
from txsse.proxy.forwarded import outline
from txsse.proxy.routes import BoundRoute
from txsse.wire.headers import end_to_end, without
from txsse.wire.http1 import RequestHead, ResponseHead

PATIENCE: Final = 0.5
"""Seconds that the others have to say whether they know an id."""

_NOT_ASKED: Final = (b"accept", b"content-encoding", b"content-length", b"content-type", b"expect", b"prefer", b"last-event-id")


@attrs.frozen
class Found:
    """
    :param at: the way to the proxy that has the prediction; ``None``: none says so.
    :param gone: one of them had it.
    :param silent: not all of them have answered.
    """

    at: BoundRoute | None
    gone: bool = False
    silent: bool = False


class Survey:
    """Asks all of *others* at once whether they know the prediction of this id.

    :ivar result: fires when one of them does, or all have answered, or it is time.
    """

    def __init__(self, others: Iterable[BoundRoute], model: UpstreamModel, id: str, alarms: Alarms) -> None:
        self.result: Deferred[Found] = Deferred(lambda _: self._stop())
        self._waiting: dict[BoundRoute, Dispatch] = {}
        self._gone = self._silent = False
        self._alarm = alarms.set(PATIENCE, self._late)
        fields = without(end_to_end(model.request.head.headers), _NOT_ASKED)
        head = RequestHead(b"HEAD", b"/predictions/" + id.encode("ascii"), b"HTTP/1.1", fields)
        request = attrs.evolve(model.request, head=head, path=head.path)
        for route in list(others):
            server = route.backend.servers.pick()
            asked = outline(request, route.forwarding, writes_stream=False).fill(server.authority, model.ident, 0)
            answer = _Answer(partial(self._heard, route))
            self._waiting[route] = server.pool.dispatch(asked, b"", b"HEAD", answer, fresh=True)

    def _heard(self, route: BoundRoute, status: int) -> None:
        if self._waiting.pop(route, None) is None:
            return
        self._gone = self._gone or status == 410
        self._silent = self._silent or not status
        if status == 200 or not self._waiting:
            self._stop()
            self.result.callback(Found(route if status == 200 else None, self._gone, self._silent))

    def _late(self) -> None:
        self._stop()
        self.result.callback(Found(None, self._gone, silent=True))

    def _stop(self) -> None:
        self._alarm.cancel()
        waiting, self._waiting = self._waiting, {}
        for dispatch in waiting.values():
            dispatch.abort()


@attrs.frozen(eq=False)
class _Answer:
    """One of them, of which nothing but the status matters (:class:`~txsse.interfaces.Receiver`).

    :param tell: told of it; 0: there was none.
    """

    _tell: Callable[[int], None]

    def cork(self) -> None: ...

    def uncork(self) -> None: ...

    def response_started(self, head: ResponseHead) -> None:
        self._tell(head.status)

    def body_received(self, data: bytes) -> None: ...

    def response_ended(self) -> None: ...

    def dispatch_failed(self, failed: Failed) -> None:
        self._tell(0)
