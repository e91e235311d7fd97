"""Where a backend is, and how to get a connected (and verified) protocol there."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint, UNIXClientEndpoint
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionClosed,
    ConnectionRefusedError,
    DNSLookupError,
    NoRouteError,
    TCPTimedOutError,
    TimeoutError,
    UnknownHostError,
)
from twisted.internet.interfaces import IHandshakeListener, IProtocol, IStreamClientEndpoint
from twisted.internet.posixbase import PosixReactorBase
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from txsse._without_tls import show_tls
from txsse.clock import Alarms
from txsse.config.urls import Address, is_ip, read_url
from txsse.interfaces import Failed, Fault
from txsse.sockets import tune
from txsse.sockets.dial import Peer, dial
from txsse.upstream.tls_errors import tls_reason

if TYPE_CHECKING:
    from txsse.upstream.tls import ClientTLS

# Twisted waits 0.3 s before it tries a name's next address, and as long again before it reports that all were refused. A probe of
# "localhost" (::1, then 127.0.0.1) must hear of a closed port at once.
ATTEMPT_DELAY = 0.01

P = TypeVar("P", bound=IProtocol)


class ConnectFailed(Exception):
    """No connection came about; says why in the words of :class:`txsse.interfaces.Failed`."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.detail)
        self.failed = failed


@attrs.frozen
class Target:
    """One backend's address. Made by :meth:`parse`."""

    address: Address
    tls: ClientTLS | None = attrs.field(default=None, repr=False)
    peer: Peer | None = attrs.field(init=False, repr=False)  # where to connect, if that needs neither a look-up nor TLS

    @peer.default
    def _peer_of_address(self) -> Peer | None:
        if self.address.scheme == "unix":
            return Peer(socket.AF_UNIX, self.address.path)
        return Peer.at(self.address.host, self.address.port) if self.tls is None and is_ip(self.address.host) else None

    @classmethod
    def parse(cls, url: str, *, ca_file: str = "", cert: str = "", key: str = "", server_name: str = "") -> Target:
        """The target of an upstream's ``url`` and its ``tls`` table. Reads the PEM files.

        :param url: ``http://host[:port]``, ``https://host[:port]`` or ``unix:/path``.
        :param server_name: expected in the certificate and sent as SNI instead of the URL's host; may be an IP address.
        :raises Refused: of :mod:`txsse.config.errors`, with the remedy.
        """
        address = read_url(url)
        if address.scheme != "https":
            return cls(address)
        show_tls()
        from txsse.upstream.tls import ClientTLS

        return cls(address, ClientTLS.load(server_name or address.host, ca_file=ca_file, cert=cert, key=key))

    def at_port(self, port: int) -> Target:
        """The same elsewhere on the same host."""
        return attrs.evolve(self, address=attrs.evolve(self.address, port=port))

    @property
    def authority(self) -> bytes:
        """The Host field of requests to it (RFC 9110 section 7.2)."""
        return self.address.authority.encode("ascii")

    @property
    def loopback(self) -> bool:
        """Whether it is on this machine, as far as its name tells."""
        host = self.address.host
        return self.address.scheme == "unix" or host == "localhost" or (is_ip(host) and ipaddress.ip_address(host).is_loopback)


def connect(reactor: Any, target: Target, build: Callable[[], P], timeout: float, alarms: Alarms | None = None) -> Deferred[P]:
    """Connect a protocol made by *build*: its ``connectionMade`` comes once the peer is there and, over TLS, verified.

    Cancelling it at any time frees everything and fails with CancelledError.

    :param reactor: provides IReactorTCP, IReactorTime, and IReactorUNIX for sockets (zope interfaces have no intersection type).
    :param timeout: seconds for all of it: name look-up, connecting, TLS handshake.
    :param alarms: spare the reactor a timer for each of many attempts.
    :raises ConnectFailed: through the Deferred; never anything else but CancelledError.
    """
    # Fakes of a reactor claim to watch file descriptors too; they get Twisted's endpoints, which ask them to connect.
    if target.peer is not None and isinstance(reactor, PosixReactorBase):
        later = reactor.callLater if alarms is None else alarms.set
        return dial(reactor, target.peer, build, timeout, later).addErrback(_explain, timeout)
    result: Deferred[P] = Deferred.fromCoroutine(_connect(reactor, target, build, timeout))

    def late(_: object, seconds: float) -> Failure:
        return Failure(ConnectFailed(Failed(Fault.UNREACHABLE, f"connect timeout after {seconds:g} s")))

    return result.addTimeout(timeout, reactor, onTimeoutCancel=late).addErrback(_explain, timeout)


async def _connect(reactor: Any, target: Target, build: Callable[[], P], timeout: float) -> P:
    endpoint = _endpoint(reactor, target, timeout)
    if target.tls is None:
        protocol: Any = await endpoint.connect(_Factory(build))
        tune(protocol.transport)
        return cast(P, protocol)
    handshake = _Handshake(build)
    # The outer Deferred fires when TCP is there: the certificate is not seen yet.
    await endpoint.connect(target.tls.wrap(_Factory(lambda: handshake), handshake, reactor))
    tune(handshake.socket)
    return cast(P, await handshake.done)


def _endpoint(reactor: Any, target: Target, timeout: float) -> IStreamClientEndpoint:
    address = target.address
    if address.scheme == "unix":
        return UNIXClientEndpoint(reactor, address.path, timeout=timeout)
    if not is_ip(address.host):
        return HostnameEndpoint(reactor, address.host, address.port, timeout=timeout, attemptDelay=ATTEMPT_DELAY)
    kind = TCP6ClientEndpoint if ":" in address.host else TCP4ClientEndpoint
    return kind(reactor, address.host, address.port, timeout=timeout)


class _Factory(Factory):
    noisy = False

    def __init__(self, build: Callable[[], Any]) -> None:
        self._build = build

    def buildProtocol(self, addr: object) -> Any:
        return self._build()


@implementer(IHandshakeListener)
class _Handshake(Protocol):
    """Stands in for the real protocol until TLS is up, so that nobody writes to a peer that is not verified."""

    def __init__(self, build: Callable[[], Any]) -> None:
        self.refusal = ""
        self.verified = False
        self.done: Deferred[Any] = Deferred(lambda _: self._abort())
        self._build = build

    @property
    def socket(self) -> Any:
        """The transport under the TLS one."""
        tls: Any = self.transport
        return tls.transport

    def handshakeCompleted(self) -> None:
        """Called by TLSMemoryBIOProtocol; what it reads from now on goes to its ``wrappedProtocol``."""
        tls: Any = self.transport
        if not self.verified:
            self.refusal = "certificate was not verified"
            tls.abortConnection()
            return
        protocol = self._build()
        tls.wrappedProtocol = protocol
        protocol.makeConnection(tls)
        self.done.callback(protocol)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        error = reason.value
        if self.refusal:
            reason = Failure(ConnectFailed(Failed(Fault.INVALID, self.refusal)))
        elif (why := tls_reason(error)) is not None:
            reason = Failure(ConnectFailed(Failed(Fault.INVALID, "TLS: " + why)))
        elif reason.check(ConnectionClosed):
            reason = Failure(ConnectFailed(Failed(Fault.RESET, "connection closed in the TLS handshake")))
        self.done.errback(reason)

    def _abort(self) -> None:
        tls: Any = self.transport
        tls.abortConnection()


def _explain(failure: Failure, timeout: float) -> Failure:
    """Put a failure to connect in our own words: no addresses, no paths."""
    error = failure.value
    match error:
        case ConnectFailed() | CancelledError():
            return failure
        case ConnectingCancelledError():
            return Failure(CancelledError())
        case ConnectionRefusedError():
            detail = "connection refused"
        case TimeoutError() | TCPTimedOutError():
            detail = f"connect timeout after {timeout:g} s"
        case NoRouteError():
            detail = "no route to host"
        case DNSLookupError() | UnknownHostError():
            detail = "host name not found"
        case ConnectError(osError=int(number)):
            detail = os.strerror(number).lower()
        case ConnectError() | ConnectionClosed():
            detail = "cannot connect"
        case _:
            return failure
    return Failure(ConnectFailed(Failed(Fault.UNREACHABLE, detail)))
