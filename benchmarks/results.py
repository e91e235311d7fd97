"""Every figure of every round, and what is computed of them: medians, and ratios and differences round by round."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median
from typing import Any, Final, TypeAlias

import attrs

Figures: TypeAlias = dict[str, float]

OURS: Final = ("txsse-stock", "txsse")
DIRECT: Final = "direct"
FULL: Final = 0.95
"""Share of its time from which a core counts as full."""


@attrs.frozen
class Spread:
    """The median of the rounds, the least and the most of them."""

    middle: float
    least: float
    most: float

    @classmethod
    def of(cls, values: list[float]) -> Spread | None:
        return cls(median(values), min(values), max(values)) if values else None

    def __str__(self) -> str:
        if short(self.least) == short(self.most):
            return short(self.middle)
        return f"{short(self.middle)} ({short(self.least)}-{short(self.most)})"


@attrs.define
class Results:
    """What one run has found.

    :ivar lighter: peer, then workload, then what of the load was less for it.
    :ivar context: peers that took part in some of the rounds only.
    :ivar rounds: workload, then peer, then one set of figures a round.
    :ivar profiles: ours, then workload, then what :func:`counters.samples` said.
    """

    machine: dict[str, Any]
    labels: dict[str, str]
    workloads: dict[str, str]
    versions: dict[str, str] = attrs.field(factory=dict)
    lighter: dict[str, dict[str, dict[str, Any]]] = attrs.field(factory=dict)
    context: list[str] = attrs.field(factory=list)
    rounds: dict[str, dict[str, list[Figures]]] = attrs.field(factory=dict)
    profiles: dict[str, dict[str, dict[str, Any]]] = attrs.field(factory=dict)

    def add(self, workload: str, peer: str, figures: Figures) -> None:
        self.rounds.setdefault(workload, {}).setdefault(peer, []).append(figures)

    def all(self, workload: str, peer: str, figure: str) -> list[float]:
        return [one[figure] for one in self.rounds.get(workload, {}).get(peer, ()) if figure in one]

    def spread(self, workload: str, peer: str, figure: str) -> Spread | None:
        return Spread.of(self.all(workload, peer, figure))

    def middle(self, workload: str, peer: str, figure: str) -> float | None:
        found = self.spread(workload, peer, figure)
        return None if found is None else found.middle

    def ratio(self, workload: str, figure: str, ours: str, theirs: str) -> Spread | None:
        """Ours over theirs of the same round."""
        return self._paired(workload, figure, ours, theirs, lambda mine, other: mine / other if other else None)

    def added(self, workload: str, figure: str, peer: str) -> Spread | None:
        """What is more than without a proxy in the same round."""
        return self._paired(workload, figure, peer, DIRECT, lambda mine, other: mine - other)

    def _paired(self, workload: str, figure: str, one: str, other: str, join: Callable[[float, float], float | None]) -> Spread | None:
        mine, theirs = (
            {each["round"]: each[figure] for each in self.rounds.get(workload, {}).get(peer, ()) if figure in each and "round" in each}
            for peer in (one, other)
        )
        values = [join(mine[number], theirs[number]) for number in mine if number in theirs]
        return Spread.of([value for value in values if value is not None])

    def load_is_the_limit(self, workload: str, peer: str) -> bool:
        """The core of load generator and upstream is full: the proxy could do more."""
        share = self.middle(workload, peer, "load_core")
        return share is not None and share >= FULL

    def bad(self) -> Iterator[str]:
        """Where bytes were wrong or answers failed: such a row proves nothing."""
        for workload, peers in self.rounds.items():
            for peer, rounds in peers.items():
                if count := sum(one.get("bad", 0) for one in rounds):
                    yield f"{peer} {workload}: {count:g} failed or wrong answers"

    def disturbance(self) -> float | None:
        """How long something else had the core of our proxy, as a share of the time: the median of its measurements.

        txsse has one thread, so whatever it waits for is no part of it.
        """
        waited = [value for workload in self.rounds for peer in OURS for value in self.all(workload, peer, "waited")]
        return median(waited) if waited else None

    def as_json(self) -> dict[str, Any]:
        rounded: dict[str, Any] = _rounded(attrs.asdict(self))
        return rounded


def _rounded(value: Any) -> Any:
    match value:
        case float():
            return float(f"{value:.5g}")
        case dict():
            return {key: _rounded(each) for key, each in value.items()}
        case list() | tuple():
            return [_rounded(each) for each in value]
    return value


def short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
