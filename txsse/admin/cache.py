"""The cache on the admin listener: what is in it, and how it is emptied."""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import islice
from typing import TYPE_CHECKING, Final, TypedDict
from urllib.parse import parse_qsl

from txsse.admin.answers import Mistaken

if TYPE_CHECKING:
    from txsse.admin.view import CacheLevels
    from txsse.recordings.view import CacheView, Glimpse

MOST_ENTRIES: Final = 1000
"""Entries that are shown, of those that were used last."""

_KEY: Final = re.compile(r"[0-9a-fA-F]{64}\Z")


class EntryStatus(TypedDict):
    """One entry in the body of ``/cache``; durations in seconds."""

    key: str  # in hexadecimal
    route: str
    dialect: str
    model: str  # "" if its stream does not say
    size: int
    age: float
    expires_in: float
    hits: int


class CacheStatus(TypedDict):
    """The body of ``/cache``."""

    bytes: int
    limit: int
    count: int
    flights: int
    entries: list[EntryStatus]  # MOST_ENTRIES of them at most, of the route that was asked for


def cache_levels(cache: CacheView) -> CacheLevels:
    return {"bytes": cache.used, "limit": cache.limit, "count": cache.count, "flights": cache.flights}


def cache_status(cache: CacheView, route: str | None) -> CacheStatus:
    """What is in it; of the entries those of *route*, ``None`` for all."""
    return {**cache_levels(cache), "entries": [_entry_status(each) for each in islice(cache.entries(route), MOST_ENTRIES)]}


def _entry_status(entry: Glimpse) -> EntryStatus:
    return {
        "key": entry.key.hex(),
        "route": entry.route,
        "dialect": entry.dialect,
        "model": entry.model,
        "size": entry.size,
        "age": round(entry.age, 3),
        "expires_in": round(entry.expires_in, 3),
        "hits": entry.hits,
    }


def asked_route(uri: bytes, routes: Collection[str]) -> str | None:
    """The route that a query names, ``None`` without a query.

    Anything else in it is refused and not passed over: a slip in it would empty the whole cache.

    :raises Mistaken: there is no such route, or the query is about something else.
    """
    query = uri.partition(b"?")[2].decode("latin-1")
    match parse_qsl(query, keep_blank_values=True, encoding="utf-8"):
        case [] if not query:
            return None
        case [("route", name)]:
            if name not in routes:
                raise Mistaken(404, "not_found", "There is no route of this name.")
            return name
        case _:
            raise Mistaken(400, "bad_request", "The query may be ?route=<name>, once, and nothing else.")


def asked_key(text: str) -> bytes:
    """The key that a path names.

    :raises Mistaken: it is none.
    """
    if not _KEY.match(text):
        raise Mistaken(400, "bad_request", "A key is 64 hexadecimal digits, as /cache shows it.")
    return bytes.fromhex(text)
