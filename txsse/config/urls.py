"""The address of an upstream."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

import attrs

from txsse.config.errors import Refused, nearest, shown

PORT: Final = "${PORT}"
"""In the URL of an upstream that the proxy runs, and in the command that does: a port that is chosen for each run."""

_PORTS: Final = {"http": 80, "https": 443}
_ALLOWED: Final = "allowed: 'http://host:port', 'https://host:port', 'unix:/path/to/socket'"
_URL: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?P<fragment>#.*)?\Z"
)
_HOST: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?\Z")


@attrs.frozen
class Address:
    """Where an upstream listens.

    :param scheme: ``http``, ``https`` or ``unix``.
    :param host: a name or an IP literal without brackets; empty with ``unix``.
    :param path: of the socket, with ``unix`` only.
    """

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def authority(self) -> str:
        """What the Host field says: the port only where it is not the scheme's own; ``localhost`` for a UNIX socket."""
        if self.scheme == "unix":
            return "localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The normal form."""
        return f"unix:{self.path}" if self.scheme == "unix" else f"{self.scheme}://{self.authority}"


def read_url(text: str) -> Address:
    """The address in *text*.

    :raises Refused: another scheme, or a path, query or user name: requests keep their own, so a prefix would be lost silently.
    """
    if text.startswith("unix:"):
        return _read_unix(text)
    if "@" in text:
        # It may hold a password: it is not shown.
        raise Refused("a user name or password in the URL is not allowed; remove it, and use set_headers for Authorization")
    if PORT in text:
        raise Refused(_port_wrong(text))
    match = _URL.match(text)
    if match is None or match["scheme"].lower() not in _PORTS:
        raise Refused(_scheme_wrong(text, match))
    scheme, authority = match["scheme"].lower(), match["authority"]
    for part in ("path", "query", "fragment"):
        if match[part] and match[part] != "/":
            raise Refused(f"{shown(text)} has a {part}, requests keep their own; remove {match[part]}. {_ALLOWED.capitalize()}")
    host, port = _read_authority(text, authority)
    return Address(scheme, host, _PORTS[scheme] if port is None else port)


def read_url_with_port(text: str) -> str:
    """The normal form of an upstream's URL, whose port may be :data:`PORT`.

    :raises Refused: as :func:`read_url`.
    """
    rest = text.removesuffix("/").removesuffix(f":{PORT}")
    if rest == text.removesuffix("/") or text.startswith("unix:"):
        return read_url(text).url
    some_port = ":65535"  # of no scheme's own, so it stays
    return read_url(rest + some_port).url.removesuffix(some_port) + f":{PORT}"


def with_port(text: str, port: int) -> str:
    """*text* with the number in the place of :data:`PORT`."""
    return text.replace(PORT, str(port))


def is_ip(host: str) -> bool:
    """Whether *host* is an IPv4 or IPv6 address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _port_wrong(text: str) -> str:
    return f"{shown(text)}: {PORT} is for the port of an upstream's only url, as in 'http://127.0.0.1:{PORT}'"


def _scheme_wrong(text: str, match: re.Match[str] | None) -> str:
    if match is not None:
        guess = nearest(match["scheme"], _PORTS)
        return f"unknown scheme {match['scheme']!r}; " + (f"did you mean {guess!r}? " if guess else "") + _ALLOWED
    if re.match(r"[A-Za-z0-9_.\[\]:-]+\Z", text):
        return f"{shown(text)} has no scheme; write 'http://{text}'. {_ALLOWED.capitalize()}"
    return f"{shown(text)} is not a URL; {_ALLOWED}"


def _read_unix(text: str) -> Address:
    path = text.removeprefix("unix:")
    if PORT in path:
        raise Refused(_port_wrong(text))
    if path.startswith("//"):
        raise Refused(f"{shown(text)} is not a socket; write 'unix:/path', with one slash")
    if not path.startswith("/") or "\0" in path:
        raise Refused(f"{shown(text)} needs an absolute path; write 'unix:/path/to/socket'")
    if len(path.encode()) > 107:
        raise Refused(f"{shown(text)} is longer than the 107 bytes a UNIX socket's path may have")
    return Address("unix", path=path)


def _read_authority(text: str, authority: str) -> tuple[str, int | None]:
    if authority.startswith("["):
        literal, closed, rest = authority[1:].partition("]")
        if not closed:
            raise Refused(f"{shown(text)}: the bracket of the IPv6 address is not closed; write it as in 'http://[::1]:8080'")
        try:
            host = ipaddress.IPv6Address(literal).compressed
        except ValueError:
            raise Refused(f"{shown(text)}: {literal!r} is not an IPv6 address; write it as in 'http://[::1]:8080'") from None
        return host, _read_port(text, rest)
    host, colon, digits = authority.partition(":")
    if ":" in digits:
        raise Refused(f"{shown(text)}: an IPv6 address goes into brackets, as in 'http://[::1]:8080'")
    if not _HOST.match(host):
        raise Refused(f"{shown(text)}: {host!r} is not a host name; {_ALLOWED}")
    return host, _read_port(text, colon + digits)


def _read_port(text: str, rest: str) -> int | None:
    """The port of ``:8080``, ``None`` of nothing."""
    if rest == "":
        return None
    digits = rest[1:]
    if rest[0] == ":" and digits.isascii() and digits.isdigit() and len(digits) <= 5 and 0 < int(digits) < 65536:
        return int(digits)
    raise Refused(f"{shown(text)}: {rest.removeprefix(':')!r} is not a port; allowed: 1 to 65535")
