"""The demo backend's server: who is awake when, what is at which path, and how an answer goes out or goes wrong."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure
from twisted.web.http import Request as HTTPRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from txsse.demo import bodies
from txsse.demo.settings import BadManner, DemoSettings, Manner, manner
from txsse.testing.waiting import free_port

JSON, HTML, EVENTS = b"application/json", b"text/html", b"text/event-stream"


class _Cut(Exception):
    """The answer has been broken off on purpose."""


class DemoResource(Resource):
    """Everything the backend serves; one resource, because asleep means asleep at every path."""

    isLeaf = True
    _log = Logger()

    def __init__(self, backend: DemoBackend) -> None:
        super().__init__()
        self._backend = backend
        self._settings = backend.settings
        self._numbers = itertools.count(1)
        self._loading_told = 0

    def render(self, request: Request) -> int:
        gone = request.notifyFinish()
        running = Deferred.fromCoroutine(self._serve(request))
        gone.addErrback(lambda _: running.cancel())
        running.addErrback(self._failed, request)
        return NOT_DONE_YET

    def _failed(self, failure: Failure, request: Request) -> None:
        if failure.check(CancelledError, _Cut):
            return
        self._log.failure("the demo backend failed", failure)
        request.channel.forceAbortClient()

    async def _serve(self, request: Request) -> None:
        self._backend.touched()
        request.setHeader(b"server", b"txsse-demo")
        if not self._backend.awake:
            return self._whole(request, 503, bodies.LOADING)
        path = request.path.decode("latin-1")
        if path == "/health":
            return self._whole(request, 200, bodies.HEALTHY)
        if path == "/v1/models":
            return self._whole(request, 200, bodies.models(self._settings.model))
        fail = request.args.get(b"fail", [b""])[0].decode("latin-1")
        try:
            how = manner(self._settings, request.getHeader, fail)
        except BadManner as bad:
            return self._whole(request, 400, bodies.error(400, str(bad)))
        if path == "/v1/chat/completions" and request.method == b"POST":
            return await self._chat(request, how)
        if path == "/events" and request.method == b"GET":
            return await self._events(request, how)
        self._whole(request, 404, bodies.error(404, f"there is no {request.method.decode('latin-1')} {path}"))

    async def _chat(self, request: Request, how: Manner) -> None:
        try:
            asked = json.loads(request.content.read())  # type: ignore[union-attr]  # None before the body has come
            wants_stream = asked.get("stream") is True
        except (ValueError, AttributeError):
            return self._whole(request, 400, bodies.error(400, "the body is no JSON object"))
        model = str(asked.get("model", self._settings.model))
        number, created = next(self._numbers), int(self._backend.reactor.seconds())
        if await self._failed_before_head(request, how):
            return
        await self._sleep(how.prefill)
        if not wants_stream or how.fail == "json200":
            await self._sleep(0.0 if how.fail == "json200" else how.pace * len(how.words))
            return self._whole(request, 200, bodies.completion(number, created, model, how.words))
        await self._stream(request, how, bodies.chat_events(number, created, model, how.words))
        if how.fail != "no-done":
            request.write(bodies.DONE)
        request.finish()

    async def _events(self, request: Request, how: Manner) -> None:
        last = request.getHeader("Last-Event-ID") or "0"
        seen = int(last) if last.isdecimal() and last.isascii() else 0
        if await self._failed_before_head(request, how):
            return
        await self._sleep(how.prefill)
        if how.fail == "json200":
            return self._whole(request, 200, bodies.compact({"words": how.words}))
        if seen >= len(how.words):
            # An EventSource reconnects after every end; only 204 tells it that there is no more.
            request.setResponseCode(204)
            request.finish()
            return
        await self._stream(request, how, bodies.plain_events(how.words, seen))
        request.finish()

    async def _failed_before_head(self, request: Request, how: Manner) -> bool:
        """Do the failures that come instead of an answer; True if it was one."""
        match how.fail:
            case "reset":
                request.channel.forceAbortClient()
            case "status":
                status = how.number or 500
                if status in (429, 503):
                    request.setHeader(b"retry-after", b"7")
                self._whole(request, status, bodies.error(status, f"the demo backend was told to answer {status}"))
            case "html":
                self._whole(request, how.number or 500, bodies.page(how.number or 500), HTML)
            case "hang-before-head":
                await Deferred()
            case "loading" if self._loading_told < (1 if how.number is None else how.number):
                self._loading_told += 1
                self._whole(request, 503, bodies.LOADING)
            case _:
                self._loading_told = 0
                return False
        return True

    async def _stream(self, request: Request, how: Manner, events: Iterator[bytes]) -> None:
        request.setHeader(b"content-type", EVENTS)
        request.setHeader(b"cache-control", b"no-cache")
        request.write(b"")  # the head leaves at once
        if how.fail == "hang-after-head":
            await Deferred()
        await self._sleep(how.first)
        middle = len(how.words) // 2
        for index, event in enumerate(events):
            if index:
                await self._sleep(how.pace)
            if index == middle:
                await self._middle(request, how, event)
            else:
                request.write(event)

    async def _middle(self, request: Request, how: Manner, event: bytes) -> None:
        """The event half-way through the words, where things go wrong."""
        half = len(event) // 2
        await self._sleep(how.gap)
        match how.fail:
            case "die-between-events":
                self._cut(request)
            case "die-in-event":
                request.write(event[:half])
                self._cut(request)
            case "hang-mid-event":
                request.write(event[:half])
                await Deferred()
            case _ if how.stall:
                request.write(event[:half])
                await self._sleep(how.stall)
                request.write(event[half:])
            case _:
                request.write(event)

    def _cut(self, request: Request) -> None:
        # FIN after what was written, without the last chunk: what the kernel does for a process that dies.
        request.channel.loseConnection()
        raise _Cut

    def _whole(self, request: HTTPRequest, status: int, body: bytes, content_type: bytes = JSON) -> None:
        request.setResponseCode(status)
        request.setHeader(b"content-type", content_type)
        request.setHeader(b"content-length", b"%d" % len(body))
        request.write(body)
        request.finish()

    async def _sleep(self, seconds: float) -> None:
        if seconds:
            await deferLater(self._backend.reactor, seconds)


class _QuietSite(Site):
    """A Site without an access log."""

    noisy = False

    def log(self, request: HTTPRequest) -> None:
        """Overridden: twisted.web calls it at the end of each request, and would write a line."""


class DemoBackend:
    """A fake model: asleep, then awake. Settings say how it wakes and speaks, request headers how it fails.

    It serves ``/health``, ``/v1/models``, ``POST /v1/chat/completions`` and ``GET /events`` on loopback.
    """

    def __init__(self, reactor: Any, settings: DemoSettings | None = None) -> None:
        self.reactor = reactor
        self.settings = settings or DemoSettings()
        self.port = 0  # known after listen()
        self._awake_at: float | None = None
        self._factory = WrappingFactory(_QuietSite(DemoResource(self)))  # the wrapper knows who is connected
        self._factory.noisy = False
        self._listening: Any = None
        self._opening: Any = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def awake(self) -> bool:
        return self._awake_at is not None and self.reactor.seconds() >= self._awake_at

    def touched(self) -> None:
        """Somebody has knocked: it begins to wake."""
        if self._awake_at is None:
            self._awake_at = self.reactor.seconds() + self.settings.wake_seconds

    def listen(self, port: int = 0) -> Deferred[int]:
        """Serve on this loopback port (0: any free one); fires with its number. With ``closed`` it opens only when awake."""
        if self.settings.closed:
            self.port = port or free_port()
            self.touched()
            self._opening = self.reactor.callLater(self.settings.wake_seconds, self._open)
        else:
            self.port = port
            self._open()
            if self.settings.from_start:
                self.touched()
        return succeed(self.port)

    async def stop(self) -> None:
        """Listen no more and drop every connection."""
        if self._opening is not None and self._opening.active():
            self._opening.cancel()
        listening, self._listening = self._listening, None
        if listening is not None:
            await maybeDeferred(listening.stopListening)
        for connection in list(self._factory.protocols):
            connection.transport.abortConnection()

    def _open(self) -> None:
        self._listening = self.reactor.listenTCP(self.port, self._factory, interface="127.0.0.1")
        self.port = self._listening.getHost().port


class DemoService(Service):
    """The demo backend as a service, on a port that is known before it starts."""

    def __init__(self, reactor: Any, settings: DemoSettings | None = None, port: int = 0) -> None:
        self.backend = DemoBackend(reactor, settings)
        self.port = port or free_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def startService(self) -> None:
        super().startService()
        self.backend.listen(self.port)

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self.backend.stop())
