"""Our transports on each reactor of Twisted's that watches file descriptors, and on our own, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_architecture import imports_of

ROOT = Path(__file__).parent.parent.parent
PLUGIN = ROOT / "twisted" / "plugins" / "txsse_reactor.py"


def run(*command: str) -> str:
    answer = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.mark.parametrize(
    ("name", "kind", "system"),
    [
        ("epoll", "EPollReactor", "Echo"),
        ("poll", "PollReactor", "Echo"),
        ("select", "SelectReactor", "Echo"),
        ("asyncio", "AsyncioSelectorReactor", ""),  # logs in a way that knows no context
        ("txsse", "DescriptorReactor", "Echo"),
    ],
)
def test_connections_live_and_end_as_they_should(name: str, kind: str, system: str) -> None:
    assert json.loads(run("-m", "tests.sockets.echoing", name)) == {
        "reactor": kind,
        "transport": "TCPTransport",
        "echo": "hello",
        "much": True,
        "raised": "ConnectionDone",  # to the other side; only that connection has ended
        "logged": [["ZeroDivisionError", system]],
        "others": "still here",
        "aborted": "ConnectionAborted",
        "half-closed": "ConnectionDone",
        "refused": "ConnectionRefusedError",
    }


def test_twistd_offers_the_reactor() -> None:
    assert "txsse" in run("-c", "from twisted.scripts.twistd import run; run()", "--help-reactors").split()


def test_the_plugin_file_imports_nothing_of_ours() -> None:
    imports = imports_of("twisted.plugins.txsse_reactor", PLUGIN.read_text(encoding="utf-8"))
    assert imports and not any(each.is_of("txsse", "twisted.internet") for each in imports)


def test_our_own_reactor_can_be_imported_before_any_is_installed() -> None:
    run("-c", "import sys, txsse.sockets.reactor; sys.exit('twisted.internet.reactor' in sys.modules)")
