"""Taking connections over from Twisted's own transports: its reactor accepts and connects, a descriptor of ours relays."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol

from txsse._compat import take_socket
from txsse.sockets.transports import TCPTransport, UNIXTransport


def adopt(transport: Any, protocol: Any) -> Any:
    """The transport for *protocol* to use from now on. To be called first of all in its ``connectionMade``::

        self.transport = adopt(self.transport, self)

    A plain TCP or UNIX connection of Twisted's on a reactor that watches file descriptors is taken over by a
    :class:`~txsse.sockets.descriptor.Descriptor`, and *transport* is left as if its connection were lost. Whatever else it is (TLS,
    a wrapper, a fake, another reactor), or if something was written to it already, *transport* is returned as it is.
    """
    if IHalfCloseableProtocol.providedBy(protocol):
        return transport
    taken = take_socket(transport, protocol)
    if taken is None:
        return transport
    make = UNIXTransport if taken.handle.family == socket.AF_UNIX else TCPTransport
    if taken.connector is None:
        descriptor = make(taken.reactor, taken.handle, protocol, taken.peer)
    else:
        descriptor = make(taken.reactor, taken.handle, protocol, taken.peer, taken.connector.connectionLost)
        taken.connector.transport = descriptor
    descriptor.resumeProducing()
    return descriptor
