"""Looking like somebody else: the bytes and habits of the systems that a proxy may have to take the place of."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from txsse.dialects.base import Dialect, Speaker, Witness
from txsse.dialects.openai_chat import OpenAIChatDialect
from txsse.dialects.shapes import data_event
from txsse.errors import ProxyError

_NOT_READY: Final = frozenset(("readiness_timeout", "queue_timeout", "wake_failed"))

Value = str | int | float | bool


@attrs.frozen
class Style:
    """One of the styles of ``hold.style``.

    :param defaults: option tables of a route and what their options are where the route does not set them; durations in seconds.
    :param cache_control: of the heads that we commit.
    :param vary: the dialect as it is spoken in this style.
    """

    name: str
    defaults: Mapping[str, Mapping[str, Value]] = attrs.field(factory=dict)
    cache_control: bytes = b"no-cache, no-transform"
    vary: Callable[[Dialect], Dialect] = lambda dialect: dialect


class KedaChat(OpenAIChatDialect):
    """KEDA's HTTP add-on with a streaming callback: every word of the proxy is a chunk of the model ``system``, also that it gave up."""

    content_type = b"text/event-stream"

    def chunk(self, speaker: Speaker, choice: dict[str, Any], witness: Witness | None = None) -> bytes:
        return data_event(
            {
                "id": "keda-cold-start",
                "object": self.object_name,
                "created": speaker.created,
                "model": "system",
                "choices": [choice],
            }
        )

    def error_frame(self, error: ProxyError, speaker: Speaker, witness: Witness | None) -> bytes:
        if error.code in _NOT_READY:
            return self.delta(speaker, "content", f"Backend did not become ready: {error.message}")
        return super().error_frame(error, speaker, witness)


class LlamaSwapChat(OpenAIChatDialect):
    """llama-swap's loading state: thoughts in chunks with nothing else in them, and a last word before the answer, not before an error."""

    def message(self, speaker: Speaker, text: str, channel: str, *, first: bool) -> bytes:
        return data_event({"choices": [{"delta": {"reasoning_content" if channel == "reasoning" else "content": text}}]})

    def before_answer(self, speaker: Speaker, separator: str, channel: str) -> bytes:
        return self.message(speaker, separator, channel, first=False) if separator else b""


def _keda(dialect: Dialect) -> Dialect:
    return KedaChat() if dialect.name == "openai-chat" else _like(dialect, content_type=_plain(dialect.content_type))


def _llama_swap(dialect: Dialect) -> Dialect:
    return LlamaSwapChat() if dialect.name == "openai-chat" else _like(dialect, mute=True)


def _like(dialect: Dialect, *, content_type: bytes | None = None, word: str | None = None, mute: bool = False) -> Dialect:
    varied = copy.copy(dialect)
    varied.content_type = content_type or dialect.content_type
    varied.word = word or dialect.word
    varied.mute = mute or dialect.mute
    return varied


def _plain(content_type: bytes) -> bytes:
    return content_type.partition(b";")[0]


STYLES: Final[dict[str, Style]] = {
    style.name: style
    for style in (
        Style("default"),
        Style(
            "keda",
            {
                "hold": {
                    "commit_after": 0,
                    "timeout_status": 504,
                    "channel": "content",
                    "progress": "",
                    "separator": "\n\n---\n\u200b",
                    "status_comments": False,
                },
                "keepalive": {"form": "event", "interval": 5, "heartbeat": 0},
                "stream": {"error_end": "done"},
            },
            cache_control=b"no-cache",
            vary=_keda,
        ),
        Style(
            "llama-swap",
            {
                "hold": {
                    "commit_after": 0,
                    "channel": "reasoning",
                    "message": "━━━━━\nllama-swap loading model: {model}\n",
                    "progress": ".",
                    "separator": "\nDone! ({elapsed}s)\n━━━━━\n \n",
                },
                "keepalive": {"interval": 5},
            },
            vary=_llama_swap,
        ),
        Style(
            "hearth",
            {"hold": {"commit_after": 0, "status_comments": False}, "keepalive": {"form": "frame", "interval": 10}},
            vary=lambda dialect: _like(dialect, word="heartbeat"),
        ),
        Style(
            "ds4",
            {
                "hold": {"commit_after": 0, "status_comments": False},
                "keepalive": {"form": "frame", "interval": 5, "commit_after": 1},
            },
            vary=lambda dialect: _like(dialect, word="prefill"),
        ),
    )
}
