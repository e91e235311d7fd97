"""A service of somebody's over twisted.web, raw requests into it, and its answers read as clients read them; time by a clock."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.web.resource import IResource
from twisted.web.server import Site

from tests.front.fakes import SlowTransport, SocketlikeTransport
from txsse.testing import Event, MessageReader, Response, comments, events


class Client:
    """One connection, and what came of the answer to the last request."""

    def __init__(self, transport: SocketlikeTransport) -> None:
        self.transport = transport
        self._to_head = False

    def ask(self, method: str, path: str, *fields: str, body: bytes = b"", version: str = "HTTP/1.1") -> Client:
        self._to_head = method == "HEAD"
        self.transport.clear()
        lines = [f"{method} {path} {version}", "Host: h", f"Content-Length: {len(body)}", *fields, "", ""]
        self.transport.protocol.dataReceived("\r\n".join(lines).encode() + body)
        return self

    @property
    def answer(self) -> Response:
        return read(self.transport.value(), to_head=self._to_head, closed=self.transport.gone and not self.transport.aborted)

    @property
    def body(self) -> bytes:
        return bytes(self.answer.body)

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Event]:
        return events(self.body)

    @property
    def told(self) -> list[tuple[str, Any]]:
        return [(each.type, json.loads(each.data)) for each in self.events]

    @property
    def comments(self) -> list[str]:
        return comments(self.body)

    def stop_reading(self) -> None:
        assert self.transport.producer is not None
        self.transport.producer.pauseProducing()

    def read_on(self) -> None:
        assert self.transport.producer is not None
        self.transport.producer.resumeProducing()

    def leave(self) -> None:
        self.transport.client_leaves()


def read(data: bytes, *, to_head: bool = False, closed: bool = False) -> Response:
    reader = MessageReader(lambda start, headers: Response(start, headers, to_head=to_head), until_close=True)
    reader.feed(data)
    if closed:
        reader.close(clean=True)
    assert not reader.broken
    (response,) = reader.messages
    return response


class NarrowTransport(SlowTransport):
    """A connection on a descriptor whose socket takes only what it is told to."""

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 80)

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 4321)


class Service:
    """A site that serves *resource*, whose time is told by ``clock``."""

    def __init__(self, make: Callable[[MemoryReactorClock], IResource]) -> None:
        self.clock = MemoryReactorClock()
        self._site = Site(make(self.clock), timeout=None, reactor=self.clock, logFormatter=lambda timestamp, request: "")

    def connect(self) -> Client:
        transport = SocketlikeTransport(lenient=True)
        self._join(transport)
        return Client(transport)

    def connect_slowly(self, request: bytes) -> NarrowTransport:
        protocol: Any = self._site.buildProtocol(None)
        transport = NarrowTransport(protocol)
        protocol.makeConnection(transport)
        protocol.dataReceived(request)
        return transport

    def _join(self, transport: SocketlikeTransport) -> None:
        protocol: Any = self._site.buildProtocol(None)
        transport.protocol = protocol
        transport.protocol.makeConnection(transport)

    def ask(self, method: str, path: str, *fields: str, body: bytes = b"", version: str = "HTTP/1.1") -> Client:
        return self.connect().ask(method, path, *fields, body=body, version=version)

    def pass_time(self, seconds: float, step: float = 0.05) -> None:
        """In small steps, for one big step rings everything that is due in it at its end."""
        self.clock.pump([step] * round(seconds / step))

    def assert_nothing_ticks(self) -> None:
        self.pass_time(2)
        assert self.clock.getDelayedCalls() == []


class Script:
    """A source that yields what it is told to, when it is told to, and notes what happens to it."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.asked = 0
        self._next: Deferred[object] = Deferred()

    def give(self, item: object) -> None:
        """The next item, or an exception in its place."""
        given, self._next = self._next, Deferred()
        if isinstance(item, Exception):
            given.errback(item)
        else:
            given.callback(item)

    def end(self) -> None:
        self.give(StopAsyncIteration())

    async def items(self) -> Any:
        try:
            while True:
                self.asked += 1
                try:
                    item = await self._next
                except StopAsyncIteration:
                    return
                yield item
        except CancelledError:
            self.heard.append("cancelled")
            raise
        except GeneratorExit:
            self.heard.append("closed")
            raise
        finally:
            self.heard.append("finally")


def sleep(clock: MemoryReactorClock, seconds: float) -> Deferred[None]:
    done: Deferred[None] = deferLater(clock, seconds)
    return done
