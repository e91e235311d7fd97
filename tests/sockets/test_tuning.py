"""How sockets are set up, by the kernel's own account."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol

from tests.sockets.watching import Link
from txsse.sockets import deepen, hold_little
from txsse.sockets.tuning import LITTLE


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


def test_what_is_kept_elsewhere_does_not_wait_here() -> None:
    link = Link(tcp=True)
    hold_little(link.transport)
    assert link.transport.high_water == LITTLE
    assert link.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == LITTLE
    producer = Producer()
    link.transport.registerProducer(producer, True)
    written = 0
    while not producer.paused:
        link.transport.write(b"x" * 1000)
        written += 1000
    assert LITTLE < link.transport.pending <= LITTLE + 1000
    assert len(link.read()) == written
    assert not producer.paused
    link.close()


def test_transports_without_such_a_queue_are_let_be() -> None:
    link = Link()  # of UNIX sockets
    hold_little(link.transport)
    assert link.transport.high_water == LITTLE
    link.close()
    nothing = object()
    hold_little(nothing)


class Producer:
    paused = False

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def stopProducing(self) -> None: ...
