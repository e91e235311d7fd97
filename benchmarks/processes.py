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

import attrs

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


@attrs.frozen
class Usage:
    """What a process tree has taken, in seconds.

    :ivar exact: user and system time of its living threads, where the kernel tells nanoseconds.
    :ivar user: time in user mode, in the kernel's ticks.
    :ivar system: time in the kernel, in ticks.
    :ivar waited: ready to run while something else had the core; threads of one process wait for each other, too.
    """

    exact: float
    user: float
    system: float
    waited: float

    def __sub__(self, other: Usage) -> Usage:
        return Usage(self.exact - other.exact, self.user - other.user, self.system - other.system, self.waited - other.waited)

    @property
    def cpu(self) -> float:
        ticks = self.user + self.system
        # The ticks know of threads that have ended meanwhile.
        return self.exact if self.exact > 0 and ticks - self.exact < 0.05 else ticks

    @property
    def kernel_share(self) -> float:
        """Of the time it ran; 0 if it was too short to tell."""
        ticks = self.user + self.system
        return self.system / ticks if ticks > 0 else 0.0


def usage(pid: int) -> Usage:
    """Since the tree's processes began; what lies between two of these is their difference."""
    exact = user = system = waited = 0.0
    for one in tree(pid):
        fields = _read(Path(f"/proc/{one}/stat")).rpartition(")")[2].split()
        if fields:
            user += int(fields[11]) / os.sysconf("SC_CLK_TCK")
            system += int(fields[12]) / os.sysconf("SC_CLK_TCK")
        for task in Path(f"/proc/{one}/task").glob("*/schedstat"):
            ran, ready, *_ = map(int, _read(task).split() or (0, 0))
            exact += ran / 1e9
            waited += ready / 1e9
    return Usage(exact, user, system, waited)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process tree."""
    return usage(pid).cpu


def resident(pid: int) -> int:
    """Bytes of a process tree that are in memory. Pages that its processes share count once for each."""
    pages = sum(int(fields[1]) for one in tree(pid) if (fields := _read(Path(f"/proc/{one}/statm")).split()))
    return pages * os.sysconf("SC_PAGE_SIZE")


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has ended meanwhile
        return ""


def rest(pid: int, timeout: float = 10.0) -> None:
    """Wait until a process tree has nothing left to do, as after many clients have gone at once."""
    end = time.monotonic() + timeout
    before = cpu_seconds(pid)
    while time.monotonic() < end:
        time.sleep(0.05)
        now = cpu_seconds(pid)
        if now - before < 0.003:
            return
        before = now


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
