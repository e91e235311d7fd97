"""The web in memory: an agent whose connections a test answers byte by byte, and somebody who reads a source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, HTTPConnectionPool
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from txsse.client import Backoff, EventSource, State
from txsse.testing import MessageReader, ReceivedRequest, chunk
from txsse.testing.http import head
from txsse.wire.eventstream import Event

URL = "http://server.test/events"
STEADY = Backoff(jitter=0)


def stream_head(*headers: str) -> bytes:
    return head("HTTP/1.1 200 OK", ["Content-Type: text/event-stream", "Transfer-Encoding: chunked", *headers])


class Connection:
    """One connection of the client's, seen from the server."""

    def __init__(self, origin: str, protocol: Any) -> None:
        self.origin = origin
        self.transport = StringTransport()
        self._protocol = protocol
        self._reader = MessageReader(ReceivedRequest, until_close=False)
        protocol.makeConnection(self.transport)

    @property
    def request(self) -> ReceivedRequest:
        """The one request of this connection."""
        self._reader.feed(self.transport.value())
        self.transport.clear()
        (message,) = self._reader.messages
        assert message.complete and not self._reader.broken
        return message

    @property
    def last_event_id(self) -> bytes | None:
        return self.request.header("last-event-id")

    @property
    def aborted(self) -> bool:
        return bool(self.transport.disconnected)

    @property
    def paused(self) -> bool:
        return self.transport.producerState == "paused"

    def send(self, data: bytes) -> None:
        self._protocol.dataReceived(data)

    def open(self, *events: bytes, headers: tuple[str, ...] = ()) -> None:
        """Answer with a stream and these pieces of it."""
        self.send(stream_head(*headers) + b"".join(map(chunk, events)))

    def say(self, *events: bytes) -> None:
        self.send(b"".join(map(chunk, events)))

    def end(self) -> None:
        """A clean end of the chunked body."""
        self.send(b"0\r\n\r\n")

    def close(self) -> None:
        self._protocol.connectionLost(Failure(ConnectionDone()))

    def reset(self) -> None:
        self._protocol.connectionLost(Failure(ConnectionLost()))


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class Web:
    """All servers. Each connection is noted and waits for what the test has it say."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.connections: list[Connection] = []
        self.attempts = 0
        self.down: Exception | None = None  # what connecting fails with
        self.slow: Deferred[None] | None = None  # what connecting waits for
        self._origin = ""

    def source(self, url: str = URL, **options: Any) -> EventSource:
        options.setdefault("backoff", STEADY)
        agent = Agent.usingEndpointFactory(self.clock, self, HTTPConnectionPool(self.clock, persistent=False))
        return EventSource(url, agent=agent, reactor=self.clock, **options)

    def follow(self, url: str = URL, **options: Any) -> Follower:
        return Follower(self.source(url, **options))

    @property
    def last(self) -> Connection:
        return self.connections[-1]

    def endpointForURI(self, uri: URI) -> Web:
        self._origin = f"{uri.scheme.decode()}://{uri.netloc.decode()}"
        return self

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        self.attempts += 1
        if self.slow is not None:
            return self.slow
        if self.down is not None:
            return fail(self.down)
        protocol = protocolFactory.buildProtocol(None)
        self.connections.append(Connection(self._origin, protocol))
        return succeed(protocol)


class Follower:
    """Reads a source to its end, and notes how it comes to it.

    :ivar error: what the iteration ended with, if not in peace.
    """

    def __init__(self, source: EventSource, each: Callable[[Event], Deferred[None] | None] | None = None) -> None:
        self.source = source
        self.events: list[Event] = []
        self.error: Exception | None = None
        self.finished = False
        self._each = each
        self.running = Deferred.fromCoroutine(self._run())
        self.running.addErrback(lambda failure: failure.trap(CancelledError))

    @property
    def data(self) -> list[str]:
        return [event.data for event in self.events]

    @property
    def closed(self) -> bool:
        """It has ended, in peace, and the source knows."""
        return self.finished and self.error is None and self.source.state is State.CLOSED

    async def _run(self) -> None:
        try:
            async for event in self.source:
                self.events.append(event)
                if self._each is not None and (pause := self._each(event)) is not None:
                    await pause
        except CancelledError as error:
            self.error = error
            raise
        except Exception as error:
            self.error = error
        finally:
            self.finished = True
