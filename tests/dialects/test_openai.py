"""Heartbeats in upstream's name, and which chunks say nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from txsse.dialects import DIALECTS, Speaker
from txsse.dialects.openai import FirstChunk, is_ping
from txsse.wire.eventstream import Event

CHAT = DIALECTS["openai-chat"]
COMPLETIONS = DIALECTS["openai-completions"]
SPEAKER = Speaker("00", 7, "asked-for")
AZURE = b'data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0}]}\n\n'
CHUNK = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1234567890,"model":"m","choices":[{"index":0,"delta":{}}]}\n\n'
)


def said(frame: bytes) -> dict[str, Any]:
    value = json.loads(frame.removeprefix(b"data: "))
    return {name: value[name] for name in ("id", "created", "model")}


@pytest.mark.parametrize("dialect", [CHAT, COMPLETIONS], ids=lambda each: each.name)
def test_nothing_is_remembered_unless_heartbeats_go_between_events(dialect: Any) -> None:
    assert dialect.witness(midstream=False) is None
    assert isinstance(dialect.witness(midstream=True), FirstChunk)


def test_a_heartbeat_between_events_speaks_in_upstreams_name() -> None:
    witness = FirstChunk()
    assert witness.see(b": ping\n")
    assert witness.see(AZURE)
    assert not witness.see(b": x\n" + CHUNK)
    assert not witness.see(CHUNK.replace(b"chatcmpl-1", b"chatcmpl-2"))
    assert CHAT.heartbeat(SPEAKER, witness) == (
        b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1234567890,"model":"m",'
        b'"choices":[{"index":0,"delta":{"content":""},"finish_reason":null}]}\n\n'
    )
    assert CHAT.sign_of_life("event", lambda: SPEAKER, witness=witness) == CHAT.heartbeat(SPEAKER, witness)
    assert said(COMPLETIONS.heartbeat(SPEAKER, witness)) == {"id": "chatcmpl-1", "created": 1234567890, "model": "m"}


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (b"", {}),
        (AZURE, {}),
        (AZURE + CHUNK, {"id": "chatcmpl-1", "created": 1234567890, "model": "m"}),
        (b'data: {"id":"a"}\n\n', {"id": "a"}),
        (b'data: {"id":"a","created":"x","model":null}\n\n', {"id": "a"}),
        (b'data: {"choices":[{"delta":{"tool_calls":[{"id":"call_1"}]}}]}\n\n', {}),
        (b'data: {"id":"a"\n\n', {}),
        (b'data: ["id","a"]\n\n', {}),
        (b'data: {"id":"long","choi', {}),
    ],
)
def test_what_upstream_has_not_told_is_ours(frames: bytes, expected: dict[str, Any]) -> None:
    witness = FirstChunk()
    witness.see(frames)
    assert said(CHAT.heartbeat(SPEAKER, witness)) == {"id": "chatcmpl-txsse-00", "created": 7, "model": "asked-for"} | expected


@pytest.mark.parametrize(
    ("event", "ping"),
    [
        (Event("message", ""), True),
        (Event("ping", '{"type":"ping"}'), True),
        (Event("ping", "x"), True),
        (Event("message", '{"type":"ping"}'), True),
        (Event("message", '{"choices":[]}'), True),
        (Event("message", '{"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":null}'), True),
        (Event("message", '{"choices":[],"usage":{"total_tokens":3}}'), False),
        (Event("message", '{"choices":[],"timings":{}}'), False),
        (Event("message", '{"choices":[],"prompt_filter_results":[]}'), False),
        (Event("message", '{"choices":[],"error":{"message":"x"}}'), False),
        (Event("message", '{"choices":[{"index":0,"delta":{}}]}'), False),
        (Event("message", '{"error":{"message":"x"}}'), False),
        (Event("message", "[DONE]"), False),
        (Event("message", "["), False),
        (Event("message", "3"), False),
    ],
)
def test_which_events_say_nothing(event: Event, ping: bool) -> None:
    assert is_ping(event) is ping
