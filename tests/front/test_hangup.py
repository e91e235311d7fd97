from __future__ import annotations

import socket
import struct
from collections.abc import Callable

import pytest

from txsse.front.hangup import has_left


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


def test_without_a_descriptor_there_is_no_telling() -> None:
    assert not has_left(object())
