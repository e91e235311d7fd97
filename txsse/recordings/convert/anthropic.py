"""Anthropic Messages: content blocks, and the events that begin, continue and end them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from txsse.dialects.shapes import data_event, dump
from txsse.recordings.convert.shapes import (
    Converter,
    JsonObject,
    NotConvertible,
    as_index,
    as_object,
    as_objects,
    as_text,
    parse,
    read_events,
    read_object,
    words,
)

_GROWN_BY: Final = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}
_DELTA_OF: Final = {member: kind for kind, member in _GROWN_BY.items()}
_TOOLS: Final = ("tool_use", "server_tool_use", "mcp_tool_use")
"""Blocks whose ``input`` comes as JSON text in pieces."""


def _to_document(body: bytes) -> JsonObject:
    events = [read_object(event.data) for event in read_events(body)]
    events = [event for event in events if event.get("type") != "ping"]
    kinds = [event.get("type") for event in events]
    if kinds[:1] != ["message_start"] or kinds[-1:] != ["message_stop"]:
        raise NotConvertible("not a whole message")
    message = as_object(events[0].get("message"))
    if message.get("content"):
        raise NotConvertible("a message that begins with content")
    blocks: dict[int, list[JsonObject]] = {}
    for event in events[1:-1]:
        if event.get("type") == "message_delta":
            message = _ended(message, event)
        else:
            blocks.setdefault(as_index(event.get("index")), []).append(event)
    _check_stopped(message)
    return message | {"content": [_block(blocks[index]) for index in sorted(blocks)]}


def _to_stream(message: JsonObject, include_usage: bool) -> list[bytes]:
    """The usage is part of every stream of this API, so *include_usage* does not matter."""
    _check_stopped(message)
    usage = as_object(message.get("usage"))
    produced = {"output_tokens": as_index(usage.get("output_tokens"))}
    ending = {"stop_reason": message["stop_reason"], "stop_sequence": message.get("stop_sequence")}
    nothing_yet: JsonObject = {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage | {"output_tokens": 0}}
    events = [_event("message_start", message=message | nothing_yet)]
    for index, block in enumerate(as_objects(message.get("content"))):
        first, *deltas = _pieces(block)
        events.append(_event("content_block_start", index=index, content_block=first))
        events += [_event("content_block_delta", index=index, delta=delta) for delta in deltas]
        events.append(_event("content_block_stop", index=index))
    return [*events, _event("message_delta", delta=ending, usage=produced), _event("message_stop")]


def _ended(message: JsonObject, event: JsonObject) -> JsonObject:
    """The message with what a ``message_delta`` says of it; counts in it replace those of the beginning."""
    usage = {name: count for name, count in as_object(event.get("usage") or {}).items() if count is not None}
    besides = {name: value for name, value in event.items() if name not in ("type", "delta", "usage")}
    delta = {name: value for name, value in as_object(event.get("delta")).items() if value is not None or name not in message}
    return message | besides | delta | {"usage": as_object(message.get("usage") or {}) | usage}


def _block(events: list[JsonObject]) -> JsonObject:
    start, *deltas = events
    if start.get("type") != "content_block_start" or not deltas or deltas.pop().get("type") != "content_block_stop":
        raise NotConvertible("not a whole block")
    block = dict(as_object(start.get("content_block")))
    partial = ""
    for event in deltas:
        if event.get("type") != "content_block_delta":
            raise NotConvertible("an event of unknown meaning")
        delta = as_object(event.get("delta"))
        kind = as_text(delta.get("type"))
        if kind in _GROWN_BY:
            member = _GROWN_BY[kind]
            block[member] = as_text(block.get(member) or "") + as_text(delta.get(member))
        elif kind == "input_json_delta":
            partial += as_text(delta.get("partial_json"))
        elif kind == "citations_delta":
            block["citations"] = [*as_objects(block.get("citations") or []), as_object(delta.get("citation"))]
        else:
            raise NotConvertible("a delta of unknown meaning")
    if partial:
        block["input"] = parse(partial)
    return block


def _pieces(block: JsonObject) -> Iterator[JsonObject]:
    """A block as it begins, then its deltas; a block of an unknown kind begins whole."""
    kind = block.get("type")
    if kind in _TOOLS:
        yield block | {"input": {}}
        yield {"type": "input_json_delta", "partial_json": dump(as_object(block.get("input"))).decode()}
    elif kind == "text":
        cited = block.get("citations")
        yield block | {"text": ""} | ({"citations": []} if cited else {})
        yield from ({"type": "citations_delta", "citation": each} for each in as_objects(cited or []))
        yield from _slices(block, "text")
    elif kind == "thinking":
        yield block | {"thinking": ""} | ({"signature": ""} if "signature" in block else {})
        yield from _slices(block, "thinking")
        if block.get("signature"):
            yield {"type": "signature_delta", "signature": as_text(block["signature"])}
    else:
        yield block


def _slices(block: JsonObject, member: str) -> Iterator[JsonObject]:
    for each in words(as_text(block.get(member))):
        yield {"type": _DELTA_OF[member], member: each}


def _check_stopped(message: JsonObject) -> None:
    if not isinstance(message.get("stop_reason"), str) or not message["stop_reason"]:
        raise NotConvertible("a message that is not finished")


def _event(kind: str, **members: object) -> bytes:
    return data_event({"type": kind, **members}, kind)


ANTHROPIC: Final = Converter(_to_document, _to_stream)
