"""An owned process, for real: what is told when, what is kept, and that nothing stays behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor as _reactor
from twisted.logger import LogEvent, LogLevel, globalLogPublisher

from tests.upstream.wake.processes import DEADLINE, SLEEPER, all_gone, clean_up, family, lives, pids_in, python, wait_until
from txsse.testing import eventually
from txsse.upstream.wake import child as module
from txsse.upstream.wake.child import Child, Exit, Program, free_port, spawn
from txsse.upstream.wake.output import Output

reactor: Any = _reactor


class Run:
    """One run of a command, and what was heard of it."""

    def __init__(self, command: list[str], grace: float = DEADLINE) -> None:
        self.output = Output()
        self.heard: list[Exit | str] = []
        self.child: Child = spawn(reactor, "llama", command, self.output, self.heard.append, lambda: self.heard.append("gone"), grace=grace)

    async def until(self, *heard: Exit | str) -> None:
        await eventually(reactor, lambda: len(self.heard) >= len(heard), DEADLINE, f"{heard}, only {self.heard}")
        assert self.heard == [*heard]

    async def pid(self) -> int:
        await eventually(reactor, lambda: self.child.pid is not None, DEADLINE, "the process runs")
        assert self.child.pid is not None
        return self.child.pid


@pytest.fixture
def logged() -> Generator[list[LogEvent]]:
    events: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_namespace") == module.__name__ + ".Child":
            events.append(event)

    globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]  # a function is enough of an ILogObserver
    yield events
    globalLogPublisher.removeObserver(observe)  # type: ignore[arg-type]  # the same


async def test_its_exit_status_is_told_and_its_output_is_kept(logged: list[LogEvent]) -> None:
    run = Run(["sh", "-c", "echo loading; echo out of memory >&2; exit 3"])
    await run.until(Exit(status=3), "gone")
    await eventually(reactor, lambda: len(logged) == 2, what="the last line of the log")
    assert run.output.text() == "loading\nout of memory\n"
    assert logged[-1]["log_level"] is LogLevel.warn
    assert logged[-1]["log_format"].format(**logged[-1]).endswith("; it printed last:\nloading\nout of memory\n")


async def test_only_the_end_of_a_long_output_is_kept() -> None:
    run = Run(python("import os\nfor number in range(20000): os.write(1, b'%d\\n' % number)"))
    await run.until(Exit(status=0), "gone")
    await eventually(reactor, lambda: run.output.text().endswith("\n19999\n"), what="all of it")
    assert 60_000 < len(run.output.text()) <= 64 * 1024


async def test_a_signal_is_told_by_its_name() -> None:
    run = Run(["sh", "-c", "kill -SEGV $$"])
    await run.until(Exit(signal=signal.SIGSEGV), "gone")
    assert str(run.heard[0]) == "was killed by SIGSEGV"


async def test_a_program_that_is_not_there_is_told_as_a_shell_would() -> None:
    run = Run(["no-such-program-anywhere"])
    await run.until(Exit(status=127), "gone")
    assert str(run.heard[0]) == "exited with status 127 (command not found)"


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (Exit(status=0), "exited with status 0"),
        (Exit(status=126), "exited with status 126 (command cannot be run)"),
        (Exit(signal=9), "was killed by SIGKILL"),
        (Exit(signal=63), "was killed by signal 63"),
        (Exit(), "ended in an unknown way"),
    ],
)
def test_the_words_for_an_exit(how: Exit, words: str) -> None:
    assert str(how) == words


async def test_stopping_is_asking_first(logged: list[LogEvent]) -> None:
    run = Run(["sh", "-c", "trap 'echo bye; exit 0' TERM; echo up; sleep 600 & wait"])
    await eventually(reactor, lambda: run.output.text() == "up\n", DEADLINE, "it runs")
    run.child.stop()
    await run.until(Exit(status=0), "gone")
    await eventually(reactor, lambda: len(logged) == 2, what="the last line of the log")
    assert run.output.text() == "up\nbye\n"
    assert logged[-1]["log_level"] is LogLevel.info


async def test_who_does_not_listen_is_killed_after_the_grace(tmp_path: Path) -> None:
    run = Run(family(tmp_path / "pids", "stubborn"), grace=0.1)
    await eventually(reactor, lambda: pids_in(tmp_path / "pids"), DEADLINE, "the family runs")
    before = reactor.seconds()
    run.child.stop()
    run.child.stop()
    await run.until(Exit(signal=signal.SIGKILL), "gone")
    assert reactor.seconds() - before >= 0.1
    assert all_gone(pids_in(tmp_path / "pids"))


async def test_killing_does_not_wait_for_the_grace(tmp_path: Path) -> None:
    run = Run(family(tmp_path / "pids", "stubborn"))
    await eventually(reactor, lambda: pids_in(tmp_path / "pids"), DEADLINE, "the family runs")
    run.child.stop()
    run.child.kill()
    await run.until(Exit(signal=signal.SIGKILL), "gone")
    run.child.kill()
    run.child.stop()
    assert all_gone(pids_in(tmp_path / "pids"))


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_stopping_at_once_leaves_nothing_behind(how: str) -> None:
    run = Run(python(SLEEPER))
    getattr(run.child, how)()
    await eventually(reactor, lambda: "gone" in run.heard, DEADLINE, "nothing is left")
    # The launcher may not have come as far as to run it.
    assert len(run.heard) == 2
    assert run.child.pid is None or not lives(run.child.pid)


async def test_nothing_is_gone_before_the_whole_group_is(tmp_path: Path) -> None:
    run = Run(family(tmp_path / "pids", "leaves"))
    await run.until(Exit(status=3), "gone")
    assert all_gone(pids_in(tmp_path / "pids"))


async def test_a_stray_that_holds_the_pipe_delays_nothing(tmp_path: Path) -> None:
    run = Run(family(tmp_path / "pids", "astray"))
    await eventually(reactor, lambda: pids_in(tmp_path / "pids"), DEADLINE, "the family runs")
    process, stray = pids_in(tmp_path / "pids")
    try:
        await eventually(reactor, lambda: os.getsid(stray) == stray, DEADLINE, "the stray has left")
        run.child.kill()
        await run.until(Exit(signal=signal.SIGKILL), "gone")
        assert not lives(process)
        assert lives(stray)
        await eventually(reactor, lambda: not run.child.transport.pipes, what="the pipes are closed")  # type: ignore[union-attr]
    finally:
        clean_up([process, stray])


async def test_a_launcher_that_is_killed_takes_the_whole_group_with_it(tmp_path: Path) -> None:
    run = Run(family(tmp_path / "pids", "stubborn"))
    await eventually(reactor, lambda: pids_in(tmp_path / "pids"), DEADLINE, "the family runs")
    await run.pid()
    transport: Any = run.child.transport
    os.kill(transport.pid, signal.SIGKILL)
    await run.until(Exit(), "gone")
    await eventually(reactor, lambda: all_gone(pids_in(tmp_path / "pids")), DEADLINE, "the family is gone")


PROXY = """
import sys
from twisted.internet import reactor
from txsse.upstream.wake.child import Program
program = Program(reactor, "llama", sys.argv[1:], print)
child = program(lambda how: None, lambda: None)
print(child.transport.pid, flush=True)
reactor.run()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_proxys_own_death_leaves_nothing_behind(number: signal.Signals, tmp_path: Path) -> None:
    path = tmp_path / "pids"
    proxy = subprocess.Popen([sys.executable, "-c", PROXY, *family(path, "stubborn")], stdout=subprocess.PIPE)
    try:
        assert proxy.stdout is not None
        wait_until(lambda: pids_in(path), "the family runs")
        everybody = [int(proxy.stdout.readline()), *pids_in(path)]
        assert all(lives(pid) for pid in everybody)
        proxy.send_signal(number)
        proxy.wait(DEADLINE)
        wait_until(lambda: all_gone(everybody), "launcher, process and its child are gone")
    finally:
        proxy.kill()
        proxy.wait(DEADLINE)
        assert proxy.stdout is not None
        proxy.stdout.close()
        clean_up(pids_in(path))


async def test_a_program_runs_at_a_port_of_its_own_which_is_told_first() -> None:
    told: list[int] = []
    gone: list[bool] = []
    program = Program(reactor, "llama", ["sh", "-c", "echo at ${PORT}, really ${PORT}"], told.append)
    for _ in range(2):
        program(lambda _: None, lambda: gone.append(True))
    await eventually(reactor, lambda: len(gone) == 2, DEADLINE, "both are gone")
    await eventually(reactor, lambda: program.output.text().count("\n") == 2, what="what they printed")
    assert len(told) == 2
    assert set(program.output.text().splitlines()) == {f"at {port}, really {port}" for port in told}


async def test_a_command_without_a_port_is_run_as_it_stands() -> None:
    told: list[int] = []
    gone: list[bool] = []
    program = Program(reactor, "llama", ["echo", "$PORT", "{PORT}"], told.append)
    program(lambda _: None, lambda: gone.append(True))
    await eventually(reactor, lambda: gone and program.output.text() == "$PORT {PORT}\n", DEADLINE, "it was run")
    assert told == []


def test_a_free_port_can_be_listened_on() -> None:
    port = free_port()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        listener.listen()
        assert listener.getsockname() == ("127.0.0.1", port)
