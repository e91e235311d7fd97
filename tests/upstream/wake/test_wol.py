"""The magic packet: its bytes, where it goes, and what is told if it does not."""

from __future__ import annotations

import errno
import socket
from typing import Any

import attrs
import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol

from txsse.config.errors import Refused
from txsse.testing import eventually
from txsse.upstream.wake.parts import WakeFailed
from txsse.upstream.wake.wol import WakeOnLAN, magic_packet

reactor: Any = _reactor
MAC = "00:1b:63:84:45:e6"
PACKET = b"\xff" * 6 + bytes.fromhex("001b638445e6") * 16


class Listener(DatagramProtocol):
    def __init__(self) -> None:
        self.received: list[bytes] = []

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.received.append(datagram)


@attrs.define
class FakePort:
    """A UDP port that notes what is done with it, or cannot send."""

    error: OSError | None = None
    log: list[tuple[Any, ...]] = attrs.field(factory=list)

    def setBroadcastAllowed(self, allowed: bool) -> None:
        self.log.append(("broadcast", allowed))

    def write(self, data: bytes, address: tuple[str, int]) -> None:
        if self.error is not None:
            raise self.error
        self.log.append((data, address))

    def stopListening(self) -> None:
        self.log.append(("closed",))


@attrs.define
class FakeReactor:
    port: FakePort = attrs.field(factory=FakePort)
    error: OSError | None = None

    def listenUDP(self, port: int, protocol: DatagramProtocol) -> FakePort:
        if self.error is not None:
            raise CannotListenError("", port, self.error)
        return self.port


def test_the_packet_is_six_times_ff_and_the_address_sixteen_times() -> None:
    assert magic_packet(bytes(range(6))) == b"\xff" * 6 + bytes(range(6)) * 16
    assert len(PACKET) == 102


async def test_it_arrives() -> None:
    listener = Listener()
    port = reactor.listenUDP(0, listener, interface="127.0.0.1")
    try:
        WakeOnLAN(reactor, MAC, f"127.0.0.1:{port.getHost().port}")()
        await eventually(reactor, lambda: listener.received)
        assert listener.received == [PACKET]
    finally:
        await port.stopListening()


@pytest.mark.parametrize(
    ("broadcast", "to"),
    [("", ("255.255.255.255", 9)), ("192.168.1.255", ("192.168.1.255", 9)), ("192.168.1.255:7", ("192.168.1.255", 7))],
)
def test_it_goes_to_everybody_or_where_it_is_told_and_the_port_is_closed(broadcast: str, to: tuple[str, int]) -> None:
    fake = FakeReactor()
    WakeOnLAN(fake, MAC, broadcast)()
    assert fake.port.log == [("broadcast", True), (PACKET, to), ("closed",)]


def test_a_packet_that_cannot_be_sent_is_a_failed_wake() -> None:
    fake = FakeReactor(FakePort(OSError(errno.ENETUNREACH, "Network is unreachable")))
    with pytest.raises(WakeFailed, match=r"^wake-on-LAN: network is unreachable$"):
        WakeOnLAN(fake, MAC)()
    assert fake.port.log[-1] == ("closed",)


def test_no_socket_is_a_failed_wake() -> None:
    with pytest.raises(WakeFailed, match=r"^wake-on-LAN: too many open files$"):
        WakeOnLAN(FakeReactor(error=OSError(errno.EMFILE, "x")), MAC)()
    with pytest.raises(WakeFailed, match=r"^wake-on-LAN: cannot send$"):
        WakeOnLAN(FakeReactor(error=socket.gaierror()), MAC)()


@pytest.mark.parametrize(("mac", "broadcast"), [("00:1b:63", ""), (MAC, "lan.example")])
def test_addresses_are_refused_before_they_are_needed(mac: str, broadcast: str) -> None:
    with pytest.raises(Refused):
        WakeOnLAN(reactor, mac, broadcast)
