"""Upstream's own errors, as real servers write them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from txsse.dialects import DIALECTS
from txsse.dialects.foreign import MAX_TEXT, error_members
from txsse.errors import ProxyError

JSON = b"application/json"


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
        # problem+json
        ({"type": "about:blank", "title": "Gone", "status": 410}, {"message": "Gone"}),
        ({"title": "Gone", "detail": "It left."}, {"message": "It left."}),
        # Anthropic
        (
            {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
            {"type": "overloaded_error", "message": "Overloaded"},
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
        (b" <!doctype html><script>alert('x')</script >Oh no", b"", "Oh no"),
        (b"upstream connect error\x00\x1b[31m or \xff\xfe", b"text/plain", "upstream connect error [31m or \ufffd\ufffd"),
        (b"", b"text/plain", "the upstream answered 502 without a reason"),
        (b"<br>", b"text/html", "the upstream answered 502 without a reason"),
        (b'{"error": {"message": "cut', JSON, '{"error": {"message": "cut'),
    ],
)
def test_what_is_no_json_is_text_without_tags_and_controls(body: bytes, kind: bytes, text: str) -> None:
    assert error_members(502, kind, body) == {"message": text}


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
        b"\xff\xfe{\x00}\x00",
        b'{"error":"\\ud800"}',
    ],
    ids=["brackets", "objects", "deep member", "less deep member", "a long number", "NaN", "UTF-16", "a lone surrogate"],
)
def test_nasty_bodies_become_a_frame_that_is_json(body: bytes) -> None:
    found = error_members(500, JSON, body)
    assert isinstance(found["message"], str)
    frame = DIALECTS["openai-chat"].error_frame(ProxyError("upstream_error", found["message"], members=found, upstream_status=500))
    inner = json.loads(frame.removeprefix(b"data: "), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert list(inner) == ["error"]


def test_any_depth_gives_a_frame() -> None:
    """What can be read can be written: both count the same limit of recursion, from different heights of the stack."""
    for depth in range(850, 1000, 1):
        body = b'{"error":{"message":"x","a":' + b"[" * depth + b"]" * depth + b"}}"
        found = error_members(500, JSON, body)
        error = ProxyError("upstream_error", found["message"], members=found, upstream_status=500)
        assert DIALECTS["openai-chat"].error_frame(error).startswith(b'data: {"error":{')
