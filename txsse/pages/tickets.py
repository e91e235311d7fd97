"""The tokens in ``/-/hold/<token>``: who may follow which wait."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

import attrs

TTL: Final = 300.0
"""Seconds after which a ticket that was not shown has expired."""
MOST: Final = 4096
"""Tickets kept; past that the one that was not shown for longest is forgotten. Each page that is shown takes one."""


@attrs.define(eq=False)
class Ticket:
    """For whoever waits on *route* for *upstream*, both by name. *shown* in reactor seconds."""

    route: str
    upstream: str
    shown: float


class Tickets:
    """Kept in memory, so a restart makes all of them unknown.

    :param seconds: the reactor's time.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._tickets: dict[str, Ticket] = {}  # those shown last come last

    def issue(self, route: str, upstream: str) -> str:
        """A new token: 128 random bits, in 22 characters that a URL takes as they are."""
        now = self._seconds()
        self._forget(now)
        token = secrets.token_urlsafe(16)
        self._tickets[token] = Ticket(route, upstream, now)
        return token

    def find(self, token: str) -> Ticket | None:
        """The ticket, which then lasts anew; ``None`` for one that was never issued, or has expired."""
        now = self._seconds()
        ticket = self._tickets.pop(token, None)
        if ticket is None or ticket.shown + TTL < now:
            return None
        ticket.shown = now
        self._tickets[token] = ticket
        return ticket

    def __len__(self) -> int:
        return len(self._tickets)

    def _forget(self, now: float) -> None:
        while self._tickets:
            oldest = next(iter(self._tickets))
            if len(self._tickets) < MOST and self._tickets[oldest].shown + TTL >= now:
                return
            del self._tickets[oldest]
