"""How long things take, measured beside others that keep the machine busy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

BUSY: Final = 5.0
"""Seconds that a busy machine may add to what is measured once. A closer bound is for the best of several tries: :func:`at_best`."""


async def at_best(measure: Callable[[], Awaitable[float]], within: float, tries: int = 30) -> None:
    """*measure* gives at most *within* once in so many tries: a busy machine makes some of them longer, a clock of ours all of them."""
    seen: list[float] = []
    while not seen or seen[-1] > within:
        assert len(seen) < tries, f"never within {within}: {seen}"
        seen.append(await measure())
