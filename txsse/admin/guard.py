"""Who may ask the admin listener for what.

It listens where a browser on the same machine can reach it, so any web page that browser shows can send requests to it. Three rules keep
those out: the Host must be one that no foreign DNS name can claim (DNS rebinding), a foreign Origin is refused, and so is what the
browser itself marks as cross-site (Fetch Metadata). A token keeps everybody else out where the listener is open to the network.
The paths that orchestrators and scrapers poll stay open: they tell little and change nothing.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from twisted.web.http_headers import Headers

OPEN_PATHS: Final = frozenset((b"/healthz", b"/readyz", b"/metrics", b"/queue"))

_AUTHORITY: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?")
_ORIGIN: Final = re.compile(r"(?P<scheme>https?)://(?P<authority>[^/]+)")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@attrs.frozen
class Refusal:
    """Why a request is not served."""

    status: int
    code: str
    message: str


def _lower(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name.lower().rstrip(".") for name in names)


@attrs.frozen
class Guard:
    """The rules of one admin listener.

    :param hosts: ``server.admin_hosts``, the names it answers to besides IP literals and ``localhost``.
    :param token: ``server.admin_token``; empty for none.
    """

    hosts: frozenset[str] = attrs.field(default=frozenset(), converter=_lower)
    token: str = attrs.field(default="", repr=False)

    def refusal(self, path: bytes, headers: Headers) -> Refusal | None:
        """``None`` if the request may be served. *path* is the undecoded path without its query."""
        if path in OPEN_PATHS:
            return None
        hosts = _values(headers, "host")
        host = _split(hosts[0]) if len(hosts) == 1 else None
        if host is None or not self._is_ours(host[0]):
            return Refusal(
                403, "host_refused", "This Host name is not served here. Use an IP address or localhost, or list it in admin_hosts."
            )
        if not _same_origin(_values(headers, "origin"), host):
            return Refusal(403, "origin_refused", "Requests from pages of another origin are not served.")
        if "cross-site" in (value.strip().lower() for value in _values(headers, "sec-fetch-site")):
            return Refusal(403, "origin_refused", "Requests from another site are not served. Enter the address by hand.")
        if self.token and not self._has_token(_values(headers, "authorization")):
            return Refusal(401, "invalid_token", "Send the admin_token as Authorization: Bearer.")
        return None

    def _is_ours(self, host: str) -> bool:
        return host == "localhost" or host in self.hosts or _is_address(host)

    def _has_token(self, fields: list[str]) -> bool:
        if len(fields) != 1:
            return False
        scheme, _, given = fields[0].strip().partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode("utf-8"), self.token.encode("utf-8"))


def _values(headers: Headers, name: str) -> list[str]:
    return [value.decode("latin-1") for value in headers.getRawHeaders(name.encode("ascii")) or ()]


def _split(authority: str) -> tuple[str, int | None] | None:
    """Host (lower case, without brackets) and port of an authority, or ``None`` if it is none."""
    match = _AUTHORITY.fullmatch(authority.strip())
    if match is None:
        return None
    port = match["port"]
    return match["host"].strip("[]").lower().rstrip("."), int(port) if port else None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _same_origin(origins: list[str], host: tuple[str, int | None]) -> bool:
    """Whether Origin is absent or names the listener as Host does. ``null`` is foreign: any sandboxed frame can send it.

    The scheme may be either, for a TLS terminator may stand before us; the port must agree: another service of the same machine
    is another origin.
    """
    if not origins:
        return True
    match = _ORIGIN.fullmatch(origins[0].strip()) if len(origins) == 1 else None
    origin = _split(match["authority"]) if match else None
    if match is None or origin is None:
        return False
    default = _DEFAULT_PORTS[match["scheme"]]
    return origin[0] == host[0] and (origin[1] or default) == (host[1] or default)
