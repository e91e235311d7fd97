"""The admin listener's paths, as a Klein application. Importing this imports Klein, and with it the reactor: see :mod:`.listener`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from klein import Klein
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.server import Request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from txsse.admin.answers import HTML, TEXT, Mistaken, answer, answer_error, answer_json
from txsse.admin.cache import asked_key, asked_route, cache_levels, cache_status
from txsse.admin.page import CONTENT_SECURITY_POLICY, render_page
from txsse.admin.streams import ended_stream, redis_status, stream_levels, streams_status
from txsse.admin.view import AdminView, Asked, CacheLevels, RedisStatus, StreamLevels

if TYPE_CHECKING:
    from txsse.admin.exposition import Exposition
    from txsse.recordings.view import CacheView, StreamsView
    from txsse.web.stream import EventStream


class AdminApp:
    """Answers for the proxy behind *view*. Who may ask is decided before it (:mod:`txsse.admin.guard`)."""

    app: ClassVar = Klein()
    _log = Logger()

    def __init__(self, view: AdminView) -> None:
        self._view = view
        self._exposition: Exposition | None = None

    @app.route("/healthz", methods=["GET"])
    def healthz(self, request: IRequest) -> bytes:
        """The process serves requests."""
        return answer(request, b"ok\n", TEXT)

    @app.route("/readyz", methods=["GET"])
    def readyz(self, request: IRequest) -> bytes:
        """New connections are welcome. A sleeping upstream is no reason to stay away: waking it is what the proxy is for."""
        if self._view.draining:
            return answer(request, b"draining\n", TEXT, 503)
        return answer(request, b"ready\n", TEXT)

    @app.route("/metrics", methods=["GET"])
    def metrics(self, request: IRequest) -> bytes:
        # At the first scrape, not before: see txsse.admin.exposition.
        from txsse.admin.exposition import CONTENT_TYPE, Exposition

        if self._exposition is None:
            self._exposition = Exposition(self._view.metrics)
        return answer(request, self._exposition.render(), CONTENT_TYPE)

    @app.route("/queue", methods=["GET"])
    def queue(self, request: IRequest) -> bytes:
        """For KEDA's metrics-api scaler."""
        return answer_json(request, self._view.queue())

    @app.route("/status", methods=["GET"])
    def status(self, request: IRequest) -> bytes:
        return answer_json(request, self._status())

    @app.route("/events", methods=["GET"])
    def events(self, request: Request) -> EventStream:
        """The same as a stream. The status page follows it."""
        # At the first request, not before: most are never asked for it.
        from txsse.admin.events import status_events
        from txsse.web.stream import EventStream, clock_of

        request.setHeader(b"X-Content-Type-Options", b"nosniff")
        request.responseHeaders.removeHeader(b"Server")
        return EventStream(status_events(clock_of(request), self._status, lambda: self._view.draining))

    def _status(self) -> dict[str, object]:
        return {**self._view.status(), **self._cache_levels(), **self._stream_levels(), **self._redis()}

    @app.route("/cache", methods=["GET"])
    def cache(self, request: IRequest) -> bytes:
        return answer_json(request, cache_status(self._cache(), self._asked_route(request)))

    @app.route("/cache", methods=["DELETE"])
    def purge(self, request: IRequest) -> bytes:
        """Forgets every entry, or those of one route."""
        return answer_json(request, {"purged": self._cache().purge(self._asked_route(request))})

    @app.route("/cache/<key>", methods=["DELETE"])
    def delete(self, request: IRequest, key: str) -> bytes:
        if not self._cache().delete(asked_key(key)):
            raise Mistaken(404, "not_found", "There is no entry of this key.")
        return answer_json(request, {"purged": 1})

    def _cache(self) -> CacheView:
        cache = self._view.cache
        if cache is None:
            raise Mistaken(404, "not_found", "No route has a cache: see mode in [route.cache].")
        return cache

    def _asked_route(self, request: IRequest) -> str | None:
        # A reload may have taken a route away; what it has stored is still there.
        return asked_route(request.uri, {*self._view.status()["routes"], *(each.route for each in self._cache().entries(None))})

    def _cache_levels(self) -> dict[str, CacheLevels]:
        cache = self._view.cache
        return {} if cache is None else {"cache": cache_levels(cache)}

    @app.route("/streams", methods=["GET"])
    def streams(self, request: IRequest) -> bytes:
        return answer_json(request, streams_status(self._streams()))

    @app.route("/streams/<sid>", methods=["DELETE"])
    def end_stream(self, request: IRequest, sid: str) -> bytes:
        """For all who read it; it stays for those who come back to what there was of it."""
        return answer_json(request, ended_stream(self._streams(), sid))

    def _streams(self) -> StreamsView:
        streams = self._view.streams
        if streams is None:
            raise Mistaken(404, "not_found", "No route keeps streams: see mode in [route.resume].")
        return streams

    def _stream_levels(self) -> dict[str, StreamLevels]:
        streams = self._view.streams
        return {} if streams is None else {"streams": stream_levels(streams)}

    def _redis(self) -> dict[str, RedisStatus]:
        shared = self._view.metrics.shared_view()
        return {} if shared is None else {"redis": redis_status(shared)}

    @app.route("/upstreams/<name>/wake", methods=["POST"])
    def wake(self, request: IRequest, name: str) -> bytes:
        return self._asked(request, name, self._view.wake(name))

    @app.route("/upstreams/<name>/stop", methods=["POST"])
    def stop(self, request: IRequest, name: str) -> bytes:
        return self._asked(request, name, self._view.stop(name))

    def _asked(self, request: IRequest, name: str, asked: Asked) -> bytes:
        if asked == "unknown":
            return answer_error(request, 404, "not_found", "There is no upstream of this name.")
        if asked == "not startable":
            return answer_error(request, 409, "not_startable", "The proxy has no way to start or stop this upstream: see [upstream.wake].")
        return answer_json(request, self._view.status()["upstreams"][name], 202)

    @app.route("/", methods=["GET"])
    async def page(self, request: IRequest) -> bytes:
        body = await render_page(self._view.status(), self._cache_levels().get("cache"), self._stream_levels().get("streams"))
        request.setHeader(b"Content-Security-Policy", CONTENT_SECURITY_POLICY)
        return answer(request, body, HTML)

    @app.handle_errors(Mistaken)
    def mistaken(self, request: IRequest, failure: Failure) -> bytes:
        error = failure.value
        assert isinstance(error, Mistaken)  # what it is registered for
        return answer_error(request, error.status, error.code, error.message)

    @app.handle_errors(HTTPException)
    def not_served(self, request: IRequest, failure: Failure) -> bytes:
        """No such path or method. werkzeug's redirects are 404 here as well: they would repeat the client's Host and path."""
        error = failure.value
        if isinstance(error, MethodNotAllowed):
            request.setHeader(b"Allow", ", ".join(sorted(error.valid_methods or ())).encode("ascii"))
            return answer_error(request, 405, "method_not_allowed", "This path does not know that method.")
        return answer_error(request, 404, "not_found", "There is nothing at this path.")

    @app.handle_errors(Exception)
    def failed(self, request: IRequest, failure: Failure) -> bytes:
        self._log.failure("admin request failed", failure=failure)
        return answer_error(request, 500, "internal_error", "The admin listener failed; its log says why.")
