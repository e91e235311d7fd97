"""The tables: a row a peer, and txsse over each of them; for a terminal in Markdown's form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import attrs
import bars
from results import DIRECT, OURS, Results

Table = tuple[list[str], list[list[str]]]

SATURATED: Final = "+"
"""Stands behind a rate where the core of load generator and upstream was full."""


@attrs.frozen
class Column:
    title: str
    workload: str
    figure: str
    digits: int = 1
    scale: float = 1.0

    def cell(self, results: Results, peer: str) -> str:
        value = results.middle(self.workload, peer, self.figure)
        if value is None:
            return ""
        rate = self.figure.endswith("_per_s") and results.load_is_the_limit(self.workload, peer)
        return f"{value * self.scale:,.{self.digits}f}{SATURATED if rate else ''}"


STREAMS: Final = (
    Column("W0 TTFT µs", "W0", "ttfb_p50_us", 0),
    Column("W1 req/s", "W1", "requests_per_s", 0),
    Column("W1 µs/req", "W1", "cpu_us_per_request"),
    Column("W1u req/s", "W1u", "requests_per_s", 0),
    Column("W1u µs/req", "W1u", "cpu_us_per_request"),
)
EVENTS: Final = (
    Column("W2 µs/event", "W2", "cpu_us_per_event"),
    Column("W2 p50 ms", "W2", "latency_p50_us", 2, 1e-3),
    Column("W2 p99 ms", "W2", "latency_p99_us", 2, 1e-3),
    Column("W3 MB/s", "W3", "mb_per_s", 0),
    Column("W3 µs/event", "W3", "cpu_us_per_event", 2),
)
REQUESTS: Final = (
    Column("W5 req/s", "W5", "requests_per_s", 0),
    Column("W5 µs/req", "W5", "cpu_us_per_request"),
    Column("W5u req/s", "W5u", "requests_per_s", 0),
    Column("W5u µs/req", "W5u", "cpu_us_per_request"),
    Column("W4 KiB/stream", "W4", "kib_per_stream"),
    Column("idle MiB", "idle", "mib"),
    Column("start s", "start", "seconds", 2),
)
INSIDE: Final = (
    Column("W1 kernel %", "W1", "kernel", 0, 100),
    Column("W2 kernel %", "W2", "kernel", 0, 100),
    Column("W5 kernel %", "W5", "kernel", 0, 100),
    Column("W1 calls/req", "W1", "system_calls"),
    Column("W2 calls/event", "W2", "system_calls", 2),
    Column("W5 calls/req", "W5", "system_calls", 1),
    Column("W1 instr/req", "W1", "instructions", 0),
    Column("W5 instr/req", "W5", "instructions", 0),
)
RATIOS: Final = (
    ("W1 CPU per request", "W1", "cpu_us_per_request"),
    ("W1u CPU per request", "W1u", "cpu_us_per_request"),
    ("W2 CPU per event", "W2", "cpu_us_per_event"),
    ("W2 latency p50", "W2", "latency_p50_us"),
    ("W2 latency p99", "W2", "latency_p99_us"),
    ("W3 CPU per event", "W3", "cpu_us_per_event"),
    ("W4 memory per stream", "W4", "kib_per_stream"),
    ("W5 CPU per request", "W5", "cpu_us_per_request"),
    ("W5u CPU per request", "W5u", "cpu_us_per_request"),
)


def medians(results: Results, columns: Sequence[Column]) -> Table:
    """A row a peer; only columns that have something in them."""
    names = [DIRECT, *results.labels]
    columns = [one for one in columns if any(one.cell(results, name) for name in names)]
    rows = [[results.labels.get(name, "direct, no proxy"), *(one.cell(results, name) for one in columns)] for name in names]
    return ["", *(one.title for one in columns)], [row for row in rows if any(row[1:])]


def ratios(results: Results, ours: str) -> Table:
    """Ours over each peer's, with the spread of the rounds."""
    others = [name for name in results.labels if name not in OURS]
    rows = []
    for title, workload, figure in RATIOS:
        found = [results.ratio(workload, figure, ours, other) for other in others]
        if any(found):
            rows.append([title, *("" if one is None else str(one) for one in found)])
    return [f"{ours} over", *others], rows


def held(results: Results) -> Table:
    names = {"streams": "streams", "core": "share of a core", "kib_per_stream": "KiB each", "first_release_s": "first byte of the first, s"}
    names["last_release_s"] = "of the last, s"
    rows = [
        [results.labels.get(peer, peer), *(str(results.spread("held", peer, figure) or "") for figure in names)]
        for peer in results.rounds.get("held", {})
    ]
    return ["", *names.values()], rows


def summary(results: Results) -> str:
    """Everything as text for a terminal."""
    tables = [medians(results, columns) for columns in (STREAMS, EVENTS, REQUESTS, INSIDE)]
    tables += [held(results), *(ratios(results, ours) for ours in OURS), bars.table(results)]
    parts = [markdown(head, rows) for head, rows in tables if rows]
    return "\n\n".join([*parts, *notes(results), *(f"BAD: {line}" for line in results.bad())])


def notes(results: Results) -> Iterator[str]:
    """What is to be known with the tables."""
    limited = [
        f"{results.labels.get(peer, 'direct')} {workload}"
        for workload, peers in results.rounds.items()
        for peer in peers
        if results.load_is_the_limit(workload, peer)
    ]
    if limited:
        yield f"A {SATURATED} behind a rate: load generator and upstream had a full core, the proxy could do more: {'; '.join(limited)}."
    for name, workloads in results.lighter.items():
        if workloads:
            less = "; ".join(f"{one} {', '.join(f'{key} {value}' for key, value in options.items())}" for one, options in workloads.items())
            yield f"{results.labels[name]} got less to do: {less}."
    if results.context:
        yield f"In every third round only, being there for comparison: {'; '.join(results.labels[name] for name in results.context)}."
    disturbance = results.disturbance()
    if disturbance is not None:
        yield f"Something else had the core of txsse for {disturbance:.1%} of the time (median of its measurements)."


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in [head, *rows]]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
