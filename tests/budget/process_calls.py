"""Counts the function calls of the real process: with its reactor and its sockets, which are not there in memory."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Final

from tests.budget.lockstep import TIMEOUT, running
from tests.integration.process import Process

SCRIPT: Final = Path(__file__).with_name("counted.py")


def measure(folder: Path, reactor: str) -> dict[str, float]:
    """Function calls, in Python and in C, per JSON request, per short stream and per event on one reactor."""
    told = folder / f"{reactor}.calls"
    with running(folder, reactor, [sys.executable, str(SCRIPT), str(told)], Process.stop) as (talk, process):
        return talk.costs(lambda: _calls(process, told))


def _calls(process: Process, told: Path) -> int:
    told.unlink(missing_ok=True)
    process.signal(signal.SIGWINCH)
    deadline = time.monotonic() + TIMEOUT
    while not told.exists():
        assert time.monotonic() < deadline, f"it does not tell:\n{process.log}"
        time.sleep(0.001)
    return int(told.read_text())
