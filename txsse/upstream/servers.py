"""The servers of one upstream, one for each of its URLs: which of them a request goes to, and which are left out for now.

A server that fails its probe is left out until it passes again, and so is one that cannot be reached or fails three dispatches in a row.
The last one that is up stays, whatever fails there, until it cannot be reached or says that it loads: then the gate closes, as it does
before a sole server.

Nothing is asked while nobody comes: before an open gate those that are left out are looked at when a request is dispatched, and before a
closed one the gate asks for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from txsse.config import model
from txsse.upstream.endpoints import Target
from txsse.upstream.lookout import Ask, Verdict, look
from txsse.upstream.pool import ConnectionPool
from txsse.upstream.state import State, after

LENIENCE: Final = 3
"""Dispatches that fail in a row before a server is left out."""

NEARLY: Final = 0.9
"""Of an interval, after which it is over for those whom the gate asks: it has a clock of its own, which began a moment earlier."""


class Server:
    """One URL of an upstream, its connections, and what is known of it.

    :param probe: starts one look at it.
    :ivar in_flight: dispatches under way; whoever dispatches counts.
    :ivar failed: dispatches that failed in a row; whoever sees one succeed sets it back to 0.
    :ivar verdict: the last one, by a probe or by the data path; ``None`` before the first.
    """

    __slots__ = ("asked", "authority", "failed", "in_flight", "looking", "picked", "pool", "probe", "target", "usable_at", "verdict")

    def __init__(self, target: Target, pool: ConnectionPool, probe: Ask) -> None:
        self.target = target
        self.authority = target.authority  # the Host field of requests to it
        self.pool = pool
        self.probe = probe
        self.in_flight = 0
        self.failed = 0
        self.verdict: Verdict | None = None
        self.usable_at = -math.inf  # when ``ready_after`` is over, in reactor seconds
        self.picked = 0  # the number of the choice that fell on it last
        self.asked = -math.inf  # when the last look at it began, or a loading answer came in its stead
        self.looking: Deferred[Verdict] | None = None

    def move(self, target: Target) -> None:
        """It is there from now on. (Its probe has to be told apart.)"""
        self.target = target
        self.authority = target.authority
        self.pool.move(target)

    @property
    def up(self) -> bool:
        return self.verdict is not None and self.verdict.ready

    @property
    def state(self) -> State:
        """As far as is known: a server that was left out is as its last verdict says until the next."""
        return State.UNKNOWN if self.verdict is None else after(State.UNKNOWN, self.verdict.event)


class Servers:
    """Chooses among the servers of an upstream, and asks for the gate whether any of them is ready.

    :param name: the upstream's, for the log.
    :param config: ``interval``, ``max_interval``, ``timeout`` and ``ready_after`` in seconds. Preset ``none``: all are up from the start.
    """

    _log = Logger()

    def __init__(self, name: str, servers: Sequence[Server], clock: IReactorTime, config: model.Probe) -> None:
        self._name = name
        self._all = tuple(servers)
        self._sole = self._all[0] if len(self._all) == 1 else None
        self._clock = clock
        self._config = config
        self._pace = config.interval if self.near else max(config.interval, config.max_interval)
        self._picks = 0
        # While the gate asks: what it waits for, whose answers are still to come, and the timer for those that have answered.
        self._asking: Deferred[Verdict] | None = None
        self._awaited: set[Server] = set()
        self._next: IDelayedCall | None = None
        if config.preset == "none":
            for server in self._all:
                server.verdict = Verdict(True)

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Server]:
        return iter(self._all)

    @property
    def near(self) -> bool:
        """Whether all of them are on this machine."""
        return all(server.target.loopback for server in self._all)

    # -- choosing

    def pick(self) -> Server:
        """The one for the next dispatch: the least busy of those that are up; among equals, the one that was chosen longest ago.

        Begins a look at those that are left out, each at most once per interval.
        """
        if self._sole is not None:
            return self._sole
        now = self._clock.seconds()
        up = [server for server in self._all if server.up]
        if len(up) < len(self._all):
            self._look_at([server for server in self._all if not server.up], now, self._pace)
        settled = [server for server in up if server.usable_at <= now]
        # The gate may have closed since the request was let through, or never does: then any of them.
        chosen = min(settled or up or self._all, key=_by_load)
        self._picks += 1
        chosen.picked = self._picks
        return chosen

    def blame(self, server: Server, detail: str, *, gone: bool = False) -> None:
        """A dispatch to *server* failed.

        :param gone: it could not be reached; that tells as much as a probe that fails.
        """
        server.failed += 1
        if server.up and (gone or server.failed >= LENIENCE) and self._any_up(but=server):
            self.leave_out(server, Verdict(False, detail=detail))

    def leave_out(self, server: Server, verdict: Verdict) -> bool:
        """*server* is not ready after all, says the data path. Whether another one is up."""
        looking, server.looking = server.looking, None
        if looking is not None:
            looking.cancel()  # what it finds out is older than this
        if verdict.loading:
            server.asked = self._clock.seconds()
        self._hear(server, verdict)
        return self._any_up()

    def _any_up(self, but: Server | None = None) -> bool:
        return any(server.up for server in self._all if server is not but)

    # -- asking

    def ask(self) -> Deferred[Verdict]:
        """Asked by the closed gate: ready as soon as one server is; not ready when all have answered, in the words of the most hopeful.

        Those that answered are asked again each interval while others take their time. To cancel it stops all of that at once.
        """
        asking = self._asking = Deferred(self._cancelled)
        now, interval = self._clock.seconds(), self._config.interval * NEARLY
        for server in self._all:
            if self._due(server, now, interval):
                self._awaited.add(server)
                if server.up:
                    server.verdict = None  # that was before the gate closed
            elif server.looking is not None:
                self._awaited.add(server)
        self._next = self._clock.callLater(self._pace, self._again)
        self._look_at(self._all, now, interval)
        self._settle()
        return asking

    def _again(self) -> None:
        self._next = self._clock.callLater(self._pace, self._again)
        self._look_at(self._all, self._clock.seconds(), self._pace * NEARLY)

    def _settle(self) -> None:
        """Answer the gate, if there is something to tell."""
        asking, verdict = self._asking, self._verdict()
        if asking is None or (self._awaited and not verdict.ready):
            return
        self._end_asking()
        if not verdict.ready:
            self._stop_looking()
        asking.callback(verdict)

    def _verdict(self) -> Verdict:
        heard = [server.verdict for server in self._all if server.verdict is not None]
        return min(heard, key=_by_hope, default=Verdict(False))

    def _end_asking(self) -> None:
        self._asking = None
        self._awaited = set()
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _cancelled(self, asking: Deferred[Verdict]) -> None:
        self._end_asking()
        self._stop_looking()

    # -- looking

    def _due(self, server: Server, now: float, interval: float) -> bool:
        return server.looking is None and now - server.asked >= interval

    def _look_at(self, servers: Sequence[Server], now: float, interval: float) -> None:
        for server in servers:
            if self._due(server, now, interval):
                server.asked = now
                server.looking = looking = look(server.probe, self._config.timeout, self._clock)
                looking.addCallback(self._heard, server, looking)

    def _heard(self, verdict: Verdict, server: Server, looking: Deferred[Verdict]) -> None:
        if server.looking is looking:
            server.looking = None
            self._hear(server, verdict)

    def _hear(self, server: Server, verdict: Verdict) -> None:
        old, server.verdict = server.state, verdict
        if verdict.ready:
            server.usable_at = self._clock.seconds() + self._config.ready_after
        if server.state is not old and self._sole is None:
            self._log.info(
                "upstream {upstream} at {url}: {old} -> {new}{why}",
                upstream=self._name,
                url=server.target.address.url,
                old=old.value,
                new=server.state.value,
                why=f" ({verdict.detail})" if verdict.detail else "",
            )
        self._awaited.discard(server)
        self._settle()

    def _stop_looking(self) -> None:
        for server in self._all:
            looking, server.looking = server.looking, None
            if looking is not None:
                looking.cancel()

    # -- the end

    def retire(self) -> None:
        """Keep no connection for later."""
        for server in self._all:
            server.pool.retire()

    def close(self) -> None:
        """Close every connection and stop every look."""
        self._stop_looking()
        for server in self._all:
            server.pool.close()


def _by_load(server: Server) -> tuple[int, int]:
    return server.in_flight, server.picked


def _by_hope(verdict: Verdict) -> int:
    return 0 if verdict.ready else 1 if verdict.loading else 3 if verdict.hopeless else 2
