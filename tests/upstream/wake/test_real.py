"""A starter with real processes: exit status, cancelled starts, one GPU for two. Whoever is started here is gone at the end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest_twisted  # type: ignore[import-untyped]  # has no types
from twisted.internet import reactor as _reactor

from tests.upstream.wake.processes import DEADLINE, all_gone, family, pids_in, python
from txsse.config import model
from txsse.config.urls import with_port
from txsse.testing import eventually
from txsse.upstream.endpoints import Target
from txsse.upstream.fetch import fetch
from txsse.upstream.state import Event, Standing, State
from txsse.upstream.wake.child import Program
from txsse.upstream.wake.eta import Starts
from txsse.upstream.wake.group import Group
from txsse.upstream.wake.parts import Ended, Result
from txsse.upstream.wake.starter import Starter

reactor: Any = _reactor

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"up")
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print("listening", flush=True)
server.serve_forever()
"""


@attrs.define(eq=False)
class Upstream:
    """A starter and its program, without a gate."""

    program: Program
    standing: Standing
    port: int = 0
    ended: list[Ended] = attrs.field(factory=list)
    starter: Starter = attrs.field(init=False)

    def look(self) -> None:
        """Called by the starter; there is no gate."""

    def wake_ended(self, ended: Ended) -> None:
        self.ended.append(ended)

    async def until(self, state: State) -> None:
        await eventually(reactor, lambda: self.standing.state is state, DEADLINE, f"it is {state.value}")

    def passed(self) -> None:
        """What the gate does when its probe passes and nobody waits."""
        self.standing.hear(Event.PROBE_PASSED, "")
        self.starter.looked(Event.PROBE_PASSED)


Make = Callable[..., Upstream]


@pytest_twisted.async_yield_fixture()  # type: ignore[untyped-decorator]  # pytest-twisted has no types
async def make() -> AsyncGenerator[Make, None]:
    made: list[Upstream] = []

    def upstream(command: list[str], config: model.Wake | None = None, group: Group | None = None) -> Upstream:
        def moved(port: int) -> None:
            each.port = port

        program = Program(reactor, "llama", command, moved)
        each = Upstream(program, Standing(reactor.seconds, lambda *_: None, State.DOWN))
        each.starter = Starter(
            reactor,
            "llama",
            config or model.Wake(),
            each.standing,
            each,
            errands=None,
            spawn=program,
            group=group or Group(),
            starts=Starts(),
        )
        made.append(each)
        return each

    yield upstream
    for each in made:
        await each.starter.close()


async def test_a_server_is_started_at_its_port_and_stopped(make: Make) -> None:
    upstream = make(python(SERVER, "${PORT}"))
    upstream.starter.wanted()
    await eventually(reactor, lambda: upstream.program.output.text() == "listening\n", DEADLINE, "it listens")
    target = Target.parse(with_port("http://127.0.0.1:${PORT}", upstream.port))
    assert (await fetch(reactor, target, "/", [], 5)).body == b"up"
    upstream.passed()
    upstream.starter.unwanted()
    assert upstream.ended[0].result is Result.READY
    upstream.starter.stop()
    await upstream.until(State.DOWN)
    assert upstream.starter.at_rest


async def test_an_exit_is_told_at_once_with_its_status(make: Make) -> None:
    upstream = make(["sh", "-c", "echo CUDA out of memory; exit 3"])
    upstream.starter.wanted()
    await eventually(reactor, lambda: upstream.ended, DEADLINE, "the start is over")
    assert (upstream.ended[0].result, upstream.ended[0].detail) == (Result.FAILED, "its process exited with status 3")
    await eventually(reactor, lambda: upstream.program.output.text() == "CUDA out of memory\n", what="its output")


async def test_a_cancelled_start_leaves_nothing_behind(make: Make, tmp_path: Path) -> None:
    upstream = make(family(tmp_path / "pids"), model.Wake(cancel_after=0.01))
    upstream.starter.wanted()
    await eventually(reactor, lambda: pids_in(tmp_path / "pids"), DEADLINE, "the family runs")
    upstream.starter.unwanted()
    await upstream.until(State.STOPPING)
    await upstream.until(State.DOWN)
    assert all_gone(pids_in(tmp_path / "pids"))


async def test_closing_leaves_nothing_behind(make: Make, tmp_path: Path) -> None:
    upstream = make(family(tmp_path / "pids"))
    upstream.starter.wanted()
    await eventually(reactor, lambda: pids_in(tmp_path / "pids"), DEADLINE, "the family runs")
    await upstream.starter.close()
    assert all_gone(pids_in(tmp_path / "pids"))


async def test_one_of_a_group_starts_when_nothing_of_the_other_is_left(make: Make, tmp_path: Path) -> None:
    group = Group()
    one = make(family(tmp_path / "one"), group=group)
    other = make(family(tmp_path / "other"), group=group)
    one.starter.wanted()
    await eventually(reactor, lambda: pids_in(tmp_path / "one"), DEADLINE, "the first runs")
    one.passed()
    one.starter.unwanted()
    other.starter.wanted()
    await other.until(State.WAKING)
    assert all_gone(pids_in(tmp_path / "one"))
    await eventually(reactor, lambda: pids_in(tmp_path / "other"), DEADLINE, "the other runs")
