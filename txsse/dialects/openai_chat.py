"""OpenAI chat completions: ``/v1/chat/completions``."""

from __future__ import annotations

import re
from typing import Any

from txsse.dialects.base import Dialect, Speaker, dump, openai_error
from txsse.errors import ProxyError
from txsse.wire.eventstream import EventStreamDecoder

_DONE_LINE = re.compile(rb"(?:\A(?:\xef\xbb\xbf)?|[\r\n])data: ?\[DONE\][\r\n]")
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
        # From the first mention on, less what may stand before it on its line. A read can hold hundreds of events: none is decoded in vain.
        line = _DONE_LINE.search(frames, max(frames.find(b"[DONE]") - len(b"\xef\xbb\xbfdata: "), 0))
        if line is None:
            return False
        # It may be one of several data lines: the event decides.
        upto = line.start() + 1
        begin = max(frames.rfind(blank, 0, upto) for blank in (b"\n\n", b"\n\r", b"\r\r")) + 1
        return any(event.data == "[DONE]" for event in EventStreamDecoder(len(frames) + 1).feed(frames[begin:]))

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
