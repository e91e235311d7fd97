"""The matrix as a part of the documentation (reST)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from tests.clients.matrix import Client
from tests.clients.scenarios import SCENARIOS, Kind, Scenario
from tests.clients.speech import SPEECHES
from tests.clients.verdict import FAULTS, complaint, fault_of
from tests.clients.world import Cell, Place

WORDS: Final = 40
"""Characters of an exception's own words that are shown, where it does not say what happened."""
FIRST: Final = 28
"""The first column's share of the width, in percent."""
NOT_HERE: Final = "n/a"
_ADDRESS: Final = re.compile(r",? *(?:for )?(?:url[:=] *)?'?https?://127\.0\.0\.1:\d+.*", re.DOTALL)

Cells = Mapping[Place, Cell]


def render(clients: Iterable[Client], cells: Cells) -> str:
    """The file that ``docs/clients.rst`` includes."""
    clients = list(clients)
    good = [each for each in SCENARIOS.values() if each.kind is Kind.READS]
    bad = [each for each in SCENARIOS.values() if each.kind is not Kind.READS]
    tables = [
        _table("What they read", [each.title for each in good], _alike(clients, good, cells)),
        _table("What they raise", ["Exceptions"], [[name, _by_outcome(bad, outcomes)] for name, *outcomes in _alike(clients, bad, cells)]),
    ]
    notes = [f".. [#fault{number}] {fault.why}" for number, fault in enumerate(FAULTS, 1)]
    return "\n\n".join([".. Written by make test-clients ARGS=--write-table: not to be edited.", *tables, *notes]) + "\n"


def _alike(clients: list[Client], scenarios: list[Scenario], cells: Cells) -> list[list[str]]:
    """A row for each client, and its outcomes; ways to read with one client that come to the same share a row."""
    rows = []
    for client in clients:
        alike: dict[tuple[str, ...], list[str]] = {}
        for name, dialect in client.rows.items():
            outcomes = tuple(_outcome((client.name, name, each.name), dialect, each, cells) for each in scenarios)
            alike.setdefault(outcomes, []).append(name)
        rows += [[f"**{client.title}** {', '.join(names)}", *outcomes] for outcomes, names in alike.items()]
    return rows


def _by_outcome(scenarios: list[Scenario], outcomes: list[str]) -> str:
    """A line for each outcome with the scenarios that come to it: names of exceptions are too long for a column each."""
    titles: dict[str, list[str]] = {}
    for scenario, outcome in zip(scenarios, outcomes, strict=True):
        titles.setdefault(outcome, []).append(scenario.title)
    return "\n       ".join(f"| {outcome}: {', '.join(names)}" for outcome, names in titles.items())


def _table(title: str, columns: list[str], rows: list[list[str]]) -> str:
    widths = [FIRST, *[(100 - FIRST) // len(columns)] * len(columns)]
    head = [f".. list-table:: {title}", "   :header-rows: 1", f"   :widths: {' '.join(map(str, widths))}", ""]
    return "\n".join(
        head + [f"   {'*' if not at else ' '} - {text}" for row in [["Client", *columns], *rows] for at, text in enumerate(row)]
    )


def _outcome(place: Place, dialect: str, scenario: Scenario, cells: Cells) -> str:
    speech, cell = SPEECHES[dialect], cells.get(place)
    if cell is None or not scenario.applies_to(speech):
        return NOT_HERE
    if complaint(scenario, speech, cell):
        fault = fault_of(place)
        mark = f" [#fault{FAULTS.index(fault) + 1}]_" if fault else ""
        return f"**✗**{mark}"
    if cell.error is None:
        return "✓" if len(cell.requests) == 1 else f"✓ ({len(cell.requests)} requests)"
    kind = f"``{_short(cell.error.type)}``"
    if scenario.says in cell.error.message:
        return kind
    words = _ADDRESS.sub("", cell.error.message.partition("\n")[0]).strip()
    words = words if len(words) <= WORDS else words[:WORDS].rstrip() + "…"
    return f"{kind} “{words}”" if words else f"{kind}, no words"


def _short(kind: str) -> str:
    """An exception's name as one imports it: ``package.Name``, and without the driver's own module."""
    package, _, name = kind.removeprefix("tests.clients.drivers.rows.").removeprefix("__main__.").rpartition(".")
    return f"{package.partition('.')[0]}.{name}" if package else name
