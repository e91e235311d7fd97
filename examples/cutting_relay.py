"""Cuts connections in the middle of an event stream: a relay to stand between a client and a server.

To see what a client makes of a Wi-Fi that drops, without dropping it. With a proxy on port 8787, this cuts the next two streams after 1000
bytes each, and passes everything else on as it is::

    python examples/cutting_relay.py 8788 127.0.0.1:8787 --after 1000 --cuts 2

Clients then use port 8788.
"""

from __future__ import annotations

import argparse
import re
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.protocols.portforward import ProxyClient, ProxyClientFactory, ProxyFactory, ProxyServer

_HEAD: Final = re.compile(rb"\r\nContent-Type: *text/event-stream.*?\r\n\r\n", re.IGNORECASE | re.DOTALL)


class CuttingRelay(ProxyFactory):
    """Listens for clients.

    :param after: bytes of a stream, counted from the end of its head, after which its connection ends.
    :ivar cuts: how many streams are still to be cut.
    """

    noisy = False

    def __init__(self, host: str, port: int, *, after: int, cuts: int) -> None:
        super().__init__(host, port)
        self.after = after
        self.cuts = cuts
        self.protocol = _ToClient


class _ToServer(ProxyClient):
    noisy = False

    def __init__(self) -> None:
        self._left: int | None = None  # bytes to the cut, once there is a stream

    def dataReceived(self, data: bytes) -> None:
        client: Any = self.peer
        relay: CuttingRelay = client.factory
        if self._left is None and (head := _HEAD.search(data)):
            self._left = head.end() + relay.after
        if self._left is not None:
            if relay.cuts and len(data) > self._left:
                relay.cuts -= 1
                self._cut(client.transport, data[: self._left])
                return
            self._left -= len(data)
        super().dataReceived(data)

    def _cut(self, to_client: Any, last: bytes) -> None:
        to_client.write(last)
        to_client.loseConnection()
        to_server: Any = self.transport
        to_server.abortConnection()


class _ToServerFactory(ProxyClientFactory):
    noisy = False
    protocol = _ToServer


class _ToClient(ProxyServer):
    noisy = False
    clientProtocolFactory = _ToServerFactory


def relay(reactor: Any, port: int, server: str, *, after: int, cuts: int) -> Deferred[None]:
    """Relay until the program is interrupted."""
    host, _, number = server.rpartition(":")
    reactor.listenTCP(port, CuttingRelay(host, int(number), after=after, cuts=cuts), interface="127.0.0.1")
    return Deferred()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Cut event streams in the middle.")
    parser.add_argument("port", type=int, help="to listen on, on loopback")
    parser.add_argument("server", help="HOST:PORT that is relayed to")
    parser.add_argument("--after", type=int, default=1000, help="bytes of a stream (default %(default)s)")
    parser.add_argument("--cuts", type=int, default=1, help="how many streams to cut (default %(default)s)")
    asked = parser.parse_args()
    react(lambda reactor: relay(reactor, asked.port, asked.server, after=asked.after, cuts=asked.cuts))
