"""The private attributes of Twisted that we look at are there, and mean what we think."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, UNIXClientEndpoint, UNIXServerEndpoint, wrapClientTLS
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.protocols.policies import WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.client import Agent

from tests.front.tls import Careless, Unknown
from txsse._compat import abort_body, pending_bytes

MUCH = 8 * 1024 * 1024


class Server(Protocol):
    transport: Any

    def __init__(self) -> None:
        self.made: Deferred[None] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.made.callback(None)

    def connectionLost(self, reason: object = None) -> None:
        self.lost.callback(None)


class Client(Protocol):
    """Tells when it has read *expected* bytes."""

    transport: Any

    def __init__(self, expected: int) -> None:
        self.left = expected
        self.read: Deferred[None] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.left -= len(data)
        if not self.left:
            self.read.callback(None)

    def connectionLost(self, reason: object = None) -> None:
        self.lost.callback(None)


@pytest.mark.parametrize("kind", ["tcp", "unix", "tls", "wrapped"])
async def test_pending_bytes_are_those_the_socket_has_not_taken(kind: str, tmp_path: Path) -> None:
    server, client = Server(), Client(MUCH + 5)
    factory: Factory[Server] = Factory.forProtocol(lambda: server)
    if kind == "tls":
        serving: object = TLSMemoryBIOFactory(Unknown(), False, factory)
    else:
        serving = WrappingFactory(factory) if kind == "wrapped" else factory
    path = os.fspath(tmp_path / "s")
    listening = UNIXServerEndpoint(reactor, path) if kind == "unix" else TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    port = await listening.listen(serving)
    connecting = UNIXClientEndpoint(reactor, path) if kind == "unix" else TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
    await (wrapClientTLS(Careless(), connecting) if kind == "tls" else connecting).connect(Factory.forProtocol(lambda: client))
    await server.made

    assert pending_bytes(server.transport) == 0
    client.transport.pauseProducing()
    server.transport.write(b"hello")
    if kind != "tls":  # where the bytes may wait for the handshake
        assert pending_bytes(server.transport) == 5
    server.transport.write(b"x" * MUCH)
    assert MUCH <= (pending_bytes(server.transport) or 0) <= MUCH * 1.01
    client.transport.resumeProducing()
    await client.read
    assert pending_bytes(server.transport) == 0

    client.transport.abortConnection()
    await server.lost
    await port.stopListening()
    assert pending_bytes(server.transport) == 0


def test_of_a_transport_without_these_attributes_nothing_is_known() -> None:
    transport = StringTransport()
    transport.write(b"x")
    assert pending_bytes(transport) is None


async def test_the_connection_under_a_body_is_reset() -> None:
    server = Server()
    factory: Factory[Server] = Factory.forProtocol(lambda: server)
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    asking = Agent(reactor).request(b"GET", b"http://127.0.0.1:%d/" % port.getHost().port)
    await server.made
    server.transport.write(b"HTTP/1.1 200 OK\r\n\r\nbody")
    response = await asking
    body = Client(4)
    response.deliverBody(body)
    await body.read
    body.transport.pauseProducing()
    abort_body(body.transport)
    await server.lost
    await body.lost
    abort_body(body.transport)  # which is nothing any more
    await port.stopListening()


def test_a_body_without_such_a_connection_is_told_to_lose_it() -> None:
    transport = StringTransport()
    abort_body(transport)
    assert transport.disconnecting and not transport.disconnected


def test_nothing_is_pending_without_a_transport() -> None:
    assert pending_bytes(None) == 0
