from __future__ import annotations

import socket
import struct
from collections.abc import Callable

import pytest
from twisted.internet.task import Clock

from txsse.clock import Alarms
from txsse.front.hangup import RESET, HangupWatch, has_left


def _reset(end: socket.socket) -> None:
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()


@pytest.mark.parametrize(
    "leave", [socket.socket.close, lambda end: end.shutdown(socket.SHUT_WR), _reset], ids=["close", "half-close", "reset"]
)
def test_an_end_is_seen_behind_unread_bytes(leave: Callable[[socket.socket], None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        ours, _ = server.accept()
        with ours:
            client.sendall(b"unread")
            assert not has_left(ours)
            leave(client)
            assert has_left(ours)


@pytest.mark.parametrize(
    ("leave", "seen"), [(lambda end: end.shutdown(socket.SHUT_WR), False), (_reset, True)], ids=["half-close", "reset"]
)
def test_a_watch_for_resets_alone_sees_nothing_else(leave: Callable[[socket.socket], None], seen: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        ours, _ = server.accept()
        with ours:
            client.sendall(b"unread")
            leave(client)
            assert has_left(ours)
            assert has_left(ours, RESET) is seen


def test_without_a_descriptor_there_is_no_telling() -> None:
    assert not has_left(object())


def test_the_watch_looks_until_the_peer_has_left() -> None:
    clock, left = Clock(), []
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        ours, _ = server.accept()
        with ours:
            watch = HangupWatch(Alarms(clock), ours, lambda: left.append(clock.seconds()))
            watch.wake()
            clock.pump([0.01] * 20)
            assert left == []
            client.close()
            clock.pump([0.01] * 10)
    assert len(left) == 1
    assert clock.getDelayedCalls() == []


def test_a_stopped_watch_looks_no_more() -> None:
    clock = Clock()
    watch = HangupWatch(Alarms(clock), object(), lambda: None)
    watch.wake()
    assert clock.getDelayedCalls()
    watch.stop()
    clock.pump([0.1] * 2)
    assert clock.getDelayedCalls() == []
