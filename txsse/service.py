"""The proxy as a service: its listeners, its admin page, a reload, and an end that lets streams finish."""

from __future__ import annotations

import resource
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse import __version__
from txsse.admin.listener import AdminFactory
from txsse.admin.report import demand, upstream_status
from txsse.config.model import Configuration, Server
from txsse.front.limits import Budget
from txsse.front.site import ProxySite
from txsse.logs import AccessLog, Write, destination
from txsse.metrics import Metrics
from txsse.pages.listener import own_pages
from txsse.predictions.listener import serve_predictions
from txsse.proxy.handler import Proxy
from txsse.sockets import deepen
from txsse.upstream.tls_errors import tls_reason

if TYPE_CHECKING:
    from twisted.web.resource import IResource

    from txsse.admin.view import Asked, Demand, Status
    from txsse.front.handover import Pages
    from txsse.recordings.lookup import CacheLookup
    from txsse.recordings.view import CacheView, StreamsView
    from txsse.upstream.wake.starter import Starter

LOOK: Final = 0.02
"""Seconds between two looks at what is still open while draining."""
LAST_WORDS: Final = 1.0
"""Seconds that exchanges have to leave once the drain is over: an error frame, 200 ms for the client to read it, the cut."""
WEBHOOK_PATIENCE: Final = 5.0
"""Seconds for webhooks that tell of an end, once there is nothing else to wait for."""
PROCESS_PATIENCE: Final = 12.0
"""Seconds that upstreams' processes have to end: a bit more than they are given before they are killed."""
SPARE_DESCRIPTORS: Final = 200


class ListenError(Exception):
    """A listener could not be opened; says which and why."""


class ProxyService(Service):
    """The whole proxy as an ``IService``, for twistd or for a service of your own.

    :param configuration: made by :func:`txsse.config.load` or by hand.
    :param reactor: the global one if not given.
    :param access_log: takes whole access lines; by default they go into the log.
    :param cache_lookup: asked where a route that caches has no exact answer (:class:`txsse.recordings.lookup.CacheLookup`).
    :param reread: makes the configuration anew, for :meth:`reload`; raises ``ConfigError`` if it is bad.
    """

    _log = Logger()

    def __init__(
        self,
        configuration: Configuration,
        *,
        reactor: Any = None,
        access_log: Write | None = None,
        reread: Callable[[], Configuration] | None = None,
        cache_lookup: CacheLookup | None = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self._reactor = reactor
        self._reread = reread
        server = configuration.server
        lines = None
        if server.access_log:
            lines = AccessLog(access_log or destination(None), "json" if server.log_format == "json" else "text", reactor)
        self.proxy = Proxy(configuration, reactor, secrets.token_hex(4), lines, cache_lookup)
        self.ports: list[IListeningPort] = []
        self.admin_port: IListeningPort | None = None
        # What fronts stand on (txsse.front.limits.Backing): ours, and any ProxyResource of an embedder's.
        self.handler = self.proxy
        self.limits = self._within_descriptors(server)
        self.budget = Budget(server.max_buffered)
        self.clock = reactor
        self.alarms = self.proxy.alarms
        self._pages = own_pages(self.proxy, reactor)
        self._predictions: Pages | None = None
        self._site = ProxySite(self)
        self._show_pages()
        self._began = reactor.seconds()
        self._listening = False
        self._cut = False
        self._draining: Deferred[None] | None = None

    # -- starting

    def privilegedStartService(self) -> None:
        """Open the listeners while twistd may still be root.

        :raises ListenError: one of them cannot be opened; none stays open then.
        """
        super().privilegedStartService()
        self._listen()

    def startService(self) -> None:
        super().startService()
        self._listen()
        self._log.info(
            "txsse {version}: {count} connections at most, {upstreams}",
            version=__version__,
            count=self.limits.max_connections,
            upstreams=", ".join(
                f"upstream {backend.name} at {' '.join(backend.config.all_urls)} (preset {backend.config.probe.preset})"
                for backend in self.proxy.backends.values()
            ),
        )

    def _listen(self) -> None:
        if self._listening:
            return
        self._listening = True
        server = self.proxy.configuration.server
        try:
            for text in server.listen:
                self.ports.append(self._open(text, self._site))
            if server.admin != "none":
                admin = AdminFactory(self, self._reactor, hosts=server.admin_hosts, token=server.admin_token.reveal())
                self.admin_port = self._open(server.admin, admin)
        except ListenError:
            for port in self.ports:
                maybeDeferred(port.stopListening)
            self.ports = []
            raise
        for name, port in [*(("proxy", port) for port in self.ports), *([("admin", self.admin_port)] if self.admin_port else [])]:
            self._log.info("{name} listens on {address}", name=name, address=port.getHost())

    def _open(self, text: str, site: Any) -> IListeningPort:
        opened: list[IListeningPort] = []
        failed: list[Failure] = []
        try:
            serverFromString(self._reactor, text).listen(site).addCallbacks(opened.append, failed.append)
        except Exception as error:
            failed.append(Failure(error))
        if failed:
            why = failed[0].value
            raise ListenError(f"cannot listen on {text}: {_why_not(why)}") from why
        if "backlog=" not in text:
            deepen(opened[0])
        return opened[0]

    # -- while running

    def reload(self) -> bool:
        """Read the configuration again; a bad one is refused and the old one kept. Streams in flight are not touched."""
        if self._reread is None:
            self._log.warn("nothing to reload: the configuration did not come from a file")
            return False
        old = self.proxy.configuration
        try:
            new = self._reread()
            self.proxy.configure(new)
        except Exception as error:
            self._log.error("reload refused, the old configuration stays: {error}", error=error)
            return False
        self.limits = self._within_descriptors(new.server)
        self.budget.limit = new.server.max_buffered
        self._show_pages()
        for key in ("kind", "url", "ca_file", "max_bytes"):
            if getattr(old.store, key) != getattr(new.store, key):
                self._log.warn("store.{key} changes only with a restart", key=key)
        for key in ("listen", "admin", "admin_token", "admin_hosts", "log_format", "access_log", "state_dir", "workers", "node", "peers"):
            if getattr(old.server, key) != getattr(new.server, key):
                self._log.warn("server.{key} changes only with a restart", key=key)
        self._log.info("reloaded: {upstreams} upstreams, {routes} routes", upstreams=len(new.upstream), routes=len(new.route))
        return True

    def _within_descriptors(self, server: Server) -> Server:
        limits = _within_descriptors(server)
        if self.proxy.streams is not None:  # each that nobody reads has a connection, too
            self.proxy.streams.most_live = limits.max_connections
        return limits

    def _show_pages(self) -> None:
        """Our own paths are ours only where something leads to them."""
        proxy = self.proxy
        if self._predictions is None and proxy.predictions is not None:
            self._predictions = serve_predictions(proxy.predictions, proxy.predictions.jobs, proxy.webhooks, proxy.predicts, self._reactor)
        self._site.predictions = self._predictions if proxy.table.predictions else None
        self._site.pages = self._pages if self.proxy.shows_pages or self.proxy.keeps_streams else None

    @property
    def open_streams(self) -> int:
        """Exchanges that somebody still reads."""
        return len(self.proxy.exchanges)

    # -- what the admin listener shows (AdminView)

    @property
    def draining(self) -> bool:
        return self.proxy.draining

    @property
    def metrics(self) -> Metrics:
        return self.proxy.metrics

    @property
    def cache(self) -> CacheView | None:
        return self.metrics.cache_view()

    @property
    def streams(self) -> StreamsView | None:
        return self.metrics.streams_view()

    def status(self) -> Status:
        now = self._reactor.seconds()
        return {
            "version": __version__,
            "uptime": round(now - self._began, 3),
            "draining": self.draining,
            "upstreams": {name: upstream_status(backend, now) for name, backend in self.proxy.backends.items()},
            "routes": {route.name: {"in_flight": self.metrics.in_flight[route.name]} for route in self.proxy.table.routes},
            "connections": self._site.connections,
        }

    def queue(self) -> dict[str, Demand]:
        return {route.name: demand(route, self.metrics) for route in self.proxy.table.routes}

    def wake(self, upstream: str) -> Asked:
        return self._ask_starter(upstream, lambda starter: starter.wake())

    def stop(self, upstream: str) -> Asked:
        return self._ask_starter(upstream, lambda starter: starter.stop())

    def _ask_starter(self, upstream: str, ask: Callable[[Starter], None]) -> Asked:
        backend = self.proxy.backends.get(upstream)
        if backend is None:
            return "unknown"
        if backend.starter is None:
            return "not startable"
        ask(backend.starter)
        return "done"

    def predictions_resource(self) -> IResource:
        """The HTTP API of the routes of kind ``predictions``, for the root of somebody's site. (:class:`ProxyResource` does not have it.)

        :raises ValueError: there is no such route.
        """
        from txsse.predictions.app import PredictionsApp

        proxy = self.proxy
        if proxy.predictions is None:
            raise ValueError("there is no route of kind predictions")
        resource: IResource = PredictionsApp(proxy.predictions, proxy.predictions.jobs, proxy.webhooks).app.resource()
        return resource

    # -- the end

    def drain(self) -> Deferred[None]:
        """Let streams finish: readiness goes first, then the listeners, then idle connections; what is open has ``server.drain`` seconds.

        Fires when nothing is open any more. Calling it again gives the same end.
        """
        if self._draining is None:
            self._draining = Deferred.fromCoroutine(self._drain())
            self._draining.addErrback(lambda failure: self._log.failure("draining failed", failure))
        done: Deferred[None] = Deferred()
        self._draining.addCallback(done.callback)
        return done

    def cut(self) -> None:
        """End a drain now: what is still open is told so and closed."""
        self._cut = True

    async def _drain(self) -> None:
        server = self.proxy.configuration.server
        self.proxy.draining = True
        if self.open_streams:
            self._log.info("draining: {count} open, {seconds:g} s at most", count=self.open_streams, seconds=server.drain)
        await self._until(lambda: False, server.lame_duck)
        for port in self.ports:
            await maybeDeferred(port.stopListening)
        self._site.drain()
        await self._until(self._all_quiet, server.drain)
        if not self._all_quiet():
            self._log.info("draining is over: {count} cut", count=self.open_streams)
            self.proxy.shut_down()
            self._cut = False
            await self._until(self._all_quiet, LAST_WORDS)
            self._site.abort_all()
        self.proxy.end_streams()
        await self.proxy.close_webhooks(WEBHOOK_PATIENCE)
        await self._stop_upstreams()
        await self.proxy.close_store()
        self.proxy.close()
        if self.admin_port is not None:
            await maybeDeferred(self.admin_port.stopListening)

    async def _stop_upstreams(self) -> None:
        """A process that does not end when it is asked to is killed after a while; who is in a hurry may end us: it ends with us."""
        stopped = self.proxy.stop_upstreams()
        if not stopped.called:
            self._log.info("waiting for the end of the upstreams' processes")
            self._cut = False
            await self._until(lambda: bool(stopped.called), PROCESS_PATIENCE)

    def _all_quiet(self) -> bool:
        return not self._site.connections and not self.proxy.exchanges and not self.proxy.is_read_elsewhere

    async def _until(self, quiet: Callable[[], bool], seconds: float) -> None:
        end = self._reactor.seconds() + seconds
        while not quiet() and not self._cut and self._reactor.seconds() < end:
            await deferLater(self._reactor, LOOK)

    def stopService(self) -> Deferred[None]:
        """Drain, then stop. Called by twistd at the reactor's shutdown, which waits for it."""
        if not self.running:
            return succeed(None)
        super().stopService()
        return self.drain()


def _why_not(error: BaseException | None) -> str:
    """Why a listener could not be opened. OpenSSL's own words for a bad file are a list of tuples."""
    reason = tls_reason(error)
    return str(error) if reason is None else f"its key or certificate cannot be used ({reason}); allowed: PEM files, the key unencrypted"


def _within_descriptors(server: Server) -> Server:
    """The configured limits, with no more connections than descriptors allow: each has one here and one upstream."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError):  # macOS has a hard limit that it does not let anybody reach
            pass
    if soft == resource.RLIM_INFINITY:
        return server
    return attrs.evolve(server, max_connections=max(1, min(server.max_connections, (soft - SPARE_DESCRIPTORS) // 2)))
