"""Which prediction a request means: one that there is, here or elsewhere, or a new one; and where in it a reader goes on."""

from __future__ import annotations

from collections.abc import Generator
from secrets import token_hex
from typing import Any, Final, TypeVar

from twisted.internet.task import deferLater
from twisted.web.iweb import IRequest
from twisted.web.server import Request

from txsse.errors import ProxyError
from txsse.predictions.asked import Asked, check_id, is_json, read_asked
from txsse.predictions.elsewhere import AnyJob, Claim
from txsse.predictions.job import Name
from txsse.predictions.jobs import Jobs
from txsse.predictions.model import Invalid, Model
from txsse.proxy.streams import new_sid
from txsse.recordings.cursor import BadCursor, ours, parameters, parse_cursor
from txsse.web.negotiation import Wish
from txsse.web.stream import clock_of
from txsse.webhooks.allow import WebhookRefused
from txsse.webhooks.channel import read_events
from txsse.webhooks.sender import Sender
from txsse.wire.headers import Headers

T = TypeVar("T")

_NOT_STREAMABLE: Final = "This model does not support streaming responses: leave text/event-stream out of Accept."


class Meant:
    """
    :param jobs: the predictions of this process.
    :param sender: sends webhooks; without one they are refused.
    """

    def __init__(self, jobs: Jobs, sender: Sender | None) -> None:
        self._jobs = jobs
        self._sender = sender

    async def find(self, model: Model, id: str) -> AnyJob:
        """The prediction of this id.

        :raises ProxyError: there is none, or nobody can say; :exc:`PassedOn`: another process answers.
        """
        name, elsewhere = Name(model.name, model.scope, id), self._jobs.elsewhere
        job: AnyJob | None = self._jobs.find(name)
        if job is None and elsewhere is not None:
            job = await elsewhere.find(model, id)
        return job or self._jobs.missing(name)

    async def find_or_make(self, request: Request, model: Model, id: str, wish: Wish) -> tuple[AnyJob, bytes]:
        """The prediction that a ``POST`` or ``PUT`` means, and if it is a new one, the document that it began with.

        :param id: the one in the request's path, if there is one.
        :raises Invalid: the request says nothing; and see :meth:`find`.
        """
        fields = fields_of(request)
        asked, body = await self._read(request, fields, id)
        found = await self._earlier(model, asked, fields, body)
        del body  # a long one is not needed twice
        if not isinstance(found, Claim):
            return _join(model, found, wish)
        try:
            return await self._make(request, model, asked, found, wish)
        except BaseException as error:
            found.give_up(error if isinstance(error, ProxyError) else None)
            raise

    async def _read(self, request: Request, fields: Headers, id: str) -> tuple[Asked, bytes]:
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
        return asked, body

    async def _earlier(self, model: Model, asked: Asked, fields: Headers, body: bytes) -> AnyJob | Claim:
        """The prediction that is meant by who has a part of it already, or has given it that id; or the right to make it."""
        named, elsewhere = ours(fields), self._jobs.elsewhere
        if named is not None:
            sid = named[0].decode("ascii")
            job: AnyJob | None = self._jobs.of_sid(sid, model.name, model.scope)
            if job is None and elsewhere is not None:
                job = await elsewhere.of_sid(model, sid, body)
            job = job or self._jobs.missing(sid)
            if asked.id not in ("", job.name.id):
                raise ProxyError("bad_cursor", "The cursor belongs to another prediction than the ID.")
            return job
        if not asked.id:
            return Claim(token_hex(16), new_sid()) if elsewhere is None else elsewhere.claim_new(model)
        here = self._jobs.find(Name(model.name, model.scope, asked.id))
        if here is not None:
            return here
        return Claim(asked.id, new_sid()) if elsewhere is None else await elsewhere.claim(model, asked.id, body)

    async def _make(self, request: Request, model: Model, asked: Asked, claim: Claim, wish: Wish) -> tuple[AnyJob, bytes]:
        check_form(model, wish)
        given = await model.check(asked.input)
        name = Name(model.name, model.scope, claim.id)
        quicker = self._jobs.find(name)
        if quicker is not None:
            claim.give_up(None)
            return _join(model, quicker, wish)
        return self._begin(request, model, name, asked, claim, given, wish)

    def _begin(
        self, request: Request, model: Model, name: Name, asked: Asked, claim: Claim, given: Any, wish: Wish
    ) -> tuple[AnyJob, bytes]:
        if model.full:
            raise ProxyError("at_capacity", "At capacity - all prediction slots busy")
        webhook = None
        if asked.webhook is not None and self._sender is not None:
            webhook = self._sender.prediction(asked.webhook, asked.events, name.id)
        job = self._jobs.make(name, model.resume, claim.sid)
        claim.share(job)
        starting = job.prediction.to_json()
        began = job.prediction.document()
        try:
            if wish.events:
                place_of(request, job)  # what is no cursor begins nothing
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


def check_form(model: Model, wish: Wish) -> None:
    """:raises ProxyError: *model* has no events."""
    if wish.events and not model.streams:
        raise ProxyError("not_streamable", _NOT_STREAMABLE)


def place_of(request: Request, job: AnyJob) -> tuple[int, int] | None:
    """Where a reader goes on, see :meth:`txsse.predictions.job.Job.place`.

    :raises ProxyError: it says so in words that mean nothing, or cannot.
    """
    query = parameters(request.uri.partition(b"?")[2])
    try:
        cursor = parse_cursor(job.sid.encode("ascii"), fields_of(request), query)
    except BadCursor as bad:
        raise ProxyError("bad_cursor", str(bad)) from None
    if cursor.foreign is not None:
        raise ProxyError("bad_cursor", "The cursor is not the id of an event of this prediction.")
    return job.place(job.last if cursor.live and not job.over else cursor.after)


def fields_of(request: IRequest) -> Headers:
    return [(name, value) for name, values in request.requestHeaders.getAllRawHeaders() for value in values]


def _join(model: Model, job: AnyJob, wish: Wish) -> tuple[AnyJob, bytes]:
    check_form(model, wish)
    if wish.background:
        job.let_run()
    return job, b""


async def _in_turns(request: Request, steps: Generator[None, None, T]) -> T:
    """What *steps* return; between them the reactor has its turn."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        await deferLater(clock_of(request), 0)
