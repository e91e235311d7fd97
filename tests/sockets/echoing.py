"""A program for one reactor: ``python -m tests.sockets.echoing NAME``. Prints what became of a few connections, as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

from twisted.application.reactors import installReactor

if __name__ == "__main__":
    installReactor(sys.argv[1])

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from txsse.sockets import adopt
from txsse.sockets.dial import Peer, dial
from txsse.testing import free_port

MUCH = 4 * 1024 * 1024


class Echo(Protocol):
    transport: Any

    def connectionMade(self) -> None:
        self.transport = adopt(self.transport, self)
        self.transport.registerProducer(self.transport, True)  # reads no faster than it can write

    def dataReceived(self, data: bytes) -> None:
        if data == b"raise":
            raise ZeroDivisionError
        self.transport.write(data)


class Asking(Protocol):
    """Collects *size* bytes."""

    transport: Any

    def __init__(self) -> None:
        self.data = bytearray()
        self.wanted = 0
        self.complete: Deferred[bytes] = Deferred()
        self.lost: Deferred[str] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        if len(self.data) == self.wanted:
            self.complete.callback(bytes(self.data))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(type(reason.value).__name__)

    async def ask(self, data: bytes) -> bytes:
        self.data.clear()
        self.wanted, self.complete = len(data), Deferred()
        self.transport.write(data)
        return await self.complete


async def look(reactor: Any) -> dict[str, object]:
    errors: list[tuple[str, str]] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        failure = event.get("log_failure") or event.get("failure")  # the latter from twisted.python.log
        if failure is not None:
            errors.append((failure.type.__name__, event.get("log_system", "")))

    globalLogPublisher.addObserver(observe)
    port = reactor.listenTCP(0, Factory.forProtocol(Echo), interface="127.0.0.1")
    peer = Peer.at("127.0.0.1", port.getHost().port)

    async def connect() -> Asking:
        return await dial(reactor, peer, Asking, 5, reactor.callLater)

    first, second, third = [await connect() for _ in range(3)]
    seen: dict[str, object] = {"reactor": type(reactor).__name__, "transport": type(first.transport).__name__}
    seen["echo"] = (await first.ask(b"hello")).decode()
    seen["much"] = await first.ask(b"x" * MUCH) == b"x" * MUCH
    second.transport.write(b"raise")
    seen["raised"] = await second.lost
    seen["logged"] = errors
    seen["others"] = (await third.ask(b"still here")).decode()
    third.transport.abortConnection()
    seen["aborted"] = await third.lost
    first.transport.loseWriteConnection()
    seen["half-closed"] = await first.lost
    try:
        await dial(reactor, Peer.at("127.0.0.1", free_port()), Asking, 5, reactor.callLater)
    except Exception as error:
        seen["refused"] = type(error).__name__
    await port.stopListening()
    return seen


def main() -> None:
    from twisted.internet import reactor

    any_reactor: Any = reactor

    async def run() -> None:
        try:
            print(json.dumps(await look(any_reactor)))
        finally:
            any_reactor.stop()

    any_reactor.callWhenRunning(lambda: Deferred.fromCoroutine(run()))
    any_reactor.run()


if __name__ == "__main__":
    main()
