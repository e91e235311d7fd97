"""The service: listeners that open all or none, a reload that can be refused, and a drain in its order. On a reactor in memory."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from zope.interface import implementer

from tests.front.fakes import SocketlikeTransport
from txsse.config import ConfigError, Configuration, loads
from txsse.service import LAST_WORDS, LOOK, ListenError, ProxyService
from txsse.signals import Signals

SERVER = '[server]\nlisten = ["tcp:1"]\nadmin = "tcp:2:interface=127.0.0.1"\ndrain = "10s"\naccess_log = false\n'
UPSTREAM = '[[upstream]]\nname = "llama"\nurl = "http://127.0.0.1:8080"\ntimeouts = { connect = "100s" }\n'
READY = UPSTREAM + 'probe = { preset = "none" }\n'
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
STREAM = b"GET / HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n"


@implementer(IListeningPort)
class Port:
    def __init__(self, number: int, factory: Factory, journal: list[str]) -> None:
        self.number = number
        self.factory = factory
        self.open = True
        self._journal = journal

    def startListening(self) -> None: ...

    def stopListening(self) -> None:
        if self.open:
            self.open = False
            self._journal.append(f"port {self.number} closed")

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", self.number)


class Reactor(MemoryReactorClock):
    """Ports that are really closed, or cannot be opened."""

    def __init__(self) -> None:
        super().__init__()
        self.ports: list[Port] = []
        self.taken: set[int] = set()
        self.journal: list[str] = []
        self.stopped = False

    def listenTCP(self, port: int, factory: Factory, backlog: int = 50, interface: str = "") -> Port:
        if port in self.taken:
            raise CannotListenError(interface, port, OSError("taken"))
        self.ports.append(Port(port, factory, self.journal))
        return self.ports[-1]

    def callFromThread(self, function: Callable[..., object], *args: object) -> None:
        self.callLater(0, function, *args)

    def stop(self) -> None:
        self.stopped = True

    @property
    def open_ports(self) -> list[int]:
        return [port.number for port in self.ports if port.open]


class Bench:
    def __init__(
        self, configuration: str = SERVER + READY, reread: Callable[[], Configuration] | None = None, reactor: Reactor | None = None
    ) -> None:
        self.reactor: Any = reactor or Reactor()
        self.service = ProxyService(loads(configuration), reactor=self.reactor, reread=reread)

    def start(self) -> Bench:
        self.service.privilegedStartService()
        self.service.startService()
        return self

    def connect(self, data: bytes = b"") -> SocketlikeTransport:
        transport = SocketlikeTransport()
        transport.protocol = self.reactor.ports[0].factory.buildProtocol(None)
        transport.protocol.makeConnection(transport)
        if data:
            transport.protocol.dataReceived(data)
        return transport

    def drain(self) -> list[float]:
        """The times at which the drain was over."""
        over: list[float] = []
        self.service.drain().addCallback(lambda _: over.append(self.reactor.seconds()))
        return over

    def wait(self, seconds: float) -> None:
        self.reactor.pump([LOOK / 2] * round(2 * seconds / LOOK))


@pytest.fixture(autouse=True)
def _descriptors_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    monkeypatch.setattr(resource, "setrlimit", lambda *args: None)


# -- starting


def test_it_listens_once_though_twistd_starts_it_in_two_steps() -> None:
    bench = Bench().start()
    assert bench.reactor.open_ports == [1, 2]
    assert bench.service.ports == bench.reactor.ports[:1]
    assert bench.service.admin_port is not None


def test_it_can_be_started_without_the_privileged_step() -> None:
    bench = Bench()
    bench.service.startService()
    assert bench.reactor.open_ports == [1, 2]


def test_no_admin_listener() -> None:
    bench = Bench(SERVER.replace('"tcp:2:interface=127.0.0.1"', '"none"') + READY).start()
    assert bench.reactor.open_ports == [1]
    assert bench.service.admin_port is None


@pytest.mark.parametrize(("taken", "named"), [(1, "tcp:1"), (3, "tcp:3"), (2, "tcp:2")])
def test_a_listener_that_cannot_be_opened_is_named_and_none_stays_open(taken: int, named: str) -> None:
    bench = Bench(SERVER.replace('["tcp:1"]', '["tcp:1", "tcp:3"]') + READY)
    bench.reactor.taken = {taken}
    with pytest.raises(ListenError, match=f"cannot listen on {named}:.*taken"):
        bench.service.privilegedStartService()
    assert bench.reactor.open_ports == []
    assert bench.service.ports == []


def test_a_key_that_is_none_is_told_without_the_queue_of_openssl(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("not a key")
    bench = Bench(SERVER.replace('"tcp:1"', f'"ssl:1:privateKey={key}"') + READY)
    with pytest.raises(ListenError, match=r"key\.pem: its key or certificate cannot be used \([a-z ]+\); allowed: PEM files"):
        bench.service.privilegedStartService()
    assert bench.reactor.open_ports == []


def test_what_the_admin_listener_shows() -> None:
    bench = Bench(SERVER + UPSTREAM + 'probe = { preset = "tcp" }\n').start()
    bench.connect(GET)
    bench.reactor.advance(2)
    status = bench.service.status()
    assert (status["uptime"], status["draining"], status["connections"]) == (2.0, False, 1)
    assert status["upstreams"]["llama"]["waiting"] == 1
    assert status["routes"] == {"llama": {"in_flight": 1}}
    assert bench.service.queue() == {"llama": {"pending": 1, "active": 0, "demand": 1}}


# -- reloading


def test_without_a_file_there_is_nothing_to_reload() -> None:
    assert Bench().start().service.reload() is False


def test_a_reload_takes_effect_and_says_what_needs_a_restart() -> None:
    bench = Bench(reread=lambda: loads(SERVER.replace("tcp:1", "tcp:9") + "max_connections = 1\n" + READY.replace("8080", "8081")))
    bench.start()
    assert bench.service.reload() is True
    bench.connect(GET)
    assert bench.reactor.tcpClients[-1][1] == 8081
    assert bench.reactor.open_ports == [1, 2]
    assert bench.connect().value().startswith(b"HTTP/1.1 503 ")


@pytest.mark.parametrize(
    "reread",
    [
        lambda: loads("nonsense"),
        lambda: loads(SERVER + UPSTREAM.replace("http", "gopher")),
        lambda: (_ for _ in ()).throw(OSError("gone")),
    ],
)
def test_a_bad_configuration_is_refused_and_the_old_one_kept(reread: Callable[[], Configuration]) -> None:
    bench = Bench(reread=reread).start()
    before = bench.service.proxy.configuration
    stream = bench.connect(STREAM)
    assert bench.service.reload() is False
    assert bench.service.proxy.configuration is before
    assert not stream.gone
    bench.connect(GET)
    assert bench.reactor.tcpClients[-1][1] == 8080


def test_a_file_named_in_it_that_cannot_be_used_is_refused_too(tmp_path: Path) -> None:
    def reread() -> Configuration:
        keys = tmp_path / "keys"
        keys.write_text("")
        configuration = loads(SERVER + READY + f'[auth]\nkeys_file = "{keys}"\n')
        keys.write_text("nonsense\n")
        return configuration

    bench = Bench(reread=reread).start()
    assert bench.service.reload() is False
    assert not bench.service.proxy.configuration.auth.keys_file


def test_a_configuration_error_is_a_plain_one() -> None:
    with pytest.raises(ConfigError):
        loads("nonsense")


# -- draining


def test_with_nothing_open_it_is_over_at_once() -> None:
    bench = Bench().start()
    assert bench.drain() == [0.0]
    assert bench.reactor.open_ports == []
    bench.reactor.advance(10)
    assert bench.reactor.getDelayedCalls() == []


def test_readiness_goes_first_then_the_listeners_then_idle_connections_then_streams_and_the_admin_listener_last() -> None:
    bench = Bench(SERVER + "lame_duck = 1\n" + READY).start()
    idle, stream = bench.connect(), bench.connect(STREAM)
    over = bench.drain()
    assert bench.service.draining
    assert bench.service.status()["draining"]
    bench.wait(0.9)
    assert bench.reactor.open_ports == [1, 2]
    assert not idle.gone
    bench.wait(0.2)
    assert bench.reactor.open_ports == [2]
    assert (idle.gone, stream.gone) == (True, False)
    bench.wait(5)
    assert over == []
    stream.client_leaves()
    bench.wait(0.1)
    assert len(over) == 1
    assert 6 <= over[0] <= 6.2
    assert bench.reactor.journal == ["port 1 closed", "port 2 closed"]
    bench.reactor.advance(10)
    assert bench.reactor.getDelayedCalls() == []


def test_what_is_still_open_after_drain_is_told_and_cut() -> None:
    bench = Bench(SERVER + UPSTREAM + '[[route]]\nupstream = "llama"\nhold = { timeout = "600s" }\n').start()
    held, stream = bench.connect(GET), bench.connect(STREAM)
    over = bench.drain()
    bench.wait(9.9)
    assert held.value() == b""
    assert b": txsse {" in stream.value()
    bench.wait(0.2)
    assert b"503 Service Unavailable" in held.value()
    assert b'"code":"shutting_down"' in held.value()
    assert b'"code":"shutting_down"' in stream.value()
    assert over == []
    bench.wait(LAST_WORDS)
    assert (held.gone, stream.gone) == (True, True)
    assert b"\r\n0\r\n\r\n" not in stream.value()
    assert 10.2 <= over[0] <= 10 + LAST_WORDS + 0.1
    bench.reactor.advance(20)
    assert bench.reactor.getDelayedCalls() == []


def test_a_cut_ends_the_drain() -> None:
    bench = Bench().start()
    stream = bench.connect(STREAM)
    over = bench.drain()
    bench.wait(1)
    bench.service.cut()
    bench.wait(0.1)
    assert b'"code":"shutting_down"' in stream.value()
    bench.wait(0.5)
    assert len(over) == 1
    assert stream.gone


def test_a_half_sent_request_does_not_keep_it_for_ever() -> None:
    bench = Bench().start()
    half = bench.connect(b"GET / HT")
    over = bench.drain()
    bench.wait(10 + LAST_WORDS + 0.1)
    assert half.gone
    assert len(over) == 1


def test_draining_twice_is_one_end() -> None:
    bench = Bench().start()
    stream = bench.connect(STREAM)
    first, second = bench.drain(), bench.drain()
    stream.client_leaves()
    bench.wait(0.1)
    assert first == second != []
    assert bench.drain() == [bench.reactor.seconds()]


def test_stopping_the_service_drains_it() -> None:
    bench = Bench().start()
    stream = bench.connect(STREAM)
    over: list[None] = []
    bench.service.stopService().addCallback(over.append)
    bench.wait(1)
    assert over == []
    stream.client_leaves()
    bench.wait(0.1)
    assert over == [None]
    assert bench.reactor.open_ports == []
    again: list[None] = []
    bench.service.stopService().addCallback(again.append)
    assert again == [None]


# -- signals


def signalled(bench: Bench) -> Signals:
    return Signals(bench.service, bench.reactor)


def test_sigterm_drains_and_a_second_one_cuts() -> None:
    bench = Bench().start()
    stream = bench.connect(STREAM)
    signals = signalled(bench)
    signals._caught(signal.SIGTERM, None)
    bench.wait(3)
    assert bench.service.draining
    assert (stream.gone, bench.reactor.stopped) == (False, False)
    signals._caught(signal.SIGTERM, None)
    bench.wait(0.6)
    assert (stream.gone, bench.reactor.stopped) == (True, True)


def test_sigint_ends_at_once_if_nothing_is_open() -> None:
    bench = Bench(SERVER + "lame_duck = 5\n" + READY).start()
    idle = bench.connect()
    signalled(bench)._caught(signal.SIGINT, None)
    bench.wait(0.1)
    assert idle.gone
    assert bench.reactor.stopped


def test_sigint_drains_if_something_is_open() -> None:
    bench = Bench(SERVER + "lame_duck = 5\n" + READY).start()
    stream = bench.connect(STREAM)
    signals = signalled(bench)
    signals._caught(signal.SIGINT, None)
    bench.wait(6)
    assert not bench.reactor.stopped
    stream.client_leaves()
    bench.wait(0.1)
    assert bench.reactor.stopped


def test_sighup_reloads() -> None:
    bench = Bench(reread=lambda: loads(SERVER + READY.replace("8080", "8081"))).start()
    signalled(bench)._caught(signal.SIGHUP, None)
    bench.wait(0.1)
    assert bench.service.proxy.configuration.upstream[0].url.endswith("8081")
    assert not bench.service.draining


def test_the_handlers_are_installed() -> None:
    numbers = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    try:
        signals = signalled(Bench())
        signals.install()
        assert {signal.getsignal(number) for number in numbers} == {signals._caught}
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
