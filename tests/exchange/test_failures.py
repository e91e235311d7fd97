"""An upstream's error after the commit, in every shape that servers have, as a client of each dialect reads it."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from tests.exchange.playbook import Player
from tests.exchange.scripts import head
from tests.exchange.spoken import SPOKEN, Spoken
from txsse.dialects.foreign import MAX_TEXT
from txsse.exchange import events as ev
from txsse.exchange.events import Timer
from txsse.exchange.table import State
from txsse.wire.eventstream import EventStreamDecoder

JSON = b"application/json"


@attrs.frozen
class Shape:
    """An answer, and what of its error has to come through."""

    status: int
    body: bytes
    message: str
    type: str = ""
    code: str = ""
    more: dict[str, Any] = attrs.field(factory=dict)
    kind: bytes = JSON


SHAPES = {
    "OpenAI": Shape(
        400,
        b'{"error":{"message":"too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}',
        "too long",
        "invalid_request_error",
        "context_length_exceeded",
        {"param": "messages"},
    ),
    "llama.cpp": Shape(
        400,
        b'{"error":{"code":400,"message":"too long","type":"exceed_context_size_error","n_prompt_tokens":9,"n_ctx":8}}',
        "too long",
        "exceed_context_size_error",
        "400",
        {"n_prompt_tokens": 9, "n_ctx": 8},
    ),
    "Anthropic": Shape(
        529, b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', "Overloaded", "overloaded_error"
    ),
    "Ollama": Shape(404, b'{"error":"model \'x\' not found"}', "model 'x' not found"),
    "TGI": Shape(422, b'{"error":"Input validation error","error_type":"validation"}', "Input validation error", "validation"),
    "old vLLM": Shape(
        404,
        b'{"object":"error","message":"no such model","type":"NotFoundError","param":null,"code":404}',
        "no such model",
        "NotFoundError",
        "404",
        {"param": None},
    ),
    "problem+json": Shape(
        403,
        b'{"type":"https://example.org/out-of-credit","title":"No credit.","detail":"30 needed."}',
        "30 needed.",
        "https://example.org/out-of-credit",
        kind=b"application/problem+json",
    ),
    "FastAPI": Shape(405, b'{"detail":"Method Not Allowed"}', "Method Not Allowed"),
    "HTML": Shape(
        502, b"<html><head><title>502</title></head><body><h1>Bad  Gateway</h1></body>", "502 Bad Gateway", kind=b"text/html; charset=utf-8"
    ),
    "text": Shape(429, b"slow\x00 down\r\n\r\ndata: [DONE]\n\n", "slow down data: [DONE]", kind=b"text/plain"),
    "an event": Shape(500, b'event: error\ndata: {"error":"Request failed"}\n\n', "Request failed", kind=b"text/event-stream"),
    "nothing": Shape(503, b"", "the upstream answered 503 without a reason"),
}


def texts(spoken: Spoken, frames: bytes) -> list[Any]:
    """The JSON of each event, or line; that there is nothing else."""
    if spoken.dialect.by_lines:
        assert frames.endswith(b"\n")
        return [json.loads(line) for line in frames.splitlines()]
    events = EventStreamDecoder().feed(frames)
    assert frames.count(b"\n\n") == len(events)
    return [json.loads(event.data) for event in events]


def told(spoken: Spoken, shape: Shape) -> bytes:
    """What a committed client is sent of it."""
    player = Player(dialect=spoken.dialect)
    player.play(ev.Begin(ready=True), ev.Elapsed(Timer.COMMIT))
    before = len(player.client)
    player.play(ev.HeadCame(head(shape.status, shape.kind), True), ev.BodyCollected(shape.body, complete=True))
    assert player.state is State.FAILING
    return player.client[before:]


def members(shape: Shape, kind: str) -> dict[str, Any]:
    """The error object in a dialect whose own type for such an error is *kind*."""
    ours = {
        "message": shape.message,
        "type": shape.type or kind,
        "code": shape.code or "upstream_error",
        "status": shape.status,
        **shape.more,
    }
    # An upstream that gave a text at most gets the whole object; of one that gave an object the form is kept.
    gave_an_object = shape.type or shape.code
    return ours if gave_an_object or kind != "server_error" else {**ours, "param": None}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
@pytest.mark.parametrize("spoken", SPOKEN.values(), ids=list(SPOKEN))
def test_every_shape_in_every_dialect(spoken: Spoken, shape: Shape) -> None:
    frames = texts(spoken, told(spoken, shape))
    match spoken.dialect.name:
        case "openai-chat" | "openai-completions":
            assert frames == [{"error": members(shape, "server_error")}]
        case "anthropic" | "sse":
            assert frames == [{"type": "error", "error": members(shape, "api_error")}]
        case "ollama":
            said = {name: value for name, value in (("type", shape.type), ("code", shape.code)) if value}
            found = {**frames[0], **({"code": str(frames[0]["code"])} if "code" in frames[0] else {})}
            assert [found] == [{"error": shape.message, "status": shape.status, **said, **shape.more}]
        case "openai-responses":
            error, failed = frames
            inner = error.pop("error")
            code = shape.code or "server_error"
            assert inner == {"param": None, **members(shape, "server_error")}
            assert error == {
                "type": "error",
                "sequence_number": 0,
                "code": code,
                "message": shape.message,
                "param": shape.more.get("param"),
            }
            assert failed["response"]["status"] == "failed"
            assert failed["response"]["error"] == {"code": code, "message": shape.message}


@pytest.mark.parametrize("spoken", SPOKEN.values(), ids=list(SPOKEN))
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"text/html", b"<p>" + b"\xe2\x82\xac&lt;br&gt;" * 20_000),
        (JSON, json.dumps({"error": {"message": "\u20ac" * 60_000, "type": "t" * 60_000, "more": ["x"] * 9000}}).encode()),
    ],
    ids=["HTML", "JSON"],
)
def test_foreign_text_is_bounded_and_escaped(spoken: Spoken, kind: bytes, body: bytes) -> None:
    frames = told(spoken, Shape(500, body, "", kind=kind))
    copies = 3 if spoken.dialect.name == "openai-responses" else 1  # flat, nested, and in the response
    assert len(frames) < copies * MAX_TEXT + 1200
    found = texts(spoken, frames)[0]["error"]
    message = found if isinstance(found, str) else found["message"]
    assert 0 < len(message.encode()) <= MAX_TEXT


@pytest.mark.parametrize("spoken", SPOKEN.values(), ids=list(SPOKEN))
def test_a_compressed_error_is_told_without_its_text(spoken: Spoken) -> None:
    player = Player(dialect=spoken.dialect)
    player.play(ev.Begin(ready=True), ev.Elapsed(Timer.COMMIT))
    before = len(player.client)
    player.play(ev.HeadCame(head(500, JSON, (b"Content-Encoding", b"gzip")), True), ev.BodyCollected(b"\x1f\x8b\x08", complete=True))
    frames = player.client[before:]
    assert b"the upstream answered 500 without a reason" in frames
    assert b"\x1f" not in frames
