"""What of a proxy is needed by what it has only if a route of it keeps streams or makes predictions."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Cooperator

from txsse.clock import Alarms
from txsse.config import model
from txsse.dialects import Dialect
from txsse.errors import ProxyError
from txsse.interfaces import Downstream, Exchange, Request
from txsse.metrics import Metrics
from txsse.proxy.conductor import Conductor, Owner
from txsse.proxy.routes import BoundRoute, RouteTable
from txsse.upstream.backend import Backend
from txsse.wire.headers import Headers
from txsse.wire.http1 import RequestHead

T = TypeVar("T")


class Admit(Protocol):
    def __call__(
        self, request: Request, downstream: Downstream, steps: Generator[Deferred[Any] | None, None, T], admit: Callable[[T], Exchange]
    ) -> Exchange:
        """Take *steps*, one a reactor turn; *admit* goes on with what they return."""


class Refuse(Protocol):
    def __call__(
        self,
        error: ProxyError,
        request: Request,
        downstream: Downstream,
        dialect: Dialect | None = None,
        notes: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        """Answer with an error, in this dialect's shape if that is known better than by the request's path; *notes* go into its head."""


@attrs.frozen(kw_only=True, eq=False)
class House:
    """One proxy.

    :param backend: makes one of an upstream; :exc:`ValueError`: a file it names cannot be used.
    :param screen: what is wrong with a head, if anything.
    :param admit: lets a request wait for what has to be found out about it.
    :param conduct: lets a conductor live.
    :param refuse: answers with an error.
    :param answered: a request was answered at once: with this status, and so many bytes.
    :param account: the same, and with what error.
    :param request_id: the client's, or a new one.
    :param scope_of: whom a request with these fields, for this path with its query, comes from.
    :param strip: takes this proxy's keys out of a request, unless upstreams get them.
    """

    owner: Owner
    reactor: Any
    alarms: Alarms
    cooperator: Cooperator
    metrics: Metrics
    instance: str
    table: Callable[[], RouteTable]
    backend: Callable[[model.Upstream], Backend]
    admit: Admit
    screen: Callable[[RequestHead, bytes, bytes, str], ProxyError | None]
    conduct: Callable[[Conductor], Exchange]
    refuse: Refuse
    answered: Callable[[Request, BoundRoute, bytes, int, int], None]
    account: Callable[[Request, BoundRoute, bytes, int, int, ProxyError | None], None]
    request_id: Callable[[RequestHead], bytes]
    scope_of: Callable[[Headers, bytes, str], bytes]
    strip: Callable[[Request], None]
