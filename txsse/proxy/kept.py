"""What a proxy has only if a route of it keeps streams or makes predictions, from the opening of its store to its end."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed

from txsse.config import model
from txsse.config.model import Configuration
from txsse.exchange import failures
from txsse.proxy.caching import Caching
from txsse.proxy.forwarded import TrustedProxies
from txsse.proxy.house import House
from txsse.proxy.peers import Peers
from txsse.proxy.recorded import RecordedRequests
from txsse.proxy.resumption import Resumption
from txsse.proxy.returning import Returning
from txsse.proxy.routes import BoundRoute
from txsse.proxy.stream_control import StreamControl
from txsse.proxy.streams import Streams
from txsse.recordings.opening import open_store

if TYPE_CHECKING:
    from txsse.predictions.elsewhere import Elsewhere
    from txsse.predictions.job import Job
    from txsse.predictions.upstream import Upstreams
    from txsse.proxy.shared import Shared
    from txsse.recordings.lookup import CacheLookup
    from txsse.webhooks.sender import Sender


class Kept:
    """Of one proxy, as long as it lives: a reload adds predictions, and takes nothing away.

    :ivar recorded: answers the requests of routes that record.
    :ivar returning: answers those who come back.
    :ivar streams: those that can be come back to.
    :ivar control: their state and their end, for pages.
    :ivar predictions: once there is a route for them, with the *webhooks* that tell of them.
    :raises ValueError: what the store needs is not there.
    """

    def __init__(self, house: House, configuration: Configuration, cache_lookup: CacheLookup | None) -> None:
        self._house = house
        metrics, alarms = house.metrics, house.alarms
        node = self._node = configuration.server.node
        opened = self._opened = open_store(configuration, house.reactor)
        caching = Caching(opened.store, metrics, alarms, house.cooperator, time.time, opened.quota, cache_lookup)
        self.streams = Streams(alarms, self._count_resume)
        opened.quota.attach(self.streams)
        self._shared = self._share(node, caching)
        self._peers = self._make_peers(configuration.server)
        resumption = Resumption(self.streams, self._count_resume, node)
        self.control = StreamControl(resumption, self._peers, self._shared, alarms, time.time, self._routes, house.scope_of, self._jobs)
        self.returning = Returning(house, resumption, self._peers, self._shared)
        self.recorded = RecordedRequests(house, caching, resumption, opened.quota, self.returning, self._shared)
        self.predictions: Upstreams | None = None
        self.webhooks: Sender | None = None
        metrics.cache_view = lambda: caching
        if self._shared is not None:
            metrics.shared_view = lambda: self._shared

    def configure(self, webhooks: model.Webhooks, *, predicts: bool) -> None:
        """Take a new configuration.

        :param predicts: there is a route for predictions.
        """
        if self.webhooks is not None:
            self.webhooks.configure(webhooks)
        elif predicts:
            self.predictions, self.webhooks = self._open_predictions(webhooks)

    def _make_peers(self, server: model.Server) -> Peers | None:
        if not server.peers:
            return None
        trusted = TrustedProxies.parse(server.trusted_proxies)
        return Peers(server.node, server.peers, self._house.backend, self._house.instance, trusted)

    def _jobs(self) -> Iterable[Job]:
        return () if self.predictions is None else self.predictions.jobs

    def _routes(self) -> Iterable[BoundRoute]:
        return self._house.table().routes

    def _count_resume(self, result: str) -> None:
        self._house.metrics.resumes[result] += 1

    # -- what is imported for those who have it only

    def _share(self, node: str, caching: Caching) -> Shared | None:
        shared = self._opened.shared
        if shared is None:
            return None
        from txsse.proxy.shared import open_shared

        shared.maker = caching.keeping
        return open_shared(shared.link, self._house.reactor, node, self._routes, self._count_resume)

    def _open_predictions(self, webhooks: model.Webhooks) -> tuple[Upstreams, Sender]:
        from txsse.predictions.jobs import Jobs
        from txsse.predictions.upstream import Home, Upstreams
        from txsse.webhooks.sender import Sender

        house, quota = self._house, self._opened.quota
        sender = Sender(webhooks, house.reactor, house.alarms)
        jobs = Jobs(house.alarms, quota, self._other_predictions())
        quota.attach(jobs)
        home = Home(
            owner=house.owner,
            reactor=house.reactor,
            table=house.table,
            screen=house.screen,
            conduct=house.conduct,
            request_id=house.request_id,
            scope_of=house.scope_of,
            strip=house.strip,
            account=house.account,
        )
        return Upstreams(home, jobs), sender

    def _other_predictions(self) -> Elsewhere | None:
        if self._shared is not None:
            from txsse.predictions.shared import SharedPredictions

            return SharedPredictions(self._shared, self._node)
        if self._peers is not None:
            from txsse.predictions.peers import PeerPredictions

            return PeerPredictions(self._house, self._peers)
        return None

    # -- the end

    def closing(self) -> None:
        """Who reads a stream is about to be sent away, and will come back."""
        for run in self.streams:
            run.closes()

    @property
    def is_read_elsewhere(self) -> bool:
        """Other machines have readers of streams that run here."""
        return self._shared is not None and any(run.is_read_elsewhere for run in self.streams)

    def end_streams(self) -> None:
        """End those that nobody reads here, too."""
        for run in self.streams:
            run.cancel(failures.shutting_down())

    def close_webhooks(self, deadline: float) -> Deferred[None]:
        """Fires when those that tell of an end are delivered, or after *deadline* seconds."""
        return succeed(None) if self.webhooks is None else self.webhooks.close(deadline)

    def close_store(self) -> Deferred[None]:
        """Fires when what is kept is written."""
        ended = succeed(None) if self._shared is None else self._shared.journal.close()
        return ended.addCallback(lambda _: self._opened.close())

    def close(self) -> None:
        """Close every connection to another proxy."""
        if self._peers is not None:
            self._peers.close()
