"""Our own HTTP/1.1 front: the factory of client connections, and what they share."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Final

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from txsse.front.channel import ProxyChannel
from txsse.front.handover import Pages
from txsse.front.limits import Backing
from txsse.wire.memo import HeadMemo

MAX_LINGERING: Final = 64
"""Connections over the limit that get time to read their refusal; past that they are closed as soon as it is written."""


class ProxySite(Factory):
    """Serves a proxy on any stream endpoint: TCP, UNIX, TLS, behind the PROXY protocol.

    :param backing: the proxy, such as a :class:`~txsse.service.ProxyService`; its limits may change while we serve.
    :param pages: our own pages, if there are any on this listener.
    :ivar predictions: the same for requests that the proxy screens first.
    :param wall: the time of day in seconds, for Date fields.
    """

    noisy = False

    def __init__(self, backing: Backing, *, pages: Pages | None = None, wall: Callable[[], float] = time.time) -> None:
        self.backing = backing
        self.pages = pages
        self.predictions: Pages | None = None
        self.handler = backing.handler
        self.clock = backing.clock
        self.alarms = backing.alarms
        self.budget = backing.budget
        self.heads = HeadMemo()
        self.draining = False
        self._wall = wall
        self._dated = -1
        self._date = b""
        self._guests: set[ProxyChannel] = set()
        self._turned_away: set[ProxyChannel] = set()

    def buildProtocol(self, addr: IAddress | None) -> ProxyChannel:  # type: ignore[override]  # any IProtocol will do
        return ProxyChannel(self)

    @property
    def connections(self) -> int:
        """Client connections, without those that are only being told that there are too many."""
        return len(self._guests)

    def drain(self) -> None:
        """Close idle connections now and the others after their answer. Whether still to listen is the service's question."""
        self.draining = True
        for channel in [each for each in self._guests if each.idle]:
            channel.hang_up()

    def abort_all(self) -> None:
        """Reset every connection."""
        for channel in [*self._guests, *self._turned_away]:
            channel.drop()

    # For the connections

    def enter(self, channel: ProxyChannel) -> bool:
        """A client has connected; whether there is room for it."""
        if len(self._guests) < self.backing.limits.max_connections:
            self._guests.add(channel)
            return True
        self._turned_away.add(channel)
        return False

    def leave(self, channel: ProxyChannel) -> None:
        self._guests.discard(channel)
        self._turned_away.discard(channel)

    def may_linger(self) -> bool:
        return len(self._turned_away) <= MAX_LINGERING

    def date(self) -> bytes:
        """The value of a Date field (RFC 9110 section 6.6.1), formatted once a second."""
        now = int(self._wall())
        if now != self._dated:
            self._dated = now
            self._date = formatdate(now, usegmt=True).encode("ascii")
        return self._date
