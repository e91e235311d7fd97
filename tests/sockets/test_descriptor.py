"""What our transports do otherwise than Twisted's, and what they are."""

from __future__ import annotations

import socket
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IHalfCloseableDescriptor,
    IPushProducer,
    IReadWriteDescriptor,
    ISSLTransport,
    ISystemHandle,
    ITCPTransport,
    ITransport,
)
from twisted.internet.testing import StringTransport
from zope.interface import alsoProvides
from zope.interface.verify import verifyObject

from tests.sockets.watching import Link, Recorder, Watcher, needs_ipv6, reset
from txsse._compat import pending_bytes
from txsse.sockets import half_close, tune
from txsse.sockets.descriptor import HIGH_WATER
from txsse.sockets.transports import TCPTransport, UNIXTransport

MUCH = 8 * 1024 * 1024


@pytest.fixture
def link() -> Iterator[Link]:
    made = Link()
    yield made
    made.close()


@pytest.fixture
def tcp() -> Iterator[Link]:
    made = Link(tcp=True)
    yield made
    made.close()


# Writing.


def test_what_is_written_leaves_at_once(link: Link) -> None:
    link.transport.write(b"hello")
    assert link.peer.recv(10) == b"hello"
    link.transport.writeSequence([b"wor", b"ld"])
    assert link.peer.recv(10) == b"world"
    assert link.transport.pending == 0 and link.reactor.writers == set()


def test_what_the_socket_does_not_take_is_pending_and_leaves_later(link: Link) -> None:
    link.transport.write(b"x" * MUCH)
    pending = link.transport.pending
    assert 0 < pending < MUCH
    assert link.reactor.writers == {link.transport}
    link.transport.write(b"yz")
    assert link.transport.pending == pending_bytes(link.transport) == pending + 2
    link.peer.recv(1 << 20)
    link.settle()
    assert link.transport.pending < pending + 2
    assert link.read().endswith(b"yz")
    assert link.transport.pending == 0 and link.reactor.writers == set()


def test_a_full_socket_takes_nothing_and_that_is_no_error(link: Link) -> None:
    while not link.transport.pending:
        link.transport.write(b"x" * 1000)
    link.peer.recv(1)  # too little to make room
    link.transport.doWrite()
    link.transport.write(b"y")
    link.settle()
    assert link.protocol.lost == []
    assert link.read().endswith(b"xy")


def test_a_queue_is_neither_copied_with_each_send_nor_kept(link: Link) -> None:
    body = b"x" * MUCH
    tracemalloc.start()
    try:
        link.transport.write(body)
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        while link.peer.recv(1 << 16):
            link.reactor.turn()
            if not link.transport.pending:
                break
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < before + 0.75 * MUCH  # a smaller block for the rest, now and then
    assert after < 0.1 * MUCH


def test_a_failed_write_is_told_in_the_next_turn_and_not_as_a_polite_end(tcp: Link) -> None:
    reset(tcp.peer)
    tcp.transport.write(b"x")  # takes the error off the socket, from which a FIN is read now
    assert tcp.protocol.lost == [] and tcp.transport.pending == 1
    tcp.transport.write(b"y")
    assert tcp.transport.pending == 2
    assert tcp.transport.doRead().__class__ is ConnectionLost
    assert tcp.transport.doWrite().__class__ is ConnectionLost
    tcp.settle()
    assert tcp.protocol.lost == [ConnectionLost]


def test_what_came_before_a_failed_write_is_read(tcp: Link) -> None:
    tcp.peer.send(b"last words")
    tcp.peer.close()
    tcp.transport.write(b"x")
    tcp.transport.write(b"y")
    tcp.settle()
    assert tcp.protocol.data == b"last words"


def test_closing_after_a_failed_write_is_a_loss(link: Link) -> None:
    link.transport.pauseProducing()
    link.peer.close()
    link.transport.write(b"x")
    link.transport.loseConnection()
    link.settle()
    assert link.protocol.lost == [ConnectionLost]


def test_a_producer_is_not_paused_while_the_socket_takes_it_all(link: Link) -> None:
    link.transport.registerProducer(Silent(), True)
    for _ in range(100):
        link.transport.write(b"x" * 10_000)
        link.read()


def test_a_producer_is_paused_once(link: Link) -> None:
    producer = Counting()
    while not link.transport.pending:
        link.transport.write(b"x" * 1000)
    link.transport.registerProducer(producer, True)
    while link.transport.pending < HIGH_WATER:
        link.transport.write(b"x")
        assert producer.pauses == (link.transport.pending > HIGH_WATER)
    link.transport.write(b"x")
    link.transport.write(b"x")
    assert producer.pauses == 1


def test_pull_producers_are_refused(link: Link) -> None:
    with pytest.raises(ValueError, match="pull"):
        link.transport.registerProducer(Silent(), False)


class Silent:
    """A producer that is told nothing."""

    def pauseProducing(self) -> None:
        raise AssertionError

    resumeProducing = stopProducing = pauseProducing


class Counting:
    pauses = 0

    def pauseProducing(self) -> None:
        self.pauses += 1


# Reading.


def test_a_wake_up_for_nothing_is_no_end(link: Link) -> None:
    assert link.transport.doRead() is None
    assert link.protocol.reads == []


def test_sockets_share_a_buffer_and_no_bytes() -> None:
    class Crossing(Recorder):
        """Has another connection read while it is itself receiving."""

        other: Any = None

        def dataReceived(self, data: bytes) -> None:
            if self.other is not None:
                self.other.doRead()
            super().dataReceived(data)

    first, second = Link(protocol=Crossing()), Link()
    first.protocol.other = second.transport  # type: ignore[attr-defined]  # a Crossing
    first.peer.send(b"first")
    second.peer.send(b"second, and longer")
    first.transport.doRead()
    assert (first.protocol.data, second.protocol.data) == (b"first", b"second, and longer")
    first.close()
    second.close()


# What it is.


@pytest.mark.parametrize("kind", [TCPTransport, UNIXTransport])
def test_interfaces_are_provided_in_truth(kind: type[TCPTransport | UNIXTransport]) -> None:
    ours, peer = socket.socketpair()
    transport = kind(Watcher(), ours, Recorder(), None)
    for interface in (IReadWriteDescriptor, IPushProducer, ISystemHandle, ITransport):
        assert verifyObject(interface, transport)
    assert ITCPTransport.providedBy(transport) is (kind is TCPTransport)
    # A reactor would tell it of a half-close first, which our protocols do not know.
    assert not IHalfCloseableDescriptor.providedBy(transport)
    ours.close()
    peer.close()


def test_it_is_small(link: Link) -> None:
    assert not hasattr(link.transport, "__dict__")
    assert sys.getsizeof(link.transport) <= 112


def test_it_knows_its_addresses(tcp: Link) -> None:
    host = tcp.transport.getHost()
    assert (host.type, host.host, host.port) == ("TCP", "127.0.0.1", tcp.socket.getsockname()[1])
    assert tcp.transport.getPeer() == IPv4Address("TCP", "127.0.0.1", 1)
    assert tcp.transport.getHandle() is tcp.socket and tcp.transport.fileno() == tcp.socket.fileno()


@needs_ipv6
def test_it_knows_its_addresses_in_ipv6() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening, socket.socket(socket.AF_INET6) as peer:
        peer.connect(listening.getsockname())
        ours, name = listening.accept()
        transport = TCPTransport(Watcher(), ours, Recorder(), name)
        assert transport.getHost() == IPv6Address("TCP", *listening.getsockname())
        assert transport.getPeer() == IPv6Address("TCP", *peer.getsockname())
        ours.close()


def test_it_knows_its_addresses_in_the_file_system(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as peer:
        listening.bind(path)
        listening.listen()
        peer.connect(path)
        ours, name = listening.accept()
        transport = UNIXTransport(Watcher(), ours, Recorder(), name)
        assert transport.getHost() == UNIXAddress(path)
        assert transport.getPeer() == UNIXAddress(None)
        assert UNIXTransport(Watcher(), peer, Recorder(), path).getPeer() == UNIXAddress(path)
        ours.close()


def test_its_options_can_be_set(tcp: Link) -> None:
    transport = tcp.transport
    transport.setTcpNoDelay(False)
    transport.setTcpKeepAlive(False)
    assert (transport.getTcpNoDelay(), transport.getTcpKeepAlive()) == (False, False)
    tune(transport)
    assert (transport.getTcpNoDelay(), transport.getTcpKeepAlive()) == (True, True)


def test_its_log_prefix_is_the_protocols_name(link: Link) -> None:
    assert link.transport.logPrefix() == "Recorder"
    link.peer.close()
    link.settle()
    assert link.transport.logPrefix() == "-"


def test_whoever_else_waits_for_the_end_is_told_last() -> None:
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    protocol, told, reactor = Recorder(), [], Watcher()
    transport = TCPTransport(reactor, ours, protocol, None, lambda reason: told.append((reason.type, list(protocol.lost))))
    transport.resumeProducing()
    peer.close()
    reactor.settle()
    assert told == [(ConnectionDone, [ConnectionDone])]


# Half-closed connections.


class Staying(Recorder):
    """Goes on after a FIN, as long as it *stays*."""

    stays = True
    ends = 0

    def half_closed(self) -> bool:
        self.ends += 1
        return self.stays


def test_a_fin_is_not_the_end_for_a_protocol_that_stays() -> None:
    protocol = Staying()
    link = Link(tcp=True, protocol=protocol)
    link.peer.sendall(b"last words")
    link.peer.shutdown(socket.SHUT_WR)
    link.settle()
    assert (protocol.data, protocol.ends, protocol.lost) == (b"last words", 1, [])
    assert link.reactor.readers == set()  # or it would be told in each turn
    link.transport.write(b"x" * MUCH)
    assert len(link.read()) == MUCH
    link.transport.loseConnection()
    link.settle()
    assert protocol.lost == [ConnectionDone]
    link.close()


def test_a_fin_is_the_end_for_one_that_does_not_stay_any_more() -> None:
    protocol = Staying()
    protocol.stays = False
    link = Link(tcp=True, protocol=protocol)
    link.peer.shutdown(socket.SHUT_WR)
    link.settle()
    assert (protocol.ends, protocol.lost) == (1, [ConnectionDone])
    link.close()


def test_a_reset_after_a_fin_is_noticed_by_what_is_written() -> None:
    protocol = Staying()
    link = Link(tcp=True, protocol=protocol)
    link.peer.shutdown(socket.SHUT_WR)
    link.settle()
    reset(link.peer)
    link.transport.write(b"x")
    link.settle()
    assert protocol.lost == [ConnectionLost]
    link.close()


def test_half_closing_lets_everything_leave_and_reads_on(tcp: Link) -> None:
    class Producer:
        def pauseProducing(self) -> None: ...

        def resumeProducing(self) -> None: ...

        def stopProducing(self) -> None: ...

    tcp.transport.registerProducer(Producer(), True)
    tcp.transport.write(b"x" * MUCH)
    assert half_close(tcp.transport)
    assert len(tcp.read()) == MUCH
    tcp.settle()
    assert tcp.peer.recv(1) == b""
    tcp.peer.sendall(b"and yet")
    tcp.settle()
    assert tcp.protocol.data == b"and yet"


def test_what_cannot_be_half_closed_is_left_alone() -> None:
    assert not half_close(object())
    transport = StringTransport()
    alsoProvides(transport, ISSLTransport)
    assert not half_close(transport)
