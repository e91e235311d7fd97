"""The examples for Node and browsers: streams that are cut in the middle are read to their end, and the model is asked once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted  # type: ignore[import-untyped]  # ships no types
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from tests.clients.conftest import require
from tests.clients.drivers.chromium import OPTIONS
from tests.clients.matrix import NODE_MODULES, clients
from tests.integration.bench import Bench
from tests.integration.process import Proxy
from tests.integration.resuming import CONFIG, CUTS, TEXT, read_cut
from tests.test_examples import EXAMPLES

HARNESS = Path(__file__).parent / "resume_harness.html"


def page(path: str, file: Path) -> str:
    """A route that answers with a file."""
    return f'[[route]]\nupstream = "main"\nmatch.path = "{path}"\nstatic = {{ file = "{file}", when = "always" }}\n'


PAGES = page("/chat.html", EXAMPLES / "resume_browser.html") + page("/harness.html", HARNESS)


@pytest_twisted.async_yield_fixture()  # type: ignore[untyped-decorator]
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    proxy = Proxy(CONFIG.replace("[[route]]", PAGES + "[[route]]", 1), tmp_path)
    request.node.records = lambda: proxy.log[-6000:]
    made = Bench(reactor, proxy)
    yield made
    await made.close()
    proxy.stop()
    assert proxy.complaints == []


def missing(name: str) -> str:
    (client,) = (client for client in clients() if client.name == name)
    return client.missing


async def test_fetch_event_source(bench: Bench, tmp_path: Path) -> None:
    require(missing("fetch-event-source"))
    script = tmp_path / "resume_fetch_event_source.mjs"  # beside its packages, as it would be in an application
    shutil.copy(EXAMPLES / script.name, script)
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)

    async def read(url: str) -> tuple[int, bytes, bytes]:
        command = ["node", str(script), f"{url}/v1", "Hi"]
        done = await deferToThread(subprocess.run, command, capture_output=True, stdin=subprocess.DEVNULL, check=False, timeout=150)
        return done.returncode, done.stdout, done.stderr

    assert await read_cut(bench, read) == dict.fromkeys(CUTS, (0, f"{TEXT}\n".encode(), b""))


async def test_a_browser(bench: Bench, tmp_path: Path) -> None:
    require(missing("chromium"))

    async def read(url: str) -> list[Any]:
        command = ["chromium", *OPTIONS, f"--user-data-dir={tmp_path / 'profile'}", f"{url}/harness.html"]
        quiet = subprocess.DEVNULL
        browser = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
        try:
            await bench.upstream.until(lambda: len(told()) == 2, 150)
        finally:
            os.killpg(browser.pid, signal.SIGKILL)
            await deferToThread(browser.wait)
        return told()

    def told() -> list[Any]:
        return [json.loads(bytes(each.body)) for each in bench.upstream.requests if each.target == b"/result"]

    ((asked, reloaded),) = (await read_cut(bench, read, [333], cuts=1)).values()
    assert [asked["text"], reloaded["text"]] == [TEXT, TEXT]
    assert "reconnecting" in asked["seen"] and "reconnecting" not in reloaded["seen"]
    assert [asked["seen"][-1], reloaded["seen"][-1]] == ["complete", "complete"]
