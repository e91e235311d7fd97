"""The matrix is run once, before the first test that looks at a cell."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted  # type: ignore[import-untyped]  # ships no types
from twisted.internet import reactor

from tests.clients.matrix import Client, clients
from tests.clients.world import World


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-table", action="store_true", help="write the matrix into docs/ instead of comparing it")


@pytest_twisted.async_yield_fixture(scope="module")  # type: ignore[untyped-decorator]
async def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    made = World(reactor, Path(tmp_path_factory.mktemp("clients")))
    try:
        await made.run([client for client in _asked_for(request.session.items) if not client.missing])
        yield made
    finally:
        await made.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    report = yield
    if report.failed and hasattr(item, "records"):
        report.sections.append(("records", item.records()))
    return report


def _asked_for(tests: list[pytest.Item]) -> list[Client]:
    """With ``-k openai-python/`` only that one runs; a test that is about no single client needs them all."""
    cells = [test for test in tests if isinstance(test, pytest.Function) and "world" in test.fixturenames]
    if any(not hasattr(cell, "callspec") for cell in cells):
        return clients()
    wanted = [cell.callspec.params["client"] for cell in cells]
    return [client for client in clients() if client in wanted]


def require(missing: str) -> None:
    """Skip the test if something is not installed; where ``CI`` is set in the environment, fail it."""
    if missing and os.environ.get("CI"):
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)
