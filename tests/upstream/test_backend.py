"""All of one upstream, on a reactor in memory: its servers, its gate, and what a request sees of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from tests.proxy.test_handler import Bench
from tests.upstream.certificates import Authority
from tests.upstream.waiting import wait
from txsse.clock import Alarms
from txsse.config import Secret, loads, model
from txsse.upstream.backend import Backend, targets_of
from txsse.upstream.state import State

THREE = model.Upstream(
    name="llama", urls=("http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3"), probe=model.Probe(preset="tcp")
)


class Rig:
    def __init__(self, config: model.Upstream = THREE) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.reactor.advance(1000)
        self.changes: list[str] = []
        self.backend = Backend(config, self.reactor, Alarms(self.reactor), self._changed, pytest.fail)  # nothing is started here
        self.servers = list(self.backend.servers)

    def _changed(self, name: str, old: State, new: State, detail: str) -> None:
        self.changes.append(f"{name}: {old.value} -> {new.value} ({detail})")

    def attempts(self) -> list[int]:
        """The ports that were connected to since the last time."""
        ports = [client[1] for client in self.reactor.tcpClients]
        self.factories = {client[1]: client[2] for client in self.reactor.tcpClients}
        self.reactor.tcpClients.clear()
        self.reactor.connectors.clear()
        return ports

    def accept(self, port: int) -> StringTransport:
        protocol, transport = self.factories[port].buildProtocol(None), StringTransport()
        protocol.makeConnection(transport)
        return transport

    def refuse(self, port: int) -> None:
        self.factories[port].clientConnectionFailed(None, Failure(ConnectionRefusedError()))

    def make_ready(self) -> None:
        waiting = wait(self.backend.gate)
        self.reactor.advance(0)
        for port in self.attempts():
            self.accept(port)
        assert waiting.called
        self.backend.gate.give_back()
        self.reactor.advance(60)
        self.changes.clear()


def test_each_url_has_a_server_with_connections_of_its_own() -> None:
    rig = Rig()
    assert [server.target.address.url for server in rig.servers] == list(THREE.urls)
    assert [server.authority for server in rig.servers] == [b"127.0.0.1:1", b"127.0.0.1:2", b"127.0.0.1:3"]
    assert len({server.pool for server in rig.servers}) == 3
    (sole,) = Rig(model.Upstream(name="one", url="http://127.0.0.1:4")).servers
    assert sole.authority == b"127.0.0.1:4"


def test_the_tls_table_holds_for_all_of_them(tmp_path: Path) -> None:
    tls = model.UpstreamTLS(ca_file=Authority(tmp_path).ca_file, server_name="gpu.example")
    targets = targets_of(model.Upstream(name="a", urls=("https://127.0.0.1:1", "https://127.0.0.1:2", "http://127.0.0.1:3"), tls=tls))
    assert [target.tls is not None for target in targets] == [True, True, False]


def test_all_are_asked_at_once_and_the_first_that_is_there_opens_the_gate() -> None:
    rig = Rig()
    waiting = wait(rig.backend.gate)
    rig.reactor.advance(0)
    assert sorted(rig.attempts()) == [1, 2, 3]
    rig.refuse(1)
    assert not waiting.called
    rig.accept(2)
    assert waiting.called
    assert rig.backend.ready
    assert not rig.backend.gate.cold
    assert rig.changes == ["llama: unknown -> ready ()"]
    rig.accept(3)
    assert [rig.backend.state_of(server) for server in rig.servers] == ["down", "ready", "ready"]
    assert rig.reactor.getDelayedCalls() == []


@pytest.mark.parametrize(("mark", "state"), [("mark_down", State.DOWN), ("mark_loading", State.LOADING)])
def test_the_gate_closes_when_the_last_one_is_marked(mark: str, state: State) -> None:
    rig = Rig()
    rig.make_ready()
    for server in rig.servers[:2]:
        getattr(rig.backend, mark)(server, "why")
        assert rig.backend.ready
    assert rig.changes == []
    getattr(rig.backend, mark)(rig.servers[2], "why")
    assert rig.backend.gate.state is state
    assert rig.changes == [f"llama: ready -> {state.value} (why)"]
    assert rig.backend.gate.last_error == "why"


def test_a_sole_one_that_is_marked_closes_the_gate() -> None:
    rig = Rig(model.Upstream(name="one", url="http://127.0.0.1:4", probe=model.Probe(preset="tcp")))
    rig.make_ready()
    assert rig.backend.state_of(rig.servers[0]) == "ready"
    rig.backend.mark_down(rig.servers[0], "connection refused")
    assert not rig.backend.ready
    assert rig.backend.state_of(rig.servers[0]) == "down"
    waiting = wait(rig.backend.gate)
    rig.reactor.advance(0)
    assert rig.attempts() == [4]
    rig.accept(4)
    assert waiting.called
    assert rig.backend.ready


def test_what_is_in_flight_is_that_of_all() -> None:
    rig = Rig()
    rig.servers[0].in_flight, rig.servers[2].in_flight = 2, 3
    assert rig.backend.in_flight == 5


def test_it_serves_what_it_was_made_for() -> None:
    rig = Rig()
    assert rig.backend.serves(THREE)
    assert not rig.backend.serves(attrs.evolve(THREE, urls=THREE.urls[:2]))
    assert not rig.backend.serves(attrs.evolve(THREE, set_headers={"X": Secret("y")}))


# -- what a request sees

CONFIG = """
[[upstream]]
name = "llama"
urls = ["http://127.0.0.1:8001", "http://127.0.0.1:8002"]
probe = { preset = "tcp" }
"""
NONE = CONFIG.replace('"tcp"', '"none"')


class Replicas(Bench):
    """A proxy whose upstream has two servers, both up."""

    def __init__(self, configuration: str = CONFIG) -> None:
        super().__init__(configuration)
        self.backend = self.proxy.backends["llama"]
        if not self.backend.ready:
            exchange, _ = self.open()
            self.reactor.advance(0)
            for *_, factory, _, _ in self.reactor.tcpClients[:2]:
                factory.buildProtocol(None).makeConnection(StringTransport())
            exchange.client_gone()
        self.reactor.advance(60)
        self.reactor.tcpClients.clear()
        for server in self.backend.servers:
            server.picked = 0

    @property
    def states(self) -> list[str]:
        return [server.state.value for server in self.backend.servers]

    @property
    def in_flight(self) -> list[int]:
        return [server.in_flight for server in self.backend.servers]

    def ports(self) -> list[int]:
        return [client[1] for client in self.reactor.tcpClients]


def test_requests_are_spread_and_each_server_gets_its_own_host() -> None:
    bench = Replicas()
    for port in (8001, 8002, 8001):
        bench.open(body=b"{}")
        assert bench.ports()[-1] == port
        assert b"\r\nHost: 127.0.0.1:%d\r\n" % port in bench.connect()[1].value()
    assert bench.in_flight == [2, 1]
    bench.proxy.shut_down()
    assert bench.in_flight == [0, 0]


@pytest.mark.parametrize(("setting", "host"), [("preserve", b"example.org"), ("llama.example", b"llama.example")])
def test_a_host_that_is_configured_is_that_of_all(setting: str, host: bytes) -> None:
    bench = Replicas(CONFIG + f'host = "{setting}"\n')
    for _ in range(2):
        bench.open(body=b"{}")
        assert b"\r\nHost: %b\r\n" % host in bench.connect()[1].value()


def test_a_refused_request_goes_on_to_the_other_server_at_once() -> None:
    bench = Replicas()
    _, client = bench.open(body=b"{}")
    assert bench.ports() == [8001]
    bench.refuse_connection()
    assert bench.ports() == [8001, 8001, 8002], "who is left out is looked at, and the request goes on"
    protocol, transport = bench.connect()
    assert b"\r\nHost: 127.0.0.1:8002\r\n" in transport.value()
    protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert (client.status, client.body) == (200, b"ok")
    assert client.header(b"X-Txsse-Cold-Start") == b"false"
    assert bench.backend.ready
    assert bench.states == ["down", "ready"]
    assert bench.in_flight == [0, 0]
    assert not bench.proxy.metrics.hold_seconds or bench.proxy.metrics.hold_seconds["llama"].total == 0


def test_when_all_refuse_it_is_held() -> None:
    bench = Replicas()
    exchange, client = bench.open(body=b"{}")
    bench.refuse_connection()
    bench.refuse_connection()
    assert not bench.backend.ready
    assert bench.backend.waiting == 1
    assert bench.states == ["down", "down"]
    bench.reactor.advance(0)
    assert bench.ports() == [8001, 8001, 8002, 8002], "each is asked once"
    bench.connect()
    assert bench.states == ["down", "ready"]
    assert b"\r\nHost: 127.0.0.1:8002\r\n" in bench.connect()[1].value()
    exchange.client_gone()
    assert (client.status, bench.in_flight) == (0, [0, 0])
    bench.reactor.pump([0.1] * 30)
    assert bench.states == ["down", "ready"]
    assert bench.ports()[4:] == [8002], "nobody waits, nobody is asked"


def test_a_loading_answer_sends_it_on_to_the_other_server() -> None:
    bench = Replicas()
    _, client = bench.open(body=b"{}")
    protocol, _ = bench.connect()
    protocol.dataReceived(b"HTTP/1.1 503 X\r\nContent-Length: 13\r\n\r\nLoading model")
    assert bench.states == ["loading", "ready"]
    protocol, transport = bench.connect()
    assert b"\r\nHost: 127.0.0.1:8002\r\n" in transport.value()
    protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert client.body == b"ok"
    assert bench.in_flight == [0, 0]


@pytest.mark.parametrize(
    ("answer", "failures"),
    [
        (b"", 1),  # reset
        (b"nonsense\r\n\r\n", 1),
        (b"HTTP/1.1 500 X\r\nContent-Length: 2\r\n\r\nno", 0),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", 0),
    ],
)
def test_what_counts_as_a_failure_of_a_server(answer: bytes, failures: int) -> None:
    bench = Replicas()
    for _ in range(5):
        bench.open(body=b"{}")
        (first, second) = bench.backend.servers
        if bench.ports()[-1] == 8002:
            protocol, _ = bench.connect()
            protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            continue
        protocol, _ = bench.connect()
        if answer:
            protocol.dataReceived(answer)
        protocol.connectionLost(Failure(ConnectionDone()))
    assert (first.failed, second.failed) == (3 * failures, 0)
    assert bench.states == ["down" if failures else "ready", "ready"]
    assert bench.in_flight == [0, 0]


def test_no_event_in_time_is_a_failure_too() -> None:
    bench = Replicas(CONFIG + 'timeouts = { first_byte = "1s" }\n')
    for expected in (1, 2, 3):
        bench.open(body=b"{}")
        bench.connect()
        bench.open(body=b"{}")
        protocol, _ = bench.connect()
        protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        bench.reactor.pump([0.05] * 30)
        assert [server.failed for server in bench.backend.servers] == [expected, 0]
    assert bench.states == ["down", "ready"]


def test_with_preset_none_a_refused_request_fails_and_the_next_goes_elsewhere() -> None:
    bench = Replicas(NONE)
    _, client = bench.open(body=b"{}")
    bench.refuse_connection()
    assert client.status == 502
    assert bench.states == ["down", "ready"]
    for _ in range(3):
        bench.open(body=b"{}")
        assert bench.ports()[-1] == 8002
    assert bench.ports().count(8001) == 2, "one look, which only connects"
    bench.reactor.tcpClients[-4][2].buildProtocol(None).makeConnection(StringTransport())
    assert bench.states == ["ready", "ready"]


def test_a_reload_that_drops_a_url_leaves_what_is_under_way_alone() -> None:
    bench = Replicas()
    _, client = bench.open(body=b'{"stream":true}')
    protocol, _ = bench.connect()
    bench.proxy.configure(loads(CONFIG.replace('"http://127.0.0.1:8001", ', "")))
    protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: x\n\n")
    assert client.body == b"data: x\n\n"
    assert [server.target.address.port for server in bench.proxy.backends["llama"].servers] == [8002]
