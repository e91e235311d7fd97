"""A stuck reader is one whose socket accepts nothing: neither a slow one nor one that has nothing to read."""

from __future__ import annotations

from twisted.internet.task import Clock

from txsse.clock import Alarms
from txsse.front.stall import LOOKS, StallWatch

PATIENCE = 8.0


class Connection:
    """A connection whose socket is played by the test, and watched from the first write on that leaves something behind."""

    patience = PATIENCE

    def __init__(self, *, pending: int = 0, closing: bool = False) -> None:
        self.clock = Clock()
        self.pending = pending
        self.in_the_kernel = 0
        self.closing = closing
        self.stalled_at: list[float] = []
        self.watch: StallWatch | None = StallWatch(Alarms(self.clock), self)

    def unaccepted(self) -> int:
        return self.pending

    def unacknowledged(self) -> int:
        return self.in_the_kernel

    def settled(self) -> None:
        self.watch = None

    def stalled(self) -> None:
        self.watch = None
        self.stalled_at.append(self.clock.seconds())

    def write(self, count: int) -> None:
        self.pending += count
        if self.watch is not None:
            self.watch.wrote(count)

    def pass_time(self, seconds: float) -> None:
        self.clock.pump([0.01] * round(seconds * 100))


def test_a_socket_that_accepts_nothing_is_stuck_when_its_patience_is_over() -> None:
    connection = Connection(pending=100)
    connection.pass_time(12)
    (at,) = connection.stalled_at
    assert PATIENCE <= at <= PATIENCE * (1 + 1 / LOOKS)
    assert connection.clock.getDelayedCalls() == []


def test_one_accepted_byte_begins_it_anew() -> None:
    connection = Connection(pending=100)
    for _ in range(5):
        connection.pass_time(6)
        connection.pending -= 1
    assert connection.stalled_at == []
    assert connection.watch is not None


def test_a_client_that_empties_the_kernels_buffer_is_not_stuck() -> None:
    connection = Connection(pending=100)
    connection.in_the_kernel = 50
    for _ in range(5):
        connection.pass_time(6)
        connection.in_the_kernel -= 1
    assert connection.stalled_at == []
    connection.pass_time(12)
    assert len(connection.stalled_at) == 1


def test_a_byte_that_the_kernel_takes_from_us_alone_has_not_arrived() -> None:
    connection = Connection(pending=100)
    for _ in range(12):
        connection.pass_time(1)
        connection.pending -= 1
        connection.in_the_kernel += 1
    assert len(connection.stalled_at) == 1


def test_more_writes_do_not_help() -> None:
    connection = Connection(pending=100)
    for _ in range(12):
        connection.write(100)
        connection.pass_time(1)
    assert len(connection.stalled_at) == 1


def test_nothing_ticks_when_nothing_is_pending() -> None:
    connection = Connection(pending=100)
    connection.pending = 0
    connection.pass_time(2)
    assert connection.watch is None
    assert (connection.stalled_at, connection.clock.getDelayedCalls()) == ([], [])


def test_a_close_that_the_peer_does_not_take_is_a_stall_too() -> None:
    connection = Connection(closing=True)
    connection.pass_time(12)
    assert len(connection.stalled_at) == 1


def test_a_stopped_watch_says_nothing() -> None:
    connection = Connection(pending=100)
    assert connection.watch is not None
    connection.watch.stop()
    connection.watch.stop()
    connection.pass_time(12)
    assert (connection.stalled_at, connection.clock.getDelayedCalls()) == ([], [])
