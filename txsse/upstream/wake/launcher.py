"""Runs one command for the proxy, and takes it down, with all that it started, as soon as the proxy is gone.

A script for a bare interpreter (``python -I -S launcher.py COMMAND ..``), which imports nothing of ours: it stays as long as the command.
The command has a process group of its own, and its grandchildren are in it unless they leave it (setsid): those nobody takes down.

=== ==========================================================================================
fd
=== ==========================================================================================
0   a pipe from the proxy. Its end, however it comes about, kills the group
1   what the command prints, on both of its outputs
2   what goes wrong here
3   what the proxy is told, a line each: ``began PID``, then ``exited STATUS`` or ``killed SIGNAL``;
    its end means that nothing of the group is left
=== ==========================================================================================

SIGTERM, SIGINT and SIGHUP are passed on to the group. A command that cannot be run exits with 127 (not found) or 126, as in a shell.
"""

# ruff: noqa: SIM105 - each import costs memory for as long as a model is loaded

from __future__ import annotations

import os
import select
import signal
import sys

TOLD = 3
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
PROXY_DIED = signal.SIGUSR1
HEARD = (*PASSED_ON, PROXY_DIED, signal.SIGCHLD)
IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)  # in this process, and so in what it runs

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36


def main(command: list[str]) -> int:
    """Run *command* to its end; the exit status as a shell would have it."""
    os.setsid()  # Ctrl-C at the proxy's terminal is for the proxy alone
    os.set_inheritable(TOLD, False)
    process_control(PR_SET_CHILD_SUBREAPER, 1)  # orphans of the group come to us, so that we see the last one go
    process_control(PR_SET_PDEATHSIG, PROXY_DIED)  # should a copy of the pipe be left in some other process
    hearing, heard = os.pipe()
    os.set_blocking(heard, False)
    signal.set_wakeup_fd(heard)
    for number in HEARD:
        signal.signal(number, note)
    child = start(command)
    os.dup2(2, 1)  # so that the end of the output is the end of the group's
    tell("began", child)
    code = os.waitstatus_to_exitcode(watch(child, hearing))
    if code < 0:
        tell("killed", -code)
    else:
        tell("exited", code)
    send(child, signal.SIGKILL)
    wait_for_group(child)
    return 128 - code if code < 0 else code


def note(number: int, frame: object) -> None:
    """Called for each signal, whose number is already on its way through the wake-up descriptor."""


def start(command: list[str]) -> int:
    """Fork; what is sent before the command runs reaches it when it does."""
    launcher = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    child = os.fork()
    if child == 0:
        become(command, launcher)
    try:
        os.setpgid(child, child)  # both sides do it: neither may be the first to need it
    except OSError:
        pass  # it runs the command already, or is gone
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
    return child


def become(command: list[str], launcher: int) -> None:
    """In the child: turn into the command. Does not return."""
    try:
        os.setpgid(0, 0)
        process_control(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != launcher:
            os._exit(1)  # it died before we asked to be told
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(1, 2)
        for number in (*HEARD, *IGNORED_BY_PYTHON):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode(errors="surrogateescape"))
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


def watch(child: int, hearing: int) -> int:
    """Serve until *child* has ended; its wait status."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(hearing, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == 0:
                if not os.read(0, 512):
                    poll.unregister(0)
                    send(child, signal.SIGKILL)
                continue
            for number in os.read(hearing, 512):
                if number != signal.SIGCHLD:
                    send(child, signal.SIGKILL if number == PROXY_DIED else number)
            status = reap(child)
            if status is not None:
                return status


def reap(child: int) -> int | None:
    """Bury the dead, orphans included; the wait status of *child* if it is among them."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == child:
            return status
        if pid == 0:
            return None


def wait_for_group(group: int) -> None:
    try:
        while True:
            os.waitpid(-group, 0)
    except ChildProcessError:
        pass


def send(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except OSError:
        pass  # nobody is left


def tell(word: str, number: int) -> None:
    try:
        os.write(TOLD, f"{word} {number}\n".encode())
    except OSError:
        pass  # the proxy is gone: the pipe's end says the rest


def process_control(option: int, value: int) -> None:
    """prctl(2), where there is one."""
    if sys.platform == "linux":
        import ctypes

        prctl = ctypes.CDLL(None).prctl
        prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)
        prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))
