"""The APIs spoken on streams. A new one is a file here and a line in :data:`DIALECTS`."""

from __future__ import annotations

from typing import Final

from txsse.dialects.base import Dialect, Speaker
from txsse.dialects.openai_chat import OpenAIChatDialect
from txsse.dialects.sse import EventStreamDialect

__all__ = ["DIALECTS", "Dialect", "Speaker", "detect"]

DIALECTS: Final[dict[str, Dialect]] = {dialect.name: dialect for dialect in (OpenAIChatDialect(), EventStreamDialect())}

_BY_SUFFIX: Final = (("/chat/completions", "openai-chat"),)


def detect(path: str) -> Dialect:
    """The dialect of a decoded request path (without its query), by suffix; else ``sse``."""
    for suffix, name in _BY_SUFFIX:
        if path.endswith(suffix):
            return DIALECTS[name]
    return DIALECTS["sse"]
