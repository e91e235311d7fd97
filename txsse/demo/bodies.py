"""The bytes the demo backend speaks: OpenAI chat completions whole and in chunks, plain events, errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

DONE = b"data: [DONE]\n\n"

LOADING = b'{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}'
HEALTHY = b'{"status":"ok"}'


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def error(status: int, message: str) -> bytes:
    """An error in OpenAI's shape."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return compact({"error": {"message": message, "type": kind, "param": None, "code": f"demo_{status}"}})


def page(status: int) -> bytes:
    """An error as some middlebox would put it."""
    return f"<html><head><title>{status}</title></head><body><h1>{status} demo <b>error</b></h1></body></html>\n".encode()


def models(model: str) -> bytes:
    return compact({"object": "list", "data": [{"id": model, "object": "model", "created": 0, "owned_by": "txsse"}]})


def completion(number: int, created: int, model: str, words: list[str]) -> bytes:
    """The whole answer to a request that did not ask for a stream."""
    message = {"role": "assistant", "content": " ".join(words)}
    return compact(
        {
            "id": f"chatcmpl-demo-{number}",
            "object": "chat.completion",
            "created": created,
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": len(words), "total_tokens": len(words) + 1},
        }
    )


def chat_events(number: int, created: int, model: str, words: list[str]) -> Iterator[bytes]:
    """One event a word, the first with the role; then the one with the finish reason. ``[DONE]`` is not among them."""

    def chunk(delta: dict[str, str], finish_reason: str | None) -> bytes:
        body = {
            "id": f"chatcmpl-demo-{number}",
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
        }
        return b"data: " + compact(body) + b"\n\n"

    for index, word in enumerate(words):
        yield chunk({"content": f" {word}"} if index else {"role": "assistant", "content": word}, None)
    yield chunk({}, "stop")


def plain_events(words: list[str], after: int) -> Iterator[bytes]:
    """One event a word, with ids from 1; those up to *after* are left out."""
    for index, word in enumerate(words, 1):
        if index > after:
            yield f"id: {index}\ndata: {word}\n\n".encode()
