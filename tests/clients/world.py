"""The stage: one scripted upstream for every client and scenario, one proxy before it, and the drivers as processes."""

from __future__ import annotations

import json
import os
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import attrs
from twisted.internet.defer import DeferredSemaphore, gatherResults
from twisted.internet.threads import deferToThread

from tests.clients.matrix import ROOT, Client
from tests.clients.scenarios import SCENARIOS, Scenario, Turn
from tests.clients.speech import speech_at
from tests.integration.process import Proxy, server
from txsse.testing import ScriptedUpstream, UpstreamConnection, answer
from txsse.testing.waiting import Reactor

AT_ONCE: Final = 3
"""Drivers at work at the same time: they wait more than they compute, but for their imports."""
LIMIT: Final = 400.0
"""Seconds for all of a driver."""

OPTIONS: Final[dict[str, Any]] = {
    "hold.commit_after": "200ms",
    "keepalive.commit_after": "200ms",
    "keepalive.interval": "200ms",
    "keepalive.heartbeat": "600ms",
    "cors_origins": ["*"],
}
"""Of every route: what takes minutes in life takes seconds here."""

Place = tuple[str, str, str]
"""A cell of the matrix: client, row, scenario. Also the beginning of its paths."""


@attrs.frozen
class Error:
    """What a client raised."""

    type: str
    message: str


@attrs.frozen
class Cell:
    """What came of one scenario for one row: the text read, the exception, and when the upstream got requests (seconds)."""

    text: str
    error: Error | None
    requests: tuple[float, ...]


class Backend:
    """The upstream: plays the scenario that a path names, and counts."""

    def __init__(self, reactor: Reactor) -> None:
        self.requests: dict[Place, list[float]] = defaultdict(list)
        self._reactor = reactor
        self._probed: dict[Place, float] = {}
        self._upstream = ScriptedUpstream(reactor, self._serve)

    @property
    def port(self) -> int:
        return self._upstream.port

    async def open(self) -> None:
        await self._upstream.open()

    async def stop(self) -> None:
        await self._upstream.stop()

    async def _serve(self, connection: UpstreamConnection) -> None:
        while True:
            request = await connection.request()
            path = request.target.decode().partition("?")[0]
            client, row, scenario, *rest = path.strip("/").split("/")
            place = (client, row, scenario)
            if request.method == b"OPTIONS":
                allow = [f"Access-Control-Allow-{what}: *" for what in ("Origin", "Headers", "Methods")]
                connection.send(answer(b"", headers=allow))
            elif rest == ["ready"]:
                connection.send(answer(b"", "200 OK" if self._is_awake(place) else "503 Service Unavailable"))
            else:
                before = self.requests[place]
                before.append(request.at)
                turn = Turn(self._reactor, connection, speech_at(path), len(before) - 1)
                await SCENARIOS[scenario].upstream(turn)

    def _is_awake(self, place: Place) -> bool:
        """A sleeping upstream begins to wake up with its first probe."""
        now: float = self._reactor.seconds()
        return now - self._probed.setdefault(place, now) >= (SCENARIOS[place[2]].cold or 0)


def configuration(clients: list[Client], port: int) -> str:
    """One upstream that is always up, and one for each cell that begins with a cold start; a route for each scenario, or cell."""
    tables = [server(), _upstream("main", port, 'preset = "tcp"')]
    for scenario in SCENARIOS.values():
        if scenario.cold is None:
            tables.append(_route("main", f"/*/*/{scenario.name}/**", scenario))
            continue
        for client in clients:
            for row in client.rows:
                name = f"{client.name}_{row}_{scenario.name}"
                path = f"/{client.name}/{row}/{scenario.name}"
                tables += [_upstream(name, port, f'path = "{path}/ready"'), _route(name, f"{path}/**", scenario)]
    return "\n".join(tables)


def _upstream(name: str, port: int, probe: str) -> str:
    return f'[[upstream]]\nname = "{name}"\nurl = "http://127.0.0.1:{port}"\nprobe = {{ {probe}, interval = "50ms" }}\n'


def _route(upstream: str, path: str, scenario: Scenario) -> str:
    options = OPTIONS | scenario.options | {"match.path": path, "upstream": upstream}
    return "[[route]]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in options.items())


class World:
    """Made once for all tests: :meth:`run` fills :attr:`cells`."""

    def __init__(self, reactor: Reactor, folder: Path) -> None:
        self.cells: dict[Place, Cell] = {}
        self.failures: dict[str, str] = {}
        """What a driver that failed as a whole printed, by its client's name."""
        self._folder = folder
        self.backend = Backend(reactor)
        self.proxy: Proxy | None = None

    async def run(self, clients: list[Client]) -> None:
        await self.backend.open()
        self.proxy = Proxy(configuration(clients, self.backend.port), self._folder)
        turns = DeferredSemaphore(AT_ONCE)
        await gatherResults([turns.run(deferToThread, self._drive, client) for client in clients], consumeErrors=True)

    def records(self, place: Place) -> str:
        """What the proxy logged of a cell, and what its driver complained of: for a test that fails."""
        said = self._folder / f"{place[0]}.log"
        lines = [] if self.proxy is None else [line for line in self.proxy.log.splitlines() if "/".join(place) + "/" in line]
        return "\n".join(lines[-20:]) + "\n" + (said.read_text("utf-8", "replace")[-3000:] if said.exists() else "")

    async def stop(self) -> None:
        if self.proxy is not None:
            self.proxy.stop()
        await self.backend.stop()

    def _drive(self, client: Client) -> None:
        """In a thread of its own, for the reactor plays the upstream meanwhile."""
        assert self.proxy is not None
        command = client.command(f"http://127.0.0.1:{self.proxy.port}/{client.name}", list(SCENARIOS))
        output, errors = (self._folder / f"{client.name}.{suffix}" for suffix in ("jsonl", "log"))
        environment = {"PATH": os.environ["PATH"], "HOME": str(self._folder), "NO_PROXY": "127.0.0.1"}
        with output.open("wb") as stdout, errors.open("wb") as stderr:
            driver = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)
            try:
                status = driver.wait(LIMIT)
            except subprocess.TimeoutExpired:
                driver.kill()
                status = driver.wait()
        if status:
            self.failures[client.name] = f"exit status {status}\n{errors.read_text('utf-8', 'replace')[-3000:]}"
        for line in output.read_text("utf-8").splitlines():
            found = json.loads(line)
            place = (client.name, found["row"], found["scenario"])
            error = Error(**found["error"]) if found["error"] else None
            self.cells[place] = Cell(found["text"], error, tuple(self.backend.requests[place]))
