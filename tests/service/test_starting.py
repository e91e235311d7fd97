"""Upstreams that the service starts: orders, reloads, the drain and the demand. On a reactor in memory, with processes that are played."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone, ConnectionRefusedError, ProcessDone, ProcessExitedAlready
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from tests.service.test_service import GET, SERVER, STREAM, Bench, Reactor
from txsse.config import Configuration, loads
from txsse.service import PROCESS_PATIENCE
from txsse.upstream.gate import GRACE, REMEMBERED
from txsse.upstream.wake.child import STOP_GRACE


class FakeProcess:
    """A launcher, as its protocol sees it."""

    def __init__(self, protocol: Any, command: Sequence[str]) -> None:
        self.protocol = protocol
        self.command = list(command)
        self.asked: list[str] = []
        self.over = False

    def signalProcess(self, name: str) -> None:
        if self.over:
            raise ProcessExitedAlready
        self.asked.append(name)

    def closeStdin(self) -> None:
        self.asked.append("end of file")

    def loseConnection(self) -> None: ...

    def prints(self, data: bytes) -> None:
        self.protocol.childDataReceived(1, data)

    def ends(self, how: bytes = b"exited 0") -> None:
        self.over = True
        self.protocol.childDataReceived(3, b"began 4242\n" + how + b"\n")
        self.protocol.childConnectionLost(3)
        self.protocol.processEnded(Failure(ProcessDone(0)))


class StartingReactor(Reactor):
    def __init__(self) -> None:
        super().__init__()
        self.processes: list[FakeProcess] = []

    def spawnProcess(self, protocol: Any, executable: str, args: Sequence[str], env: object, childFDs: dict[int, str]) -> FakeProcess:
        self.processes.append(FakeProcess(protocol, args[4:]))
        protocol.makeConnection(self.processes[-1])
        return self.processes[-1]


def upstream(name: str, more: str = "", url: str = "http://127.0.0.1:8080") -> str:
    probe = 'probe = { preset = "tcp" }'
    table = f'[[upstream]]\nname = "{name}"\nurl = "{url}"\n{probe}\nwake = {{ exec = ["serve", "{name}"]{more} }}\n'
    return f'{table}[[route]]\nupstream = "{name}"\nmatch = {{ path = "/{name}" }}\n'


class World(Bench):
    """A service whose processes, and the connections to them, are in the test's hands."""

    def __init__(self, configuration: str, reread: Callable[[], Configuration] | None = None) -> None:
        super().__init__(SERVER + configuration, reread, reactor=StartingReactor())
        self.start()
        self._answered = 0

    def ask(self, name: str, request: bytes = GET) -> Any:
        return self.connect(request.replace(b"/ ", b"/%b " % name.encode(), 1))

    @property
    def process(self) -> FakeProcess:
        process: FakeProcess = self.reactor.processes[-1]
        return process

    @property
    def commands(self) -> list[list[str]]:
        return [process.command for process in self.reactor.processes]

    def attempts(self) -> list[Any]:
        """Connections that were tried since the last time."""
        clients: list[Any] = self.reactor.tcpClients[self._answered :]
        self._answered += len(clients)
        return clients

    def accept(self) -> None:
        """Whoever connects finds somebody."""
        for client in self.attempts():
            transport = StringTransport()
            protocol = client[2].buildProtocol(None)
            protocol.makeConnection(transport)

    def refuse(self) -> None:
        for client in self.attempts():
            client[2].clientConnectionFailed(None, Failure(ConnectionRefusedError()))

    def come_up(self, name: str) -> Any:
        """Through one request, which is then under way."""
        client = self.ask(name)
        self.reactor.advance(0)
        self.reactor.advance(0)
        self.accept()  # the probe
        self.reactor.advance(0)
        assert self.service.proxy.backends[name].ready
        return client

    def leave(self, client: Any) -> None:
        client.protocol.connectionLost(Failure(ConnectionDone()))
        self.reactor.advance(0)

    def demand(self, name: str) -> int:
        return self.service.queue()[name]["demand"]


def test_it_is_started_by_the_first_request_and_shown() -> None:
    world = World(upstream("llama"))
    assert world.commands == []
    world.ask("llama")
    world.reactor.advance(0)
    assert world.commands == [["serve", "llama"]]
    world.process.prints(b"loading weights\n")
    world.reactor.advance(2)
    status = world.service.status()["upstreams"]["llama"]
    assert (status["state"], status["elapsed"], status["eta"]) == ("waking", 2.0, None)
    assert status["output"] == "loading weights\n"
    assert status["slots"] == {"number": 0, "taken": 0}


def test_an_exit_is_told_to_who_waits_with_the_rest_of_the_cool_down() -> None:
    world = World(upstream("llama", ", cooldown = 20"))
    client = world.ask("llama")
    world.reactor.advance(0)
    world.process.prints(b"out of memory\n")
    world.process.ends(b"exited 3")
    answer = client.value()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 20\r\n" in answer
    assert b"its process exited with status 3" in answer
    assert b"memory" not in answer
    assert world.service.metrics.wakes == {("llama", "failed"): 1}
    world.reactor.advance(12)
    assert b"\r\nRetry-After: 8\r\n" in world.ask("llama").value()
    world.reactor.advance(9)
    world.ask("llama")
    world.reactor.advance(0)
    assert len(world.commands) == 2


def test_a_port_is_chosen_for_each_start() -> None:
    world = World(
        '[[upstream]]\nname = "llama"\nurl = "http://127.0.0.1:${PORT}"\nprobe = { preset = "tcp" }\n'
        'wake = { exec = ["serve", "--port=${PORT}"], cooldown = 0 }\n'
    )
    ports = []
    assert world.service.status()["upstreams"]["llama"]["servers"][0]["url"] == "http://127.0.0.1:${PORT}"
    for _ in range(2):
        world.connect(GET)
        world.reactor.advance(1)
        world.reactor.advance(0)
        ((_, port, *_),) = world.attempts()
        assert world.process.command == ["serve", f"--port={port}"]
        assert world.service.status()["upstreams"]["llama"]["servers"][0]["url"] == f"http://127.0.0.1:{port}"
        ports.append(port)
        world.process.ends()
        world.reactor.advance(0)
    assert len(set(ports)) == 2


def test_the_request_itself_goes_to_that_port_and_names_it() -> None:
    world = World(
        '[[upstream]]\nname = "llama"\nurl = "http://127.0.0.1:${PORT}"\nprobe = { preset = "tcp" }\n'
        'wake = { exec = ["serve", "${PORT}"] }\n'
    )
    world.connect(GET)
    world.reactor.advance(0)
    world.reactor.advance(0)
    world.accept()
    world.reactor.advance(0)
    ((_, port, factory, *_),) = world.attempts()
    transport = StringTransport()
    factory.buildProtocol(None).makeConnection(transport)
    assert f"\r\nHost: 127.0.0.1:{port}\r\n".encode() in transport.value()
    assert [str(port)] == world.process.command[1:]


def test_orders() -> None:
    world = World(upstream("llama") + '[[upstream]]\nname = "cloud"\nurl = "http://cloud.example"\n')
    assert [world.service.wake(name) for name in ("llama", "cloud", "qwen")] == ["done", "not startable", "unknown"]
    assert [world.service.stop(name) for name in ("cloud", "qwen")] == ["not startable", "unknown"]
    world.reactor.advance(0)
    assert world.commands == [["serve", "llama"]]
    assert world.service.stop("llama") == "done"
    assert world.process.asked == ["TERM"]
    assert world.service.stop("llama") == "done"
    assert world.process.asked == ["TERM", "end of file"]
    world.process.ends(b"killed 9")
    world.reactor.advance(0)
    assert world.service.metrics.wakes == {("llama", "cancelled"): 1}


# -- reloading


def test_a_reload_stops_what_it_takes_away_once_its_streams_are_over_and_leaves_the_rest_alone() -> None:
    world = World(upstream("one") + upstream("two"), lambda: loads(SERVER + upstream("two") + upstream("three")))
    stream = world.come_up("one")
    one = world.process
    world.come_up("two")
    two = world.process
    assert world.service.reload()
    world.reactor.advance(0)
    assert one.asked == two.asked == []
    world.leave(stream)
    world.reactor.advance(0)
    assert (one.asked, two.asked) == (["TERM"], [])
    one.ends()
    world.ask("three")
    world.reactor.advance(0)
    assert world.commands[2:] == [["serve", "three"]]


def test_what_was_before_a_change_is_gone_before_what_is_after_it_runs() -> None:
    world = World(upstream("llama"), lambda: loads(SERVER + upstream("llama", ", cooldown = 5")))
    world.leave(world.come_up("llama"))
    before = world.process
    assert world.service.reload()
    world.ask("llama")
    world.reactor.advance(0)
    assert (before.asked, len(world.commands)) == (["TERM"], 1)
    before.ends()
    world.reactor.advance(0)
    assert len(world.commands) == 2


def test_those_who_waited_before_a_reload_have_it_started_and_it_ends_with_them() -> None:
    world = World(upstream("llama") + upstream("other"), lambda: loads(SERVER + upstream("other")))
    client = world.ask("llama")
    assert world.service.reload()
    world.reactor.advance(0)
    assert world.commands == [["serve", "llama"]]
    assert world.service.reload()
    over = world.drain()
    world.wait(0.1)
    assert world.process.asked == []
    world.leave(client)
    world.wait(0.1)
    assert world.process.asked == ["TERM"]
    assert over == []
    world.process.ends()
    world.wait(0.1)
    assert len(over) == 1


def test_the_folder_for_the_state_changes_only_with_a_restart(tmp_path: Path) -> None:
    (first, second) = (tmp_path / "first", tmp_path / "second")
    world = World(upstream("llama"), lambda: loads(SERVER + f'state_dir = "{second}"\n' + upstream("llama")))
    assert world.service.reload()
    world.come_up("llama")
    assert not first.exists() and not second.exists()


# -- the end


def test_the_drain_ends_when_the_processes_have() -> None:
    world = World(upstream("llama"))
    client = world.come_up("llama")
    over = world.drain()
    world.wait(1)
    assert world.process.asked == []
    world.leave(client)
    world.wait(0.1)
    assert world.process.asked == ["TERM"]
    assert over == []
    world.wait(1)
    world.process.ends()
    world.wait(0.1)
    assert over == [pytest.approx(2.2, abs=0.1)]


def test_a_process_that_does_not_listen_is_killed_and_not_waited_for_any_longer() -> None:
    world = World(upstream("llama"))
    world.leave(world.come_up("llama"))
    over = world.drain()
    world.wait(STOP_GRACE - 0.5)
    assert world.process.asked == ["TERM"]
    world.wait(1)
    assert world.process.asked == ["TERM", "end of file"]
    world.wait(PROCESS_PATIENCE - STOP_GRACE)
    assert over == [pytest.approx(PROCESS_PATIENCE, abs=0.2)]


def test_who_is_in_a_hurry_does_not_wait_for_processes() -> None:
    world = World(upstream("llama"))
    world.leave(world.come_up("llama"))
    over = world.drain()
    world.wait(0.1)
    world.service.cut()
    world.wait(0.1)
    assert (world.process.asked, len(over)) == (["TERM"], 1)


def test_a_start_under_way_is_given_up() -> None:
    world = World(upstream("llama"))
    world.service.wake("llama")
    world.reactor.advance(0)
    over = world.drain()
    assert world.process.asked == ["TERM"]
    world.process.ends()
    world.wait(0.1)
    assert len(over) == 1
    assert world.service.metrics.wakes == {("llama", "cancelled"): 1}


# -- the demand


def test_demand_lasts_from_the_first_who_waits_until_it_has_been_ready_for_a_while() -> None:
    world = World('[[upstream]]\nname = "llama"\nurl = "http://127.0.0.1:8080"\nprobe = { preset = "tcp" }\n')
    assert world.demand("llama") == 0
    client = world.connect(STREAM)
    world.reactor.advance(0)
    world.refuse()
    world.leave(client)
    world.reactor.advance(REMEMBERED / 2)
    assert world.service.queue() == {"llama": {"pending": 0, "active": 0, "demand": 1}}
    client = world.connect(STREAM)
    world.reactor.advance(0)
    world.accept()
    world.leave(client)
    assert world.demand("llama") == 1
    world.reactor.advance(GRACE - 1)
    assert world.demand("llama") == 1
    world.reactor.advance(2)
    assert world.demand("llama") == 0
    clients = [world.connect(STREAM) for _ in range(3)]
    assert world.demand("llama") == 3
    for each in clients:
        world.leave(each)
    assert world.demand("llama") == 0


def test_demand_for_what_never_becomes_ready_has_an_end() -> None:
    world = World('[[upstream]]\nname = "llama"\nurl = "http://127.0.0.1:8080"\nprobe = { preset = "tcp" }\n')
    client = world.connect(STREAM)
    world.reactor.advance(0)
    world.refuse()
    world.leave(client)
    world.reactor.advance(REMEMBERED + 1)
    assert world.demand("llama") == 0
