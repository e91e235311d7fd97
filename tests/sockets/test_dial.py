"""Connecting without a look-up: what becomes of it, when, and that nothing stays open."""

from __future__ import annotations

import os
import resource
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost, ConnectionRefusedError, TimeoutError, UnknownHostError
from twisted.internet.main import CONNECTION_LOST
from twisted.python.failure import Failure

from tests.sockets.watching import Recorder, Watcher, needs_ipv6
from txsse.sockets.dial import FULL_RETRY, Peer, dial
from txsse.sockets.transports import TCPTransport, UNIXTransport
from txsse.testing import free_port

LIMIT = 5.0


class Dialling:
    """A reactor, and what became of what was dialled on it."""

    def __init__(self) -> None:
        self.reactor = Watcher()
        self.connected: list[Recorder] = []
        self.failed: list[Failure] = []
        self._descriptors = open_descriptors()

    def dial(self, peer: Peer, build: Any = Recorder) -> Deferred[Any]:
        attempt: Deferred[Any] = dial(self.reactor, peer, build, LIMIT, self.reactor.callLater)
        attempt.addCallbacks(self.connected.append, self.failed.append)
        return attempt

    @property
    def error(self) -> BaseException | None:
        (failure,) = self.failed
        return failure.value

    def nothing_left(self) -> bool:
        watched = self.reactor.readers | self.reactor.writers
        return not watched and not self.reactor.getDelayedCalls() and open_descriptors() == self._descriptors


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


@pytest.fixture
def full() -> Iterator[socket.socket]:
    """A TCP port that accepts nobody and drops the SYN of whoever comes: as a host that is silent."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as made, socket.create_connection(made.getsockname()):
        yield made


@pytest.fixture
def full_path(tmp_path: Path) -> Iterator[socket.socket]:
    """A UNIX socket whose backlog is full."""
    with socket.socket(socket.AF_UNIX) as made, socket.socket(socket.AF_UNIX) as first:
        made.bind(str(tmp_path / "socket"))
        made.listen(0)
        first.connect(made.getsockname())
        yield made


@pytest.fixture
def dialling() -> Dialling:
    return Dialling()


def at(port: socket.socket) -> Peer:
    name = port.getsockname()
    return Peer(port.family, name) if isinstance(name, str) else Peer.at(*name[:2])


def test_a_peer_on_this_machine_is_connected_at_once(listening: socket.socket, dialling: Dialling) -> None:
    dialling.dial(at(listening))
    (protocol,) = dialling.connected
    transport = protocol.transport
    assert type(transport) is TCPTransport
    assert (transport.getPeer().host, transport.getPeer().port) == listening.getsockname()
    assert transport.getTcpNoDelay() and transport.getTcpKeepAlive()
    accepted, _ = listening.accept()
    transport.write(b"hello")
    assert accepted.recv(10) == b"hello"
    accepted.send(b"world")
    accepted.close()
    dialling.reactor.settle()
    assert protocol.data == b"world" and protocol.lost == [ConnectionDone]


@needs_ipv6
def test_ipv6_is_dialled_too(dialling: Dialling) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as port:
        dialling.dial(at(port))
        (protocol,) = dialling.connected
        assert protocol.transport.getPeer().host == "::1"
        assert type(protocol.transport.getPeer()) is type(protocol.transport.getHost())
    protocol.transport.abortConnection()
    dialling.reactor.settle()


def test_unix_sockets_are_dialled_too(tmp_path: Path, dialling: Dialling) -> None:
    with socket.socket(socket.AF_UNIX) as port:
        port.bind(str(tmp_path / "socket"))
        port.listen()
        dialling.dial(at(port))
        (protocol,) = dialling.connected
        assert type(protocol.transport) is UNIXTransport
        assert protocol.transport.getPeer().name == os.fsencode(port.getsockname())
    dialling.reactor.settle()
    assert protocol.lost == [ConnectionDone] or protocol.lost == [ConnectionLost]


def test_nobody_there_is_told_at_once(tmp_path: Path) -> None:
    port, dialling = free_port(), Dialling()
    dialling.dial(Peer.at("127.0.0.1", port))
    assert isinstance(dialling.error, ConnectionRefusedError)
    dialling.failed.clear()
    dialling.dial(Peer(socket.AF_UNIX, str(tmp_path / "missing")))
    assert isinstance(dialling.error, ConnectError) and dialling.error.osError == 2
    assert dialling.nothing_left()


def test_a_scope_that_is_no_interface_is_told(dialling: Dialling) -> None:
    dialling.dial(Peer.at("fe80::1%nowhere0", 80))
    assert isinstance(dialling.error, UnknownHostError)
    assert dialling.nothing_left()


def test_a_silent_host_is_given_up_in_time(full: socket.socket, dialling: Dialling) -> None:
    dialling.dial(at(full))
    dialling.reactor.settle()
    dialling.reactor.advance(LIMIT - 0.1)
    assert not dialling.connected and not dialling.failed
    dialling.reactor.advance(0.1)
    assert isinstance(dialling.error, TimeoutError)
    assert dialling.nothing_left()


def test_a_slow_host_is_waited_for(full: socket.socket, dialling: Dialling) -> None:
    dialling.dial(at(full))
    full.accept()[0].close()
    while not dialling.connected:  # with the second SYN, after a second
        assert not dialling.failed
        dialling.reactor.turn(0.1)
    assert dialling.reactor.getDelayedCalls() == [] and dialling.reactor.writers == set()
    dialling.connected[0].transport.abortConnection()
    dialling.reactor.settle()
    assert dialling.connected[0].lost


@pytest.mark.parametrize("told", ["doWrite", "connectionLost"])  # by select(2), by epoll(7)
def test_a_host_that_refuses_late_is_told(full: socket.socket, dialling: Dialling, told: str) -> None:
    dialling.dial(at(full))
    (attempt,) = dialling.reactor.writers
    full.close()
    select.select([], [attempt], [], 5)  # it is asked a second time after a second
    getattr(attempt, told)(*[Failure(CONNECTION_LOST)] * (told == "connectionLost"))
    assert isinstance(dialling.error, ConnectionRefusedError)
    assert dialling.reactor.getDelayedCalls() == [] and dialling.reactor.writers == set()


def test_an_attempt_can_be_cancelled(full: socket.socket, full_path: socket.socket, dialling: Dialling) -> None:
    before = open_descriptors()
    for port in (full, full_path):
        dialling.dial(at(port)).cancel()
        assert isinstance(dialling.error, CancelledError)
        dialling.failed.clear()
    assert not dialling.reactor.writers and not dialling.reactor.getDelayedCalls()
    assert open_descriptors() == before


def test_an_attempt_ends_with_the_reactor(full: socket.socket, dialling: Dialling) -> None:
    dialling.dial(at(full))
    for each in dialling.reactor.removeAll():  # as disconnectAll does
        each.connectionLost(Failure(CONNECTION_LOST))
    assert type(dialling.error) is ConnectError
    assert dialling.nothing_left()


def test_a_full_unix_socket_is_tried_again_ever_more_rarely(full_path: socket.socket, dialling: Dialling) -> None:
    dialling.dial(at(full_path))
    dialling.reactor.settle()
    assert not dialling.connected and not dialling.failed
    delays = []
    while dialling.reactor.seconds() < 1:
        (call,) = dialling.reactor.getDelayedCalls()
        delays.append(call.getTime() - dialling.reactor.seconds())
        dialling.reactor.advance(delays[-1])
    assert delays == pytest.approx([FULL_RETRY * times for times in (1, 1, 2, 4, 8, 16, 32)])
    full_path.accept()[0].close()
    dialling.reactor.advance(5)
    (protocol,) = dialling.connected
    assert dialling.reactor.getDelayedCalls() == []
    protocol.transport.abortConnection()
    dialling.reactor.settle()


def test_a_unix_socket_that_stays_full_is_given_up(full_path: socket.socket, dialling: Dialling) -> None:
    dialling.dial(at(full_path))
    dialling.reactor.pump([LIMIT / 10] * 20)
    assert isinstance(dialling.error, TimeoutError)
    assert dialling.nothing_left()


def test_without_descriptors_left_the_system_says_so(dialling: Dialling) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as last:
        resource.setrlimit(resource.RLIMIT_NOFILE, (last.fileno() + 1, limits[1]))
        try:
            dialling.dial(Peer.at("127.0.0.1", 1))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert isinstance(dialling.error, ConnectError) and os.strerror(dialling.error.osError or 0) == "Too many open files"


def test_a_protocol_that_cannot_be_built_closes_the_socket(listening: socket.socket, dialling: Dialling) -> None:
    def broken() -> Recorder:
        raise ZeroDivisionError

    dialling.dial(at(listening), broken)
    assert isinstance(dialling.error, ZeroDivisionError)
    assert dialling.nothing_left()


def test_a_protocol_that_fails_to_begin_closes_the_socket(listening: socket.socket, dialling: Dialling) -> None:
    class Broken(Recorder):
        def connectionMade(self) -> None:
            raise ZeroDivisionError

    made = Broken()
    dialling.dial(at(listening), lambda: made)
    assert isinstance(dialling.error, ZeroDivisionError)
    assert made.lost == [ZeroDivisionError]
    assert dialling.nothing_left()
