"""The bars that txsse is to reach, and whether it does."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Final

import attrs
from results import OURS, Results, Spread, short

BESIDE: Final = ("nginx", "haproxy", "go")
"""Whose own figure stands beside ours where a bar is no ratio."""


class Kind(enum.Enum):
    RATIO = "over the peer's of the same round"
    VALUE = "the figure itself"
    ADDED = "more than without a proxy"


@attrs.frozen
class Bar:
    """A limit, and for some what is aimed at beyond it.

    :ivar least: the figure is to be at least that.
    :ivar tuned: the limit with the tuned reactor, where it is another.
    :ivar scale: from the unit that is measured to that of the limit.
    """

    what: str
    workload: str
    figure: str
    limit: float
    peer: str = ""
    kind: Kind = Kind.VALUE
    least: bool = False
    tuned: float | None = None
    aim: float | None = None
    scale: float = 1.0

    def limit_of(self, ours: str) -> float:
        return self.tuned if self.tuned is not None and ours != OURS[0] else self.limit

    def value(self, results: Results, ours: str) -> Spread | None:
        match self.kind:
            case Kind.RATIO:
                return results.ratio(self.workload, self.figure, ours, self.peer)
            case Kind.ADDED:
                found = results.added(self.workload, self.figure, ours)
            case Kind.VALUE:
                found = results.spread(self.workload, ours, self.figure)
        return found and Spread(found.middle * self.scale, found.least * self.scale, found.most * self.scale)

    def reached(self, value: float, limit: float) -> bool:
        return value >= limit if self.least else value <= limit

    @property
    def text(self) -> str:
        """The limit in words."""
        sign = ">=" if self.least else "<="
        times = " x" if self.kind is Kind.RATIO else ""
        limit = f"{sign} {short(self.limit)}{times}"
        if self.tuned is not None:
            limit += f", tuned {short(self.tuned)}{times}"
        return limit + (f" (aim {short(self.aim)})" if self.aim is not None else "")


def _over(peer: str, what: str, workload: str, figure: str, limit: float, *, tuned: float | None = None, aim: float | None = None) -> Bar:
    return Bar(what, workload, figure, limit, peer, Kind.RATIO, tuned=tuned, aim=aim)


def _at_least(peer: str, what: str, workload: str, figure: str, limit: float) -> Bar:
    return Bar(what, workload, figure, limit, peer, Kind.RATIO, least=True)


_REQUEST: Final = "cpu_us_per_request"
_EVENT: Final = "cpu_us_per_event"

BARS: Final = (
    Bar("W0 TTFT p50 added for one client, ms", "W0", "ttfb_p50_us", 0.3, kind=Kind.ADDED, scale=1e-3),
    _over("nginx", "W1 CPU per request", "W1", _REQUEST, 1.25, aim=1.05),
    _over("nginx", "W1u CPU per request, none alike", "W1u", _REQUEST, 1.25, aim=1.05),
    _over("go", "W1 CPU per request", "W1", _REQUEST, 1.05),
    _over("go", "W1u CPU per request, none alike", "W1u", _REQUEST, 1.05),
    _at_least("litellm", "W1 requests/s", "W1", "requests_per_s", 100),
    _over("nginx", "W2 CPU per event", "W2", _EVENT, 1.7, tuned=1.25, aim=1.0),
    _over("go", "W2 CPU per event", "W2", _EVENT, 0.75, aim=0.65),
    _over("litellm", "W2 CPU per event", "W2", _EVENT, 0.03),
    Bar("W2 system calls per event", "W2", "system_calls", 2.4),
    _over("nginx", "W2 latency p50", "W2", "latency_p50_us", 1.25),
    _over("go", "W2 latency p50", "W2", "latency_p50_us", 1.0),
    _over("go", "W2 latency p99", "W2", "latency_p99_us", 1.3),
    _at_least("nginx", "W3 MB/s", "W3", "mb_per_s", 0.9),
    _over("nginx", "W3 CPU per event", "W3", _EVENT, 0.8),
    _over("go", "W3 CPU per event", "W3", _EVENT, 0.75),
    _over("nginx", "W4 memory of an idle stream", "W4", "kib_per_stream", 0.3),
    _over("go", "W4 memory of an idle stream", "W4", "kib_per_stream", 0.085),
    _over("litellm", "W4 memory of an idle stream", "W4", "kib_per_stream", 0.04),
    Bar("W4 KiB of an idle stream", "W4", "kib_per_stream", 4.6, aim=3.5),
    Bar("W4 MiB of 5000 idle streams", "W4", "grown_mib", 23),
    Bar("8000 held streams: % of a core", "held", "core", 3, scale=100),
    Bar("8000 held streams: KiB each", "held", "kib_per_stream", 2.5),
    Bar("8000 held streams: seconds from ready to the last first byte", "held", "last_release_s", 2),
    _over("nginx", "W5 CPU per request", "W5", _REQUEST, 2.0, tuned=1.5, aim=1.3),
    _over("nginx", "W5u CPU per request, none alike", "W5u", _REQUEST, 2.0, tuned=1.5, aim=1.3),
    _over("go", "W5 CPU per request", "W5", _REQUEST, 0.4),
    _over("go", "W5u CPU per request, none alike", "W5u", _REQUEST, 0.4),
    _at_least("litellm", "W5 requests/s", "W5", "requests_per_s", 200),
    Bar("start to listening, s", "start", "seconds", 0.5),
    Bar("idle MiB at the defaults", "idle", "mib", 54),
    Bar("idle MiB with --admin none", "idle, no admin", "mib", 49),
)


@attrs.frozen
class Verdict:
    """What one of ours came to."""

    bar: Bar
    ours: str
    value: Spread

    @property
    def limit(self) -> float:
        return self.bar.limit_of(self.ours)

    @property
    def met(self) -> bool:
        return self.bar.reached(self.value.middle, self.limit)

    @property
    def missed_by(self) -> float:
        """As a share of the limit."""
        return abs(self.value.middle / self.limit - 1)

    def __str__(self) -> str:
        if not self.met:
            return f"{self.value}: missed by {self.missed_by:.0%}"
        aim = self.bar.aim
        return f"{self.value}: met" + (", the aim too" if aim is not None and self.bar.reached(self.value.middle, aim) else "")


def verdicts(results: Results) -> Iterator[Verdict]:
    """In the order of the bars; nothing for what was not measured."""
    for bar in BARS:
        for ours in OURS:
            value = bar.value(results, ours)
            if value is not None:
                yield Verdict(bar, ours, value)


def table(results: Results) -> tuple[list[str], list[list[str]]]:
    """A row a bar; beside ours the peers' own figures of the same run."""
    found = {(one.bar, one.ours): one for one in verdicts(results)}
    rows = []
    for bar in BARS:
        ours = [str(found[bar, name]) if (bar, name) in found else "" for name in OURS]
        if any(ours):
            rows.append([bar.what, bar.text + (f" {bar.peer}" if bar.peer else ""), *ours, _beside(bar, results)])
    return ["", "bar", "txsse, --reactor=epoll", "txsse", "measured, in the same run"], rows


def _beside(bar: Bar, results: Results) -> str:
    """The figures behind a ratio; else what the peers have."""
    names = [*OURS, bar.peer] if bar.peer else BESIDE
    values = {}
    for name in names:
        if bar.kind is Kind.ADDED:
            found = results.added(bar.workload, bar.figure, name)
            values[name] = None if found is None else found.middle
        else:
            values[name] = results.middle(bar.workload, name, bar.figure)
    return ", ".join(f"{name} {short(value * bar.scale)}" for name, value in values.items() if value is not None)
