from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from tests.upstream.recording import RecordingReceiver
from txsse.clock import Alarms
from txsse.interfaces import Dispatch, Failed, Fault
from txsse.testing.waiting import pump
from txsse.upstream.endpoints import Target
from txsse.upstream.pool import CLOSE_GRACE, ConnectionPool
from txsse.wire.http1 import ResponseHead

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n\r\n"
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Peer(StringTransport):
    """The far end of a connection in memory: closes when told to, as a socket would."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol: Any = None
        self.closed = False

    def answer(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def loseConnection(self) -> None:
        self.disconnecting = True
        self.close()

    def abortConnection(self) -> None:
        super().abortConnection()
        self.close()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            protocol, self.protocol = self.protocol, None  # as transports do
            protocol.connectionLost(Failure(ConnectionDone()))


class World:
    """A pool on a fake reactor."""

    def __init__(self, max_idle: int = 64) -> None:
        self.reactor = MemoryReactorClock()
        self.alarms = Alarms(self.reactor)
        self.pool = ConnectionPool(self.reactor, self.alarms, Target.parse("http://127.0.0.1:8080"), max_idle=max_idle)

    def send(self, body: bytes = b"", *, fresh: bool = False) -> tuple[Dispatch, RecordingReceiver]:
        receiver = RecordingReceiver()
        return self.pool.dispatch(HEAD, body, b"POST", receiver, fresh=fresh), receiver

    @property
    def attempts(self) -> int:
        return len(self.reactor.tcpClients)

    def accept(self) -> Peer:
        """Let the latest attempt succeed."""
        peer = Peer()
        peer.protocol = self.reactor.tcpClients[-1][2].buildProtocol(None)
        peer.protocol.makeConnection(peer)
        return peer

    def fail(self, error: Exception) -> None:
        """Let the latest attempt fail; nobody is told before the next turn of the reactor."""
        factory: Any = self.reactor.tcpClients[-1][2]
        factory.clientConnectionFailed(None, Failure(error))

    def forget_attempts(self) -> None:
        """Fakes of a reactor remember them all."""
        self.reactor.tcpClients.clear()
        self.reactor.connectors.clear()

    def idle_peer(self) -> Peer:
        """A new connection that has served one request and is free."""
        self.send(fresh=True)
        peer = self.accept()
        peer.answer(EMPTY)
        peer.clear()
        return peer

    @property
    def counts(self) -> tuple[int, int, int]:
        return self.pool.connecting, self.pool.open, self.pool.idle


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def collector_off() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_a_request_opens_a_connection_and_leaves_it_for_the_next(world: World) -> None:
    _, first = world.send(b"one")
    assert world.counts == (1, 0, 0)
    peer = world.accept()
    assert world.counts == (0, 1, 0)
    assert peer.value() == HEAD + b"one"
    peer.answer(EMPTY)
    assert first.ended and world.counts == (0, 1, 1)
    peer.clear()
    _, second = world.send(b"two")
    assert peer.value() == HEAD + b"two"
    assert world.counts == (0, 1, 0)
    peer.answer(EMPTY)
    assert second.ended and world.attempts == 1


def test_the_connection_used_last_is_used_first(world: World) -> None:
    older, newer = world.idle_peer(), world.idle_peer()
    world.send()
    assert newer.value() == HEAD and older.value() == b""


def test_a_fresh_connection_can_be_asked_for(world: World) -> None:
    idle = world.idle_peer()
    _, receiver = world.send(fresh=True)
    world.accept().answer(EMPTY)
    assert receiver.ended and idle.value() == b""


def test_a_stale_connection_is_told_and_a_fresh_one_helps(world: World) -> None:
    peer = world.idle_peer()
    _, receiver = world.send(b"a POST")
    peer.close()
    assert receiver.failed == Failed(Fault.STALE, "kept-alive connection closed")
    assert world.counts == (0, 0, 0)
    _, again = world.send(b"a POST", fresh=True)
    world.accept().answer(EMPTY)
    assert again.ended


def test_no_more_than_max_idle_are_kept_and_the_oldest_goes() -> None:
    world = World(max_idle=2)
    peers = [world.idle_peer() for _ in range(3)]
    assert [peer.closed for peer in peers] == [True, False, False]
    assert world.counts == (0, 2, 2)


def test_with_max_idle_zero_each_request_has_its_own() -> None:
    world = World(max_idle=0)
    assert world.idle_peer().closed
    assert world.counts == (0, 0, 0)


def test_an_idle_connection_is_closed_after_its_time(world: World) -> None:
    early = world.idle_peer()
    pump(world.reactor, 3)
    late = world.idle_peer()
    pump(world.reactor, 0.9)
    assert not early.closed
    pump(world.reactor, 0.4)
    assert early.closed and not late.closed
    pump(world.reactor, 3)
    assert late.closed and world.counts == (0, 0, 0)
    pump(world.reactor, 2)
    assert world.reactor.getDelayedCalls() == []


def test_use_starts_the_idle_time_anew(world: World) -> None:
    peer = world.idle_peer()
    for _ in range(3):
        pump(world.reactor, 3)
        world.send()
        peer.answer(EMPTY)
    assert not peer.closed


@pytest.mark.parametrize("data", [b"\r\n", EMPTY])
def test_an_idle_connection_that_speaks_is_closed(world: World, data: bytes) -> None:
    peer = world.idle_peer()
    peer.answer(data)
    assert peer.closed and world.counts == (0, 0, 0)


def test_an_idle_connection_that_ends_is_forgotten(world: World) -> None:
    world.idle_peer().close()
    assert world.counts == (0, 0, 0)
    world.send()
    assert world.attempts == 2


def test_one_that_ends_among_many_idle_leaves_the_others_in_order(world: World) -> None:
    oldest, middle, newest = (world.idle_peer() for _ in range(3))
    middle.close()
    assert world.counts == (0, 2, 2)
    world.send()
    world.send()
    assert newest.value() == oldest.value() == HEAD and world.attempts == 3


def test_a_connection_that_cannot_be_used_again_is_closed(world: World) -> None:
    world.send()
    peer = world.accept()
    peer.answer(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    assert peer.disconnecting and not peer.disconnected  # a FIN, not a reset
    assert world.counts == (0, 0, 0)


def test_a_peer_that_never_takes_our_goodbye_is_dropped(world: World) -> None:
    peer = world.idle_peer()
    peer.close = lambda: None  # type: ignore[method-assign]  # what we queued does not leave
    world.pool.close_idle()
    assert world.pool.open == 1 and not peer.disconnected
    pump(world.reactor, CLOSE_GRACE + 0.1)
    assert peer.disconnected


def test_refused_is_told_in_a_turn_of_its_own(world: World) -> None:
    _, receiver = world.send()
    world.fail(ConnectionRefusedError())
    assert receiver.silent
    world.reactor.advance(0)
    assert receiver.failed == Failed(Fault.UNREACHABLE, "connection refused")
    assert world.counts == (0, 0, 0)


def test_an_unforeseen_failure_to_connect_is_logged_and_told(world: World, expected_errors: Any) -> None:
    _, receiver = world.send()
    world.fail(ZeroDivisionError())
    world.reactor.advance(0)
    assert receiver.failed == Failed(Fault.UNREACHABLE, "cannot connect")
    assert len(expected_errors.flush(ZeroDivisionError)) == 1


# Abort and pause.


def test_abort_while_connecting_stops_it(world: World) -> None:
    dispatch, receiver = world.send()
    dispatch.abort()
    dispatch.abort()
    world.reactor.advance(0)
    assert world.reactor.connectors[0].stoppedConnecting
    assert receiver.silent and world.counts == (0, 0, 0)
    assert world.reactor.getDelayedCalls() == []


def test_abort_after_a_refusal_that_was_not_told_yet_keeps_it_back(world: World) -> None:
    dispatch, receiver = world.send()
    world.fail(ConnectionRefusedError())
    dispatch.abort()
    world.reactor.advance(0)
    assert receiver.silent


@pytest.mark.parametrize("phase", [b"", b"HTTP/1.1 2", CHUNKED, CHUNKED + b"1\r\na\r\n"])
def test_abort_closes_the_connection_and_forgets_it(world: World, phase: bytes) -> None:
    dispatch, receiver = world.send()
    peer = world.accept()
    if phase:
        peer.answer(phase)
    dispatch.pause()
    dispatch.abort()
    assert peer.disconnected and world.counts == (0, 0, 0)
    assert not receiver.ended and receiver.failed is None


def test_after_its_end_a_dispatch_has_no_hold_on_the_connection(world: World) -> None:
    old, _ = world.send()
    peer = world.accept()
    peer.answer(EMPTY)
    old.pause()
    old.abort()
    assert world.counts == (0, 1, 1)
    _, receiver = world.send()
    old.pause()
    old.resume()
    old.abort()
    assert not peer.closed and peer.producerState == "producing"
    peer.answer(EMPTY)
    assert receiver.ended


def test_a_pause_while_connecting_holds_when_connected(world: World) -> None:
    dispatch, _ = world.send()
    dispatch.pause()
    peer = world.accept()
    assert peer.producerState == "paused"
    dispatch.resume()
    assert peer.producerState == "producing"


def test_a_pause_while_connecting_may_be_over_before_the_connection_is_there(world: World) -> None:
    dispatch, _ = world.send()
    dispatch.pause()
    dispatch.resume()
    assert world.accept().producerState == "producing"


def test_a_response_that_ends_while_paused_leaves_a_reading_connection(world: World) -> None:
    dispatch, receiver = world.send()
    peer = world.accept()
    receiver.on_body = dispatch.pause
    peer.answer(CHUNKED + b"1\r\na\r\n0\r\n\r\n")
    assert receiver.ended and world.pool.idle == 1
    assert peer.producerState == "producing"
    _, second = world.send()
    peer.answer(CHUNKED + b"1\r\nb\r\n0\r\n\r\n")
    assert second.body == b"b" and second.ended


# The end of the pool.


def test_close_idle_leaves_what_is_in_use(world: World) -> None:
    idle = world.idle_peer()
    _, receiver = world.send(fresh=True)
    busy = world.accept()
    world.pool.close_idle()
    assert idle.closed and not busy.closed
    busy.answer(EMPTY)
    assert receiver.ended and world.counts == (0, 1, 1)


def test_a_retired_pool_serves_on_and_keeps_nothing(world: World) -> None:
    idle = world.idle_peer()
    _, receiver = world.send(fresh=True)
    busy = world.accept()
    world.pool.retire()
    assert idle.closed and not busy.closed
    busy.answer(EMPTY)
    assert receiver.ended and world.counts == (0, 0, 0)
    _, later = world.send()
    world.accept().answer(EMPTY)
    assert later.ended and world.counts == (0, 0, 0)


def test_close_ends_everything_and_tells(world: World) -> None:
    _, busy = world.send(fresh=True)
    world.accept()
    idle = world.idle_peer()
    _, connecting = world.send(fresh=True)
    world.pool.close()
    assert idle.closed and world.counts == (0, 0, 0)
    assert busy.fault is Fault.RESET
    assert connecting.failed == Failed(Fault.UNREACHABLE, "shutting down")
    _, late = world.send()
    assert late.silent
    world.reactor.advance(0)
    assert late.failed == Failed(Fault.UNREACHABLE, "shutting down")
    pump(world.reactor, 6)
    assert world.reactor.getDelayedCalls() == []


# What it costs.


class Deaf:
    """A receiver that keeps nothing."""

    def cork(self) -> None: ...

    def uncork(self) -> None: ...

    def response_started(self, head: ResponseHead) -> None: ...

    def body_received(self, data: bytes) -> None: ...

    def response_ended(self) -> None: ...

    def dispatch_failed(self, failed: Failed) -> None: ...


def receive(data: bytes) -> Callable[[Dispatch, Peer], None]:
    return lambda _, peer: peer.answer(data)


def abort_inside(data: bytes) -> Callable[[Dispatch, Peer], None]:
    def end(dispatch: Dispatch, peer: Peer) -> None:
        peer.answer(data)
        dispatch.abort()

    return end


@pytest.mark.parametrize(
    "end",
    [
        receive(EMPTY),
        receive(CHUNKED + b"1\r\na\r\n0\r\n\r\n"),
        receive(CHUNKED + b"1\r\na\r\nzz\r\n"),
        receive(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
        receive(b"HTTP/1.1 200 OK\r\nno field\r\n\r\n"),
        receive(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"),
        abort_inside(b"HTTP/1.1 2"),
        abort_inside(CHUNKED + b"5\r\nab"),
        lambda _, peer: peer.close(),
    ],
)
def test_no_ending_leaves_garbage(world: World, end: Callable[[Dispatch, Peer], None], collector_off: None) -> None:
    peers: list[Peer] = []
    for _ in range(100):
        dispatch = world.pool.dispatch(HEAD, b"", b"POST", Deaf())
        if world.pool.connecting:
            peers.append(world.accept())
            world.forget_attempts()
        end(dispatch, peers[-1])
        peers[-1].clear()
        pump(world.reactor, 2 * CLOSE_GRACE)
    assert gc.collect() == 0


def weight(root: object, others: list[object]) -> int:
    """Bytes of *root* and of what it alone holds, which is not *others* nor what they hold."""
    seen = {id(each) for each in others}
    total, left = 0, [root]
    while left:
        each = left.pop()
        if id(each) not in seen and not isinstance(each, type | ModuleType):
            seen.add(id(each))
            total += sys.getsizeof(each)
            left += gc.get_referents(each)
    return total


@pytest.mark.parametrize("reads", [[], [CHUNKED], [CHUNKED, b"9\r\ndata: 1\n\n\r\n"], [b"HTTP/1.1 200 OK\r\n\r\n", b"data: 1\n\n"]])
def test_an_idle_stream_takes_less_than_500_bytes(world: World, reads: list[bytes]) -> None:
    receiver = Deaf()
    dispatch = world.pool.dispatch(HEAD, b"a long prompt" * 1000, b"POST", receiver)
    peer = world.accept()
    for read in reads:
        peer.answer(read)
    assert world.pool.open == 1
    assert 100 < weight(dispatch, [world.pool, peer, receiver]) < 500  # llhttp's are not in it: see test_chunks.py


def test_ten_thousand_requests_on_one_connection_leave_nothing_behind(world: World) -> None:
    answer = CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"
    peer = world.idle_peer()

    def serve(count: int) -> None:
        for _ in range(count):
            dispatch, receiver = world.send()
            dispatch.pause()
            dispatch.resume()
            peer.answer(answer)
            assert receiver.ended
            peer.clear()
            world.reactor.advance(0.001)

    serve(100)
    gc.collect()
    before = len(gc.get_objects())
    serve(10_000)
    gc.collect()
    assert len(gc.get_objects()) - before < 100
    assert len(world.reactor.getDelayedCalls()) <= 1
    assert world.attempts == 1 and world.counts == (0, 1, 1)
