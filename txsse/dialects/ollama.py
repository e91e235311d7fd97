"""Ollama: ``/api/chat`` and ``/api/generate``, streams of JSON objects, one a line."""

from __future__ import annotations

import json
import re
from email.utils import formatdate
from typing import Final

from txsse.dialects.base import Dialect, Filter, Members, Speaker, Witness, asked
from txsse.dialects.shapes import dump, ollama_error
from txsse.errors import ProxyError
from txsse.wire.normalise import LineNormaliser

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_TYPES: Final = (b"application/x-ndjson", b"application/ndjson", b"application/jsonl", b"application/x-jsonlines")


class OllamaDialect(Dialect):
    """``ollama``: a stream is kept alive by blanks at the beginning of a line, which JSON parsers skip. A newline would be an empty line,
    of which ollama-python, Continue and open-webui die; a comment is no JSON at all.
    """

    name = "ollama"
    content_type = b"application/x-ndjson"
    by_lines = True
    streams_unless_told = True
    forms = {"auto": "line", "frame": "line"}
    terminal_pattern = re.compile(rb'"done"\s*+:\s*+true')
    terminal_word = b"true"
    event_pattern = re.compile(rb"[^\s\xef\xbb\xbf]")
    text_members = frozenset(("tools", "format", "suffix", "raw", "logprobs"))

    def keepalive(self) -> bytes:
        return b" "

    def comment(self, text: str) -> bytes:
        return b""

    def heartbeat(self, speaker: Speaker, witness: Witness | None) -> bytes:
        return self._line(speaker, {"content": ""})

    def message(self, speaker: Speaker, text: str, channel: str, *, first: bool) -> bytes:
        return self._line(speaker, {"content": "", "thinking": text} if channel == "reasoning" else {"content": text})

    def before_answer(self, speaker: Speaker, separator: str, channel: str) -> bytes:
        return self._line(speaker, {"content": separator}) if separator and channel == "content" else b""

    def may_show_text(self, members: Members) -> bool:
        return not self.mute and not asked(members, *self.text_members)

    def is_stream(self, content_type: bytes | None) -> bool:
        return content_type is not None and content_type.partition(b";")[0].strip().lower() in _TYPES

    def is_terminal(self, frames: bytes) -> bool:
        at = 0
        while match := self.terminal_pattern.search(frames, at):
            begin = max(at, frames.rfind(b"\n", at, match.start()) + 1)
            at = frames.find(b"\n", match.end()) + 1 or len(frames)
            if _is_last(frames[begin:at]):
                return True
        return False

    def normaliser(self, form: str) -> Filter:
        return LineNormaliser()

    def error_frame(self, error: ProxyError, speaker: Speaker, witness: Witness | None) -> bytes:
        return dump(ollama_error(error)) + b"\n"

    def error_body(self, error: ProxyError) -> bytes:
        return dump({"error": error.message})

    def _line(self, speaker: Speaker, message: dict[str, str]) -> bytes:
        return self._object(speaker, {"message": {"role": "assistant", **message}})

    @staticmethod
    def _object(speaker: Speaker, members: dict[str, object]) -> bytes:
        return dump({"model": speaker.model, "created_at": rfc3339(speaker.created), **members, "done": False}) + b"\n"


class OllamaGenerateDialect(OllamaDialect):
    """The same where a prompt is completed: the text is no message but a ``response``."""

    def _line(self, speaker: Speaker, message: dict[str, str]) -> bytes:
        content = message.pop("content")
        return self._object(speaker, {"response": content, **message})


def rfc3339(seconds: int) -> str:
    """A Unix time as RFC 3339 writes it, in UTC."""
    _, day, month, year, clock, _ = formatdate(seconds, usegmt=True).split()
    return f"{year}-{_MONTHS.index(month) + 1:02}-{day}T{clock}Z"


def _is_last(line: bytes) -> bool:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and value.get("done") is True
