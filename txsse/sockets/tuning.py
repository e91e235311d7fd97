"""How a stream's sockets are set up, towards clients and upstreams alike."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any, Final, cast

from twisted.internet.interfaces import ISystemHandle, ITCPTransport
from twisted.protocols.policies import ProtocolWrapper

from txsse.sockets.descriptor import Descriptor

# A dead peer or a forgetful NAT shows within 60 + 3 x 20 s, and an idle stream's entry in a connection table stays fresh.
KEEPALIVE_IDLE: Final = 60
KEEPALIVE_INTERVAL: Final = 20
KEEPALIVE_PROBES: Final = 3

BACKLOG: Final = 1024
"""Connections that may wait to be accepted; the kernel lowers it to net.core.somaxconn."""

LITTLE: Final = 8 * 1024
"""Bytes in our queue, and unsent in the kernel's, from which on a client is slow that reads what is kept for it anyway."""

_NOTSENT_LOWAT: Final[int | None] = getattr(socket, "TCP_NOTSENT_LOWAT", None)
_TIMES: Final = (("TCP_KEEPIDLE", KEEPALIVE_IDLE), ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL), ("TCP_KEEPCNT", KEEPALIVE_PROBES))

# Level, option, value; not every platform has each of the times.
_OPTIONS: Final = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *((socket.IPPROTO_TCP, getattr(socket, name), value) for name, value in _TIMES if hasattr(socket, name)),
)


def tune(transport: Any) -> None:
    """No waiting for acknowledgements (Twisted sets that for its own HTTP protocols only), and TCP keepalive with times that fit a stream:
    the kernel's first probe comes after two hours. Does nothing to what is not TCP."""
    while isinstance(transport, ProtocolWrapper):  # TLS, PROXY protocol
        transport = transport.transport
    if ITCPTransport.providedBy(transport):
        tune_socket(cast(socket.socket, ISystemHandle(transport).getHandle()))


def tune_socket(handle: socket.socket) -> None:
    """As :func:`tune`, before there is a transport."""
    if handle.family == socket.AF_UNIX:  # Twisted's UNIX transports claim to be TCP ones
        return
    with suppress(OSError):  # some systems refuse that for a connection which its peer has reset
        for level, option, value in _OPTIONS:
            handle.setsockopt(level, option, value)


def hold_little(transport: Any) -> None:
    """Let what is written to *transport* wait elsewhere, not in its queue or in the kernel, which would take megabytes for a client that
    reads nothing. Does nothing to transports of others."""
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    if isinstance(transport, Descriptor):
        transport.high_water = LITTLE
        handle = transport.getHandle()
        if handle.family != socket.AF_UNIX and _NOTSENT_LOWAT is not None:
            with suppress(OSError):
                handle.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, LITTLE)


def deepen(port: Any) -> None:
    """Let a burst of clients queue for a listening *port*: Twisted asks for 50, past which a client's SYN is dropped and comes again
    a second later. Does nothing where there is no socket to ask."""
    listening = getattr(port, "socket", None)
    if isinstance(listening, socket.socket):
        listening.listen(BACKLOG)
