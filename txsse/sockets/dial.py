"""Connecting without what a Twisted endpoint makes on the way (a connector, two factories, a wrapped protocol, a timer: 250 us of CPU).

For addresses that need no look-up. A burst of held requests dials thousands of times within one turn of the reactor.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from errno import EAGAIN, EALREADY, EINPROGRESS, EISCONN
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, TimeoutError, getConnectError
from twisted.internet.interfaces import IProtocol, IWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from txsse.sockets.transports import TCPTransport, UNIXTransport
from txsse.sockets.tuning import tune_socket

FULL_RETRY: Final = 0.02
"""Seconds after which a UNIX socket whose backlog is full is tried again; each further wait is as long as all before."""

P = TypeVar("P", bound=IProtocol)


class Peer(NamedTuple):
    """An address as the socket module has it: (host, port) with an IP literal, or the path of a UNIX socket."""

    family: socket.AddressFamily
    name: tuple[str, int] | str

    @classmethod
    def at(cls, host: str, port: int) -> Peer:
        """:param host: an IP literal, with its scope if it has one (``fe80::1%eth0``)."""
        return cls(socket.AF_INET6 if ":" in host else socket.AF_INET, (host, port))


class Timer(Protocol):
    def cancel(self) -> object: ...


Later = Callable[[float, Callable[[], None]], Timer]
"""Calls back in so many seconds: ``Alarms.set``, or ``callLater`` of a reactor."""


def dial(reactor: Any, peer: Peer, build: Callable[[], P], timeout: float, later: Later) -> Deferred[P]:
    """Connect a protocol made by *build* to *peer*. A peer on this machine has mostly answered when this returns.

    Cancelling frees everything.

    :param reactor: provides IReactorFDSet and IReactorTime.
    :param timeout: seconds.
    :param later: asked for the timeout, where there is something to wait for.
    :raises ConnectError: of :mod:`twisted.internet.error`, by what the system said; ``TimeoutError`` among them. What *build* or the
        protocol's ``makeConnection`` raise comes through the Deferred as well.
    """
    attempt = _Attempt(reactor, peer, build, timeout, later)
    attempt.start()
    return attempt.done


@implementer(IWriteDescriptor)
class _Attempt(Generic[P]):
    """A socket on its way: watched by the reactor until it can be written to, which is when it is connected or has failed."""

    __slots__ = ("_build", "_later", "_peer", "_reactor", "_socket", "_timeout", "_timer", "_waited", "_watched", "done")

    _socket: socket.socket  # while under way

    def __init__(self, reactor: Any, peer: Peer, build: Callable[[], P], timeout: float, later: Later) -> None:
        self.done: Deferred[P] = Deferred(self._cancelled)
        self._reactor = reactor
        self._peer = peer
        self._build = build
        self._timeout = timeout
        self._later = later
        self._timer: Timer | None = None
        self._waited = 0.0  # seconds, for a full backlog
        self._watched = False

    def start(self) -> None:
        try:
            self._socket = socket.socket(self._peer.family, socket.SOCK_STREAM)
        except OSError as error:
            self.done.errback(getConnectError(error))
            return
        self._socket.setblocking(False)
        tune_socket(self._socket)
        self._connect()

    def _connect(self) -> None:
        self._timer = None
        try:
            number = self._socket.connect_ex(self._peer.name)
            if number == EINPROGRESS:
                # The kernel has shaken hands with a peer on this machine by now: its answer spares us the reactor's.
                number = self._socket.connect_ex(self._peer.name)
        except OSError as error:  # a scope that is no interface
            self._failed(getConnectError(error))
        else:
            self._take(number)

    def _take(self, number: int) -> None:
        if number in (0, EISCONN):
            self._connected()
        elif number in (EINPROGRESS, EALREADY):
            if self._timer is None:
                self._timer = self._later(self._timeout, self._late)
            self._watched = True
            self._reactor.addWriter(self)
        elif number == EAGAIN and self._waited < self._timeout:
            # A UNIX socket with a full backlog; the reactor would not tell when there is room again.
            delay = self._waited or FULL_RETRY
            self._waited += delay
            self._timer = self._later(delay, self._connect)
        elif number == EAGAIN:
            self._failed(TimeoutError())
        else:
            self._failed(getConnectError((number, os.strerror(number))))

    def _connected(self) -> None:
        handle = self._release()
        try:
            protocol = self._build()
        except Exception:
            handle.close()
            self.done.errback()
            return
        kind = UNIXTransport if self._peer.family == socket.AF_UNIX else TCPTransport
        transport = kind(self._reactor, handle, protocol, self._peer.name)
        transport.resumeProducing()
        try:
            protocol.makeConnection(transport)
        except Exception:
            failure = Failure()
            transport.connectionLost(failure)
            self.done.errback(failure)
        else:
            self.done.callback(protocol)

    def _late(self) -> None:
        self._timer = None
        self._failed(TimeoutError())

    def _failed(self, error: Exception) -> None:
        self._release().close()
        self.done.errback(error)

    def _cancelled(self, _: object) -> None:
        self._release().close()

    def _release(self) -> socket.socket:
        """Wait for nothing any more; the socket is the caller's."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._watched:
            self._reactor.removeWriter(self)
        return self._socket

    # Called by the reactor

    def doWrite(self) -> None:
        self._take(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or self._socket.connect_ex(self._peer.name))

    def connectionLost(self, reason: Failure) -> None:
        """It has failed and the reactor does not know why, or it is shutting down."""
        number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._failed(getConnectError((number, os.strerror(number))) if number else ConnectError(string=reason.getErrorMessage()))

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "dial"
