"""Counts the system calls of the real process, under strace."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.budget.lockstep import TIMEOUT, running, twistd
from tests.integration.process import Process

QUIET: Final = 0.01  # seconds without a system call: the proxy sleeps


def missing() -> str:
    """Why nothing can be counted here; empty if it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    tried = subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True, timeout=TIMEOUT, check=False)
    return tried.stderr.decode(errors="replace").strip() if tried.returncode else ""


def measure(folder: Path, reactor: str) -> dict[str, float]:
    """System calls per JSON request, per short stream and per event on one reactor."""
    trace = folder / f"{reactor}.trace"
    wrapper = ["strace", "-f", "-qq", "-e", "signal=none", "-o", str(trace), twistd()]
    with running(folder, reactor, wrapper, _stop) as (talk, _):
        return talk.costs(lambda: _calls(trace))


def _calls(trace: Path) -> int:
    """System calls so far; asked when the proxy has nothing left to do."""
    deadline = time.monotonic() + TIMEOUT
    before = -1
    while (now := _traced(trace)) != before:
        assert time.monotonic() < deadline, "the proxy does not come to rest"
        before = now
        time.sleep(QUIET)
    return now


def _traced(trace: Path) -> int:
    lines = trace.read_bytes().split(b"\n")[:-1]
    # Waking because it was time to is no part of an operation.
    return sum(1 for line in lines if b" resumed>" not in line and not (b" epoll_wait(" in line and line.endswith(b"= 0")))


def _stop(strace: Process) -> None:
    """strace blocks the signals that would end it, and ends with the process that it traces."""
    with suppress(OSError):  # it has ended by itself
        for child in Path(f"/proc/{strace.pid}/task/{strace.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGTERM)
    strace.stop()
