"""The store that a configuration asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from txsse.config.cache import store_file
from txsse.config.model import Configuration
from txsse.recordings.store import MemoryStore, Quota, Store


def open_store(configuration: Configuration, reactor: Any) -> tuple[Store, Quota]:
    """The store, and the memory that it shares with recordings that still grow.

    :raises ValueError: its file cannot be used.
    """
    quota = Quota(configuration.store.max_bytes)
    if configuration.store.kind == "sqlite":
        from txsse.recordings.sqlite import SqliteStore

        path = store_file(configuration)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        return SqliteStore(path, quota, reactor), quota
    return MemoryStore(quota), quota
