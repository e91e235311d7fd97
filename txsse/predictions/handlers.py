"""Predictions by a Python function of an embedding service."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.web.server import Request

from txsse.config.model import Resume
from txsse.errors import ProxyError
from txsse.predictions.job import Job, Work
from txsse.predictions.model import Health, Invalid
from txsse.proxy.resumption import scope_or_anonymous
from txsse.web.handler import Function, Handler, handler_of
from txsse.web.prediction import Prediction
from txsse.web.pump import Room, close
from txsse.web.run import Run
from txsse.wire.headers import Headers


class HandlerModels:
    """One function makes all predictions (:class:`~txsse.predictions.model.Models`).

    What it yields is the output, in pieces; what it returns, if it yields nothing, is the only one. It can be asked for events if it is
    marked with :func:`~txsse.web.streaming.streaming`.

    :param function: has a parameter ``input``, a dict, and perhaps ``ctx``, a :class:`~txsse.web.context.Context`.
    :param slots: how many run at a time; 0 = any number. Over it, 409.
    :param resume: how long and how much is kept, and what becomes of a prediction whose client leaves.
    :raises ValueError: the function wants a request, which there is none of.
    """

    def __init__(
        self,
        function: Function,
        *,
        name: str = "",
        slots: int = 0,
        resume: Resume | None = None,
        interval: float = 15.0,
        stall_timeout: float = 30.0,
    ) -> None:
        marked = handler_of(function)
        self.handler = marked or Handler(function)
        if self.handler.takes_request:
            raise ValueError("a function that makes predictions has a parameter input, and none for a request")
        self.streams = marked is not None
        self.name = name
        self.slots = slots
        self.resume = resume or Resume(on_disconnect="cancel")
        self.interval = interval
        self.stall_timeout = stall_timeout
        self.running = 0

    def find(self, request: Request) -> HandlerModel:
        fields: Headers = [(name, value) for name, values in request.requestHeaders.getAllRawHeaders() for value in values]
        return HandlerModel(self, scope_or_anonymous(fields, "credential", b""))


@attrs.define(eq=False)
class HandlerModel:
    """The function, for one request (a :class:`~txsse.predictions.model.Model`)."""

    _models: HandlerModels
    scope: bytes
    fields: Headers = attrs.field(factory=list)

    @property
    def name(self) -> str:
        return self._models.name

    @property
    def resume(self) -> Resume:
        return self._models.resume

    @property
    def streams(self) -> bool:
        return self._models.streams

    @property
    def interval(self) -> float:
        return self._models.interval

    @property
    def stall_timeout(self) -> float:
        return self._models.stall_timeout

    def health(self) -> Health:
        return "BUSY" if self.full else "READY"

    @property
    def full(self) -> bool:
        return 0 < self._models.slots <= self._models.running

    async def check(self, given: bytes | None) -> dict[str, Any]:
        try:
            value = json.loads(given or b"{}")
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise Invalid(("body", "input"), "value is not a valid dict", "type_error.dict")
        return value

    def begin(self, given: dict[str, Any], job: Job) -> Work:
        models = self._models
        models.running += 1
        work = _FunctionWork(job.prediction)
        job.prediction.start()
        work.run.finished().addCallback(lambda _: self._finished())
        work.run.begin(_chunks(models.handler, job.prediction, given))
        return work

    def _finished(self) -> None:
        self._models.running -= 1

    def answered(self, status: int, size: int, error: ProxyError | None) -> None:
        """The site has a log of its own."""


class _FunctionWork:
    """Implements :class:`~txsse.predictions.job.Work`."""

    def __init__(self, prediction: Prediction) -> None:
        self.run = Run(prediction, self._room)
        self._resumed: Deferred[None] | None = None

    def _room(self) -> Room:
        return self._resumed

    def cancel(self) -> None:
        self.run.cancel()

    def pause(self) -> None:
        self._resumed = Deferred()

    def resume(self) -> None:
        resumed, self._resumed = self._resumed, None
        if resumed is not None and not resumed.called:  # cancelled while it waited
            resumed.callback(None)


async def _chunks(handler: Handler, prediction: Prediction, given: dict[str, Any]) -> AsyncIterator[object]:
    result = await handler.call(prediction, input=given)
    if isinstance(result, AsyncIterable):
        try:
            async for chunk in result:
                yield chunk
        finally:
            await close(result)
    elif isinstance(result, Iterator):
        try:
            for chunk in result:
                yield chunk
        finally:
            await close(result)
    elif result is not None:
        yield result
