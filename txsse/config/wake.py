"""What is written in ``[upstream.wake]``: a network card, a broadcast address, the URL of a step, a command."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

import attrs

from txsse.config.errors import Refused, shown
from txsse.config.model import Upstream, Wake
from txsse.config.urls import PORT, Address, read_url

WOL_PORT: Final = 9  # discard: nobody listens there, the card looks at the packet itself
EVERYBODY: Final = "255.255.255.255"

_MAC: Final = re.compile(r"[0-9a-f]{2}(?:([:-])[0-9a-f]{2}(?:\1[0-9a-f]{2}){4}|[0-9a-f]{10})\Z", re.IGNORECASE | re.ASCII)
_METHOD: Final = re.compile(r"[A-Z]{1,20}\Z")
_PAGE: Final = re.compile(r"(?P<origin>(?:[^/?#]*://)?[^/?#]*)(?P<target>[^#]*)(?P<fragment>#.*)?\Z", re.DOTALL)
_TARGET: Final = re.compile(r"[\x21\x22\x24-\x7e]*\Z")


_T = TypeVar("_T")


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


def wake_problems(upstream: Upstream) -> Iterator[tuple[str, str]]:
    """What is wrong with the way *upstream* is started: the option, and why."""
    wake = upstream.wake
    if wake.does_something and upstream.probe.preset == "none":
        yield "probe.preset", "'none' takes the upstream for ready, so it would never be started; choose another one"
    for key, check in (("exec", _check_exec), ("wol", _check_wol), ("wol_broadcast", _check_broadcast)):
        if reason := _refusal(check, wake):
            yield f"wake.{key}", reason
    for number, step in enumerate(wake.http, 1):
        if not step.url:
            yield "wake.http", f'step {number} has no url; write url = "http://host:port/path"'
        elif reason := _refusal(read_page, step.url):
            yield "wake.http", f"step {number}: {reason}"
        if not _METHOD.match(step.method):
            yield "wake.http", f"step {number}: {shown(step.method)} is not a method; write it in capitals, as in 'POST'"
    yield from _process_problems(upstream)


def _process_problems(upstream: Upstream) -> Iterator[tuple[str, str]]:
    """What only a process of our own can have, and what it has to agree about with the URL."""
    wake = upstream.wake
    if not wake.exec:
        for key, value in (("wake.stop_after_idle", wake.stop_after_idle), ("group", upstream.group)):
            if value:
                yield key, "only a process that the proxy runs can be stopped; set wake.exec, or remove it"
    told = any(PORT in word for word in wake.exec)
    if PORT in upstream.url and not told:
        yield "url", f"nobody listens on {PORT}; write it into wake.exec too, or the number here"
    elif told and PORT not in upstream.url:
        yield "url", f'wake.exec listens on {PORT}; write url = "http://127.0.0.1:{PORT}"'


def _check_exec(wake: Wake) -> None:
    check_command(wake.exec)


def _check_wol(wake: Wake) -> None:
    if wake.wol:
        read_mac(wake.wol)


def _check_broadcast(wake: Wake) -> None:
    if wake.wol_broadcast and not wake.wol:
        raise Refused("there is no packet to be sent; set wol to the machine's MAC address, or remove it")
    read_broadcast(wake.wol_broadcast)


def _refusal(check: Callable[[_T], object], value: _T) -> str:
    """Why *check* refuses *value*; "" if it does not."""
    try:
        check(value)
    except Refused as refused:
        return refused.reason
    return ""
