"""Connecting to whom a webhook may be delivered: the address that is looked at is the one that is connected to.

Looking a name up once to check it and once more to connect would leave its owner free to answer differently (DNS rebinding).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IAddress, IHostResolution, IResolutionReceiver, IStreamClientEndpoint
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from txsse._without_tls import show_tls
from txsse.config.urls import Address, is_ip
from txsse.upstream.endpoints import ConnectFailed, Target, connect
from txsse.webhooks.addresses import may_connect
from txsse.webhooks.allow import Destination

if TYPE_CHECKING:
    from txsse.upstream.tls import ClientTLS

MOST_ADDRESSES: Final = 4
"""Addresses of a name that are tried, in the resolver's order."""
PATIENCE: Final = 4.0
"""Seconds for each of them but the last."""


class AddressRefused(Exception):
    """None of the host's addresses may be connected to."""


class TLS:
    """What https destinations share: the authorities. The system's are read when the first destination is met.

    :raises Refused: of :mod:`txsse.config.errors`: the file cannot be used.
    """

    def __init__(self, ca_file: str) -> None:
        self._shared = _load(ca_file) if ca_file else None

    def for_host(self, host: str) -> ClientTLS:
        if self._shared is None:
            self._shared = _load("")
        return attrs.evolve(self._shared, name=host)


def _load(ca_file: str) -> ClientTLS:
    show_tls()
    from txsse.upstream.tls import ClientTLS

    return ClientTLS.load("", ca_file=ca_file)


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class CheckedEndpoint:
    """Connects to one destination, once, and can cut the connection whatever the Agent does with it.

    :param timeout: seconds for connecting, TLS included.
    """

    def __init__(self, reactor: Any, destination: Destination, tls: TLS, timeout: float) -> None:
        self._reactor = reactor
        self._destination = destination
        self._tls = tls
        self._timeout = timeout
        self._protocol: Any = None

    def endpointForURI(self, uri: object) -> CheckedEndpoint:
        return self

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """:raises AddressRefused, DNSLookupError, ConnectFailed: through the Deferred."""
        return Deferred.fromCoroutine(self._connect(lambda: protocolFactory.buildProtocol(None)))

    def cut(self) -> None:
        """Reset the connection, if there is one and it is still open."""
        if self._protocol is not None:
            self._protocol.transport.abortConnection()

    async def _connect(self, build: Callable[[], Any]) -> Any:
        address, reach = self._destination.address, self._destination.reach
        found = [address.host] if is_ip(address.host) else await look_up(self._reactor, address.host, address.port)
        allowed = [each for each in found if may_connect(each, reach)]
        if not allowed:
            raise AddressRefused
        tls = self._tls.for_host(address.host) if address.scheme == "https" else None
        *others, last = self._targets(allowed, tls)
        for target in others:
            try:
                return await self._try(target, build, min(PATIENCE, self._timeout))
            except ConnectFailed:
                continue
        return await self._try(last, build, self._timeout)

    def _targets(self, hosts: list[str], tls: ClientTLS | None) -> Iterator[Target]:
        address = self._destination.address
        for host in hosts[:MOST_ADDRESSES]:
            yield Target(Address(address.scheme, host, address.port), tls)

    async def _try(self, target: Target, build: Callable[[], Any], timeout: float) -> Any:
        self._protocol = await connect(self._reactor, target, build, timeout)
        return self._protocol


def look_up(reactor: Any, name: str, port: int) -> Deferred[list[str]]:
    """The IP addresses of *name*, in the resolver's order.

    :param reactor: provides IReactorPluggableNameResolver.
    :raises DNSLookupError: through the Deferred: there is none.
    """
    receiver = _Addresses()
    reactor.nameResolver.resolveHostName(receiver, name, port)
    return receiver.found


@implementer(IResolutionReceiver)
class _Addresses:
    """Collects. A cancelled look-up goes on in its thread (Twisted cannot end it), and nobody hears what it finds."""

    def __init__(self) -> None:
        self.found: Deferred[list[str]] = Deferred()
        self._hosts: list[str] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        pass

    def addressResolved(self, address: IAddress) -> None:
        host: str = address.host  # type: ignore[attr-defined]  # IPv4Address or IPv6Address
        if host not in self._hosts:
            self._hosts.append(host)

    def resolutionComplete(self) -> None:
        if self.found.called:
            return
        if self._hosts:
            self.found.callback(self._hosts)
        else:
            self.found.errback(DNSLookupError())
