"""Our transports: descriptors with addresses."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import ISSLTransport, ITCPTransport, ITransport
from zope.interface import implementer

from txsse.sockets.descriptor import Descriptor


@implementer(ITCPTransport)
class TCPTransport(Descriptor):
    """A connected TCP socket.

    :ivar _peer: (host, port), perhaps followed by flow and scope number of IPv6; the scope's name is in the host.
    """

    __slots__ = ()

    def getPeer(self) -> IPv4Address | IPv6Address:
        return _address(self._peer)

    def getHost(self) -> IPv4Address | IPv6Address:
        name = self._socket.getsockname()
        if len(name) == 4:
            # With the scope of a link-local address, which getsockname has as a number only.
            name = (socket.getnameinfo(name, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0], *name[1:])
        return _address(name)

    def getTcpNoDelay(self) -> bool:
        return bool(self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    def setTcpNoDelay(self, enabled: bool) -> None:
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, enabled)

    def getTcpKeepAlive(self) -> bool:
        return bool(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, enabled)


def _address(name: tuple[Any, ...]) -> IPv4Address | IPv6Address:
    return (IPv6Address if ":" in name[0] else IPv4Address)("TCP", *name)


@implementer(ITransport)
class UNIXTransport(Descriptor):
    """A connected UNIX stream socket.

    :ivar _peer: its path; empty or ``None`` if it has none, as clients mostly.
    """

    __slots__ = ()

    def getPeer(self) -> UNIXAddress:
        return UNIXAddress(self._peer or None)

    def getHost(self) -> UNIXAddress:
        return UNIXAddress(self._socket.getsockname() or None)


def half_close(transport: Any) -> bool:
    """Send a FIN after what was written to *transport*, whose producer is forgotten, and read on. Whether it can do that: over TLS a FIN
    would go to the connection below, past what is still to be encrypted."""
    if ISSLTransport.providedBy(transport) or not hasattr(transport, "loseWriteConnection"):
        return False
    transport.unregisterProducer()  # one that is paused would keep the FIN back
    transport.loseWriteConnection()
    return True
