"""Where a Redis is, and who we are to it."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

from txsse.config.errors import Refused
from txsse.config.secret import Secret

PORT: Final = 6379

_FORMS: Final = "write 'redis://[user:password@]host[:port][/db]', 'rediss://..' for TLS, or 'unix:///path/to/socket[?db=N]'"


@attrs.frozen
class RedisURL:
    """A ``store.url`` of a Redis; its ``repr`` does not tell the password.

    :param endpoint: the same in the form of an upstream's URL: ``http://host:port``, ``https://host:port`` or ``unix:/path``.
    :param username: of an ACL; "" is the default user's.
    :param database: its number.
    """

    endpoint: str
    username: str = ""
    password: Secret = attrs.field(factory=Secret)
    database: int = 0


def read_redis_url(text: str) -> RedisURL:
    """Read a ``redis://``, ``rediss://`` or ``unix://`` URL. User name and password are percent-encoded.

    :raises Refused: with the remedy, and without the text: it may hold a password.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise Refused(f"it is not a URL of a Redis; {_FORMS}") from None
    username, password = unquote(parts.username or ""), Secret(unquote(parts.password or ""))
    if parts.scheme == "unix":
        if parts.hostname or not parts.path:
            raise Refused(f"the URL of a socket has three slashes and an absolute path; {_FORMS}")
        database = dict(parse_qsl(parts.query)).get("db", "")
        return RedisURL("unix:" + unquote(parts.path), username, password, _read_database(database))
    if parts.scheme not in ("redis", "rediss") or not parts.hostname or parts.query or parts.fragment:
        raise Refused(f"it is not a URL of a Redis; {_FORMS}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    scheme = "https" if parts.scheme == "rediss" else "http"
    return RedisURL(f"{scheme}://{host}:{port or PORT}", username, password, _read_database(parts.path.removeprefix("/")))


def _read_database(digits: str) -> int:
    if digits == "":
        return 0
    if digits.isascii() and digits.isdigit() and len(digits) <= 5:
        return int(digits)
    raise Refused(f"the database of a Redis is a number; {_FORMS}")
