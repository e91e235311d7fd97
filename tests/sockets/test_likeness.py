"""What a protocol may rely on, of Twisted's transports and of ours alike."""

from __future__ import annotations

import gc
import socket
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from tests.sockets.watching import Link, Recorder, reset

MUCH = 8 * 1024 * 1024
Links = Callable[..., Link]


@pytest.fixture(params=["twisted", "ours"])
def links(request: pytest.FixtureRequest) -> Iterator[Links]:
    made: list[Link] = []

    def make(**options: Any) -> Link:
        made.append(Link(request.param, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def link(links: Links) -> Link:
    return links()


@implementer(IPushProducer)
class Producer:
    """Writes down what it is told; on being resumed it writes *more*, once."""

    def __init__(self, link: Link, more: bytes = b"") -> None:
        self.told: list[str] = []
        self._link = link
        self._more = more

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")
        more, self._more = self._more, b""
        self._link.transport.write(more)

    def stopProducing(self) -> None:
        self.told.append("stop")
        assert not self._link.protocol.lost  # that comes after


def paused(link: Link, more: bytes = b"") -> Producer:
    """A producer that has been paused."""
    producer = Producer(link, more)
    link.transport.registerProducer(producer, True)
    link.fill(MUCH)
    assert set(producer.told) == {"pause"}
    producer.told.clear()
    return producer


# Reading and writing.


def test_what_the_peer_sends_is_received(link: Link) -> None:
    link.peer.send(b"hello")
    link.settle()
    assert link.protocol.data == b"hello"
    link.peer.send(b" world")
    link.settle()
    assert link.protocol.data == b"hello world"


def test_much_is_received_in_order_and_in_bounded_pieces(links: Links) -> None:
    link = links(tcp=True)
    data = bytes(range(256)) * 1000
    while sent := len(link.protocol.data) < len(data):
        link.peer.send(data[len(link.protocol.data) :])
        link.settle()
    assert not sent and link.protocol.data == data
    assert max(link.protocol.reads) <= 64 * 1024


def test_what_is_written_arrives(link: Link) -> None:
    link.transport.write(b"a")
    link.transport.writeSequence([b"b", b"", b"cd"])
    link.transport.write(b"")
    assert link.read() == b"abcd"
    link.transport.write(b"e")
    assert link.read() == b"e"


@pytest.mark.parametrize("tcp", [True, False])
def test_more_than_the_peer_takes_arrives_whole(links: Links, tcp: bool) -> None:
    link = links(tcp=tcp)
    data = link.fill(MUCH)
    for number in range(100):
        link.transport.write(b"%d" % number)
    got = b""
    while len(got) < MUCH + 190:
        got += link.read()
    assert got == data + b"".join(b"%d" % number for number in range(100))
    assert not link.reactor.writers


def test_while_paused_nothing_is_read(link: Link) -> None:
    link.transport.pauseProducing()
    link.transport.pauseProducing()
    link.peer.send(b"hello")
    link.peer.shutdown(socket.SHUT_WR)
    link.settle()
    assert link.protocol.data == b"" and link.protocol.lost == []
    link.transport.resumeProducing()
    link.transport.resumeProducing()
    link.settle()
    assert link.protocol.data == b"hello" and link.protocol.lost == [ConnectionDone]


def test_only_bytes_can_be_written(link: Link) -> None:
    with pytest.raises(TypeError):
        link.transport.write("text")


# The end of the connection.


def test_a_fin_ends_the_connection_after_what_came_before_it(link: Link) -> None:
    link.peer.send(b"bye")
    link.peer.close()
    link.settle()
    assert link.protocol.data == b"bye" and link.protocol.lost == [ConnectionDone]
    assert link.transport.fileno() == -1
    assert not link.reactor.readers and not link.reactor.writers


def test_a_reset_is_a_loss(links: Links) -> None:
    link = links(tcp=True)
    reset(link.peer)
    link.settle()
    assert link.protocol.lost == [ConnectionLost]


@pytest.mark.parametrize("reading", [True, False])
def test_a_reset_that_is_met_when_writing_is_a_loss(links: Links, reading: bool) -> None:
    link = links(tcp=True)
    if not reading:
        link.transport.pauseProducing()
    reset(link.peer)
    link.transport.write(b"x")
    assert link.protocol.lost == []  # not from within write
    link.transport.write(b"y")
    link.settle()
    assert link.protocol.lost == [ConnectionLost]


def test_a_peer_that_closed_while_we_did_not_read_is_met_when_writing(link: Link) -> None:
    link.transport.pauseProducing()
    link.peer.close()
    link.transport.write(b"x")
    assert link.protocol.lost == []
    link.settle()
    assert link.protocol.lost == [ConnectionLost]


def test_a_reset_is_met_with_a_full_queue(links: Links) -> None:
    link = links(tcp=True)
    link.transport.pauseProducing()
    link.fill(MUCH)
    link.settle()
    reset(link.peer)
    link.settle()
    assert link.protocol.lost == [ConnectionLost]


def test_what_a_protocol_raises_ends_its_connection(links: Links) -> None:
    link = links(protocol=Recorder(ZeroDivisionError()))
    link.peer.send(b"hello")
    link.settle()
    assert link.protocol.lost == [ZeroDivisionError]
    assert link.sees_end()


def test_closing_lets_the_queue_leave(link: Link) -> None:
    data = link.fill(MUCH)
    link.transport.loseConnection()
    link.transport.loseConnection()
    link.settle()
    assert link.protocol.lost == []
    assert link.read() == data
    assert link.protocol.lost == [ConnectionDone]
    assert link.sees_end()


def test_while_closing_nothing_is_read(link: Link) -> None:
    link.fill(MUCH)
    link.transport.loseConnection()
    link.peer.send(b"ignored")
    link.transport.resumeProducing()
    link.settle()
    assert link.protocol.data == b"" and link.protocol.lost == []


def test_closing_is_told_in_a_later_turn(link: Link) -> None:
    link.transport.loseConnection()
    assert link.protocol.lost == []
    link.settle()
    assert link.protocol.lost == [ConnectionDone]


def test_the_last_words_after_closing_still_leave(link: Link) -> None:
    data = link.fill(MUCH)
    link.transport.loseConnection()
    link.transport.write(b"last")
    assert link.read() == data + b"last"
    assert link.protocol.lost == [ConnectionDone]


def test_stop_producing_closes(link: Link) -> None:
    link.transport.stopProducing()
    link.settle()
    assert link.protocol.lost == [ConnectionDone]


@pytest.mark.parametrize("is_paused", [True, False])
def test_an_abort_resets_and_is_told_in_a_later_turn(links: Links, is_paused: bool) -> None:
    link = links(tcp=True)
    if is_paused:
        link.transport.pauseProducing()
    link.fill(MUCH)
    link.peer.send(b"unread")
    link.transport.abortConnection()
    link.transport.abortConnection()
    assert link.protocol.lost == []
    link.settle()
    assert link.protocol.lost == [ConnectionAborted] and link.protocol.data == b""
    with pytest.raises(ConnectionResetError):
        while link.peer.recv(1 << 20):
            pass


def test_after_an_abort_nothing_happens(link: Link) -> None:
    link.transport.abortConnection()
    link.transport.write(b"x")
    link.transport.loseConnection()
    link.transport.loseWriteConnection()
    link.transport.pauseProducing()
    link.peer.send(b"y")
    link.settle()
    assert link.protocol.lost == [ConnectionAborted] and link.protocol.data == b""


def test_an_abort_overtakes_closing(link: Link) -> None:
    link.fill(MUCH)
    link.transport.loseConnection()
    link.transport.abortConnection()
    link.settle()
    assert link.protocol.lost == [ConnectionAborted]


def test_an_abort_while_data_is_received_ends_it(links: Links) -> None:
    class Aborting(Recorder):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            self.transport.write(b"x" * MUCH)
            self.transport.abortConnection()

    link = links(protocol=Aborting())
    link.transport.write(b"x" * MUCH)
    link.settle()
    link.peer.send(b"hello")
    link.peer.recv(1 << 20)  # now it can be written to as well, in the same turn
    link.settle()
    assert link.protocol.reads == [5] and link.protocol.lost == [ConnectionAborted]


def test_an_abort_and_an_error_in_the_same_read_are_one_end(links: Links) -> None:
    class Aborting(Recorder):
        def dataReceived(self, data: bytes) -> None:
            self.transport.abortConnection()
            raise ZeroDivisionError

    link = links(protocol=Aborting())
    link.peer.send(b"hello")
    link.settle()
    assert link.protocol.lost == [ZeroDivisionError]


def test_a_half_close_lets_the_queue_leave_and_reads_on(link: Link) -> None:
    data = link.fill(MUCH)
    link.transport.loseWriteConnection()
    assert link.read() == data
    assert link.sees_end()
    link.transport.write(b"too late")
    link.transport.pauseProducing()
    link.transport.resumeProducing()
    link.peer.send(b"still here")
    link.settle()
    assert link.protocol.data == b"still here" and link.protocol.lost == []
    link.peer.close()
    link.settle()
    assert link.protocol.lost == [ConnectionDone]


def test_closing_after_a_half_close_is_at_once(link: Link) -> None:
    link.transport.loseWriteConnection()
    link.settle()
    link.transport.loseConnection()
    assert link.protocol.lost == [ConnectionDone]
    link.settle()
    assert link.protocol.lost == [ConnectionDone]


def test_closing_overtakes_a_half_close_that_waits(link: Link) -> None:
    data = link.fill(MUCH)
    link.transport.loseWriteConnection()
    link.transport.loseConnection()
    assert link.read() == data
    assert link.protocol.lost == [ConnectionDone]


def test_a_lost_connection_can_be_called_without_harm(link: Link) -> None:
    link.peer.close()
    link.settle()
    transport = link.transport
    transport.write(b"x")
    transport.writeSequence([b"x"])
    for call in (transport.pauseProducing, transport.resumeProducing, transport.loseConnection, transport.abortConnection):
        call()
    transport.unregisterProducer()
    link.settle()
    assert link.protocol.lost == [ConnectionDone]
    assert not link.reactor.readers and not link.reactor.writers and not link.reactor.getDelayedCalls()


def test_the_peers_address_is_known_after_the_end(links: Links) -> None:
    link = links(tcp=True)
    reset(link.peer)
    link.settle()
    assert link.transport.getPeer().host == "127.0.0.1"


# Producers.


def test_a_producer_is_paused_above_64_kib_and_resumed_at_none(link: Link) -> None:
    producer = paused(link)
    while not producer.told:
        assert link.read()
    assert producer.told == ["resume"] and link.reactor.writers == set()
    link.transport.write(b"x")
    assert link.read().endswith(b"x")
    assert producer.told == ["resume"]


def test_what_a_producer_writes_when_resumed_leaves(link: Link) -> None:
    paused(link, b"more")
    got = b""
    while not got.endswith(b"more"):
        got += link.read()
    assert len(got) == MUCH + 4


def test_an_unregistered_producer_is_told_nothing(link: Link) -> None:
    producer = paused(link)
    link.transport.unregisterProducer()
    while link.read():
        pass
    link.peer.close()
    link.settle()
    assert producer.told == []


def test_closing_waits_for_a_paused_producer(link: Link) -> None:
    producer = paused(link, b"more")
    link.transport.loseConnection()
    got = b""
    while not got.endswith(b"more"):
        got += link.read()
    assert producer.told == ["resume", "stop"] and link.protocol.lost == [ConnectionDone]


def test_closing_ends_when_the_producer_is_unregistered(link: Link) -> None:
    paused(link)
    link.transport.loseConnection()
    link.transport.unregisterProducer()
    while not link.protocol.lost:
        link.read()
    assert link.protocol.lost == [ConnectionDone]


@pytest.mark.parametrize("how", ["fin", "abort"])
def test_a_producer_is_stopped_before_the_protocol_hears_of_the_end(link: Link, how: str) -> None:
    producer = Producer(link)
    link.transport.registerProducer(producer, True)
    if how == "fin":
        link.peer.close()
    else:
        link.transport.abortConnection()
    link.settle()
    assert producer.told == ["stop"] and len(link.protocol.lost) == 1


def test_one_producer_at_a_time(link: Link) -> None:
    link.transport.registerProducer(Producer(link), True)
    with pytest.raises(RuntimeError, match="never"):
        link.transport.registerProducer(Producer(link), True)


def test_a_producer_for_a_lost_connection_is_stopped_at_once(links: Links) -> None:
    class Late(Producer):
        def stopProducing(self) -> None:
            self.told.append("stop")

    link = links()
    link.peer.close()
    link.settle()
    producer = Late(link)
    link.transport.registerProducer(producer, True)
    assert producer.told == ["stop"]


# Whatever happens, in whatever order.

OPERATIONS: dict[str, Callable[[Link], bytes | None]] = {
    "write": lambda link: link.transport.write(b"0123456789"),
    "write much": lambda link: link.transport.write(b"0123456789" * 30_000),
    "pause": lambda link: link.transport.pauseProducing(),
    "resume": lambda link: link.transport.resumeProducing(),
    "lose": lambda link: link.transport.loseConnection(),
    "lose write": lambda link: link.transport.loseWriteConnection(),
    "abort": lambda link: link.transport.abortConnection(),
    "peer writes": lambda link: link.peer.sendall(b"hello"),
    "peer reads": lambda link: link.read(),
    "turn": lambda link: link.settle(),
    "peer half-closes": lambda link: link.peer.shutdown(socket.SHUT_WR),
}


def run(kind: str, names: list[str]) -> tuple[object, ...]:
    """What became of these operations, for the protocol and for its peer."""
    link = Link(kind)
    heard = b""
    try:
        for name in names:
            with suppress(BrokenPipeError, ConnectionResetError):  # of the peer's own call, after the end
                heard += OPERATIONS[name](link) or b""
            link.settle()
        while not link.protocol.lost and (more := link.read()):
            heard += more
        # How much has left when an end comes that waits for nothing is not the same: ours sends sooner.
        cut_short = "abort" in names or "peer half-closes" in names
        return link.protocol.data, link.protocol.lost, None if cut_short else heard
    finally:
        link.close()


# Half-closing twice is a broken pipe to Twisted's, which sends nothing on it.
@given(st.lists(st.sampled_from(sorted(OPERATIONS)), max_size=12).filter(lambda names: names.count("lose write") < 2))
def test_ours_and_twisteds_lead_to_the_same(names: list[str]) -> None:
    assert run("ours", names) == run("twisted", names)


def test_a_closed_connection_is_freed_without_the_cycle_collector(link: Link) -> None:
    gc.disable()
    try:
        protocol = weakref.ref(link.protocol)
        link.peer.close()
        link.settle()
        del link.protocol
        del link.transport
        assert protocol() is None
    finally:
        gc.enable()
