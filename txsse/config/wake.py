"""What is written in ``[upstream.wake]``: a network card, a broadcast address, the URL of a step, a command."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Final

import attrs

from txsse.config.errors import Refused, shown
from txsse.config.urls import Address, read_url

WOL_PORT: Final = 9  # discard: nobody listens there, the card looks at the packet itself
EVERYBODY: Final = "255.255.255.255"

_MAC: Final = re.compile(r"[0-9a-f]{2}(?:([:-])[0-9a-f]{2}(?:\1[0-9a-f]{2}){4}|[0-9a-f]{10})\Z", re.IGNORECASE | re.ASCII)
_PAGE: Final = re.compile(r"(?P<origin>(?:[^/?#]*://)?[^/?#]*)(?P<target>[^#]*)(?P<fragment>#.*)?\Z", re.DOTALL)
_TARGET: Final = re.compile(r"[\x21\x22\x24-\x7e]*\Z")


@attrs.frozen
class Page:
    """Where a wake step goes: the server, and what is asked of it (``/path?query``)."""

    address: Address
    target: str


def read_mac(text: str) -> bytes:
    """The six bytes of ``aa:bb:cc:dd:ee:ff``, ``aa-bb-cc-dd-ee-ff`` or ``aabbccddeeff``.

    :raises Refused: it is none of these, or the address of no single card.
    """
    if not _MAC.match(text):
        raise Refused(f"{shown(text)} is not a MAC address; write it as in 'aa:bb:cc:dd:ee:ff'")
    mac = bytes.fromhex(text.replace(":", "").replace("-", ""))
    if mac[0] & 1:
        raise Refused(f"{shown(text)} is the address of many network cards, not of one; write that of the machine to be woken")
    if not any(mac):
        raise Refused(f"{shown(text)} is the address of no network card; write that of the machine to be woken")
    return mac


def read_broadcast(text: str) -> tuple[str, int]:
    """Address and port of ``192.168.1.255`` or ``192.168.1.255:9``; of "", everybody on the local network.

    :raises Refused: it is not an IPv4 address: IPv6 has no broadcast.
    """
    host, colon, port = (text or EVERYBODY).partition(":")
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        raise Refused(f"{shown(text)} is not an IPv4 address; write the network's broadcast address, as in '192.168.1.255'") from None
    if not colon:
        return host, WOL_PORT
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
        raise Refused(f"{shown(text)}: {port!r} is not a port; allowed: 1 to 65535, most often 9 or 7")
    return host, int(port)


def read_page(text: str) -> Page:
    """The parts of ``http://host:port/path?query``; ``https://`` too.

    :raises Refused: it is something else, or holds a user name: its password would be shown.
    """
    if text.startswith("unix:"):
        raise Refused("a wake step goes to http:// or https://, not to a socket")
    match = _PAGE.match(text)
    assert match is not None  # every text has an origin, perhaps an empty one
    address = read_url(match["origin"])  # first of all: what follows would show a password
    target = match["target"]
    if match["fragment"]:
        raise Refused(f"{shown(text)} has a fragment, which no server sees; remove it")
    if not _TARGET.match(target):
        raise Refused(f"{shown(text)} has a space, or another character that does not belong into a URL; percent-encode it")
    return Page(address, target if target.startswith("/") else f"/{target}")


def check_command(command: Sequence[str]) -> None:
    """Whether it can be handed to the system at all.

    :raises Refused: it has no program, or a null byte.
    """
    if command and not command[0]:
        raise Refused('its first word, the program, is empty; write it as in ["llama-server", "--port", "${PORT}"]')
    for word in command:
        if "\0" in word:
            raise Refused(f"{shown(word)} has a null byte, which no command line can hold")
