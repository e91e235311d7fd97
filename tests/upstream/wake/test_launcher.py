"""The launcher as a process of its own, driven by hand: what it tells, what it passes on, what it leaves behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import IO

import pytest

from tests.upstream.wake.processes import DEADLINE, SLEEPER, all_gone, clean_up, family, lives, pids_in, python, wait_until
from txsse.upstream.wake import launcher

MOVE = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.close(int(sys.argv[1])); os.execv(sys.argv[2], sys.argv[2:])"


def launching(told: int, command: list[str]) -> list[str]:
    """The command line of a launcher; Popen does not give a descriptor another number, so a process does that becomes the launcher."""
    return [*python(MOVE, str(told), sys.executable, "-I", "-S", launcher.__file__), *command]


class Launched:
    """A launcher and the ends of its pipes."""

    def __init__(self, command: list[str]) -> None:
        reading, writing = os.pipe()
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(launching(writing, command), stdin=pipe, stdout=pipe, stderr=pipe, pass_fds=[writing])
        os.close(writing)
        self.told: IO[bytes] = os.fdopen(reading, "rb")
        assert select.select([reading], [], [], DEADLINE)[0], "it tells nothing"
        word, number = self.told.readline().split()
        assert word == b"began"
        self.pid = int(number)

    def output(self) -> bytes:
        """All that the command printed; waits for the end."""
        self.process.wait(DEADLINE)
        assert self.process.stdout is not None
        return self.process.stdout.read()

    def hang_up(self) -> None:
        """What the proxy's death does."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def last_words(self) -> bytes:
        """Everything it tells from here to its end, which is waited for."""
        self.process.wait(DEADLINE)
        return self.told.read()

    def close(self) -> None:
        self.hang_up()
        self.process.wait(DEADLINE)
        for stream in (self.told, self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


Launch = Callable[..., Launched]


@pytest.fixture
def launch() -> Generator[Launch]:
    launched: list[Launched] = []

    def start(command: list[str]) -> Launched:
        launched.append(Launched(command))
        return launched[-1]

    yield start
    for each in launched:
        each.close()


@pytest.mark.parametrize(
    ("script", "told", "status"),
    [
        ("exit 0", b"exited 0\n", 0),
        ("exit 3", b"exited 3\n", 3),
        ("exit 255", b"exited 255\n", 255),
        ("kill -KILL $$", b"killed 9\n", 128 + 9),
        ("kill -TERM $$", b"killed 15\n", 128 + 15),
        ("kill -USR1 $$", b"killed 10\n", 128 + 10),  # the launcher hears it, the command must not inherit that
        ("kill -PIPE $$", b"killed 13\n", 128 + 13),  # Python ignores it, its children must not
    ],
)
def test_it_tells_how_the_command_ended(launch: Launch, script: str, told: bytes, status: int) -> None:
    running = launch(["sh", "-c", script])
    assert running.last_words() == told
    assert running.process.wait(DEADLINE) == status


def test_a_command_that_cannot_be_run_exits_as_in_a_shell(launch: Launch, tmp_path: Path) -> None:
    missing = launch(["no-such-program-anywhere"])
    assert missing.last_words() == b"exited 127\n"
    assert missing.output() == b"no-such-program-anywhere: No such file or directory\n"
    folder = launch([str(tmp_path)])
    assert folder.last_words() == b"exited 126\n"
    assert folder.output() == b"%s: Permission denied\n" % os.fsencode(tmp_path)


def test_both_outputs_come_through_one_pipe_in_their_order_and_the_input_is_empty(launch: Launch) -> None:
    running = launch(["sh", "-c", "echo one; echo two >&2; echo three; cat; echo four >&2"])
    assert running.output() == b"one\ntwo\nthree\nfour\n"
    assert running.last_words() == b"exited 0\n"


def test_the_command_has_a_group_of_its_own_in_a_session_without_terminal(launch: Launch) -> None:
    running = launch(python(SLEEPER))
    assert os.getpgid(running.pid) == running.pid
    assert os.getsid(running.pid) == os.getsid(running.process.pid) == running.process.pid


def test_it_inherits_the_environment_and_no_descriptor_but_its_three(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TXSSE_TEST_VARIABLE", "passed on")
    running = launch(["sh", "-c", 'echo "$TXSSE_TEST_VARIABLE"; for each in /proc/$$/fd/*; do echo "${each##*/}"; done'])
    assert running.output().split(b"\n")[:4] == [b"passed on", b"0", b"1", b"2"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_are_passed_on_to_the_whole_group(launch: Launch, number: signal.Signals, tmp_path: Path) -> None:
    running = launch(
        ["sh", "-c", f"trap 'exit 7' {number.name[3:]}; sleep 600 & echo $! >{tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; wait"]
    )
    wait_until((tmp_path / "pid").exists, "the command runs")
    running.process.send_signal(number)
    # Background jobs of a shell ignore SIGINT: the rest of the group is killed when its leader has gone.
    assert running.last_words() == b"exited 7\n"
    assert not lives(int((tmp_path / "pid").read_text()))


def test_hanging_up_kills_the_group_though_it_ignores_gentle_words(launch: Launch, tmp_path: Path) -> None:
    running = launch(family(tmp_path / "pids", "stubborn"))
    wait_until(lambda: pids_in(tmp_path / "pids"), "the family runs")
    pids = pids_in(tmp_path / "pids")
    running.process.send_signal(signal.SIGTERM)
    running.hang_up()
    assert running.last_words() == b"killed 9\n"
    # The end of what it tells means that nobody is left, not that somebody will be gone soon.
    assert all_gone(pids)


def test_who_is_left_when_the_command_ends_is_killed(launch: Launch, tmp_path: Path) -> None:
    running = launch(family(tmp_path / "pids", "leaves"))
    assert running.last_words() == b"exited 3\n"
    pids = pids_in(tmp_path / "pids")
    assert len(pids) == 2
    assert all_gone(pids)


def test_who_leaves_the_group_is_left_alone(launch: Launch, tmp_path: Path) -> None:
    running = launch(family(tmp_path / "pids", "astray"))
    wait_until(lambda: pids_in(tmp_path / "pids"), "the family runs")
    process, stray = pids_in(tmp_path / "pids")
    try:
        wait_until(lambda: os.getsid(stray) == stray, "the stray has left")
        running.hang_up()
        assert running.last_words() == b"killed 9\n"
        assert not lives(process)
        assert lives(stray)
    finally:
        clean_up([process, stray])


def test_orphans_of_the_group_are_buried_while_the_command_runs(launch: Launch, tmp_path: Path) -> None:
    # A process ends, its child becomes an orphan, ends too, and must not stay a zombie.
    running = launch(["sh", "-c", f"(sh -c 'echo $$ >{tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; sleep 0.05' & ); exec sleep 600"])
    wait_until((tmp_path / "pid").exists, "the orphan runs")
    orphan = int((tmp_path / "pid").read_text())
    wait_until(lambda: not Path(f"/proc/{orphan}").exists(), "the orphan is buried")
    assert lives(running.pid)


def test_the_process_dies_with_a_launcher_that_is_killed(launch: Launch) -> None:
    running = launch(python(SLEEPER))
    running.process.kill()
    wait_until(lambda: not lives(running.pid), "the process is gone")


def test_its_parents_death_is_enough_though_the_pipe_stays_open(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    # A process between us and the launcher, which is killed while the launcher's pipe stays open here.
    code = f"import subprocess, sys; subprocess.Popen(sys.argv[1:], pass_fds=[{writing}]).wait()"
    between = subprocess.Popen(python(code, *launching(writing, family(tmp_path / "pids"))), stdin=subprocess.PIPE, pass_fds=[writing])
    os.close(writing)
    try:
        wait_until(lambda: pids_in(tmp_path / "pids"), "the family runs")
        between.kill()
        between.wait(DEADLINE)
        wait_until(lambda: all_gone(pids_in(tmp_path / "pids")), "the family is gone")
        with os.fdopen(reading, "rb") as told:
            assert told.read().split(b"\n")[1:] == [b"killed 9", b""]
    finally:
        assert between.stdin is not None
        between.stdin.close()
        clean_up(pids_in(tmp_path / "pids"))
