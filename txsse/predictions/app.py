"""replicate/cog's HTTP API as a Klein application. Importing this imports Klein, and with it the reactor.

Beyond Cog's: predictions can be asked for until they are forgotten, their events have ids and are told again from any of them, and a client
that leaves cancels only what nobody else follows.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Final, TypeAlias

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource
from twisted.web.server import Request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from txsse import __version__
from txsse.config.model import MIB, Webhooks
from txsse.errors import ProxyError
from txsse.predictions.elsewhere import AnyJob, PassedOn
from txsse.predictions.jobs import Jobs
from txsse.predictions.meant import Meant, check_form, place_of
from txsse.predictions.model import Invalid, Model, Models
from txsse.recordings.store import Quota
from txsse.web.negotiation import Wish, answer_json, wish_of
from txsse.web.stream import EventStream, alarms_of
from txsse.webhooks.sender import Sender

Body: TypeAlias = bytes | EventStream | IResource
Answer: TypeAlias = Callable[[Request, Model, str], Coroutine[Deferred[Any], Any, Body]]

RETRY_AFTER: Final = 5
"""Seconds a client is asked to wait where nothing better is known."""
_TEMPORARY: Final = (429, 503)


class PredictionsApp:
    """Serves the API for *models*. ``PredictionsApp(..).app.resource()`` is the resource for a site, at its root or below any path.

    :param jobs: where predictions are kept.
    :param sender: sends webhooks; without one they are refused.
    """

    app: ClassVar = Klein()

    def __init__(self, models: Models, jobs: Jobs, sender: Sender | None = None) -> None:
        self._models = models
        self._meant = Meant(jobs, sender)

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
    async def not_served(self, request: IRequest, failure: Failure) -> Body:
        """No such path or method. werkzeug's redirects are 404 here as well: they would repeat the client's Host and path."""
        assert isinstance(request, Request)
        error = ProxyError("no_route", "There is nothing at this path.")
        if isinstance(failure.value, MethodNotAllowed):
            request.setHeader(b"Allow", ", ".join(sorted(failure.value.valid_methods or ())).encode("ascii"))
            error = ProxyError("bad_request", "This path knows other methods only.", status=405)

        async def refuse(request: Request, model: Model, id: str) -> Body:
            raise error

        return await self._serve(request, refuse)  # so that it is accounted for

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
        except PassedOn as passed:
            return passed.answer
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
        job, starting = await self._meant.find_or_make(request, model, id, wish)  # whose input nobody has in hand any more
        request.setHeader(b"Location", request.path if id else b"%b/%b" % (request.path, job.name.id.encode("ascii")))
        if wish.background:
            request.setHeader(b"Preference-Applied", b"respond-async")
        answer = await self._tell(request, model, job, wish, starting)
        if not starting:
            model.answered(request.code, 0, None)
        return answer

    async def _look(self, request: Request, model: Model, id: str) -> Body:
        job = await self._meant.find(model, id)
        if request.method == b"HEAD" or not wish_of(request).events:
            return _say(request, model, await job.document())
        check_form(model, wish_of(request))
        answer = self._stream(request, model, job, strict=True)
        model.answered(request.code, 0, None)
        return answer

    async def _cancel(self, request: Request, model: Model, id: str) -> Body:
        await (await self._meant.find(model, id)).end()
        return _say(request, model, {})

    # -- the answer

    async def _tell(self, request: Request, model: Model, job: AnyJob, wish: Wish, starting: bytes) -> Body:
        """The answer in the form that the client asks for.

        :param starting: the document of a new one. (What it is by now may be something else, and Cog's clients wait for this.)
        """
        if wish.events:
            return self._stream(request, model, job)
        if wish.background and (starting or not job.over):
            return answer_json(request, starting or await job.document(), 202)
        return answer_json(request, await job.outcome())

    # -- events

    def _stream(self, request: Request, model: Model, job: AnyJob, *, strict: bool = False) -> Body:
        """
        :param strict: where gaps are errors, one is told in place of the stream. (Cog tells it in the stream.)
        """
        place = place_of(request, job)
        after, gap = place or (job.last, 0)
        if gap and strict and job.resume.on_gap == "error":
            text = f"{gap} events after the cursor are not kept any more; the first that is has number {after + 1}."
            raise ProxyError("stream_gone", text)
        for name, value in (
            (b"X-Stream-State", job.state.encode()),
            (b"X-Stream-First", b"%d" % job.first),
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
