"""The store that a configuration asks for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from txsse.config.cache import store_file
from txsse.config.model import Configuration
from txsse.recordings.store import MemoryStore, Quota, Store

if TYPE_CHECKING:
    from txsse.redis.cache import RedisStore


class Opened:
    """A store that is open.

    :ivar quota: the memory that it shares with recordings that still grow.
    :ivar shared: the same store, if it is a Redis.
    """

    def __init__(self, store: Store, quota: Quota, shared: RedisStore | None = None) -> None:
        self.store = store
        self.quota = quota
        self.shared = shared

    def close(self) -> Deferred[None]:
        """Fires when what is kept is written."""
        closed = self.store.close()
        if self.shared is not None:
            link = self.shared.link
            closed.addCallback(lambda _: link.close())
        return closed


def open_store(configuration: Configuration, reactor: Any) -> Opened:
    """Open what ``[store]`` names.

    :raises ValueError: its file cannot be used, or what Redis needs is not installed.
    """
    store = configuration.store
    quota = Quota(store.max_bytes)
    if store.kind == "sqlite":
        from txsse.recordings.sqlite import SqliteStore

        path = store_file(configuration)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        return Opened(SqliteStore(path, quota, reactor), quota)
    if store.kind == "redis":
        from txsse.redis.cache import RedisStore
        from txsse.redis.link import RedisLink

        link = RedisLink(store.url, reactor, ca_file=store.ca_file)
        link.start()
        shared = RedisStore(link, quota)
        return Opened(shared, quota, shared)
    return Opened(MemoryStore(quota), quota)
