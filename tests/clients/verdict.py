"""What is expected of every cell, and the faults that are the client's own: red cells with a reason."""

from __future__ import annotations

import re
from typing import Final

import attrs

from tests.clients.scenarios import MESSAGE, PROGRESS, RETRY_AFTER, Kind, Scenario
from tests.clients.speech import TEXT, Speech
from tests.clients.world import Cell, Place

EARLY: Final = 0.05  # seconds: a client's clock and the upstream's need not agree to the millisecond


@attrs.frozen
class Fault:
    """Red cells that the proxy can do nothing about.

    :param cells: ``client/row/scenario``.
    :param why: for readers of the documentation: what the client does, and where that is to be seen.
    """

    cells: frozenset[str]
    why: str


FAULTS: Final = (
    Fault(
        frozenset(f"ai-sdk/textStream/{scenario}" for scenario in ("refused", "turned-away", "crash-done")),
        "``textStream`` leaves errors out and ends as if the answer were complete; they are in ``fullStream``, and go to ``onError`` "
        "(said by the declaration of ``textStream`` in the package ``ai``). It raises when the connection is cut, as it is after an error "
        'with ``error_end = "abort"``.',
    ),
)


def fault_of(place: Place) -> Fault | None:
    return next((fault for fault in FAULTS if "/".join(place) in fault.cells), None)


def complaint(scenario: Scenario, speech: Speech, cell: Cell) -> str:
    """What is wrong with a cell, or ``""``."""
    if scenario.kind is Kind.RAISES or (scenario.kind is Kind.RETRIES and cell.error):
        return _not_raised(scenario, cell)
    if scenario.kind is Kind.RETRIES:
        return _not_read(cell, re.escape(TEXT), requests=2) or _impatient(cell)
    return _not_read(cell, _before_the_text(scenario, speech) + re.escape(TEXT), requests=1)


def _before_the_text(scenario: Scenario, speech: Speech) -> str:
    """A pattern for the message as a part of the answer."""
    channel = scenario.options.get("hold.channel")
    if channel is None or speech.separator is None or (channel == "reasoning" and speech.thinks):
        return ""
    return f"{re.escape(MESSAGE)}(?:{re.escape(PROGRESS)})+{re.escape(speech.separator)}"


def _not_read(cell: Cell, pattern: str, requests: int) -> str:
    if cell.error:
        return f"raised {cell.error.type}: {cell.error.message}"
    if not re.fullmatch(pattern, cell.text):
        return f"read {cell.text!r}"
    return _wrong_number(cell, requests)


def _not_raised(scenario: Scenario, cell: Cell) -> str:
    if not cell.error:
        return f"raised nothing after {cell.text!r}"
    if not TEXT.startswith(cell.text):
        return f"read {cell.text!r}"
    return _wrong_number(cell, scenario.requests)


def _wrong_number(cell: Cell, requests: int) -> str:
    return "" if len(cell.requests) == requests else f"the upstream got {len(cell.requests)} requests instead of {requests}"


def _impatient(cell: Cell) -> str:
    waited = cell.requests[1] - cell.requests[0]
    return "" if waited >= RETRY_AFTER - EARLY else f"asked again after {waited:.2f} s"
