"""Every look at a private attribute of Twisted, each with its reason. Each has a test that fails when Twisted changes.

Nothing here raises when the attribute is gone: the caller is told that it cannot be known, and does without.
"""

from __future__ import annotations

import socket
from typing import Any, Final

import attrs
from twisted.internet import endpoints, tcp, unix
from twisted.internet.interfaces import IReactorFDSet
from twisted.protocols.policies import ProtocolWrapper


def pending_bytes(transport: object) -> int | None:
    """How many of the bytes written to *transport* the socket has not accepted yet; ``None`` if there is no telling.

    Why: Twisted says when more than 64 KiB are queued and when nothing is any more (``IPushProducer``), but a stuck reader
    of a slow stream is found out at a few bytes, and "drop the connection once this has left" has no call at all.

    Private: ``FileDescriptor.dataBuffer``, ``offset`` and ``_tempDataLen`` (TCP and UNIX sockets alike);
    ``TLSMemoryBIOProtocol._appSendBuffer`` and the ``_aggregator`` of ``BufferingTLSTransport``, whose bytes are counted before
    encryption, so the sum over TLS is out by some 30 bytes a record.
    """
    total = 0
    while isinstance(transport, ProtocolWrapper):  # TLS, PROXY protocol, ..: one transport in another
        # vars(), for a wrapper passes on what it lacks to the transport below, which would be counted twice.
        own: dict[str, Any] = vars(transport)
        total += sum(map(len, own.get("_appSendBuffer", ())))
        total += sum(map(len, getattr(own.get("_aggregator"), "_buffer", ())))
        transport = transport.transport
    if transport is None:  # the connection is lost
        return 0
    pending = getattr(transport, "pending", None)
    if isinstance(pending, int):  # a transport of our own
        return total + pending
    queued = getattr(transport, "dataBuffer", None)
    fresh = getattr(transport, "_tempDataLen", None)
    sent = getattr(transport, "offset", None)
    if isinstance(queued, bytes) and isinstance(fresh, int) and isinstance(sent, int):
        return total + len(queued) - sent + fresh
    return None


def abort_body(transport: Any) -> None:
    """Reset the connection under a response's body; *transport* is what the web client gave the protocol the body is delivered to.

    Why: it can only lose the connection (twisted#8227), which over TLS waits for the peer's goodbye, and for ever if reading is paused.

    Private: ``TransportProxyProducer._producer``; ``None`` after the end of the response.
    """
    abort = getattr(getattr(transport, "_producer", None), "abortConnection", None)
    if abort is None:
        transport.loseConnection()
    else:
        abort()


@attrs.frozen
class Taken:
    """What was in a transport of Twisted.

    :ivar peer: as the socket module has it: a tuple, or the path of a UNIX socket.
    :ivar connector: of a client: to be told when the connection is lost, and asks its ``transport`` to close.
    """

    handle: socket.socket
    reactor: Any
    peer: Any
    connector: Any


# By exact type, for a subclass does something of its own: the attribute with the peer's address. Asking the socket instead would fail
# when the peer has reset the connection meanwhile.
_PEER: Final[dict[type, str]] = {tcp.Server: "client", tcp.Client: "realAddress", unix.Server: "hostname", unix.Client: "addr"}


def take_socket(transport: Any, protocol: object) -> Taken | None:
    """Take the socket of a connection that was just made, for *protocol*, out of *transport*, which is left as after a lost connection
    and is freed with the last reference to it; the reactor watches the socket no more. ``None``, and nothing is touched, if *transport*
    is not a plain TCP or UNIX connection of Twisted's on a reactor that watches file descriptors, or has more to do than to read.

    Why: Twisted's port or connector makes the transport, and only one that is made by us can write without asking the reactor first.

    Private: all attributes of ``tcp.Connection`` read or written here, ``connector`` and its ``transport``, and that neither port nor
    connector keep anything else of a connection; ``endpoints._WrappingProtocol``, which passes on what it hears and nothing else.
    """
    attribute = _PEER.get(type(transport))
    if attribute is None:
        return None
    own = vars(transport)
    try:
        told = own["protocol"]
        if type(told) is endpoints._WrappingProtocol:
            told = told._wrappedProtocol
        taken = Taken(own["socket"], own["reactor"], own[attribute], own.get("connector"))
        busy = transport.disconnecting or transport.TLS or transport.producer is not None or pending_bytes(transport) != 0
    except (AttributeError, KeyError):
        return None
    if told is not protocol or busy or not transport.connected or not IReactorFDSet.providedBy(taken.reactor):
        return None
    taken.reactor.removeReader(transport)
    for name in ("protocol", "socket", "fileno"):  # as connectionLost does
        own.pop(name, None)
    transport.connected, transport.disconnected = 0, 1
    # The reactor may call the one after the other has connected.
    transport.doRead = transport.doWrite = _nothing
    if taken.connector is not None:
        del transport.connector
    return taken


def _nothing() -> None:
    pass
