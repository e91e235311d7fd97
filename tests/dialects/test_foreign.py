"""Upstream's own errors, as real servers write them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from txsse.dialects import DIALECTS, Speaker
from txsse.dialects.foreign import MAX_TEXT, error_members
from txsse.errors import ProxyError
from txsse.wire.eventstream import EventStreamDecoder

JSON = b"application/json"
SPEAKER = Speaker("00", 1, "m")


def members(body: object, status: int = 500, kind: bytes = JSON) -> dict[str, Any]:
    return error_members(status, kind, body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        # OpenAI
        (
            {"error": {"message": "no", "type": "invalid_request_error", "param": None, "code": "model_not_found"}},
            {"message": "no", "type": "invalid_request_error", "param": None, "code": "model_not_found"},
        ),
        # llama.cpp
        (
            {"error": {"code": 400, "message": "too long", "type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 8}},
            {"code": 400, "message": "too long", "type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 8},
        ),
        # Ollama
        ({"error": "model 'x' not found"}, {"message": "model 'x' not found"}),
        # TGI
        ({"error": "Input validation error", "error_type": "validation"}, {"message": "Input validation error", "type": "validation"}),
        # vLLM before 0.10
        (
            {"object": "error", "message": "no", "type": "BadRequestError", "param": None, "code": 400},
            {"message": "no", "type": "BadRequestError", "param": None, "code": 400},
        ),
        # FastAPI
        ({"detail": "Not Found"}, {"message": "Not Found"}),
        ({"detail": [{"loc": ["body"], "msg": "missing"}]}, {"message": '[{"loc": ["body"], "msg": "missing"}]'}),
        ({"detail": {"message": "no slot", "code": "busy"}}, {"message": "no slot", "code": "busy"}),
        ({"detail": {"error": "no slot"}}, {"message": "no slot"}),
        ({"detail": {"why": 1}}, {"message": '{"why": 1}'}),
        # problem+json
        (
            {"type": "https://example.com/probs/out-of-credit", "title": "No credit.", "detail": "30 needed.", "code": 7},
            {"message": "30 needed.", "type": "https://example.com/probs/out-of-credit", "code": 7},
        ),
        ({"type": "about:blank", "title": "Gone", "status": 410}, {"message": "Gone"}),
        ({"title": "Gone", "detail": "It left."}, {"message": "It left."}),
        # Anthropic
        (
            {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
            {"type": "overloaded_error", "message": "Overloaded"},
        ),
        (
            {"type": "error", "error": {"type": "not_found_error", "message": "model: x"}, "request_id": "req_1"},
            {"type": "not_found_error", "message": "model: x"},
        ),
        # something else
        ({"ok": False}, {"message": '{"ok": false}'}),
        ({"error": {"message": None}}, {"message": "the upstream answered 500"}),
        ({"error": {"message": {"a": 1}}}, {"message": '{"a": 1}'}),
        ({"error": {}}, {"message": "the upstream answered 500"}),
        (["a"], {"message": '["a"]'}),
    ],
)
def test_known_and_unknown_json(body: object, expected: dict[str, Any]) -> None:
    assert members(body) == expected


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        (b"<html><head><style>p{}</style></head><body><h1>502 Bad Gateway</h1>\r\n<hr>nginx</body>", b"text/html", "502 Bad Gateway nginx"),
        (b"<h1>502 &mdash; Bad&nbsp;Gateway</h1> &lt;nginx&gt;", b"text/html", "502 \u2014 Bad Gateway <nginx>"),
        (b" <!doctype html><script>alert('x')</script >Oh no", b"", "Oh no"),
        (b"upstream connect error\x00\x1b[31m or \xff\xfe", b"text/plain", "upstream connect error [31m or \ufffd\ufffd"),
        (b"", b"text/plain", "the upstream answered 502 without a reason"),
        (b"<br>", b"text/html", "the upstream answered 502 without a reason"),
        (b'{"error": {"message": "cut', JSON, '{"error": {"message": "cut'),
    ],
)
def test_what_is_no_json_is_text_without_tags_and_controls(body: bytes, kind: bytes, text: str) -> None:
    assert error_members(502, kind, body) == {"message": text}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'data: {"error":{"message":"no","type":"t"}}\n\n', {"message": "no", "type": "t"}),
        (b'data:{"error":"Request failed","error_type":"generation"}\n\n', {"message": "Request failed", "type": "generation"}),
        (b': hm\n\nevent: error\ndata: {"type":"error","error":{"message":"no"}}\n\ndata: [DONE]\n\n', {"message": "no"}),
        (b'data: {"message":"unterminated"}', {"message": "unterminated"}),
        (b"data: plain\n\n", {"message": "data: plain"}),
    ],
)
def test_an_error_may_come_as_an_event(body: bytes, expected: dict[str, Any]) -> None:
    assert members(body, kind=b"text/event-stream") == expected


def test_text_is_bounded_in_bytes() -> None:
    assert members({"error": "\u20ac" * 2000}) == {"message": "\u20ac" * (MAX_TEXT // 3)}
    assert members(("\u20ac" * 2000).encode(), kind=b"text/plain") == {"message": "\u20ac" * (MAX_TEXT // 3)}
    small = {"message": "no", "type": "t", "metadata": {"raw": "y" * 3000}}
    assert members({"error": small}) == small
    assert members({"error": {"message": "no", "type": "t" * 9000, "code": 10**30, "metadata": "x" * 9000}}) == {
        "message": "no",
        "type": "t" * 256,
    }


def test_text_is_bounded() -> None:
    assert members(b"x" * 60_000) == {"message": "x" * MAX_TEXT}
    assert members({"error": "x" * 60_000}) == {"message": "x" * MAX_TEXT}
    assert members({"error": {"message": "x" * 60_000, "type": "t", "code": 1, "more": ["y"] * 9000}}) == {
        "message": "x" * MAX_TEXT,
        "type": "t",
        "code": 1,
    }


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 60_000,
        b'{"error":' * 7000,
        b'{"error":{"message":"x","a":' + b"[" * 900 + b"]" * 900 + b"}}",
        b'{"error":{"a":' + b"[" * 30 + b"]" * 30 + b"}}",
        b'{"error":{"code":' + b"9" * 5000 + b"}}",
        b'{"error":{"message":"x","score":NaN,"worst":-Infinity,"most":1e999}}',
        b'{"detail":' * 900 + b"1" + b"}" * 900,
        b'{"detail":' + b"[" * 900 + b"]" * 900 + b"}",
        b"data: " + b'{"error":' * 7000 + b"\n\n",
        b"\xff\xfe{\x00}\x00",
        b'{"error":"\\ud800"}',
    ],
    ids=[
        "brackets",
        "objects",
        "deep member",
        "less deep member",
        "a long number",
        "NaN",
        "details of details",
        "a deep detail",
        "a deep event",
        "UTF-16",
        "a lone surrogate",
    ],
)
def test_nasty_bodies_become_a_frame_that_is_json(body: bytes) -> None:
    found = error_members(500, JSON, body)
    assert isinstance(found["message"], str)
    error = ProxyError("upstream_error", found["message"], members=found, upstream_status=500)
    for dialect in DIALECTS.values():
        frames = dialect.error_frame(error, SPEAKER, None)
        texts = [frames.decode()] if dialect.by_lines else [event.data for event in EventStreamDecoder().feed(frames)]
        assert texts
        for text in texts:
            value = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
            assert value.get("error") or value.get("response")


def test_any_depth_gives_a_frame() -> None:
    """What can be read can be written: both count the same limit of recursion, from different heights of the stack."""
    for depth in range(850, 1000, 1):
        body = b'{"error":{"message":"x","a":' + b"[" * depth + b"]" * depth + b"}}"
        found = error_members(500, JSON, body)
        error = ProxyError("upstream_error", found["message"], members=found, upstream_status=500)
        assert DIALECTS["openai-chat"].error_frame(error, SPEAKER, None).startswith(b'data: {"error":{')
