"""A process that belongs to the proxy: started, heard, and stopped with everything it started itself."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse.config.urls import PORT, with_port
from txsse.upstream.wake.output import Output

STOP_GRACE: Final = 10.0
"""Seconds between SIGTERM and SIGKILL."""
LAST_WORDS: Final = 1.0
"""Seconds that output is still read for when nothing of the group is left; a process that left it may hold the pipe for ever."""
TAIL: Final = 4096
"""Bytes of output that the log gets when a process ends that nobody asked to."""

_LAUNCHER: Final = str(Path(__file__).with_name("launcher.py"))


@attrs.frozen
class Exit:
    """How a process ended; as text a phrase to follow its subject: "exited with status 3", "was killed by SIGKILL".

    :param status: ``None`` if a signal ended it; both are ``None`` if that cannot be known.
    """

    status: int | None = None
    signal: int | None = None

    def __str__(self) -> str:
        if self.signal is not None:
            return f"was killed by {_name_of(self.signal)}"
        if self.status is None:
            return "ended in an unknown way"
        # What shells and env(1) say of a command they cannot run; so does our launcher.
        meaning = {126: " (command cannot be run)", 127: " (command not found)"}.get(self.status, "")
        return f"exited with status {self.status}{meaning}"


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Child(ProcessProtocol):
    """One run of a command. Made by :func:`spawn`.

    :param output: takes what it prints, on both of its outputs.
    :param exited: called once, as soon as the process has ended.
    :param gone: called once, after that, when nothing of its process group is left either.
    :ivar pid: of the process itself, which is also its group's; ``None`` until it runs.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, name: str, output: Output, exited: Callable[[Exit], None], gone: Callable[[], None], grace: float
    ) -> None:
        self.pid: int | None = None
        self._reactor = reactor
        self._name = name
        self._output = output
        self._exited = exited
        self._gone = gone
        self._grace = grace
        self._told = b""
        self._exit: Exit | None = None
        self._there = True  # something of its group may be left
        self._asked = False
        self._later: IDelayedCall | None = None

    def stop(self) -> None:
        """SIGTERM to its group, and after the grace SIGKILL. Idempotent."""
        if self._asked or not self._there:
            return
        self._asked = True
        try:
            self._transport.signalProcess("TERM")  # the launcher passes it on
        except ProcessExitedAlready:
            return
        self._later = self._reactor.callLater(self._grace, self._kill)

    def kill(self) -> None:
        """SIGKILL to its group. Idempotent."""
        self._asked = True
        self._cancel()
        self._kill()

    def _kill(self) -> None:
        self._later = None
        self._transport.closeStdin()

    def _cancel(self) -> None:
        later, self._later = self._later, None
        if later is not None:
            later.cancel()

    @property
    def _transport(self) -> Any:
        return self.transport

    # -- called by the reactor's Process

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        if childFD != 3:
            self._output.add(data)
            return
        *lines, self._told = (self._told + data).split(b"\n")
        for line in lines:
            word, number = line.split()
            self._hear(word, int(number))

    def _hear(self, word: bytes, number: int) -> None:
        if word == b"began":
            self.pid = number
            self._log.info("upstream {upstream}: its process runs, pid {pid}", upstream=self._name, pid=number)
        else:
            self._end(Exit(status=number) if word == b"exited" else Exit(signal=number))

    def _end(self, how: Exit) -> None:
        self._exit = how
        self._exited(how)

    def childConnectionLost(self, childFD: int) -> None:
        if childFD != 3:
            return
        self._there = False
        self._cancel()
        if self._exit is None:
            self._orphaned()
        # What it printed last may still be on its way.
        self._later = self._reactor.callLater(LAST_WORDS, self._stop_reading)
        self._gone()

    def _orphaned(self) -> None:
        """Somebody killed the launcher: the process dies of that (on Linux), the rest of its group does not."""
        if self.pid is not None:
            with contextlib.suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)
        self._end(Exit())

    def _stop_reading(self) -> None:
        self._later = None
        self._transport.loseConnection()

    def processEnded(self, reason: Failure) -> None:
        self._cancel()
        tell = self._log.info if self._asked else self._log.warn
        printed = "" if self._asked else self._output.text(TAIL)
        tell(
            "upstream {upstream}: its process {how}{printed}",
            upstream=self._name,
            how=str(self._exit),
            printed=f"; it printed last:\n{printed}" if printed else "",
        )


def spawn(
    reactor: Any,
    name: str,
    command: Sequence[str],
    output: Output,
    exited: Callable[[Exit], None],
    gone: Callable[[], None],
    grace: float = STOP_GRACE,
) -> Child:
    """Run *command* with the proxy's environment and an empty standard input; see :class:`Child`.

    Its process group does not outlive the proxy, however that ends. Processes that leave the group (setsid) do.

    :param reactor: provides IReactorProcess and IReactorTime.
    :param name: the upstream's, for the log.
    :param grace: seconds between SIGTERM and SIGKILL.
    :raises OSError: there can be no new process. That the command cannot be run shows in its exit status.
    """
    child = Child(reactor, name, output, exited, gone, grace)
    # The launcher: killing a group after a crash needs a process that survives it, and 10 MiB of Python is the smallest at hand.
    # Isolated and without site: neither the environment nor the working directory has a say in what it imports.
    arguments = [sys.executable, "-I", "-S", _LAUNCHER, *command]
    reactor.spawnProcess(child, sys.executable, arguments, env=None, childFDs={0: "w", 1: "r", 2: "r", 3: "r"})
    return child


def free_port() -> int:
    """A loopback port nobody listens on.

    Linux gives odd ones to who asks like this and even ones to outgoing connections, as long as it has both: so the proxy's own traffic
    does not take it away from the process it is for, which may need a minute before it listens.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Program:
    """The command of one upstream: runs it again and again, and keeps what it prints.

    :param command: ``${PORT}`` in it becomes a port chosen anew for each run.
    :param moved: told of that port, before the run.
    """

    def __init__(self, reactor: Any, name: str, command: Sequence[str], moved: Callable[[int], None]) -> None:
        self.output = Output()
        self._reactor = reactor
        self._name = name
        self._command = command
        self._moved = moved
        self._has_port = any(PORT in word for word in command)

    def __call__(self, exited: Callable[[Exit], None], gone: Callable[[], None]) -> Child:
        """Run it.

        :raises OSError: as :func:`spawn`.
        """
        command = self._command
        if self._has_port:
            port = free_port()
            command = [with_port(word, port) for word in command]
            self._moved(port)
        return spawn(self._reactor, self._name, command, self.output, exited, gone)
