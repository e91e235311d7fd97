"""An answer in the other form: a stored stream as the one document that ``stream: false`` asks for, a stored document as a stream.

Nothing is guessed: what looks like an error, is not finished, or would lose anything has no other form (and is asked of upstream).
Numbers are read as IEEE doubles where they are no integers, and white space between the members of an object is not kept.
"""

from __future__ import annotations

from typing import Final

from txsse.dialects.shapes import dump
from txsse.recordings.convert.anthropic import ANTHROPIC
from txsse.recordings.convert.ollama import OLLAMA
from txsse.recordings.convert.openai_chat import OPENAI_CHAT
from txsse.recordings.convert.openai_completions import OPENAI_COMPLETIONS
from txsse.recordings.convert.openai_responses import OPENAI_RESPONSES
from txsse.recordings.convert.shapes import Converter, read_object

__all__ = ["to_document", "to_stream"]


_CONVERTERS: Final[dict[str, Converter]] = {
    "openai-chat": OPENAI_CHAT,
    "openai-completions": OPENAI_COMPLETIONS,
    "openai-responses": OPENAI_RESPONSES,
    "anthropic": ANTHROPIC,
    "ollama": OLLAMA,
}


def to_document(dialect: str, body: bytes) -> bytes | None:
    """The JSON document that a whole stream amounts to; ``None`` where there is none without a loss.

    :param dialect: the name of the dialect that *body* speaks.
    """
    converter = _CONVERTERS.get(dialect)
    if converter is None:
        return None
    try:
        return dump(converter.to_document(body))
    except (ValueError, RecursionError):  # what cannot be converted, what is no JSON or no UTF-8, what is nested too deeply
        return None


def to_stream(dialect: str, body: bytes, *, include_usage: bool) -> list[bytes] | None:
    """A JSON document told as a stream, text word by word: whole frames, one a piece; ``None`` where there is none without a loss.

    :param include_usage: the request asked for a chunk with the usage, in the dialects where that has to be asked for.
    """
    converter = _CONVERTERS.get(dialect)
    if converter is None or converter.to_stream is None:
        return None
    try:
        return converter.to_stream(read_object(body.decode()), include_usage)
    except (ValueError, RecursionError):
        return None
