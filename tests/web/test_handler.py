"""How the function behind a handler is called."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed

from txsse.web.context import Context
from txsse.web.handler import Function, Handler, handler_of, mark
from txsse.web.prediction import Prediction


def prediction() -> Prediction:
    return Prediction("p1", lambda: 0.0)


def called(function: Function, *args: object, **kwargs: object) -> Any:
    results: list[Any] = []
    Deferred.fromCoroutine(Handler(function).call(prediction(), *args, **kwargs)).addCallback(results.append)
    (result,) = results
    return result


@pytest.mark.parametrize(
    ("function", "takes_request", "takes_input"),
    [
        (lambda request: (), True, False),
        (lambda req, name: (), True, False),
        (lambda: (), True, False),
        (lambda request, ctx: (), True, False),
        (lambda input, ctx: (), False, True),
        (lambda self, input: (), False, True),
        (lambda request, input: (), True, True),
    ],
)
def test_what_it_takes_is_seen_by_its_parameters(function: Function, takes_request: bool, takes_input: bool) -> None:
    handler = Handler(function)
    assert (handler.takes_request, handler.takes_input) == (takes_request, takes_input)


def test_a_context_is_given_to_who_has_a_place_for_it() -> None:
    context = called(lambda input, ctx: ctx, input={})
    assert isinstance(context, Context) and context.id == "p1"
    assert called(lambda input: input, input={"a": 1}) == {"a": 1}


def test_what_was_given_under_that_name_stays() -> None:
    assert called(lambda request, ctx: ctx, "request", ctx="from the path") == "from the path"


def test_a_result_may_come_later() -> None:
    async def coroutine(input: object) -> object:
        return input

    assert called(coroutine, input=1) == 1
    assert called(lambda input: succeed(input), input=2) == 2


def test_a_mark_is_found_again() -> None:
    def function() -> None: ...

    def other() -> None: ...

    handler = Handler(function)
    mark(function, handler)
    assert handler_of(function) is handler and handler_of(other) is None
