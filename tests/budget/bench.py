"""The whole proxy in memory: the real service on a reactor that only pretends, clients and backends whose sockets are objects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IConsumer, IPushProducer, ITransport
from twisted.internet.testing import MemoryReactorClock
from zope.interface import implementer

from txsse.config import loads
from txsse.service import ProxyService

READY = """
server = { listen = ["tcp:1"], admin = "none" }
[[upstream]]
name = "model"
url = "http://127.0.0.1:2"
probe = { preset = "none" }
"""
CACHING = READY + '[[route]]\ncache = { mode = "all" }\n'
RESUMING = READY + '[[route]]\nresume = { mode = "auto" }\n'
HELD = """
server = { listen = ["tcp:1"], admin = "none" }
[[upstream]]
name = "model"
url = "http://127.0.0.1:2"
probe = { preset = "tcp" }
timeouts = { connect = "1h" }
[[route]]
hold = { max_waiting = 10000 }
keepalive = { interval = "5s" }
"""
ADDRESS = IPv4Address("TCP", "127.0.0.1", 3)


@implementer(ITransport, IConsumer, IPushProducer)
class Wire:
    """One end of a connection whose other end is the test: it takes everything at once and keeps nothing but the last write.

    :ivar protocol: who hears what comes in; as on Twisted's own transports whoever takes a connection over may replace it.
    """

    __slots__ = ("closed", "connected", "disconnecting", "last", "producer", "protocol", "writes")

    def __init__(self) -> None:
        self.protocol: Any = None
        self.producer: object = None
        self.writes = 0
        self.last = b""
        self.closed = False
        self.connected = True
        self.disconnecting = False

    def connect(self, protocol: Any) -> Wire:
        self.protocol = protocol
        protocol.makeConnection(self)
        return self

    def receive(self, data: bytes) -> None:
        """As if the other end had sent *data*."""
        self.protocol.dataReceived(data)

    def write(self, data: bytes) -> None:
        self.writes += 1
        self.last = data

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self.closed = True

    def abortConnection(self) -> None:
        self.closed = True

    def registerProducer(self, producer: object, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...

    def stopProducing(self) -> None: ...

    def getPeer(self) -> IPv4Address:
        return ADDRESS

    def getHost(self) -> IPv4Address:
        return ADDRESS


class Bench:
    """One proxy at its defaults, its clients and its backend. Time passes when it is told to.

    :ivar lines: access lines that were written.
    """

    def __init__(self, configuration: str = READY) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.lines = 0
        self.service = ProxyService(loads(configuration), reactor=self.reactor, access_log=self._count)
        self.service.startService()
        self.site: Any = self.reactor.tcpServers[0][1]

    def _count(self, text: str) -> None:
        self.lines += text.count("\n")

    def client(self, wire: Wire | None = None) -> Wire:
        """A client has connected."""
        return (wire or Wire()).connect(self.site.buildProtocol(ADDRESS))

    def backend(self, wire: Wire | None = None) -> Wire:
        """The connection to the backend that was asked for comes about."""
        ((_, _, factory, _, _),) = self.reactor.tcpClients
        self.reactor.tcpClients.clear()
        self.reactor.connectors.clear()
        return (wire or Wire()).connect(factory.buildProtocol(ADDRESS))

    def wait(self, seconds: float, step: float = 0.05) -> None:
        self.reactor.pump([step] * round(seconds / step))

    def close(self) -> None:
        """End it: its clocks hold it in memory otherwise."""
        self.service.cut()
        self.service.stopService()
        self.wait(3)
