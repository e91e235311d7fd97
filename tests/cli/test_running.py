from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock

from txsse.cli.errors import CommandError
from txsse.cli.running import INTERRUPTED, run_in
from txsse.testing import HANG, REQUEST, STREAM_HEAD, ScriptedUpstream, chunk, eventually, steps


class Reactor(MemoryReactorClock):
    """Runs what waits for the start, then what the test does meanwhile."""

    def __init__(self, meanwhile: Callable[[Reactor], object]) -> None:
        super().__init__()
        self.meanwhile = meanwhile

    def run(self) -> None:
        for function, args, kwargs in self.whenRunningHooks:
            function(*args, **kwargs)
        self.meanwhile(self)

    def interrupt(self) -> None:
        for function, args, kwargs in self.triggers["before"]["shutdown"]:
            function(*args, **kwargs)


def test_the_result_is_the_status_and_ends_the_reactor() -> None:
    fake = Reactor(lambda fake: fake.advance(1))

    async def main(given: Any) -> int:
        waiting: Deferred[int] = Deferred()
        given.callLater(1, waiting.callback, 7)
        return await waiting

    assert run_in(fake, main) == 7
    assert fake.hasStopped


def test_what_main_raises_is_raised_after_the_reactor_has_stopped() -> None:
    fake = Reactor(lambda fake: None)

    async def main(given: Any) -> int:
        raise CommandError("no")

    with pytest.raises(CommandError, match="no"):
        run_in(fake, main)
    assert fake.hasStopped


def test_an_interrupt_cancels_main_and_is_the_status() -> None:
    fake = Reactor(Reactor.interrupt)
    tidied: list[bool] = []

    async def main(given: Any) -> int:
        try:
            await Deferred()
        finally:
            tidied.append(True)
        return 0

    assert run_in(fake, main) == INTERRUPTED
    assert tidied == [True]
    assert not fake.hasStopped  # it is stopping already


@pytest.mark.parametrize("script", [steps(REQUEST, HANG), steps(REQUEST, STREAM_HEAD + chunk(b": txsse\n"), HANG)])
async def test_ctrl_c_ends_watch_with_130_and_no_traceback(script: Any, tmp_path: Path) -> None:
    upstream = ScriptedUpstream(reactor, script)
    await upstream.open()
    with (tmp_path / "out").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "txsse.cli.main", "watch", upstream.url],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONWARNINGS": "error"},
        )
        try:
            await upstream.until(lambda: upstream.requests, timeout=20)
            process.send_signal(signal.SIGINT)
            await eventually(reactor, lambda: process.poll() is not None)
        finally:
            process.kill()
            process.wait()
    await upstream.stop()
    assert process.returncode == INTERRUPTED
    assert b"Traceback" not in (tmp_path / "out").read_bytes()
