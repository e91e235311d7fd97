"""``@streaming``: one Klein handler that answers a JSON document, an event stream, or 202."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from secrets import token_urlsafe
from typing import Any, Final, Protocol, TypeAlias, cast, overload

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource
from twisted.web.server import Request

from txsse.web.handler import Function, Handler, chunks_of, mark
from txsse.web.negotiation import BadInput, answer_error, answer_json, input_of, wish_of
from txsse.web.prediction import Prediction
from txsse.web.pump import close
from txsse.web.queue import EventQueue
from txsse.web.run import Run
from txsse.web.stream import EventStream, clock_of

KleinHandler: TypeAlias = Callable[..., Coroutine[Deferred[Any], Any, Any]]

ID_BYTES: Final = 16


class Registry(Protocol):
    """Where an embedding service keeps the runs that go on without a client."""

    def keep(self, run: Run) -> str:
        """Keep *run*, which is about to begin; the path at which it can be asked for, which clients are told as ``Location``."""


@attrs.frozen
class _Options:
    registry: Registry | None
    interval: float
    reactor: IReactorTime | None


@overload
def streaming(function: Function) -> KleinHandler: ...
@overload
def streaming(
    *, registry: Registry | None = None, interval: float = 15.0, reactor: IReactorTime | None = None
) -> Callable[[Function], KleinHandler]: ...
def streaming(
    function: Function | None = None,
    *,
    registry: Registry | None = None,
    interval: float = 15.0,
    reactor: IReactorTime | None = None,
) -> KleinHandler | Callable[[Function], KleinHandler]:
    """Mark a Klein handler as one that can stream. It yields chunks, anything that JSON can say, and the client chooses the form:

    * ``Accept: text/event-stream``, anywhere in the list: the events of a :class:`~txsse.web.prediction.Prediction` as they happen;
    * ``Prefer: respond-async``: 202 and the document at once, while the handler works on. With events: leaving does not end it;
    * otherwise the document, when the handler is done. It is a 200 also if the handler has failed: ``status`` and ``error`` say so.

    A client that leaves cancels the handler: ``CancelledError`` where it awaits, ``GeneratorExit`` where it yields.

    Beside what Klein gives it, a handler gets what it has parameters for: ``ctx``, a :class:`~txsse.web.context.Context`; ``input``, that
    member of the JSON in the request's body. With ``input`` it is given no request, unless it has ``request`` as well. If it returns a
    resource, such as an :class:`~txsse.web.stream.EventStream`, that is the answer.

    :param registry: keeps what goes on without a client, or nobody can ask for its outcome.
    :param interval: seconds of silence after which a stream gets a comment.
    :param reactor: where the time comes from; if it is not given, that of the site.
    """
    options = _Options(registry, interval, reactor)

    def decorate(function: Function) -> KleinHandler:
        handler = Handler(function)

        @wraps(function)
        async def answer(*args: Any, **kwargs: Any) -> object:
            return await _answer(handler, options, args, kwargs)

        mark(answer, handler)
        return answer

    return decorate if function is None else decorate(function)


async def _answer(handler: Handler, options: _Options, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
    request = cast(Request, next(each for each in args if IRequest.providedBy(each)))  # a method has its object before it
    wish = wish_of(request)
    request.responseHeaders.addRawHeader(b"Vary", b"Accept, Prefer")
    if handler.takes_input and "input" not in kwargs:
        try:
            kwargs["input"] = input_of(request)
        except BadInput as bad:
            return answer_error(request, 400, "bad_request", str(bad))
    if not handler.takes_request:
        args = tuple(each for each in args if each is not request)

    queue = EventQueue()
    if not wish.events:
        queue.abandon()
    clock = options.reactor or clock_of(request)
    prediction = Prediction(token_urlsafe(ID_BYTES), clock.seconds, queue.put)
    prediction.start()
    result = await handler.call(prediction, *args, **kwargs)
    if IResource.providedBy(result):
        return result
    chunks = chunks_of(result)
    if request.method == b"HEAD":
        await close(chunks)
        request.setHeader(b"Content-Type", b"text/event-stream; charset=utf-8" if wish.events else b"application/json")
        return b""
    run = Run(prediction, queue.room)
    if wish.background:
        request.setHeader(b"Preference-Applied", b"respond-async")
        if options.registry is not None:
            request.setHeader(b"Location", options.registry.keep(run).encode("ascii"))
    else:
        queue.left = run.cancel
    run.begin(chunks)
    if wish.events:
        run.finished().addCallback(lambda _: queue.close())
        return EventStream(queue, interval=options.interval, reactor=options.reactor)
    if wish.background:
        return answer_json(request, prediction.document(), 202)
    return answer_json(request, await _outcome(run))


async def _outcome(run: Run) -> dict[str, Any]:
    """The document of *run* when it is over. Klein cancels whoever waits for it when the client has left."""
    try:
        await run.finished()
    except CancelledError:
        run.cancel()
        raise
    return run.prediction.document()
