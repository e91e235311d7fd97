"""What ``docs/benchmarks.rst`` includes: parts in ``docs/benchmarks``, all of them made of the results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import bars
from plot import Dot, draw
from report import EVENTS, INSIDE, RATIOS, REQUESTS, STREAMS, held, medians, notes, ratios
from results import OURS, Results, short

PLOTTED: Final = ("nginx", "haproxy", "go")
HOTTEST: Final = 8
"""Functions of a profile that are shown."""


def write(results: Results, docs: Path) -> list[Path]:
    """All parts; the files that were written."""
    folder = docs / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    parts = {
        "machine.txt": _machine(results),
        "workloads.txt": _workloads(results),
        "figures.txt": _figures(results),
        "ratios.txt": _ratios(results),
        "bars.txt": _bars(results),
        "left.txt": _left(results),
    }
    written = []
    for name, lines in parts.items():
        path = folder / name
        path.write_text("\n".join([".. Written by benchmarks/run.py: run `make bench`, do not edit.", "", *lines]).rstrip() + "\n")
        written.append(path)
    for ours in OURS:
        if dots := _dots(results, ours):
            path = folder / f"{ours}.svg"
            path.write_text(draw(f"{results.labels[ours]}, over its peers: less is better", dots))
            written.append(path)
    return written


def _machine(results: Results) -> Iterator[str]:
    machine = results.machine
    yield (
        f"Measured {machine['date']} on {machine['processor']}, {machine['cores']} cores, Linux {machine['kernel']}: "
        f"{machine['rounds']} rounds, {machine['minutes']} minutes in all."
    )
    yield ""
    yield from (f"* {results.labels[name]}: {version}" for name, version in results.versions.items())


def _workloads(results: Results) -> Iterator[str]:
    yield from (f"* {name}: {what}" for name, what in results.workloads.items())


def _figures(results: Results) -> Iterator[str]:
    titles = {"Short streams": STREAMS, "Events": EVENTS, "JSON requests, and memory": REQUESTS, "The kernel's part, and counts": INSIDE}
    for title, columns in titles.items():
        yield from list_table(title, *medians(results, columns))
    if "held" in results.rounds:
        yield from list_table("Streams that wait", *held(results))
    for line in notes(results):
        yield from (f"* {line}", "")
    for line in results.bad():
        yield from (".. warning::", "", f"   {line}", "")


def _ratios(results: Results) -> Iterator[str]:
    for ours in OURS:
        head, rows = ratios(results, ours)
        if rows:
            yield from list_table(results.labels[ours], head, rows)
            yield from (f".. image:: benchmarks/{ours}.svg", f"   :alt: {results.labels[ours]} over nginx, HAProxy and Go", "")


def _bars(results: Results) -> Iterator[str]:
    found = list(bars.verdicts(results))
    for ours in OURS:
        mine = [one for one in found if one.ours == ours]
        if mine:
            yield f"* {results.labels[ours]}: {sum(one.met for one in mine)} of {len(mine)} met."
    yield ""
    head, rows = bars.table(results)
    yield from list_table("All of them", head, rows)


def _left(results: Results) -> Iterator[str]:
    missed = [one for one in bars.verdicts(results) if not one.met]
    if not missed:
        yield from ("Every bar was met in this run.", "")
    for one in missed:
        what = f"{one.bar.what}{f', over {one.bar.peer}' if one.bar.peer else ''}"
        limit = f"{'at least' if one.bar.least else 'at most'} {short(one.limit)}"
        yield f"* {results.labels[one.ours]}: {what} is {one.value} and should be {limit}: missed by {one.missed_by:.0%}."
    yield ""
    for ours, workloads in results.profiles.items():
        for name, found in workloads.items():
            yield from _profile(f"{results.labels[ours]}, {name}", found)


def _profile(title: str, found: dict[str, Any]) -> Iterator[str]:
    unit, each = found["unit"], found["us_per_unit"]
    yield (
        f"**{title}**: {short(each)} µs per {unit}, {found['kernel']:.0%} of it in the kernel. The functions in which it is spent, what "
        f"they call in C and in the kernel counted as theirs ({found['samples']} samples):"
    )
    yield ""
    rows = [[f"``{function}``", f"{share:.1%}", f"{share * each:.2f}"] for function, share in found["functions"][:HOTTEST]]
    yield from list_table("", ["function", "share", f"µs per {unit}"], rows)


def _dots(results: Results, ours: str) -> list[Dot]:
    return [
        Dot(title, other, ratio.middle, ratio.least, ratio.most)
        for title, workload, figure in RATIOS
        for other in PLOTTED
        if (ratio := results.ratio(workload, figure, ours, other)) is not None
    ]


def list_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield from (f".. list-table:: {title}".rstrip(), "   :header-rows: 1", "")
    for row in [head, *rows]:
        yield from (f"   {'*' if not number else ' '} - {cell}".rstrip() for number, cell in enumerate(row))
    yield ""
