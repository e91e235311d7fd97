"""How sockets are set up, by the kernel's own account."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol

from txsse.sockets import deepen


async def test_more_clients_can_queue_than_twisted_asks_for() -> None:
    any_reactor: Any = reactor
    port = any_reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
    deepen(port)
    clients = [socket.socket() for _ in range(200)]
    try:
        for client in clients:
            # Nobody accepts meanwhile, for this very function occupies the reactor: past the backlog a connect would time out.
            client.settimeout(0.5)
            client.connect(("127.0.0.1", port.getHost().port))
        assert all(client.getpeername() for client in clients)
    finally:
        for client in clients:
            client.close()
        await port.stopListening()


def test_what_has_no_socket_is_let_be() -> None:
    nothing = object()
    deepen(nothing)
    assert not hasattr(nothing, "socket")
