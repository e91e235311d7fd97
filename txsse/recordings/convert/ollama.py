"""Ollama: ``/api/chat`` and ``/api/generate``, told apart by what an answer holds: a ``message`` or a ``response``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from txsse.dialects.shapes import dump
from txsse.recordings.convert.shapes import (
    Converter,
    JsonObject,
    NotConvertible,
    as_object,
    as_text,
    is_empty,
    joined,
    read_object,
    words,
)

# Members that every line continues; of all others the last line's count.
_OF_CHAT: Final = frozenset(("message", "logprobs"))
_OF_GENERATE: Final = frozenset(("response", "thinking", "tool_calls", "logprobs"))
_ENVELOPE: Final = ("model", "created_at")


def _to_document(body: bytes) -> JsonObject:
    # Blanks alone are keepalives.
    lines = [read_object(line) for line in body.decode().split("\n") if line.strip()]
    if [line.get("done") is True for line in lines] != [False] * (len(lines) - 1) + [True]:
        raise NotConvertible("not finished")
    continued = _OF_CHAT if any("message" in line for line in lines) else _OF_GENERATE
    document: JsonObject = {}
    for line in lines:
        pieces = {name: value for name, value in line.items() if name in continued}
        document = joined(document | {name: value for name, value in line.items() if name not in continued}, pieces)
    _check_said(document)
    return document


def _to_stream(document: JsonObject, include_usage: bool) -> list[bytes]:
    """The counts are part of every stream of this API, so *include_usage* does not matter."""
    if document.get("done") is not True:
        raise NotConvertible("not finished")
    _check_said(document)
    head = {name: document[name] for name in _ENVELOPE if name in document}
    tell, continued = (_tell_message, _OF_CHAT) if "message" in document else (_tell_response, _OF_GENERATE)
    *pieces, ending = tell(document)
    lines = [head | piece | {"done": False} for piece in pieces]
    last = {name: value for name, value in document.items() if name not in continued or is_empty(value)}
    return [dump(line) + b"\n" for line in [*lines, last | ending]]


def _check_said(document: JsonObject) -> None:
    """Is it an answer: not a list of models, and not how far a download has come?"""
    if "message" in document:
        as_text(as_object(document["message"]).get("content", ""))
    else:
        as_text(document.get("response"))


def _tell_message(document: JsonObject) -> Iterator[JsonObject]:
    message = {"role": "assistant", "content": ""} | document["message"]
    nothing = {"role": message["role"], "content": ""}
    for said, besides in _tell(message, "content", document.get("logprobs")):
        yield {"message": nothing | said} | besides
    yield {"message": nothing | {name: value for name, value in message.items() if name != "role" and is_empty(value)}}


def _tell_response(document: JsonObject) -> Iterator[JsonObject]:
    response = {name: value for name, value in document.items() if name in _OF_GENERATE and name != "logprobs"}
    for said, besides in _tell(response, "response", document.get("logprobs")):
        yield {"response": ""} | said | besides
    yield {"response": ""}


def _tell(whole: JsonObject, text: str, logprobs: object) -> Iterator[tuple[JsonObject, JsonObject]]:
    """What is said, piece by piece, and what stands beside it in its line.

    :param text: the member that holds the text.
    """
    for each in words(as_text(whole.get("thinking") or "")):
        yield {"thinking": each}, {}
    if is_empty(logprobs):
        for each in words(whole[text]):
            yield {text: each}, {}
    else:  # it is not known which of them belong to which word
        yield {text: whole[text]}, {"logprobs": logprobs}
    rest = {name: value for name, value in whole.items() if name not in ("role", "thinking", text) and not is_empty(value)}
    if rest:
        yield rest, {}


OLLAMA: Final = Converter(_to_document, _to_stream)
