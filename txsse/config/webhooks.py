"""What is written in ``[webhooks]``: where webhooks may go, and what they are signed with.

An entry of ``allow`` and the URL of a webhook are read by the same rules, and whatever two programs could read differently is refused.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote

import attrs

from txsse.config.errors import Refused, shown
from txsse.config.model import Webhooks
from txsse.config.urls import is_ip

PORTS: Final = {"http": 80, "https": 443}
SECRET_PREFIX: Final = "whsec_"

_ALLOWED: Final = "allowed: 'https://host', 'https://*.example.com:8443/path/', 'http://10.0.0.7:*/hooks/*'"
_ENTRY: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[^\]@/?#]*\]|[^\[\]:@/?#]*)(?::(?P<port>[0-9]{1,5}|\*))?(?P<path>/[^?#]*)?\Z", re.IGNORECASE
)
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z")
_NUMBER: Final = re.compile(r"(?:\A|\.)(?:[0-9]+|0x[0-9a-f]*)\Z")
_VISIBLE: Final = re.compile(r"[\x21-\x7e]*\Z")
_KEY_BYTES: Final = range(24, 65)  # Standard Webhooks: 192 to 512 bits


@attrs.frozen
class Allowed:
    """One entry of ``allow``.

    :param host: a name or an IP address without brackets; ``*`` is any, ``*.name`` what is below a name.
    :param port: ``None`` is any.
    :param path: a glob for the whole path.
    """

    scheme: str
    host: str
    port: int | None
    path: str


def read_allowed(text: str) -> Allowed:
    """The parts of an entry.

    :raises Refused: it is not of the form ``scheme://host[:port][/path]``, or would allow something else than it seems to.
    """
    if "@" in text:
        raise Refused("a user name or password in the URL is not allowed; remove it")  # not shown: it may be a password
    match = _ENTRY.match(text)
    if match is None or not is_plain(text):
        raise Refused(f"{shown(text)} is not a URL without a query; {_ALLOWED}")
    scheme, path = match["scheme"].lower(), match["path"] or "/"
    try:
        check_path(path)
        host = _read_hosts(match["host"])
        port = None if match["port"] == "*" else read_port(scheme, match["port"])
    except Refused as refused:
        raise Refused(f"{shown(text)}: {refused.reason}; {_ALLOWED}") from None
    return Allowed(scheme, host, port, path + "**" if path.endswith("/") else path)


def _read_hosts(text: str) -> str:
    below = text.removeprefix("*.")
    if text == "*":
        return text
    host = read_host(below)
    if below != text and is_ip(host):
        raise Refused("there is nothing below an IP address")
    return text.removesuffix(below) + host


def is_plain(text: str) -> bool:
    """Whether *text* has only characters that everybody reads as the same URL: visible ASCII, no backslash."""
    return _VISIBLE.match(text) is not None and "\\" not in text


def read_host(text: str) -> str:
    """A host in the one form in which hosts are compared: a name in lower case, or an IP address without brackets.

    :raises Refused: it is neither, or in a form that a resolver may take for an address (``127.1``, ``0x7f000001``).
    """
    if text.startswith("["):
        try:
            return _without_scope(text[1:-1]).compressed
        except ValueError:
            raise Refused("what is in brackets is not an IPv6 address") from None
    host = text.lower()
    if _NUMBER.search(host):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise Refused("its host is not an IPv4 address of four decimal numbers") from None
    if len(host) > 253 or not _NAME.match(host):
        raise Refused("its host is not a name")
    return host


def _without_scope(text: str) -> ipaddress.IPv6Address:
    if "%" in text:
        raise ValueError
    return ipaddress.IPv6Address(text)


def read_port(scheme: str, digits: str | None) -> int:
    """The port in *digits*, or the scheme's own.

    :raises Refused: there is no such port.
    """
    port = PORTS[scheme] if digits is None else int(digits)
    if not 0 < port < 65536:
        raise Refused("its port is not one of 1 to 65535")
    return port


def check_path(path: str) -> None:
    """Whether *path* (with its leading slash) is the same path to whoever decodes it, once or several times.

    :raises Refused: it has a dot segment, a hidden slash, a backslash or a control character, perhaps percent-encoded.
    """
    encoded, decoded = "", path
    while decoded != encoded:
        encoded, decoded = decoded, unquote(decoded, "latin-1")
    # Some servers take what follows a semicolon for a parameter of the segment, also that of "..;".
    if any(segment.partition(";")[0] in (".", "..") for segment in decoded.split("/")):
        raise Refused("its path has a segment '.' or '..'")
    if path.startswith("//") or decoded.count("/") != path.count("/") or "\\" in decoded:
        raise Refused("its path has a slash that not everybody takes for one")
    if any(char < " " or char == "\x7f" for char in decoded):
        raise Refused("its path has a control character")


def signing_keys(text: str) -> tuple[bytes, ...]:
    """The keys in *text*: any number of ``whsec_<base64>``, divided by blanks; of "", none.

    :raises Refused: one is something else, or has not 24 to 64 bytes. It is not shown.
    """
    return tuple(map(_signing_key, text.split() or ([text] if text else [])))


def _signing_key(text: str) -> bytes:
    form = f"write it as '{SECRET_PREFIX}' and the base64 of {_KEY_BYTES.start} to {_KEY_BYTES.stop - 1} random bytes"
    if not text.startswith(SECRET_PREFIX):
        raise Refused(f"it does not begin with '{SECRET_PREFIX}'; {form}")
    try:
        key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise Refused(f"what follows '{SECRET_PREFIX}' is not base64; {form}") from None
    if len(key) not in _KEY_BYTES:
        raise Refused(f"it has {len(key)} bytes; {form}")
    return key


def webhook_problems(webhooks: Webhooks) -> Iterator[tuple[str, str]]:
    """The key below ``webhooks``, and what is wrong there."""
    try:
        signing_keys(webhooks.secret.reveal())
    except Refused as refused:
        yield "secret", refused.reason
