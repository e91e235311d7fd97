"""Asking the other proxies whether one of them knows what a request is about: has had it before, which its ``Idempotency-Key`` tells, or
has the prediction that it names.

The question carries what the request itself would: the client's credential and its key. So nobody learns more by it than by making the
request with another body. It is asked of all at the same time, and what is not answered soon is a no.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import attrs
from twisted.internet.defer import Deferred

from txsse.clock import Alarms
from txsse.interfaces import Dispatch, Failed, Fault, Request
from txsse.proxy.forwarded import outline
from txsse.proxy.resumption import PATH
from txsse.proxy.routes import BoundRoute
from txsse.wire.headers import get, without
from txsse.wire.http1 import RequestHead, ResponseHead

DEADLINE: Final = 0.5
"""Seconds that a request waits for the others."""

KNOWN: Final = b"x-txsse-known"
"""A field of the answer (204) that is there if the key is known. No more is told: where clients have no credentials anybody may ask, and
the stream's id is all that one needs to read it. Who makes the request has to know its body, too."""

_QUESTION: Final = PATH + b"?claim="
_OF_THE_BODY: Final = (b"content-type", b"content-encoding", b"content-length", b"transfer-encoding", b"accept")


def question(request: Request, route: str) -> Request:
    """What is asked about *request*, which met the route of this name."""
    query = request.path.partition(b"?")[2]  # a key may be there
    target = _QUESTION + route.encode("ascii") + (b"&" + query if query else b"")
    head = RequestHead(b"GET", target, b"HTTP/1.1", without(request.head.headers, _OF_THE_BODY))
    return attrs.evolve(request, head=head, body=b"", path=target)


def route_in(path: bytes) -> str | None:
    """The name of the route that a question is about; ``None``: it is none."""
    return path[len(_QUESTION) :].partition(b"&")[0].decode("latin-1") if path.startswith(_QUESTION) else None


def has_stream(head: ResponseHead) -> bool:
    """Is this the head of a yes to :func:`question`?"""
    return head.status == 204 and get(head.headers, KNOWN) is not None


@attrs.frozen
class Found:
    """
    :param way: to the first who knows; ``None``: nobody says so.
    :param complete: all have answered that were to be asked, as far as it matters.
    """

    way: BoundRoute | None
    complete: bool


class Inquiry:
    """One question.

    :param asked: it; without a body.
    :param knows: tells a yes by its head.
    :param ident: its X-Request-Id.
    :ivar answer: the way to the first who knows; ``None``: nobody does. Never fails.
    :ivar silent: after that, the ways to those who had no answer in time.
    :ivar failed: there are some who had none and never will.
    """

    def __init__(self, asked: Request, knows: Callable[[ResponseHead], bool], ident: bytes, alarms: Alarms) -> None:
        self.answer: Deferred[BoundRoute | None] = Deferred(lambda _: self._stop())
        self.silent: list[BoundRoute] = []
        self.failed = False
        self.knows = knows
        self.method = asked.head.method
        self._asked = asked
        self._ident = ident
        self._waiting: dict[_Asking, None] = {}
        self._alarm = alarms.set(DEADLINE, self._too_late)

    def ask(self, ways: Iterable[BoundRoute]) -> None:
        """Ask those, of whom there is one at least."""
        self._waiting = {_Asking(self, way): None for way in ways}
        for each in list(self._waiting):
            each.ask()

    def head_for(self, way: BoundRoute, authority: bytes) -> bytes:
        return outline(self._asked, way.forwarding, writes_stream=False).fill(authority, self._ident, 0)

    def heard(self, asking: _Asking, *, known: bool) -> None:
        """From one of them."""
        self._waiting.pop(asking, None)
        if known or not self._waiting:
            self._end(asking.way if known else None)

    def _too_late(self) -> None:
        self.silent = [each.way for each in self._waiting]
        self._end(None)

    def _end(self, way: BoundRoute | None) -> None:
        self._stop()
        self.answer.callback(way)

    def _stop(self) -> None:
        self._alarm.cancel()
        waiting, self._waiting = self._waiting, {}
        for each in waiting:
            each.stop()


class _Asking:
    """One of them: the :class:`~txsse.interfaces.Receiver` of its answer."""

    def __init__(self, inquiry: Inquiry, way: BoundRoute) -> None:
        self.way = way
        self._inquiry = inquiry
        self._known = False
        self._dispatch: Dispatch | None = None

    def ask(self, *, fresh: bool = False) -> None:
        server = self.way.backend.servers.pick()
        head = self._inquiry.head_for(self.way, server.authority)
        self._dispatch = server.pool.dispatch(head, b"", self._inquiry.method, self, fresh=fresh)

    def stop(self) -> None:
        if self._dispatch is not None:
            self._dispatch.abort()

    def cork(self) -> None: ...

    def uncork(self) -> None: ...

    def response_started(self, head: ResponseHead) -> None:
        self._known = self._inquiry.knows(head)

    def body_received(self, data: bytes) -> None: ...

    def response_ended(self) -> None:
        self._inquiry.heard(self, known=self._known)

    def dispatch_failed(self, failed: Failed) -> None:
        if failed.fault is Fault.STALE:  # it tells nothing of the peer: once more, on a fresh connection
            self.ask(fresh=True)
        else:
            self._inquiry.failed = True
            self._inquiry.heard(self, known=False)
