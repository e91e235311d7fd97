"""Which IP addresses a webhook may be delivered to."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse.webhooks.addresses import Reach, may_connect

PUBLIC = ["93.184.216.34", "1.1.1.1", "2606:4700::1111", "64:ff9b::101:101", "2002:101:101::1"]
PRIVATE = [
    "10.0.0.1", "172.16.0.1", "192.168.1.1", "127.0.0.1", "127.8.9.1", "100.64.0.1", "198.18.0.1", "240.0.0.1", "255.255.255.255",
    "::1", "fd00::1", "fec0::1", "2001:db8::1", "100::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::1", "2002:a00:1::1", "2001:0:7f00:1::1",
]  # fmt: skip
SPECIAL = [
    "169.254.169.254", "169.254.1.1", "fe80::1", "fe80::1%eth0", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "168.63.129.16",
    "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1",
]  # fmt: skip


@pytest.mark.parametrize(
    ("addresses", "allowed"),
    [(PUBLIC, {Reach.PUBLIC, Reach.NAMED, Reach.ANY}), (PRIVATE, {Reach.NAMED, Reach.ANY}), (SPECIAL, {Reach.ANY})],
)
def test_a_named_host_reaches_further_and_a_named_address_furthest(addresses: list[str], allowed: set[Reach]) -> None:
    for address in addresses:
        assert {reach for reach in Reach if may_connect(address, reach)} == allowed, address


@given(st.ip_addresses(v=4))
def test_an_address_inside_another_is_as_far_away_as_it_is_itself(address: ipaddress.IPv4Address) -> None:
    mapped, translated = f"::ffff:{address}", str(ipaddress.IPv6Address(int(ipaddress.IPv6Address("64:ff9b::")) + int(address)))
    for reach in Reach:
        assert may_connect(mapped, reach) == may_connect(translated, reach) == may_connect(str(address), reach)


@given(st.ip_addresses())
def test_what_is_private_is_never_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if address.is_private or address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified:
        inner = address.sixtofour if isinstance(address, ipaddress.IPv6Address) else None
        assert inner is not None or not may_connect(str(address), Reach.PUBLIC)
