"""Small real processes for the tests, and whether they live."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

DEADLINE = 60.0  # seconds; what is waited for takes a fraction of one


def python(code: str, *arguments: str) -> list[str]:
    """The command line of a script, in an interpreter that starts quickly."""
    return [sys.executable, "-I", "-S", "-c", code, *arguments]


SLEEPER = "import time; time.sleep(600)"

FAMILY = """
import os, signal, sys, time
mode, path = sys.argv[1:]
if "stubborn" in mode:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
other = os.fork()
if other == 0:
    if "astray" in mode:
        os.setsid()
    time.sleep(600)
    os._exit(0)
with open(path + ".new", "w") as file:
    file.write(f"{os.getpid()} {other}")
os.rename(path + ".new", path)
if "leaves" in mode:
    sys.exit(3)
time.sleep(600)
"""
"""A process with a child of its own; their pids are in the file when both run. Modes: stubborn (no SIGTERM), astray (the child leaves the
group), leaves (the process itself ends at once)."""


def family(path: Path, mode: str = "plain") -> list[str]:
    return python(FAMILY, mode, str(path))


def pids_in(path: Path) -> list[int]:
    """The pids in the file; none until it is there."""
    return [int(each) for each in path.read_text().split()] if path.exists() else []


def lives(pid: int) -> bool:
    """Whether it runs; one that has ended and is not yet buried does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Return as soon as *condition* is true; without a reactor."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, f"not within {DEADLINE:g} s: {what}"
        time.sleep(0.005)


def all_gone(pids: Sequence[int]) -> bool:
    return not any(lives(pid) for pid in pids)


def clean_up(pids: Sequence[int]) -> None:
    """Kill what a failed test, or one about strays, leaves behind."""
    for pid in pids:
        if lives(pid):
            os.kill(pid, signal.SIGKILL)
