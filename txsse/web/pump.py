"""Moves what a handler yields, one item after the other, at the pace of who takes it."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import TypeAlias, TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")

Source: TypeAlias = AsyncIterable[T] | Iterable[T]
"""What is iterated: asynchronous (an async generator that awaits Deferreds), or not."""

Room: TypeAlias = Deferred[None] | None
"""When there is room for the next item: when this fires, or now."""


async def pump(source: Source[T], take: Callable[[T], Room]) -> None:
    """Give each item of *source* to *take*, and ask for the next when there is room for it. In the end *source* is closed.

    To stop it, cancel its Deferred: an async generator sees ``CancelledError`` where it awaits, or ``GeneratorExit`` where it
    yields; or let *take* raise.
    """
    items: AsyncIterator[T] = aiter(source) if isinstance(source, AsyncIterable) else _Plain(source)
    try:
        async for item in items:
            room = take(item)
            if room is not None:
                await room
    finally:
        await close(items)


async def close(source: Source[T]) -> None:
    """Tell *source* that nothing more will be asked of it, so that its ``finally`` runs; not everything that is iterated has one."""
    if isinstance(source, AsyncIterable):
        aclose = getattr(source, "aclose", None)
        if aclose is not None:
            await aclose()
    else:
        stop = getattr(source, "close", None)
        if stop is not None:
            stop()


class _Plain(AsyncIterator[T]):
    """An ordinary iterable, as if it were asynchronous."""

    def __init__(self, source: Iterable[T]) -> None:
        self._items = iter(source)

    async def __anext__(self) -> T:
        try:
            return next(self._items)
        except StopIteration:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        await close(self._items)
