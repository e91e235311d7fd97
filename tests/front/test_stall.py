"""A stuck reader is one whose socket accepts nothing: neither a slow one nor one that has nothing to read."""

from __future__ import annotations

import attrs
from twisted.internet.task import Clock

from txsse.clock import Alarms
from txsse.front.stall import LOOKS, StallWatch

PATIENCE = 8.0


@attrs.define(eq=False)
class Connection:
    """A connection whose socket is played by the test."""

    clock: Clock
    pending: int = 0
    closing: bool = False
    patience: float = PATIENCE
    stalled_at: list[float] = attrs.field(factory=list)

    def unaccepted(self) -> int:
        return self.pending

    def stalled(self) -> None:
        self.stalled_at.append(self.clock.seconds())


def watched() -> tuple[Clock, Connection, StallWatch]:
    clock = Clock()
    connection = Connection(clock)
    return clock, connection, StallWatch(Alarms(clock), connection)


def write(connection: Connection, watch: StallWatch, count: int) -> None:
    connection.pending += count
    watch.wrote(count)


def test_a_socket_that_accepts_nothing_is_stuck_when_its_patience_is_over() -> None:
    clock, connection, watch = watched()
    write(connection, watch, 100)
    clock.pump([0.01] * 1200)
    (at,) = connection.stalled_at
    assert PATIENCE <= at <= PATIENCE * (1 + 1 / LOOKS)
    assert clock.getDelayedCalls() == []


def test_one_accepted_byte_begins_it_anew() -> None:
    clock, connection, watch = watched()
    write(connection, watch, 100)
    for _ in range(5):
        clock.pump([0.01] * 600)
        connection.pending -= 1
    assert connection.stalled_at == []
    watch.stop()


def test_more_writes_do_not_help() -> None:
    clock, connection, watch = watched()
    for _ in range(12):
        write(connection, watch, 100)
        clock.pump([0.01] * 100)
    assert len(connection.stalled_at) == 1


def test_nothing_ticks_when_nothing_is_pending() -> None:
    clock, connection, watch = watched()
    write(connection, watch, 100)
    connection.pending = 0
    clock.pump([0.01] * 200)
    assert (connection.stalled_at, clock.getDelayedCalls()) == ([], [])


def test_a_close_that_the_peer_does_not_take_is_a_stall_too() -> None:
    clock, connection, watch = watched()
    connection.closing = True
    watch.start()
    clock.pump([0.01] * 1200)
    assert len(connection.stalled_at) == 1


def test_a_stopped_watch_says_nothing() -> None:
    clock, connection, watch = watched()
    write(connection, watch, 100)
    watch.stop()
    watch.stop()
    clock.pump([0.01] * 1200)
    assert (connection.stalled_at, clock.getDelayedCalls()) == ([], [])
