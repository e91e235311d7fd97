"""What a configuration can be wrong about that only opening the files it names tells."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from txsse.config.endpoints import files_of
from txsse.config.errors import shown
from txsse.config.model import Configuration, Route, Server, Store
from txsse.config.secret import why_unreadable
from txsse.proxy.auth import Keys
from txsse.proxy.stand_ins import check_files
from txsse.upstream.backend import targets_of
from txsse.upstream.endpoints import Target


def problems(configuration: Configuration) -> Iterator[str]:
    """One line for each file that holds something else than it should. A proxy with such a configuration does not start."""
    yield from _listener_problems(configuration.server)
    folder = configuration.server.state_dir
    if folder and not _can_be_written_to(Path(folder)):
        yield f"server.state_dir: {shown(folder)} is no directory that can be made or written to; name another one, or leave the option out"
    if configuration.auth.keys_file:
        try:
            Keys.load(configuration.auth.keys_file)
        except ValueError as error:
            yield f"auth.keys_file: {error}"
    for upstream in configuration.upstream:
        try:
            targets_of(upstream)
        except ValueError as error:
            yield f"upstream {upstream.name}: {error}"
    if configuration.store.ca_file:
        yield from _store_problems(configuration.store)
    yield from _answer_problems(configuration.route)


def _can_be_written_to(folder: Path) -> bool:
    """It is made when there is something to be kept."""
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    return there.is_dir() and os.access(there, os.W_OK)


def _store_problems(store: Store) -> Iterator[str]:
    from txsse.redis.url import read_redis_url  # nobody else needs it

    try:
        Target.parse(read_redis_url(store.url).endpoint, ca_file=store.ca_file)
    except ValueError as error:
        yield "store." + str(error).removeprefix("tls.")


def _answer_problems(routes: Iterable[Route]) -> Iterator[str]:
    for route in routes:
        try:
            check_files(route)
        except ValueError as error:
            yield f"route {route.name}: {error}"


def _listener_problems(server: Server) -> Iterator[str]:
    for key, endpoint in (*(("listen", each) for each in server.listen), ("admin", server.admin)):
        for name in files_of(endpoint):
            try:
                Path(name).read_bytes()
            except (OSError, ValueError) as error:
                yield f"server.{key}: {shown(endpoint)}: {shown(name)} cannot be read: {why_unreadable(error)}"
