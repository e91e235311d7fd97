"""The APIs spoken on streams. A new one is a file here, a line in :data:`DIALECTS`, and its path's end in the table below."""

from __future__ import annotations

from typing import Final

from txsse.dialects.anthropic import AnthropicDialect
from txsse.dialects.base import Dialect, Speaker
from txsse.dialects.ollama import OllamaDialect, OllamaGenerateDialect
from txsse.dialects.openai_chat import OpenAIChatDialect
from txsse.dialects.openai_completions import OpenAICompletionsDialect
from txsse.dialects.openai_responses import OpenAIResponsesDialect
from txsse.dialects.sse import EventStreamDialect

__all__ = ["DIALECTS", "TEXT_MEMBERS", "Dialect", "Speaker", "choose", "detect"]

DIALECTS: Final[dict[str, Dialect]] = {
    dialect.name: dialect
    for dialect in (
        OpenAIChatDialect(),
        OpenAICompletionsDialect(),
        OpenAIResponsesDialect(),
        AnthropicDialect(),
        OllamaDialect(),
        EventStreamDialect(),
    )
}

TEXT_MEMBERS: Final = frozenset[str]().union(*(dialect.text_members for dialect in DIALECTS.values()))
"""The members of a request's body that decide whether visible text is harmless, in whatever dialect."""

_GENERATE: Final = OllamaGenerateDialect()
# The first that matches counts: the second is an end of the first.
_BY_SUFFIX: Final = (
    ("/chat/completions", DIALECTS["openai-chat"]),
    ("/completions", DIALECTS["openai-completions"]),
    ("/responses", DIALECTS["openai-responses"]),
    ("/v1/messages", DIALECTS["anthropic"]),
    ("/api/chat", DIALECTS["ollama"]),
    ("/api/generate", _GENERATE),
)


def detect(path: str) -> Dialect:
    """The dialect of a decoded request path (without its query), by suffix; else ``sse``."""
    for suffix, dialect in _BY_SUFFIX:
        if path.endswith(suffix):
            return dialect
    return DIALECTS["sse"]


def choose(name: str, path: str) -> Dialect:
    """The dialect that a route asks for by *name*; ``auto``: by the path, which also decides between Ollama's two forms."""
    found = detect(path)
    return found if name in ("auto", found.name) else DIALECTS[name]
