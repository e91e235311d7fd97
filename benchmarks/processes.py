"""Processes that are started pinned to a core, measured as whole trees from ``/proc``, and stopped by their number."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

STOP_TIMEOUT = 5.0  # seconds for SIGTERM, then SIGKILL


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Pinned:
    """A command in a session of its own, on one core. Use as a context manager: nothing outlives the block."""

    def __init__(
        self,
        command: Sequence[str],
        core: int,
        *,
        log: Path | None = None,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        talk: bool = False,
    ) -> None:
        """
        :param log: takes standard output and error.
        :param talk: standard input and output are pipes instead.
        """
        self._log: IO[bytes] | None = log.open("ab") if log is not None else None
        self.process = subprocess.Popen(
            ["taskset", "-c", str(core), *command],
            stdin=subprocess.PIPE if talk else subprocess.DEVNULL,
            stdout=subprocess.PIPE if talk else self._log,
            stderr=self._log,
            env=environment,
            cwd=directory,
            start_new_session=True,
        )

    def __enter__(self) -> Pinned:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self.process.pid  # taskset becomes the command

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def stop(self) -> None:
        children = tree(self.pid) if self.alive else []
        if self.alive:
            self.process.terminate()
            try:
                self.process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for child in children:
            if child != self.pid and _session(child) == self.pid:  # it is still that process, and no later one with its number
                _kill(child)
        for stream in (self.process.stdin, self.process.stdout, self._log):
            if stream is not None:
                stream.close()


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return -1


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        for listing in Path(f"/proc/{one}/task").glob("*/children"):
            todo += map(int, _read(listing).split())
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of a process tree: in nanoseconds where the kernel tells them, else in its ticks."""
    return sum(_exact(one) or _ticks(one) for one in tree(pid))


def _exact(pid: int) -> float:
    return sum(int(fields[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat") if (fields := _read(task).split())) / 1e9


def _ticks(pid: int) -> float:
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def resident(pid: int) -> int:
    """Bytes of a process tree that are in memory. Pages that its processes share count once for each."""
    pages = sum(int(fields[1]) for one in tree(pid) if (fields := _read(Path(f"/proc/{one}/statm")).split()))
    return pages * os.sysconf("SC_PAGE_SIZE")


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has ended meanwhile
        return ""


def wait_until(what: str, ready: Callable[[], bool], timeout: float, process: Pinned | None = None) -> float:
    """Ask *ready* until it says yes; the seconds that took.

    :raises RuntimeError: it never did, or the process has ended.
    """
    began = time.monotonic()
    while not ready():
        if process is not None and not process.alive:
            raise RuntimeError(f"{what}: ended with status {process.process.returncode}")
        if time.monotonic() - began > timeout:
            raise RuntimeError(f"{what}: not ready after {timeout:g} s")
        time.sleep(0.01)
    return time.monotonic() - began
