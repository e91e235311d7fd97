"""A light look at Twisted's server endpoint strings, before anything listens.

Twisted parses them only together with a reactor, opens certificate files while it does, and reports slips as TypeErrors.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

import attrs

from txsse.config.errors import Refused, choices, nearest, shown

_ADDRESSED: Final = ("port", "interface", "backlog")
_ARGUMENTS: Final[dict[str, tuple[str, ...]]] = {
    "tcp": _ADDRESSED,
    "tcp6": _ADDRESSED,
    "ssl": (*_ADDRESSED, "privateKey", "certKey", "sslmethod", "extraCertChain", "dhParameters"),
    "unix": ("address", "mode", "backlog", "lockfile"),
    "systemd": ("domain", "name", "index"),
}
_PLAIN: Final = ("tcp", "tcp6", "unix", "systemd")
_WRAPPERS: Final = ("haproxy",)  # haproxy:tcp:8787
_PLUGINS: Final = ("tls",)  # of other packages; what they take is theirs to say
_EXAMPLES: Final = "'tcp:8787:interface=127.0.0.1', 'ssl:443:privateKey=server.pem', 'unix:/run/txsse.sock', 'systemd:domain=INET:name=web'"


@attrs.frozen
class _Parts:
    prefix: str
    arguments: tuple[str, ...]
    named: dict[str, str]


def check_endpoint(text: str) -> None:
    """Refuse what Twisted could not listen on for its spelling alone.

    :raises Refused: an unknown prefix or argument, a bad port, or something missing.
    """
    parts = _split(text)
    if parts.prefix in _WRAPPERS:
        check_endpoint(text.partition(":")[2])
        return
    if parts.prefix in _PLUGINS:
        return
    known = _ARGUMENTS.get(parts.prefix)
    if known is None:
        raise Refused(_prefix_unknown(text, parts.prefix))
    for name in parts.named:
        if name not in known:
            raise Refused(f"{shown(text)}: unknown argument {name!r} of {parts.prefix}:; {choices(name, known)}")
    if parts.prefix == "systemd":
        _check_systemd(text, parts)
        return
    if "://" in text or len(parts.arguments) > 1:
        # Positional arguments after the first work in Twisted, but nobody means them: `tcp:127.0.0.1:8787`.
        raise Refused(f"{shown(text)} is not an endpoint; write arguments after the first as name=value, as in {_EXAMPLES}")
    first = parts.arguments[0] if parts.arguments else parts.named.get(known[0], "")
    if not first:
        raise Refused(f"{shown(text)} lacks its {known[0]}; write it as in {_EXAMPLES}")
    if parts.prefix != "unix":
        _check_port(text, first)


def files_of(text: str) -> tuple[str, ...]:
    """The files that the endpoint *text* needs: of ``ssl:`` the key and the certificates. :func:`check_endpoint` has accepted it."""
    parts = _split(text)
    if parts.prefix in _WRAPPERS:
        return files_of(text.partition(":")[2])
    if parts.prefix != "ssl":
        return ()
    key = parts.named.get("privateKey", "server.pem")  # Twisted's default
    return (key, *(parts.named[name] for name in ("certKey", "extraCertChain", "dhParameters") if name in parts.named))


def needs_tls(text: str) -> bool:
    """Whether TLS is spoken at the endpoint *text*; ``True`` where the string does not tell. :func:`check_endpoint` has accepted it."""
    parts = _split(text)
    if parts.prefix in _WRAPPERS:
        return needs_tls(text.partition(":")[2])
    return parts.prefix not in _PLAIN


def _prefix_unknown(text: str, prefix: str) -> str:
    if prefix.isdigit():
        return f"{shown(text)} has no prefix; write 'tcp:{prefix}:interface=127.0.0.1'"
    if prefix in ("http", "https") or (re.match(r"[^:]*:[0-9]+\Z", text) and not nearest(prefix, _ARGUMENTS)):
        return f"{shown(text)} is not an endpoint; write it as in {_EXAMPLES}"
    return f"{shown(text)}: unknown prefix {prefix!r}; {choices(prefix, (*_ARGUMENTS, *_WRAPPERS, *_PLUGINS))}, as in {_EXAMPLES}"


def _check_systemd(text: str, parts: _Parts) -> None:
    if "domain" not in parts.named or not {"name", "index"} & parts.named.keys():
        raise Refused(f"{shown(text)} lacks its domain or name; write it as in {_EXAMPLES}")


def _check_port(text: str, port: str) -> None:
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 65536):
        raise Refused(f"{shown(text)}: {port!r} is not a port; allowed: 0 to 65535 (0 = any free one), as in {_EXAMPLES}")


def is_loopback(text: str) -> bool:
    """Whether only this machine can connect to the endpoint *text*; ``False`` where that cannot be known from the string.

    A PROXY-protocol listener speaks for clients elsewhere, whatever its own address is; a UNIX socket counts as local.
    """
    parts = _split(text)
    if parts.prefix == "unix" or (parts.prefix == "systemd" and parts.named.get("domain") == "UNIX"):
        return True
    if parts.prefix not in ("tcp", "tcp6", "ssl"):
        return False
    interface = parts.named.get("interface", "")
    if interface == "localhost":
        return True
    try:
        return ipaddress.ip_address(interface).is_loopback
    except ValueError:
        return False


def _split(text: str) -> _Parts:
    """The string's parts; a backslash takes the next character literally, as in ``interface=\\:\\:1``."""
    fields = re.findall(r"(?:\A|:)((?:[^:\\]|\\.)*)", text)
    arguments: list[str] = []
    named: dict[str, str] = {}
    for field in fields[1:]:
        name, equals, value = field.partition("=")
        if equals:
            named[name] = re.sub(r"\\(.)", r"\1", value)
        else:
            arguments.append(re.sub(r"\\(.)", r"\1", field))
    return _Parts(fields[0] if fields else "", tuple(arguments), named)
