"""The bytes of each dialect, as the wire page and the error table fix them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from txsse.dialects import DIALECTS, detect
from txsse.dialects.base import Speaker, anthropic_error, dump
from txsse.errors import CODES, ProxyError

CHAT = DIALECTS["openai-chat"]
SSE = DIALECTS["sse"]
SPEAKER = Speaker("0123456789abcdef", 1_700_000_000, "qwen3:4b")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/chat/completions", "openai-chat"),
        ("/chat/completions", "openai-chat"),
        ("/openai/deployments/x/chat/completions", "openai-chat"),
        ("/v1/chat/completions/", "sse"),
        ("/v1/completions", "sse"),
        ("/v1/embeddings", "sse"),
        ("/health", "sse"),
        ("/", "sse"),
        ("", "sse"),
    ],
)
def test_the_dialect_is_told_by_the_end_of_the_path(path: str, name: str) -> None:
    assert detect(path) is DIALECTS[name]


@pytest.mark.parametrize("dialect", [CHAT, SSE], ids=lambda each: each.name)
def test_a_keepalive_is_a_comment_and_one_newline(dialect: Any) -> None:
    assert dialect.keepalive() == b": txsse\n"
    assert dialect.comment('{"state":"waking"}') == b': txsse {"state":"waking"}\n'
    assert dialect.content_type == b"text/event-stream; charset=utf-8"


def test_chat_heartbeat() -> None:
    assert CHAT.heartbeat(SPEAKER) == (
        b'data: {"id":"chatcmpl-txsse-0123456789abcdef","object":"chat.completion.chunk","created":1700000000,"model":"qwen3:4b",'
        b'"choices":[{"index":0,"delta":{"content":""},"finish_reason":null}]}\n\n'
    )


@pytest.mark.parametrize(("channel", "name"), [("reasoning", "reasoning_content"), ("content", "content")])
def test_chat_message(channel: str, name: str) -> None:
    assert (
        CHAT.message(SPEAKER, "Modèle “x” wakes\n\n---\n", channel)
        == (
            'data: {"id":"chatcmpl-txsse-0123456789abcdef","object":"chat.completion.chunk","created":1700000000,"model":"qwen3:4b",'
            f'"choices":[{{"index":0,"delta":{{"{name}":"Modèle “x” wakes\\n\\n---\\n"}},"finish_reason":null}}]}}\n\n'
        ).encode()
    )


def test_the_model_stands_in_a_chunk_as_the_request_had_it() -> None:
    odd = Speaker("00", 1, 'a"b\\c\n\x00é😀')
    chunk = CHAT.heartbeat(odd)
    assert chunk.count(b"\n") == 2
    assert json.loads(chunk.removeprefix(b"data: "))["model"] == odd.model


def test_sse_says_nothing_that_a_parser_could_take_for_an_event() -> None:
    assert SSE.heartbeat(SPEAKER) == b""
    assert SSE.message(SPEAKER, "Hello", "content") == b""
    assert SSE.done == b""
    assert SSE.terminal_hint is None
    assert not SSE.error_after_their_head


# -- errors

UNAVAILABLE = ProxyError("upstream_unavailable", "The backend cannot be reached.")


def test_chat_error_frame_and_body() -> None:
    inner = b'{"error":{"message":"The backend cannot be reached.","type":"server_error","param":null,"code":"upstream_unavailable"}}'
    assert CHAT.error_frame(UNAVAILABLE) == b"data: " + inner + b"\n\n"
    assert CHAT.error_body(UNAVAILABLE) == inner
    assert CHAT.done == b"data: [DONE]\n\n"
    assert CHAT.error_after_their_head


def test_sse_error_frame_and_body() -> None:
    assert SSE.error_frame(UNAVAILABLE) == (
        b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"The backend cannot be reached.",'
        b'"code":"upstream_unavailable"}}\n\n'
    )
    assert SSE.error_body(UNAVAILABLE) == CHAT.error_body(UNAVAILABLE)


@pytest.mark.parametrize(
    ("code", "status", "openai", "anthropic"),
    [
        ("bad_request", 400, "invalid_request_error", "invalid_request_error"),
        ("request_timeout", 408, "invalid_request_error", "invalid_request_error"),
        ("head_too_large", 431, "invalid_request_error", "request_too_large"),
        ("body_too_large", 413, "invalid_request_error", "request_too_large"),
        ("too_many_connections", 503, "server_error", "overloaded_error"),
        ("invalid_api_key", 401, "invalid_request_error", "authentication_error"),
        ("no_route", 404, "invalid_request_error", "not_found_error"),
        ("too_many_waiting", 429, "rate_limit_error", "rate_limit_error"),
        ("readiness_timeout", 503, "server_error", "overloaded_error"),
        ("wake_failed", 503, "server_error", "api_error"),
        ("upstream_unavailable", 502, "server_error", "api_error"),
        ("upstream_invalid", 502, "server_error", "api_error"),
        ("upstream_timeout", 504, "server_error", "api_error"),
        ("upstream_error", 502, "server_error", "api_error"),
        ("upstream_disconnected", 502, "server_error", "api_error"),
        ("shutting_down", 503, "server_error", "overloaded_error"),
        ("loop_detected", 508, "invalid_request_error", "invalid_request_error"),
    ],
)
def test_the_table_of_errors(code: str, status: int, openai: str, anthropic: str) -> None:
    error = ProxyError(code, "x")
    assert error.http_status == status
    assert json.loads(CHAT.error_body(error))["error"]["type"] == openai
    assert anthropic_error(error)["type"] == anthropic


def test_the_table_of_errors_is_complete_for_what_is_built() -> None:
    assert len(CODES) == 17


def test_upstreams_members_are_kept_in_their_order_and_ours_added() -> None:
    members = {
        "message": "too long",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "context_length_exceeded",
        "n_ctx": 4096,
    }
    error = ProxyError("upstream_error", "too long", members=members, upstream_status=400)
    assert CHAT.error_frame(error) == (
        b'data: {"error":{"message":"too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded",'
        b'"n_ctx":4096,"status":400}}\n\n'
    )
    assert json.loads(SSE.error_frame(error).partition(b"data: ")[2])["error"]["type"] == "invalid_request_error"
    assert "status" not in members


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [(503, "503"), ("x", "x"), (None, "upstream_error"), (True, "upstream_error"), (1.5, "1.5")],
)
def test_a_code_is_always_a_string(theirs: object, ours: str) -> None:
    error = ProxyError("upstream_error", "x", members={"message": "x", "code": theirs}, upstream_status=503)
    for frame in (CHAT.error_frame(error), SSE.error_frame(error)):
        assert json.loads(frame.partition(b"data: ")[2])["error"]["code"] == ours


def test_an_upstreams_type_that_is_no_string_is_replaced() -> None:
    error = ProxyError("upstream_error", "x", members={"message": "x", "type": None}, upstream_status=500)
    assert json.loads(CHAT.error_body(error))["error"]["type"] == "server_error"


def test_error_is_the_first_member_and_the_frame_one_line() -> None:
    error = ProxyError("upstream_error", "a\nb\r\n\u2028c", members={"message": "a\nb\r\n\u2028c"}, upstream_status=500)
    frame = CHAT.error_frame(error)
    assert frame.startswith(b'data: {"error":{"message":"a\\nb\\r\\n')
    assert frame.count(b"\n") == 2
    assert b"\r" not in frame


def test_lone_surrogates_are_escaped() -> None:
    assert dump({"a": "\ud800é"}) == b'{"a":"\\ud800\\u00e9"}'


# -- where visible text is harmless


@pytest.mark.parametrize(
    ("members", "may"),
    [
        ({}, True),
        ({"n": b"1"}, True),
        ({"n": b"null"}, True),
        ({"n": b"2"}, False),
        ({"tools": b"[]"}, True),
        ({"tools": b'[{"type":"function"}]'}, False),
        ({"tools": b"["}, False),
        ({"functions": b"[{}]"}, False),
        ({"response_format": b"null"}, True),
        ({"response_format": b'{"type":"json_object"}'}, False),
        ({"logprobs": b"false"}, True),
        ({"logprobs": b"true"}, False),
    ],
)
def test_text_is_shown_only_where_no_program_parses_the_answer(members: dict[str, bytes], may: bool) -> None:
    assert CHAT.may_show_text(members) is may
    assert not SSE.may_show_text(members)


# -- the end of a stream


@pytest.mark.parametrize(
    ("frames", "terminal"),
    [
        (b"data: [DONE]\n\n", True),
        (b"data:[DONE]\n\n", True),
        (b"data: [DONE]\r\n\r\n", True),
        (b"data: [DONE]\r\r", True),
        (b"data: x\n\ndata: [DONE]\n\n: bye\n", True),
        (b"data: [DONE]\n", False),
        (b"data: [DONE] \n\n", False),
        (b'data: {"x":"data: [DONE]"}\n\n', False),
        (b"xdata: [DONE]\n\n", False),
    ],
)
def test_what_ends_a_chat(frames: bytes, terminal: bool) -> None:
    assert CHAT.is_terminal(frames) is terminal
    assert not SSE.is_terminal(frames)


@pytest.mark.parametrize(
    ("frames", "terminal"),
    [
        (b"data: [DONE]\n\n", True),
        (b"data:[DONE]\r\n\r\n", True),
        (b"\xef\xbb\xbfdata: [DONE]\n\n", True),
        (b'data: {"a":1}\n\nid: 7\ndata: [DONE]\nretry: 5\n\n: bye\n\n', True),
        (b"data: x\ndata: [DONE]\n\n", False),  # one event whose text has two lines
        (b'data: {"content":"say data: [DONE]"}\n\n', False),
        (b": data: [DONE]\n\n", False),
    ],
)
def test_the_end_of_a_chat_is_an_event_of_its_own(frames: bytes, terminal: bool) -> None:
    assert DIALECTS["openai-chat"].is_terminal(frames) is terminal
