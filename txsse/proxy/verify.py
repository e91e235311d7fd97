"""What a configuration can be wrong about that only opening the files it names tells."""

from __future__ import annotations

from collections.abc import Iterator

from txsse.config.model import Configuration
from txsse.proxy.auth import Keys
from txsse.upstream.backend import target_of


def problems(configuration: Configuration) -> Iterator[str]:
    """One line for each file that holds something else than it should. A proxy with such a configuration does not start."""
    if configuration.auth.keys_file:
        try:
            Keys.load(configuration.auth.keys_file)
        except ValueError as error:
            yield f"auth.keys_file: {error}"
    for upstream in configuration.upstream:
        try:
            target_of(upstream)
        except ValueError as error:
            yield f"upstream {upstream.name}: {error}"
