"""Which IP addresses a webhook may be delivered to. Sans-I/O."""

from __future__ import annotations

import enum
import ipaddress
from typing import Final, TypeAlias

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_METADATA: Final = frozenset(
    map(ipaddress.ip_address, ("169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"))
)
"""Where clouds tell a machine its credentials, or let it be steered: most of them, Azure, Alibaba, Oracle; AWS and Google on IPv6."""

_UNICAST: Final = ipaddress.IPv6Network("2000::/3")  # all that was ever given out (RFC 4291 section 2.4, IANA's registry)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052 section 2.1


class Reach(enum.Enum):
    """How far into our own networks a webhook may go, by what allows it."""

    PUBLIC = "addresses of the Internet"  # its host is covered by a wildcard
    NAMED = "and private ones, and this machine"  # its host is named; but whoever runs its name server must not lead us to the metadata
    ANY = "whatever it is"  # its address is named


def may_connect(text: str, reach: Reach) -> bool:
    """Whether the IP address in *text* is within *reach*."""
    address = _meant(ipaddress.ip_address(text))
    if reach is Reach.PUBLIC:
        return _is_public(address)
    return reach is Reach.ANY or not _is_special(address)


def _meant(address: _Address) -> _Address:
    """The IPv4 address that an IPv6 one leads to, if it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _is_public(address: _Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address not in _UNICAST:
        return False
    return address.is_global and not address.is_multicast and address not in _METADATA


def _is_special(address: _Address) -> bool:
    return address.is_link_local or address.is_multicast or address.is_unspecified or address in _METADATA
