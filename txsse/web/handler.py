"""The function behind a streaming handler, and how it is called."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterator
from inspect import isawaitable, signature
from typing import Any, Final, TypeAlias

from txsse.web.context import Context
from txsse.web.prediction import Prediction
from txsse.web.pump import Source

Function: TypeAlias = Callable[..., Any]

_MARK: Final = "_txsse_streaming_handler"  # Klein copies the attributes of a function to what it makes of it


class Handler:
    """A function that yields chunks: a generator function, asynchronous or not, or one that returns (or resolves to) an iterator.

    :ivar takes_input: it has a parameter ``input``.
    :ivar takes_request: it is a handler of requests as any other; it has no ``input``, or ``request`` as well.
    """

    def __init__(self, function: Function) -> None:
        names = signature(function).parameters
        self._function = function
        self._takes_context = "ctx" in names
        self.takes_input = "input" in names
        self.takes_request = "request" in names or not self.takes_input

    async def call(self, prediction: Prediction, *args: object, **kwargs: object) -> object:
        """What the function returns: mostly its chunks, see :func:`chunks_of`.

        :param prediction: what its ``ctx`` tells of, if it has that parameter.
        """
        if self._takes_context:
            kwargs.setdefault("ctx", Context(prediction))
        result = self._function(*args, **kwargs)
        return await result if isawaitable(result) else result


def chunks_of(result: object) -> Source[object]:
    """What a handler returned, as what it has to be.

    :raises TypeError: it is no iterator.
    """
    if isinstance(result, AsyncIterable | Iterator):
        return result
    raise TypeError(f"a streaming handler yields chunks, or returns an iterator of them: {type(result).__name__} is none")


def mark(marked: Function, handler: Handler) -> None:
    """From now on *handler* is what :func:`handler_of` finds behind *marked*."""
    setattr(marked, _MARK, handler)


def handler_of(function: Function) -> Handler | None:
    """The handler behind *function*; ``None`` if it was not marked as one that can stream."""
    handler: Handler | None = getattr(function, _MARK, None)
    return handler
