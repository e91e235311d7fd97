"""A raw TCP (or TLS, or UNIX) backend that does exactly what a script says, byte for byte, and records what it was sent.

A script is a coroutine function that is given each new connection::

    async def slow(connection):
        await connection.request()
        connection.send(STREAM_HEAD)
        await gate.wait()
        connection.reset()

    upstream = ScriptedUpstream(reactor, slow)
    await upstream.open()

or a list of steps, for the common cases: ``steps(REQUEST, STREAM_HEAD, 0.1, chunk(b"data: 1\\n\\n"), RESET)``.
Without a script the test takes each connection by ``await upstream.connection()`` and drives it itself.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from txsse.testing.http import MessageReader, ReceivedRequest
from txsse.testing.waiting import TIMEOUT, Gate, Reactor, Watch, free_port, sleep


class PeerGone(Exception):
    """The proxy closed the connection while the script waited for something from it."""


@implementer(IPushProducer)
class UpstreamConnection(Protocol):
    """One connection that was accepted: what came on it, and the means to answer."""

    transport: Any  # TCP, TLS or UNIX: what they share is in no one interface

    def __init__(self, owner: ScriptedUpstream) -> None:
        self.received = bytearray()  # every byte, as it came
        self.opened_at = 0.0  # reactor seconds
        self.closed_at: float | None = None  # when its end was seen
        self.closed_by = ""  # "fin" or "reset": how the other side (or we) ended it
        self.sent = 0  # bytes handed to the socket so far
        self._owner = owner
        self._reader = MessageReader(ReceivedRequest, until_close=False)
        self._taken = 0
        self.paused = False  # the socket takes no more for now
        self._watch = Watch(owner.reactor)

    # What a script does

    @property
    def requests(self) -> list[ReceivedRequest]:
        """The complete requests so far."""
        return [message for message in self._reader.messages if message.complete]

    @property
    def closed(self) -> bool:
        return self.closed_at is not None

    async def request(self, timeout: float | None = None) -> ReceivedRequest:
        """The next complete request of this connection; :class:`PeerGone` if the connection ends first."""
        await self._watch.until(lambda: len(self.requests) > self._taken or self.closed, timeout, lambda: f"no request: {self!r}")
        if len(self.requests) <= self._taken:
            raise PeerGone
        self._taken += 1
        return self.requests[self._taken - 1]

    async def gone(self, timeout: float | None = TIMEOUT) -> float:
        """Wait until the connection has ended; returns when that was seen, in reactor seconds."""
        await self._watch.until(lambda: self.closed, timeout, lambda: f"not closed: {self!r}")
        assert self.closed_at is not None
        return self.closed_at

    async def writable(self) -> None:
        """Wait until the socket takes bytes again; returns at once if it does (also after the end)."""
        await self._watch.until(lambda: not self.paused or self.closed, None, lambda: "")

    def send(self, data: bytes) -> None:
        """Send bytes as they are; nothing happens after the end."""
        if not self.closed:
            self.sent += len(data)
            self.transport.write(data)

    def pause_reading(self) -> None:
        """Take no more of the request: the kernel's buffers fill up. The end of the connection is not seen meanwhile."""
        self.transport.pauseProducing()

    def resume_reading(self) -> None:
        self.transport.resumeProducing()

    def close(self) -> None:
        """End with FIN after what was sent."""
        if not self.closed:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def reset(self) -> None:
        """End with RST at once; what is still queued here is lost."""
        if not self.closed:
            self.transport.abortConnection()

    # What Twisted calls

    def connectionMade(self) -> None:
        self.opened_at = self._owner.reactor.seconds()
        self.transport.registerProducer(self, True)
        self._owner._accepted(self)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        known = len(self.requests)
        self._reader.feed(data)
        for each in self.requests[known:]:
            each.at = self._owner.reactor.seconds()
            self._owner.requests.append(each)
        self._watch.look()
        self._owner._watch.look()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed_at = self._owner.reactor.seconds()
        self.closed_by = "fin" if reason.check(ConnectionDone) else "reset"
        self._watch.look()
        self._owner._watch.look()

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False
        self._watch.look()

    def stopProducing(self) -> None:
        self.paused = False

    def __repr__(self) -> str:
        return f"<UpstreamConnection {bytes(self.received[:500])!r} closed_by={self.closed_by!r} {self._reader.broken}>"


Script: TypeAlias = Callable[[UpstreamConnection], Awaitable[None]]


class Step(enum.Enum):
    """The steps of a script that are no bytes, pauses or gates."""

    REQUEST = "request"  # wait for the next complete request
    CLOSE = "close"  # FIN
    RESET = "reset"  # RST
    HANG = "hang"  # do nothing until the other side ends it


REQUEST, CLOSE, RESET, HANG = Step.REQUEST, Step.CLOSE, Step.RESET, Step.HANG


def steps(*script: bytes | float | Gate | Step, repeat: bool = False) -> Script:
    """A script made of steps: bytes are sent, a number pauses so many seconds, a gate until it is opened; see :class:`Step`.

    *repeat* starts over at the end, for a keep-alive connection that serves many requests.
    """

    async def play(connection: UpstreamConnection) -> None:
        while not connection.closed:
            for step in script:
                await _take(connection, step)
            if not repeat:
                return

    return play


async def _take(connection: UpstreamConnection, step: bytes | float | Gate | Step) -> None:
    match step:
        case bytes():
            connection.send(step)
        case int() | float():
            await sleep(connection._owner.reactor, step)
        case Gate():
            await step.wait()
        case Step.REQUEST:
            await connection.request()
        case Step.CLOSE:
            connection.close()
        case Step.RESET:
            connection.reset()
        case Step.HANG:
            await connection.gone(timeout=None)


class ScriptedUpstream:
    """A backend under the test's thumb. Its port is known from the start and closed until :meth:`open`.

    :param script: what each connection does; ``None``: the test drives them one by one.
    :param tls: a context factory, to speak TLS.
    :param path: listen on this UNIX socket instead of a port.
    """

    def __init__(self, reactor: Reactor, script: Script | None = None, *, port: int = 0, tls: Any = None, path: str = "") -> None:
        self.reactor = reactor
        self.script = script  # may be exchanged at any time: it holds for later connections
        self.port = port or (0 if path else free_port())
        self.connections: list[UpstreamConnection] = []
        self.requests: list[ReceivedRequest] = []  # complete ones of all connections, as they came
        self._tls = tls
        self._path = path
        self._taken = 0
        self._watch = Watch(reactor)
        self._listening: Any = None
        self._scripts: set[Deferred[None]] = set()
        self._failures: list[Failure] = []

    @property
    def url(self) -> str:
        if self._path:
            return f"unix:{self._path}"
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    async def open(self) -> None:
        """Listen; connections are accepted from now on. May be called again after :meth:`shut`."""
        factory = Factory.forProtocol(lambda: UpstreamConnection(self))
        factory.noisy = False
        if self._path:
            self._listening = self.reactor.listenUNIX(self._path, factory)
        elif self._tls:
            self._listening = self.reactor.listenSSL(self.port, factory, self._tls, interface="127.0.0.1")
        else:
            self._listening = self.reactor.listenTCP(self.port, factory, interface="127.0.0.1")

    async def shut(self) -> None:
        """Listen no more: new connections are refused, open ones stay."""
        listening, self._listening = self._listening, None
        if listening is not None:
            await maybeDeferred(listening.stopListening)

    async def stop(self) -> None:
        """Shut, reset what is open, end all scripts; raises the first exception a script raised."""
        await self.shut()
        for script in list(self._scripts):
            script.cancel()
        for connection in self.connections:
            connection.reset()
            await connection.gone()
        for failure in self._failures:
            failure.raiseException()

    async def connection(self, timeout: float = TIMEOUT) -> UpstreamConnection:
        """The next connection that nobody has taken yet, in the order they came."""
        await self._watch.until(lambda: len(self.connections) > self._taken, timeout, lambda: "no connection came")
        self._taken += 1
        return self.connections[self._taken - 1]

    async def until(self, condition: Callable[[], object], timeout: float = TIMEOUT) -> None:
        """Wait until *condition* is true, looked at whenever something comes or a connection opens or ends."""
        await self._watch.until(condition, timeout, lambda: f"not true with {self.connections!r}")

    @property
    def open_connections(self) -> list[UpstreamConnection]:
        return [each for each in self.connections if not each.closed]

    def _accepted(self, connection: UpstreamConnection) -> None:
        self.connections.append(connection)
        if self.script is not None:
            running = Deferred.fromCoroutine(_run(self.script, connection))
            self._scripts.add(running)
            running.addErrback(self._failed)
            running.addBoth(lambda _: self._scripts.discard(running))
        self._watch.look()

    def _failed(self, failure: Failure) -> None:
        if not failure.check(PeerGone, CancelledError):
            self._failures.append(failure)


async def _run(script: Script, connection: UpstreamConnection) -> None:
    await script(connection)
