"""Every client in every scenario: what it read, what it raised, how many requests it cost."""

from __future__ import annotations

import pytest

from tests.clients.conftest import require
from tests.clients.matrix import ROOT, Client, clients
from tests.clients.scenarios import SCENARIOS, Scenario
from tests.clients.speech import SPEECHES
from tests.clients.table import render
from tests.clients.verdict import FAULTS, complaint, fault_of
from tests.clients.world import World

CLIENTS = clients()
TABLE = ROOT / "docs" / "clients" / "matrix.txt"
PLACES = [
    pytest.param(client, row, scenario, id=f"{client.name}/{row}/{scenario.name}")
    for client in CLIENTS
    for row, dialect in client.rows.items()
    for scenario in SCENARIOS.values()
    if scenario.applies_to(SPEECHES[dialect])
]


@pytest.mark.parametrize(("client", "row", "scenario"), PLACES)
def test_cell(request: pytest.FixtureRequest, world: World, client: Client, row: str, scenario: Scenario) -> None:
    require(client.missing)
    place = (client.name, row, scenario.name)
    request.node.records = lambda: world.records(place)
    assert place in world.cells, f"no result: {world.failures.get(client.name, 'its driver has not run it')}"
    found, fault = complaint(scenario, SPEECHES[client.rows[row]], world.cells[place]), fault_of(place)
    if fault:
        assert found, f"the fault is gone, take it out of verdict.py: {fault.why}"
    elif found:
        pytest.fail(found, pytrace=False)


def test_the_proxy_had_nothing_to_complain_about(world: World) -> None:
    assert world.proxy is not None
    assert world.proxy.complaints == []


def test_every_fault_is_of_a_cell() -> None:
    assert {cell for fault in FAULTS for cell in fault.cells} <= {place.id for place in PLACES}


def test_the_documentation_shows_what_was_seen(world: World, request: pytest.FixtureRequest) -> None:
    for client in CLIENTS:
        require(client.missing)
    text = render(CLIENTS, world.cells)
    if request.config.getoption("--write-table"):
        TABLE.parent.mkdir(exist_ok=True)
        TABLE.write_text(text, "utf-8")
    assert TABLE.read_text("utf-8") == text, "make test-clients ARGS=--write-table writes it anew"
