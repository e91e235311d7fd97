"""Connections that Twisted made are taken over whole, or left as they are. Fails where a Twisted has other attributes than we know."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet import endpoints, tcp, unix
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import ClientFactory, Factory, Protocol, connectionDone
from twisted.internet.testing import StringTransport
from twisted.protocols.policies import WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.front.tls import Careless, Unknown
from tests.sockets.watching import needs_ipv6
from txsse.sockets import adopt
from txsse.sockets.descriptor import Descriptor
from txsse.sockets.transports import TCPTransport, UNIXTransport
from txsse.testing import eventually

reactor: Any = _reactor


class Adopting(Protocol):
    """Adopts its transport, after *before* was called with it; sends back what it reads in capitals, and what it reads in capitals not."""

    transport: Any

    def __init__(self, before: Callable[[Any], object] = lambda _: None) -> None:
        self.data = b""
        self.made: Deferred[None] = Deferred()
        self.lost: Deferred[type[BaseException] | None] = Deferred()
        self._before = before

    def connectionMade(self) -> None:
        self.first = weakref.ref(self.transport)
        self.kind = type(self.transport)
        self._before(self.transport)
        self.transport = adopt(self.transport, self)
        self.made.callback(None)

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        if data != data.upper():
            self.transport.write(data.upper())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(reason.type)

    @property
    def adopted(self) -> bool:
        return isinstance(self.transport, Descriptor)


@implementer(IHalfCloseableProtocol)
class HalfCloseable(Adopting):
    def readConnectionLost(self) -> None:
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        pass


@attrs.define
class Pair:
    """The two sides of a connection, and the port between them."""

    server: Adopting
    client: Adopting
    port: Any

    async def talk(self) -> None:
        self.client.transport.write(b"hello")
        await eventually(reactor, lambda: self.client.data)
        assert (self.server.data, self.client.data) == (b"hello", b"HELLO")

    async def close(self) -> None:
        self.client.transport.loseConnection()
        assert await self.client.lost is ConnectionDone
        assert await self.server.lost is ConnectionDone
        stopped = self.port.stopListening()
        if stopped is not None:  # before
            await stopped


async def connect(kind: str, path: Path, server: Adopting | None = None, client: Adopting | None = None) -> Pair:
    """:param kind: ``tcp``, ``tcp6``, ``unix``, ``name``, ``tls`` or ``wrapped``."""
    server, client = server or Adopting(), client or Adopting()
    factory: Any = Factory.forProtocol(lambda: server)
    if kind == "tls":
        factory = TLSMemoryBIOFactory(Unknown(), False, factory)
    elif kind == "wrapped":
        factory = WrappingFactory(factory)
    interface = "::1" if kind == "tcp6" else "127.0.0.1"
    name = os.fspath(path / "socket")
    listening: Any = endpoints.TCP4ServerEndpoint(reactor, 0, interface=interface)
    if kind == "unix":
        listening = endpoints.UNIXServerEndpoint(reactor, name)
    port = await listening.listen(factory)
    connecting: Any
    if kind == "unix":
        connecting = endpoints.UNIXClientEndpoint(reactor, name)
    elif kind == "name":
        connecting = endpoints.HostnameEndpoint(reactor, "localhost", port.getHost().port, attemptDelay=0.01)
    else:
        connecting = endpoints.TCP4ClientEndpoint(reactor, interface, port.getHost().port)
    if kind == "tls":
        connecting = endpoints.wrapClientTLS(Careless(), connecting)
    assert await connecting.connect(Factory.forProtocol(lambda: client)) is client
    await server.made
    return Pair(server, client, port)


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize(
    ("kind", "classes", "ours"),
    [
        ("tcp", (tcp.Server, tcp.Client), TCPTransport),
        pytest.param("tcp6", (tcp.Server, tcp.Client), TCPTransport, marks=needs_ipv6),
        ("name", (tcp.Server, tcp.Client), TCPTransport),
        ("unix", (unix.Server, unix.Client), UNIXTransport),
    ],
)
async def test_both_sides_of_a_connection_are_adopted(
    kind: str, classes: tuple[type, type], ours: type[Descriptor], tmp_path: Path, no_collector: None
) -> None:
    addresses: list[Any] = []
    server, client = (Adopting(lambda transport: addresses.append((transport.getPeer(), transport.getHost()))) for _ in range(2))
    pair = await connect(kind, tmp_path, server, client)
    await pair.talk()
    for side, theirs in zip((server, client), classes, strict=True):
        assert side.kind is theirs
        assert (side.transport.getPeer(), side.transport.getHost()) in addresses
        assert type(side.transport) is ours
        assert side.first() is None  # freed, without the cycle collector
    await pair.close()


@pytest.mark.parametrize("kind", ["tls", "wrapped"])
async def test_what_is_wrapped_stays_as_it_is(kind: str, tmp_path: Path) -> None:
    pair = await connect(kind, tmp_path)
    assert not pair.server.adopted
    assert pair.client.adopted is (kind == "wrapped")
    await pair.talk()
    await pair.close()


@pytest.mark.parametrize(
    "before",
    [
        lambda transport: transport.write(b"WELCOME"),
        lambda transport: transport.loseConnection(),
        lambda transport: transport.registerProducer(transport, True),
        lambda transport: transport.startTLS(Unknown()),
        lambda transport: delattr(transport, "client"),  # as if a Twisted had it elsewhere
        lambda transport: setattr(transport, "protocol", Adopting()),  # somebody listens in between
    ],
    ids=["written", "closing", "producer", "TLS", "no address", "between"],
)
async def test_a_transport_that_has_more_to_do_than_to_read_stays_as_it_is(before: Callable[[Any], object], tmp_path: Path) -> None:
    server = Adopting(before)
    pair = await connect("tcp", tmp_path, server)
    assert type(server.transport) is tcp.Server
    vars(server.transport)["protocol"] = server
    server.transport.abortConnection()
    await server.lost
    await pair.client.lost
    await pair.port.stopListening()


async def test_a_protocol_that_knows_half_closes_keeps_its_transport(tmp_path: Path) -> None:
    pair = await connect("tcp", tmp_path, HalfCloseable())
    assert not pair.server.adopted
    await pair.talk()
    await pair.close()


async def test_a_subclass_of_twisteds_transports_stays_as_it_is(tmp_path: Path) -> None:
    class Own(tcp.Server):
        pass

    server = Adopting()
    port = reactor.listenTCP(0, Factory.forProtocol(lambda: server), interface="127.0.0.1")
    port.transport = Own
    client = Adopting()
    await endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port).connect(Factory.forProtocol(lambda: client))
    await server.made
    assert type(server.transport) is Own
    await Pair(server, client, port).close()


def test_fakes_and_our_own_stay_as_they_are() -> None:
    transport = StringTransport()
    assert adopt(transport, Adopting()) is transport
    ours = TCPTransport(None, None, Adopting(), None)  # type: ignore[arg-type]  # nothing of it is used
    assert adopt(ours, Adopting()) is ours


async def test_what_arrives_with_the_connection_is_read(tmp_path: Path) -> None:
    class Greeting(Adopting):
        def connectionMade(self) -> None:
            super().connectionMade()
            self.transport.write(b"HELLO")

    pair = await connect("tcp", tmp_path, client=Greeting())
    await eventually(reactor, lambda: pair.server.data == b"HELLO")
    await pair.close()


async def test_a_protocol_may_abort_at_once(tmp_path: Path) -> None:
    class Aborting(Adopting):
        def connectionMade(self) -> None:
            super().connectionMade()
            self.transport.abortConnection()

    pair = await connect("tcp", tmp_path, Aborting(), Aborting())
    assert await pair.server.lost is ConnectionAborted
    assert await pair.client.lost is ConnectionAborted
    await pair.port.stopListening()


async def test_a_port_can_stop_before_its_connections(tmp_path: Path) -> None:
    pair = await connect("tcp", tmp_path)
    await pair.port.stopListening()
    await pair.talk()
    await pair.close()


class Counted(ClientFactory):
    """Notes what becomes of its connection, and of itself."""

    noisy = False

    def __init__(self, protocol: Adopting) -> None:
        self.heard: list[str] = []
        self._made = protocol

    def buildProtocol(self, addr: object) -> Adopting:
        return self._made

    def clientConnectionLost(self, connector: Any, reason: Failure) -> None:
        self.heard.append(f"lost: {connector.state}")

    def stopFactory(self) -> None:
        self.heard.append("stopped")


async def test_a_connector_knows_its_connection_to_the_end(tmp_path: Path) -> None:
    server, client = Adopting(), Adopting()
    port = reactor.listenTCP(0, Factory.forProtocol(lambda: server), interface="127.0.0.1")
    factory = Counted(client)
    connector = reactor.connectTCP("127.0.0.1", port.getHost().port, factory)
    await client.made
    await server.made
    assert client.adopted and connector.state == "connected"
    connector.disconnect()
    assert await client.lost is ConnectionDone
    await server.lost
    assert factory.heard == ["lost: disconnected", "stopped"]
    await port.stopListening()
