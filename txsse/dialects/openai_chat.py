"""OpenAI chat completions: ``/v1/chat/completions``."""

from __future__ import annotations

import re
from typing import Any

from txsse.dialects.base import Dialect, Speaker, dump, openai_error
from txsse.errors import ProxyError

_DONE_LINE = re.compile(rb"(?:\A|[\r\n])data: ?\[DONE\](?:\r\n|\r|\n)(?:\r|\n)")
_QUIET = frozenset((b"null", b"false", b"[]", b"{}", b""))


class OpenAIChatDialect(Dialect):
    """``openai-chat``: chunks with exactly one choice, no role, no ``"error": null``: what every measured client survives."""

    name = "openai-chat"
    done = b"data: [DONE]\n\n"
    terminal_hint = b"[DONE]"

    def heartbeat(self, speaker: Speaker) -> bytes:
        return self._chunk(speaker, {"content": ""})

    def message(self, speaker: Speaker, text: str, channel: str) -> bytes:
        return self._chunk(speaker, {"reasoning_content" if channel == "reasoning" else "content": text})

    def may_show_text(self, members: dict[str, bytes]) -> bool:
        """Not where the answer is parsed by a program: tools, structured output, several choices, log probabilities."""
        if members.get("n", b"1") not in (b"1", b"null"):
            return False
        return all(members.get(name, b"") in _QUIET for name in ("tools", "functions", "response_format", "logprobs"))

    def is_terminal(self, frames: bytes) -> bool:
        return _DONE_LINE.search(frames) is not None

    def error_frame(self, error: ProxyError) -> bytes:
        return b"data: " + dump({"error": openai_error(error)}) + b"\n\n"

    @staticmethod
    def _chunk(speaker: Speaker, delta: dict[str, Any]) -> bytes:
        chunk = {
            "id": f"chatcmpl-txsse-{speaker.token}",
            "object": "chat.completion.chunk",
            "created": speaker.created,
            "model": speaker.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": None}],
        }
        return b"data: " + dump(chunk) + b"\n\n"
