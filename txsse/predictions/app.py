"""replicate/cog's HTTP API as a Klein application. Importing this imports Klein, and with it the reactor.

Beyond Cog's: predictions can be asked for until they are forgotten, their events have ids and are told again from any of them, and a client
that leaves cancels only what nobody else follows.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from secrets import token_hex
from typing import Any, ClassVar, Final, TypeAlias, TypeVar

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.server import Request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from txsse import __version__
from txsse.config.model import MIB, Webhooks
from txsse.errors import ProxyError
from txsse.predictions.asked import Asked, check_id, is_json, read_asked
from txsse.predictions.job import Job, Name
from txsse.predictions.jobs import Jobs
from txsse.predictions.model import Invalid, Model, Models
from txsse.recordings.cursor import BadCursor, ours, parameters, parse_cursor
from txsse.recordings.store import Quota
from txsse.web.negotiation import Wish, answer_json, wish_of
from txsse.web.stream import EventStream, alarms_of, clock_of
from txsse.webhooks.allow import WebhookRefused
from txsse.webhooks.channel import read_events
from txsse.webhooks.sender import Sender
from txsse.wire.headers import Headers

T = TypeVar("T")
Body: TypeAlias = bytes | EventStream
Answer: TypeAlias = Callable[[Request, Model, str], Coroutine[Deferred[Any], Any, Body]]

RETRY_AFTER: Final = 5
"""Seconds a client is asked to wait where nothing better is known."""
_TEMPORARY: Final = (429, 503)
_NOT_STREAMABLE: Final = "This model does not support streaming responses: leave text/event-stream out of Accept."


class PredictionsApp:
    """Serves the API for *models*. ``PredictionsApp(..).app.resource()`` is the resource for a site, at its root or below any path.

    :param jobs: where predictions are kept.
    :param sender: sends webhooks; without one they are refused.
    """

    app: ClassVar = Klein()

    def __init__(self, models: Models, jobs: Jobs, sender: Sender | None = None) -> None:
        self._models = models
        self._jobs = jobs
        self._sender = sender

    @classmethod
    def over(cls, models: Models, reactor: IReactorTime, *, memory: int = 64 * MIB, webhooks: Webhooks | None = None) -> PredictionsApp:
        """The API of *models*, with all that it needs.

        :param memory: for all predictions that are kept, in bytes.
        :param webhooks: which of them may be sent.
        :raises Refused: of :mod:`txsse.config.errors`: *webhooks* cannot be.
        """
        alarms, quota = alarms_of(reactor), Quota(memory)
        jobs = Jobs(alarms, quota)
        quota.attach(jobs)
        return cls(models, jobs, None if webhooks is None else Sender(webhooks, reactor, alarms))

    @app.route("/", methods=["GET"])
    async def index(self, request: Request) -> Body:
        return await self._serve(request, self._index)

    @app.route("/health-check", methods=["GET"])
    async def health_check(self, request: Request) -> Body:
        return await self._serve(request, self._health)

    @app.route("/predictions", methods=["POST"])
    async def create(self, request: Request) -> Body:
        return await self._serve(request, self._create)

    @app.route("/predictions/<id>", methods=["PUT"])
    async def create_once(self, request: Request, id: str) -> Body:
        return await self._serve(request, self._create, id)

    @app.route("/predictions/<id>", methods=["GET"])
    async def look(self, request: Request, id: str) -> Body:
        return await self._serve(request, self._look, id)

    @app.route("/predictions/<id>/cancel", methods=["POST"])
    async def cancel(self, request: Request, id: str) -> Body:
        return await self._serve(request, self._cancel, id)

    @app.handle_errors(HTTPException)
    def not_served(self, request: IRequest, failure: Failure) -> bytes:
        """No such path or method. werkzeug's redirects are 404 here as well: they would repeat the client's Host and path."""
        if isinstance(failure.value, MethodNotAllowed):
            request.setHeader(b"Allow", ", ".join(sorted(failure.value.valid_methods or ())).encode("ascii"))
            return _refuse(request, ProxyError("bad_request", "This path knows other methods only.", status=405))
        return _refuse(request, ProxyError("no_route", "There is nothing at this path."))

    async def _serve(self, request: Request, answer: Answer, id: str = "") -> Body:
        request.responseHeaders.removeHeader(b"Server")
        try:
            model = self._models.find(request)
        except ProxyError as error:
            return _refuse(request, error)
        for name, value in model.fields:
            request.responseHeaders.addRawHeader(name, value)
        try:
            return await answer(request, model, id)
        except ProxyError as error:
            body = _refuse(request, error)
            model.answered(error.http_status, len(body), error)
        except Invalid as invalid:
            body = _unprocessable(request, invalid)
            model.answered(422, len(body), ProxyError("bad_request", invalid.message, status=422))
        return body

    # -- what can be asked

    async def _index(self, request: Request, model: Model, _: str) -> Body:
        one = "/predictions/{prediction_id}"
        urls = {"predictions_url": "/predictions", "predictions_idempotent_url": one, "predictions_cancel_url": f"{one}/cancel"}
        return _say(request, model, {"txsse_version": __version__, "healthcheck_url": "/health-check", **urls})

    async def _health(self, request: Request, model: Model, _: str) -> Body:
        return _say(request, model, {"status": model.health(), "version": {"txsse": __version__}})

    async def _create(self, request: Request, model: Model, id: str) -> Body:
        wish = wish_of(request)
        job, starting = await self._job(request, model, id, wish)  # whose input nobody has in hand any more
        request.setHeader(b"Location", request.path if id else b"%b/%b" % (request.path, job.name.id.encode("ascii")))
        if wish.background:
            request.setHeader(b"Preference-Applied", b"respond-async")
        answer = await self._tell(request, model, job, wish, starting)
        if not starting:
            model.answered(request.code, 0, None)
        return answer

    async def _look(self, request: Request, model: Model, id: str) -> Body:
        job = self._jobs.get(Name(model.name, model.scope, id))
        if request.method == b"HEAD" or not wish_of(request).events:
            return _say(request, model, job.prediction.to_json())
        if not model.streams:
            raise ProxyError("not_streamable", _NOT_STREAMABLE)
        answer = self._stream(request, model, job, strict=True)
        model.answered(request.code, 0, None)
        return answer

    async def _cancel(self, request: Request, model: Model, id: str) -> Body:
        self._jobs.get(Name(model.name, model.scope, id)).cancel()
        return _say(request, model, {})

    # -- a new one, or not

    async def _job(self, request: Request, model: Model, id: str, wish: Wish) -> tuple[Job, bytes]:
        """The prediction that is meant, and if it is a new one, the document that it began with."""
        fields = _fields(request)
        asked = await self._read(request, fields, id)
        job = self._earlier(model, asked, fields)
        if wish.events and not model.streams:
            raise ProxyError("not_streamable", _NOT_STREAMABLE)
        if job is None:
            given = await model.check(asked.input)
            job = self._earlier(model, asked, fields)  # somebody else may have been quicker
            if job is None:
                return self._begin(request, model, asked, given, wish)
        if wish.background:
            job.let_run()
        return job, b""

    async def _read(self, request: Request, fields: Headers, id: str) -> Asked:
        if id:
            check_id(id, "path", "prediction_id")
        content = request.content
        body: bytes = b"" if content is None else content.read()
        if content is not None:
            content.close()
        if body and not is_json(fields):
            raise ProxyError("bad_request", "The body is not JSON: send it with Content-Type: application/json.", status=415)
        asked = await _in_turns(request, read_asked(body, id))
        try:
            if asked.webhook is not None:
                if self._sender is None:
                    raise WebhookRefused("webhooks are not sent from here.")
                self._sender.check(asked.webhook)
        except WebhookRefused as refused:
            raise Invalid(("body", "webhook"), refused.reason) from None
        try:
            read_events(asked.events)
        except WebhookRefused as refused:
            raise Invalid(("body", "webhook_events_filter"), refused.reason) from None
        return asked

    def _earlier(self, model: Model, asked: Asked, fields: Headers) -> Job | None:
        """The prediction that is meant by who has a part of it already, or has given it that id."""
        named = ours(fields)
        if named is not None:
            job = self._jobs.of_sid(named[0].decode("ascii"), model.name, model.scope)
            if asked.id not in ("", job.name.id):
                raise ProxyError("bad_cursor", "The cursor belongs to another prediction than the ID.")
            return job
        return self._jobs.find(Name(model.name, model.scope, asked.id)) if asked.id else None

    def _begin(self, request: Request, model: Model, asked: Asked, given: Any, wish: Wish) -> tuple[Job, bytes]:
        if model.full:
            raise ProxyError("at_capacity", "At capacity - all prediction slots busy")
        webhook = None
        id = asked.id or token_hex(16)
        if asked.webhook is not None and self._sender is not None:
            webhook = self._sender.prediction(asked.webhook, asked.events, id)
        job = self._jobs.make(Name(model.name, model.scope, id), model.resume)
        starting = job.prediction.to_json()
        began = job.prediction.document()
        try:
            if wish.events:
                self._place(request, job)  # what is no cursor begins nothing
            work = model.begin(given, job)
        except ProxyError:
            self._jobs.drop(job)
            raise
        job.works(work)
        if wish.background:
            job.let_run()
        if webhook is not None:
            job.notify(webhook, began)
        return job, starting

    async def _tell(self, request: Request, model: Model, job: Job, wish: Wish, starting: bytes) -> Body:
        """The answer in the form that the client asks for.

        :param starting: the document of a new one. (What it is by now may be something else, and Cog's clients wait for this.)
        """
        if wish.events:
            return self._stream(request, model, job)
        if wish.background and (starting or not job.over):
            return answer_json(request, starting or job.prediction.to_json(), 202)
        await job.outcome()
        return answer_json(request, job.prediction.to_json())

    # -- events

    def _stream(self, request: Request, model: Model, job: Job, *, strict: bool = False) -> Body:
        """
        :param strict: where gaps are errors, one is told in place of the stream. (Cog tells it in the stream.)
        """
        place = self._place(request, job)
        after, gap = place or (job.last, 0)
        if gap and strict and job.resume.on_gap == "error":
            text = f"{gap} events after the cursor are not kept any more; the first that is has number {after + 1}."
            raise ProxyError("stream_gone", text)
        for name, value in (
            (b"X-Stream-State", job.state.encode()),
            (b"X-Stream-First", b"%d" % job.recording.first),
            (b"X-Stream-Last", b"%d" % job.last),
            *([(b"X-Stream-Gap", b"%d" % gap)] if gap else []),
        ):
            request.setHeader(name, value)
        if place is None:
            request.setResponseCode(204)
            return b""
        # Who was told of the gap in the head is not told again.
        reading = job.read(after, gap=gap if job.resume.on_gap == "error" else 0)
        return EventStream(reading, interval=model.interval, stall_timeout=model.stall_timeout)

    def _place(self, request: Request, job: Job) -> tuple[int, int] | None:
        query = parameters(request.uri.partition(b"?")[2])
        try:
            cursor = parse_cursor(job.sid.encode("ascii"), _fields(request), query)
        except BadCursor as bad:
            raise ProxyError("bad_cursor", str(bad)) from None
        if cursor.foreign is not None:
            raise ProxyError("bad_cursor", "The cursor is not the id of an event of this prediction.")
        return job.place(job.last if cursor.live and not job.over else cursor.after)


async def _in_turns(request: Request, steps: Generator[None, None, T]) -> T:
    """What *steps* return; between them the reactor has its turn."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        await deferLater(clock_of(request), 0)


def _fields(request: IRequest) -> Headers:
    return [(name, value) for name, values in request.requestHeaders.getAllRawHeaders() for value in values]


def _say(request: Request, model: Model, document: object) -> bytes:
    body = answer_json(request, document)
    model.answered(200, len(body), None)
    return body


def _refuse(request: IRequest, error: ProxyError) -> bytes:
    """An error in the form that Cog's have: a text. Beside it the name that it has in our table."""
    status = error.http_status
    if status in _TEMPORARY:
        request.setHeader(b"Retry-After", b"%d" % max(1, min(round(error.retry_after or RETRY_AFTER), 60)))
    if status == 401:
        request.setHeader(b"WWW-Authenticate", b"Bearer")
    failed = {"status": "failed"} if request.method in (b"POST", b"PUT") and status in (409, *_TEMPORARY) else {}
    return answer_json(request, {"error": error.message, "code": error.code, **failed}, status)


def _unprocessable(request: IRequest, invalid: Invalid) -> bytes:
    """In the form that Cog's have, and FastAPI's."""
    return answer_json(request, {"detail": [{"loc": invalid.location, "msg": invalid.message, "type": invalid.kind}]}, 422)
