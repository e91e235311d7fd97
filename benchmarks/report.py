"""What came out: medians, ratios with their spread, the bars that are to be met; as text, as a page of the documentation, as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final, TypeAlias

import attrs
from plot import Dot, draw

Figures: TypeAlias = dict[str, float]

OURS: Final = ("txsse", "txsse-tuned")


@attrs.define
class Ratio:
    """Ours over theirs, round by round."""

    middle: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{_short(self.middle)} ({_short(self.least)}-{_short(self.most)})"


@attrs.define
class Results:
    """Every figure of every round.

    :ivar lighter: peer, then workload, then what of the load was less for it.
    :ivar rounds: workload, then peer, then one set of figures a round.
    """

    machine: dict[str, Any]
    labels: dict[str, str]
    workloads: dict[str, str]
    versions: dict[str, str] = attrs.field(factory=dict)
    lighter: dict[str, dict[str, dict[str, Any]]] = attrs.field(factory=dict)
    rounds: dict[str, dict[str, list[Figures]]] = attrs.field(factory=dict)

    def add(self, workload: str, peer: str, figures: Figures) -> None:
        self.rounds.setdefault(workload, {}).setdefault(peer, []).append(figures)

    def all(self, workload: str, peer: str, figure: str) -> list[float]:
        return [one[figure] for one in self.rounds.get(workload, {}).get(peer, ()) if figure in one]

    def middle(self, workload: str, peer: str, figure: str) -> float | None:
        values = self.all(workload, peer, figure)
        return median(values) if values else None

    def ratio(self, workload: str, figure: str, ours: str, theirs: str) -> Ratio | None:
        mine, other = (
            {one["round"]: one[figure] for one in self.rounds.get(workload, {}).get(peer, ()) if figure in one and "round" in one}
            for peer in (ours, theirs)
        )
        values = [mine[number] / other[number] for number in mine if other.get(number)]
        return Ratio(median(values), min(values), max(values)) if values else None

    def bad(self) -> Iterator[str]:
        """Where bytes were wrong or answers failed: such a row proves nothing."""
        for workload, peers in self.rounds.items():
            for peer, rounds in peers.items():
                if count := sum(one.get("bad", 0) for one in rounds):
                    yield f"{peer} {workload}: {count:g} failed or wrong answers"

    def as_json(self) -> dict[str, Any]:
        return attrs.asdict(self)


@attrs.frozen
class Column:
    title: str
    workload: str
    figure: str
    digits: int = 1
    scale: float = 1.0


COLUMNS: Final = (
    Column("W0 TTFT µs", "W0", "ttfb_p50_us", 0),
    Column("W1 req/s", "W1", "requests_per_s", 0),
    Column("W1 µs/req", "W1", "cpu_us_per_request"),
    Column("W2 µs/event", "W2", "cpu_us_per_event"),
    Column("W2 p50 ms", "W2", "latency_p50_us", 2, 1e-3),
    Column("W2 p99 ms", "W2", "latency_p99_us", 2, 1e-3),
    Column("W3 MB/s", "W3", "mb_per_s", 0),
    Column("W3 µs/event", "W3", "cpu_us_per_event", 2),
    Column("W4 KiB/stream", "W4", "kib_per_stream"),
    Column("idle MiB", "W4", "base_mib", 0),
    Column("W5 req/s", "W5", "requests_per_s", 0),
    Column("W5 µs/req", "W5", "cpu_us_per_request"),
)
EXTRA: Final = (
    Column("W1 calls/req", "W1", "system_calls"),
    Column("W2 calls/event", "W2", "system_calls", 2),
    Column("W5 calls/req", "W5", "system_calls", 2),
    Column("W1 instr/req", "W1", "instructions", 0),
    Column("W5 instr/req", "W5", "instructions", 0),
)


@attrs.frozen
class Bar:
    """A limit: of the ratio to a peer, or with no peer of the figure itself."""

    what: str
    workload: str
    figure: str
    limit: float
    peer: str = ""
    least: bool = False  # the figure is to be at least that
    tuned: float | None = None  # the limit with the tuned reactor


BARS: Final = (
    Bar("W1 CPU per request", "W1", "cpu_us_per_request", 1.25, "nginx"),
    Bar("W1 CPU per request", "W1", "cpu_us_per_request", 1.05, "go"),
    Bar("W1 requests/s", "W1", "requests_per_s", 100, "litellm", least=True),
    Bar("W2 CPU per event", "W2", "cpu_us_per_event", 1.7, "nginx", tuned=1.25),
    Bar("W2 CPU per event", "W2", "cpu_us_per_event", 0.75, "go"),
    Bar("W2 CPU per event", "W2", "cpu_us_per_event", 0.03, "litellm"),
    Bar("W2 added latency p50", "W2", "latency_p50_us", 1.25, "nginx"),
    Bar("W2 added latency p50", "W2", "latency_p50_us", 1.0, "go"),
    Bar("W2 added latency p99", "W2", "latency_p99_us", 1.3, "go"),
    Bar("W2 system calls per event", "W2", "system_calls", 2.4),
    Bar("W3 MB/s", "W3", "mb_per_s", 0.9, "nginx", least=True),
    Bar("W3 CPU per event", "W3", "cpu_us_per_event", 0.8, "nginx"),
    Bar("W3 CPU per event", "W3", "cpu_us_per_event", 0.75, "go"),
    Bar("W4 memory per stream", "W4", "kib_per_stream", 0.3, "nginx"),
    Bar("W4 memory per stream", "W4", "kib_per_stream", 0.085, "go"),
    Bar("W4 memory per stream", "W4", "kib_per_stream", 0.04, "litellm"),
    Bar("W4 KiB per stream", "W4", "kib_per_stream", 4.6),
    Bar("W5 CPU per request", "W5", "cpu_us_per_request", 2.0, "nginx", tuned=1.5),
    Bar("W5 CPU per request", "W5", "cpu_us_per_request", 0.4, "go"),
    Bar("W5 requests/s", "W5", "requests_per_s", 200, "litellm", least=True),
    Bar("held: share of a core", "held", "core", 0.03),
    Bar("held: KiB per stream", "held", "kib_per_stream", 2.5),
    Bar("held: seconds to the last release", "held", "last_release_s", 2.0),
    Bar("idle MiB", "W4", "base_mib", 54),
    Bar("start to listening, s", "start", "seconds", 0.5),
)

PLOTTED: Final = (
    ("W1 CPU per request", "W1", "cpu_us_per_request"),
    ("W2 CPU per event", "W2", "cpu_us_per_event"),
    ("W2 latency p50", "W2", "latency_p50_us"),
    ("W2 latency p99", "W2", "latency_p99_us"),
    ("W3 CPU per event", "W3", "cpu_us_per_event"),
    ("W4 memory per stream", "W4", "kib_per_stream"),
    ("W5 CPU per request", "W5", "cpu_us_per_request"),
)


METHOD: Final = """\
Measured {date} on {processor}, {cores} cores, Linux {kernel}: {rounds} rounds in which the proxies took turns, {minutes} minutes.
``make bench`` does it again.

The proxy has one core to itself. The load generator, which compares every byte, and the mock upstream share the other one, and that is
the bottleneck of every fast proxy: trust CPU time more than requests per second. CPU is user and system time of the proxy's whole
process tree over what it carried. Latency is from just before the upstream's send of an event to the client's receipt, so each row has
the direct one in it. txsse runs at its defaults, with its access log written to a file; the others write none.
"""


def table(results: Results) -> tuple[list[str], list[list[str]]]:
    """Heads and rows: a row a peer, medians of all rounds."""
    columns = [*COLUMNS, *(one for one in EXTRA if any(one.figure in f for p in results.rounds.get(one.workload, {}).values() for f in p))]
    rows = []
    for name in ("direct", *results.labels):
        values = [results.middle(one.workload, name, one.figure) for one in columns]
        if any(value is not None for value in values):
            cells = [_cell(value, one) for value, one in zip(values, columns, strict=True)]
            rows.append([results.labels.get(name, "direct, no proxy"), *cells])
    return ["", *(one.title for one in columns)], rows


def ratios(results: Results) -> tuple[list[str], list[list[str]]]:
    """Ours over each peer's, with the spread of the rounds."""
    others = [name for name in results.labels if name not in OURS]
    rows = []
    for ours in OURS:
        for title, workload, figure in PLOTTED:
            found = [results.ratio(workload, figure, ours, other) for other in others]
            if any(found):
                rows.append([f"{title}{' (tuned)' if ours != 'txsse' else ''}", *("" if one is None else str(one) for one in found)])
    return ["txsse over", *others], rows


def bars(results: Results) -> tuple[list[str], list[list[str]]]:
    rows = []
    for ours in OURS:
        for bar in BARS:
            if bar.peer:
                ratio = results.ratio(bar.workload, bar.figure, ours, bar.peer)
                value = None if ratio is None else ratio.middle
            else:
                value = results.middle(bar.workload, ours, bar.figure)
            if value is not None:
                limit = bar.tuned if bar.tuned is not None and ours != "txsse" else bar.limit
                met = value >= limit if bar.least else value <= limit
                what = bar.what + (f", over {bar.peer}" if bar.peer else "") + (" (tuned)" if ours != "txsse" else "")
                verdict = "met" if met else f"missed, {value / limit:.2f} of it"
                rows.append([what, f"{'>=' if bar.least else '<='} {_short(limit)}", _short(value), verdict])
        direct, through = results.middle("W0", "direct", "ttfb_p50_us"), results.middle("W0", ours, "ttfb_p50_us")
        if direct is not None and through is not None:
            added = (through - direct) / 1000
            rows.append(
                [
                    f"W0 added TTFT p50 ms{'' if ours == 'txsse' else ' (tuned)'}",
                    "<= 0.3",
                    _short(added),
                    "met" if added <= 0.3 else "missed",
                ]
            )
    return ["bar", "limit", "measured", ""], rows


def summary(results: Results) -> str:
    """Everything as text for a terminal, in Markdown's form."""
    parts = [_markdown(head, rows) for head, rows in (table(results), ratios(results), bars(results)) if rows]
    parts += [f"BAD: {line}" for line in results.bad()]
    return "\n\n".join(parts)


def page(results: Results, docs: Path) -> list[Path]:
    """The page and its plot."""
    plot = docs / "_static" / "benchmarks.svg"
    plot.parent.mkdir(parents=True, exist_ok=True)
    dots = [
        Dot(title, other, ratio.middle, ratio.least, ratio.most)
        for title, workload, figure in PLOTTED
        for other in ("nginx", "haproxy", "go")
        if (ratio := results.ratio(workload, figure, "txsse", other)) is not None
    ]
    plot.write_text(draw("txsse over its peers: less is better", dots))
    machine = results.machine
    text = [
        ":orphan:\n",
        "Benchmarks\n==========\n",
        ".. Written by benchmarks/run.py: run `make bench`, do not edit.\n",
        METHOD.format(**{"minutes": "?", **machine}),
        *(f"* {name}: {what}" for name, what in results.workloads.items()),
        *(f"* {line}" for line in _lighter(results)),
        "",
        ".. image:: _static/benchmarks.svg\n   :alt: ratios of txsse to nginx, HAProxy and Go\n",
        _rst("Medians", *table(results)),
        _rst("Ratios: median of the rounds (least-most)", *ratios(results)),
        _rst("What we want to reach", *bars(results)),
        "Versions\n--------\n",
        *(f"* {results.labels[name]}: {version}" for name, version in results.versions.items()),
        "",
        *(f".. warning:: {line}\n" for line in results.bad()),
    ]
    target = docs / "benchmarks.rst"
    target.write_text("\n".join(text))
    return [target, plot]


def _lighter(results: Results) -> Iterator[str]:
    for name, workloads in results.lighter.items():
        if workloads:
            less = "; ".join(f"{one} {', '.join(f'{key} {value}' for key, value in options.items())}" for one, options in workloads.items())
            yield f"{results.labels[name]} got less to do: {less}"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in [head, *rows]]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _rst(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [title, "-" * len(title), "", ".. list-table::", "   :header-rows: 1", ""]
    for row in [head, *rows]:
        lines += [f"   {'*' if not i else ' '} - {cell}".rstrip() for i, cell in enumerate(row)]
    return "\n".join([*lines, ""])


def _cell(value: float | None, column: Column) -> str:
    return "" if value is None else f"{value * column.scale:,.{column.digits}f}"


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
