"""Wake-on-LAN: a packet that a sleeping machine's network card waits for."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol

from txsse.config.wake import read_broadcast, read_mac
from txsse.upstream.wake.parts import WakeFailed


def magic_packet(mac: bytes) -> bytes:
    """What the card with the six bytes of *mac* waits for (AMD's white paper 20213, "Magic Packet Technology")."""
    return b"\xff" * 6 + mac * 16


class WakeOnLAN:
    """Sends the packet when called.

    :param reactor: provides IReactorUDP.
    :param mac: as :func:`txsse.config.wake.read_mac` reads it.
    :param broadcast: where to, as :func:`txsse.config.wake.read_broadcast` reads it.
    :raises Refused: of :mod:`txsse.config.errors`: one of the two is something else.
    """

    def __init__(self, reactor: Any, mac: str, broadcast: str = "") -> None:
        self._reactor = reactor
        self._packet = magic_packet(read_mac(mac))
        self._to = read_broadcast(broadcast)

    def __call__(self) -> None:
        """Send it: nobody answers, so nothing is known of what came of it.

        :raises WakeFailed: it could not be sent.
        """
        try:
            port = self._reactor.listenUDP(0, DatagramProtocol())
        except CannotListenError as error:
            raise WakeFailed(f"wake-on-LAN: {_why(error.socketError)}") from error
        try:
            port.setBroadcastAllowed(True)
            port.write(self._packet, self._to)
        except OSError as error:
            raise WakeFailed(f"wake-on-LAN: {_why(error)}") from error
        finally:
            port.stopListening()


def _why(error: OSError) -> str:
    """In the system's words, without an address."""
    return os.strerror(error.errno).lower() if error.errno else "cannot send"
