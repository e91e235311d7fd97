"""OpenAI chat completions: a message, and the deltas that add up to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from txsse.recordings.convert.openai import Form
from txsse.recordings.convert.shapes import (
    Converter,
    JsonObject,
    NotConvertible,
    as_index,
    as_object,
    as_objects,
    as_text,
    is_empty,
    joined,
    words,
)

_THOUGHT: Final = ("reasoning_content", "reasoning")
_SAID: Final = ("content", "refusal")
_ARGUMENTS: Final = {"function": "arguments", "custom": "input"}
"""The kinds of tool call, and the text in each that comes after all else of it."""


def _collect(pieces: list[JsonObject]) -> JsonObject:
    message: JsonObject = {"role": None, "content": None}
    calls: dict[int, JsonObject] = {}
    for piece in pieces:
        delta = dict(as_object(piece.get("delta") or {}))
        for call in as_objects(delta.get("tool_calls") or []):
            index = as_index(call.pop("index", None))
            calls[index] = joined(calls.get(index, {}), call)
        if calls:
            delta.pop("tool_calls", None)
        message = joined(message, delta)
    if calls:
        message["tool_calls"] = [_named(calls[index]) for index in sorted(calls)]
    for name in (*_THOUGHT, *_SAID):
        as_text(message.get(name) or "")
    _check_no_sound(message)
    message["role"] = message["role"] or "assistant"
    return {"message": message}


def _named(call: JsonObject) -> JsonObject:
    """A tool call with its type, which some servers leave out of their deltas."""
    return {"type": "function"} | call if "function" in call else call


def _tell(choice: JsonObject) -> Iterator[JsonObject]:
    message = as_object(choice.get("message"))
    _check_no_sound(message)
    first = {"role": message.get("role") or "assistant"}
    if message.get("content") is not None:
        first["content"] = ""
    yield {"delta": first | {name: value for name, value in message.items() if name != "role" and is_empty(value)}}
    for name in _THOUGHT:
        yield from _slices(message, name)
    if choice.get("logprobs") is None:
        for name in _SAID:
            yield from _slices(message, name)
    else:  # it is not known which of them belong to which word
        said = {name: as_text(message[name]) for name in _SAID if message.get(name)}
        yield {"delta": said, "logprobs": choice["logprobs"]}
    apart = ("role", "function_call", "tool_calls", *_THOUGHT, *_SAID)
    rest = {name: value for name, value in message.items() if name not in apart and not is_empty(value)}
    if rest:
        yield {"delta": rest}
    if message.get("function_call") is not None:
        for part in _in_two(as_object(message["function_call"]), "arguments"):
            yield {"delta": {"function_call": part}}
    for index, call in enumerate(as_objects(message.get("tool_calls") or [])):
        for part in _call_in_two(call):
            yield {"delta": {"tool_calls": [{"index": index} | part | {"index": index}]}}


def _slices(message: JsonObject, name: str) -> Iterator[JsonObject]:
    for each in words(as_text(message.get(name) or "")):
        yield {"delta": {name: each}}


def _call_in_two(call: JsonObject) -> list[JsonObject]:
    """A tool call's identity, then its arguments."""
    kind = next((kind for kind in _ARGUMENTS if kind in call), None)
    if kind is None:
        return [call]
    first, *rest = _in_two(as_object(call[kind]), _ARGUMENTS[kind])
    return [call | {kind: first}, *({kind: part} for part in rest)]


def _in_two(function: JsonObject, text: str) -> list[JsonObject]:
    if text not in function:
        return [function]
    return [function | {text: ""}, {text: as_text(function[text])}]


def _check_no_sound(message: JsonObject) -> None:
    """A stream has other sound formats than a document, and base64 in pieces that cannot be put together."""
    if message.get("audio") is not None:
        raise NotConvertible("sound")


_FORM: Final = Form("chat.completion", "chat.completion.chunk", _collect, _tell, frozenset(("index", "message")), {"delta": {}})

OPENAI_CHAT: Final = Converter(_FORM.to_document, _FORM.to_stream)
