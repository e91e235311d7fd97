"""Moving items from a source, and closing it whatever happens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from twisted.internet.defer import CancelledError, Deferred

from tests.web.bench import Script
from txsse.web.pump import Room, Source, close, pump


class Taker:
    """Takes items, and has room when it is told to."""

    def __init__(self, *, roomy: bool = True) -> None:
        self.items: list[object] = []
        self.room: Deferred[None] | None = None
        self._roomy = roomy

    def take(self, item: object) -> Room:
        self.items.append(item)
        if self._roomy:
            return None
        self.room = Deferred()
        return self.room

    def make_room(self) -> None:
        assert self.room is not None
        self.room.callback(None)


def start(source: Source[object], taker: Taker) -> tuple[Deferred[None], list[object]]:
    """The work, and in a list how it ended."""
    ended: list[object] = []
    work = Deferred.fromCoroutine(pump(source, taker.take))
    work.addBoth(lambda result: ended.append(getattr(result, "value", result)))
    return work, ended


def test_items_are_taken_in_order_as_they_come() -> None:
    script, taker = Script(), Taker()
    _, ended = start(script.items(), taker)
    for item in "abc":
        script.give(item)
    assert taker.items == ["a", "b", "c"] and ended == []
    script.end()
    assert ended == [None] and script.heard == ["finally"]


def test_nothing_is_asked_for_while_there_is_no_room() -> None:
    script, taker = Script(), Taker(roomy=False)
    start(script.items(), taker)
    script.give("a")
    assert script.asked == 1
    taker.make_room()
    assert script.asked == 2
    script.give("b")
    assert (taker.items, script.asked) == (["a", "b"], 2)
    taker.make_room()
    script.end()


@pytest.mark.parametrize("make", [list, iter, lambda items: (item for item in items)])
def test_ordinary_iterables_are_sources_too(make: type[list[str]]) -> None:
    taker = Taker()
    _, ended = start(make(["a", "b"]), taker)
    assert (taker.items, ended) == (["a", "b"], [None])


def test_the_failure_of_a_source_is_that_of_the_work() -> None:
    script, taker = Script(), Taker()
    _, ended = start(script.items(), taker)
    failure = KeyError("x")
    script.give(failure)
    assert ended == [failure] and script.heard == ["finally"]


def test_a_taker_that_raises_closes_the_source() -> None:
    script = Script()
    refusal = ValueError("no")

    def take(item: object) -> Room:
        raise refusal

    ended: list[object] = []
    Deferred.fromCoroutine(pump(script.items(), take)).addErrback(lambda failure: ended.append(failure.value))
    script.give("a")
    assert ended == [refusal] and script.heard == ["closed", "finally"]


def test_cancelled_where_it_waits_it_sees_that() -> None:
    script, taker = Script(), Taker()
    work, ended = start(script.items(), taker)
    work.cancel()
    assert script.heard == ["cancelled", "finally"]
    assert isinstance(ended[0], CancelledError)


def test_cancelled_where_it_yields_it_is_closed() -> None:
    script, taker = Script(), Taker(roomy=False)
    work, ended = start(script.items(), taker)
    script.give("a")
    work.cancel()
    assert script.heard == ["closed", "finally"]
    assert isinstance(ended[0], CancelledError)


def test_its_cleaning_up_may_take_time() -> None:
    cleaned: Deferred[None] = Deferred()

    async def source() -> AsyncIterator[str]:
        try:
            await Deferred()
            yield "never"
        finally:
            await cleaned

    work, ended = start(source(), Taker())
    work.cancel()
    assert ended == []
    cleaned.callback(None)
    assert isinstance(ended[0], CancelledError)


def test_an_ordinary_generator_is_closed() -> None:
    heard = []

    def source() -> Iterator[str]:
        try:
            yield "a"
        finally:
            heard.append("finally")

    work, ended = start(source(), Taker(roomy=False))
    work.cancel()
    assert heard == ["finally"] and isinstance(ended[0], CancelledError)


class Bare:
    """An async iterator that cannot be closed."""

    def __aiter__(self) -> Bare:
        return self

    async def __anext__(self) -> str:
        raise StopAsyncIteration


def test_what_cannot_be_closed_need_not_be() -> None:
    _, ended = start(Bare(), Taker())
    assert ended == [None]


@pytest.mark.parametrize("source", [(), Bare(), iter("abc"), Script().items()])
def test_closing_what_was_never_begun(source: Source[object]) -> None:
    ended: list[object] = []
    Deferred.fromCoroutine(close(source)).addBoth(ended.append)
    assert ended == [None]
