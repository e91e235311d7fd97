"""A request of a route that keeps streams, with all that is needed to answer it."""

from __future__ import annotations

from typing import Final, TypedDict

import attrs

from txsse.dialects import Dialect
from txsse.interfaces import Downstream, Request
from txsse.proxy.admission import Members
from txsse.proxy.resumption import claim_of, scope_or_anonymous
from txsse.proxy.routes import BoundRoute
from txsse.proxy.streams import Claim
from txsse.wire.headers import Headers, get
from txsse.wire.http1 import RequestHead


class Traits(TypedDict):
    """What a conductor is told of its request, besides the request itself."""

    streaming: bool
    commits: bool
    pads: bool
    interval: float
    members: Members
    show_text: bool
    request_id: bytes


FOREIGN: Final[Traits] = {
    "streaming": True,
    "commits": True,
    "pads": False,
    "interval": 15.0,
    "members": {},
    "show_text": False,
    "request_id": b"",
}
"""Those of a request of which nothing is known but that it reads a stream."""


@attrs.frozen(eq=False, kw_only=True)
class Asked:
    """A request that is to be looked up (``Asking``), and what is needed to answer it.

    :param brought: its head and its path as they came, with our key in them.
    :param anew: its Last-Event-ID is known to be none of ours, though it looks like one.
    """

    request: Request
    downstream: Downstream
    route: BoundRoute
    dialect: Dialect
    traits: Traits
    brought: tuple[RequestHead, bytes]
    query_key: bytes
    opaque: bool
    anew: bool = False

    @property
    def credentials(self) -> Headers:
        return self.brought[0].headers

    @property
    def original(self) -> Request:
        """For a proxy that knows our keys."""
        head, path = self.brought
        return attrs.evolve(self.request, head=head, path=path)

    @property
    def streaming(self) -> bool:
        return self.traits["streaming"]

    @property
    def scope(self) -> bytes:
        """Whom a stream that it makes belongs to."""
        return self.scope_as(self.route.config.cache.scope)

    def scope_as(self, setting: str) -> bytes:
        """Whom it comes from, in terms of ``cache.scope``."""
        return scope_or_anonymous(self.credentials, setting, self.query_key)

    @property
    def claim(self) -> Claim | None:
        if get(self.credentials, b"idempotency-key") is None:  # whom the request comes from need not be worked out
            return None
        return claim_of(self.route.name, self.scope, self.credentials)
