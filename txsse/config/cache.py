"""What is written in ``[route.cache]`` and ``[store]``: who shares what is stored, what makes no difference, where it is kept."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from txsse.config.errors import Refused, choices, shown
from txsse.config.model import STORE_FILE, Cache, Configuration, Route, Store
from txsse.config.units import write_size

REDIS_SCHEMES: Final = ("redis", "rediss", "unix")
HEADER: Final = "header:"
"""What a scope begins with that is the value of a header field."""

_SCOPES: Final = ("credential", "shared", "header:<name>")
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")  # RFC 9110 section 5.6.2


def read_scope(text: str) -> str:
    """*text*, if it says who shares an entry: ``credential``, ``shared`` or ``header:<name>``.

    :raises Refused: it is none of these, or what follows ``header:`` is no header name.
    """
    if text.startswith(HEADER):
        name = text.removeprefix(HEADER)
        if not _HEADER_NAME.match(name):
            raise Refused(f"{shown(text)}: {shown(name)} is not a header name; write it as in 'header:X-User'")
    elif text not in ("credential", "shared"):
        raise Refused(f"{shown(text)} is not allowed; {choices(text, _SCOPES)}")
    return text


def read_member(text: str) -> str:
    """*text*, if it is the name of a member that two bodies may differ in and still be the same request.

    :raises Refused: it never is.
    """
    if not text:
        raise Refused("'' is no member's name; remove it")
    if text == "stream":
        raise Refused(
            "'stream' cannot be ignored, it decides what the answer looks like; remove it, and write convert = true to answer both kinds "
            "of request from one entry"
        )
    return text


def read_store(text: str) -> str:
    """*text*, if it can be the name of a store's file, or the URL of a Redis; "" is left to :func:`store_file`.

    :raises Refused: it is another URL, or a folder.
    """
    scheme, is_url, _ = text.partition("://")
    if scheme.lower() in REDIS_SCHEMES:
        return text  # what comes after it is read where Redis is, for it may hold a password
    if is_url or text == ":memory:":
        raise Refused("not the name of a file; write it as in '/var/lib/txsse/recordings.sqlite', or kind = 'memory' without it")
    if "\0" in text or (text and Path(text).is_dir()):
        raise Refused(f"{shown(text)} is not a file; name one, it is made if it is not there")
    return text


def store_file(configuration: Configuration) -> str:
    """The file of a store of kind ``sqlite``: that of ``store.url``, or one in ``server.state_dir``."""
    return configuration.store.url or str(Path(configuration.server.state_dir) / STORE_FILE)


def store_problems(configuration: Configuration) -> Iterator[tuple[str, str]]:
    """The key below ``store``, and what is wrong there."""
    store = configuration.store
    if store.ca_file and (store.kind != "redis" or not store.url.lower().startswith("rediss://")):
        yield "ca_file", "it is for a Redis that speaks TLS; write kind = 'redis' and a rediss:// URL, or remove it"
    is_redis = store.url.partition("://")[0].lower() in REDIS_SCHEMES and "://" in store.url
    if store.kind == "redis":
        if not is_redis:
            yield "url", "'redis' needs the URL of one; write url = \"redis://host:6379\", or rediss:// for TLS"
        else:
            yield from _redis_problems(store.url)
        return
    if is_redis:
        yield "kind", f"{shown(store.kind)} does not go with the URL of a Redis; write kind = 'redis', or remove url"
        return
    if store.kind == "memory" and store.url:
        yield "url", "'memory' has no file; write kind = 'sqlite' to keep recordings in it, or remove it"
    elif store.kind == "sqlite" and not store.url and not configuration.server.state_dir:
        yield "kind", '\'sqlite\' needs a file; write url = "/var/lib/txsse/recordings.sqlite", or state_dir = "/var/lib/txsse" in [server]'


def _redis_problems(url: str) -> Iterator[tuple[str, str]]:
    from txsse.redis.url import read_redis_url  # nobody else needs it

    try:
        read_redis_url(url)
    except Refused as refused:
        yield "url", str(refused)
    if any(find_spec(name) is None for name in ("txredisapi", "hiredis")):
        yield "kind", "a store of kind redis needs txredisapi and hiredis: pip install 'txsse[redis]'"


def cache_problems(route: Route, store: Store) -> Iterator[tuple[str, str]]:
    """What is wrong with the cache of *route*: the option, and why. The default fits a smaller store, too: what is larger is not kept."""
    cache = route.cache
    if cache.mode != "off" and cache.max_entry > max(store.max_bytes, Cache().max_entry):
        yield (
            "cache.max_entry",
            f"{_size(cache.max_entry)} is more than store.max_bytes, {_size(store.max_bytes)}, holds; lower it, or raise store.max_bytes",
        )


def _size(number: int) -> str:
    return write_size(number).strip('"')
