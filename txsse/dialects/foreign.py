"""Upstream's own errors, in whatever shape they came, as the members of one error object."""

from __future__ import annotations

import json
import math
import re
from typing import Any

MAX_TEXT = 4096
"""Foreign text in an error frame, in characters."""

_TAGS = re.compile(r"<(?:script|style)\b.*?</(?:script|style)\s*>|<[^>]*>", re.DOTALL | re.IGNORECASE)


def error_members(status: int, content_type: bytes, body: bytes) -> dict[str, Any]:
    """The error object of an upstream's answer: ``message`` always there, every other member as upstream sent it.

    Known shapes: OpenAI's and llama.cpp's ``{"error": {..}}``, TGI's and Ollama's ``{"error": "text"}``, vLLM's old top-level
    ``{"object": "error", ..}``, FastAPI's ``{"detail": ..}``, problem+json (RFC 9457); anything else is text, HTML without its tags.
    """
    members = _from_json(body)
    if members is None:
        members = {"message": _readable(content_type, body) or f"the upstream answered {status} without a reason"}
    message = members.get("message")
    if not isinstance(message, str) or not message:
        message = json.dumps(message) if message else f"the upstream answered {status}"
    members["message"] = message[:MAX_TEXT]
    return members


def _from_json(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    error = value.get("error")
    if isinstance(error, dict):
        return _bounded(error)
    if isinstance(error, str):
        members: dict[str, Any] = {"message": error}
        if isinstance(value.get("error_type"), str):  # TGI
            members["type"] = value["error_type"]
        return members
    if isinstance(value.get("message"), str):  # vLLM before 0.10: {"object": "error", "message": .., "type": .., "code": 400}
        return _bounded({key: item for key, item in value.items() if key != "object"})
    detail = value.get("detail") or value.get("title")
    if detail is not None:
        return {"message": detail if isinstance(detail, str) else json.dumps(detail)}
    return {"message": body.decode("utf-8", "replace").strip()}


def _finite(number: str) -> float | None:
    """``null`` for NaN, Infinity and 1e999: Python reads and would write them, JSON has no word for them."""
    value = float(number)
    return value if math.isfinite(value) else None


def _bounded(error: dict[str, Any]) -> dict[str, Any]:
    """All members if they are small; else only those every client reads."""
    if len(json.dumps(error)) <= 2 * MAX_TEXT:
        return dict(error)
    kept = {key: error[key] for key in ("message", "type", "param", "code") if key in error}
    return {key: item[:MAX_TEXT] if isinstance(item, str) else item for key, item in kept.items() if not isinstance(item, (dict, list))}


def _readable(content_type: bytes, body: bytes) -> str:
    text = body.decode("utf-8", "replace")
    if b"html" in content_type.lower() or text.lstrip()[:1] == "<":
        text = _TAGS.sub(" ", text)
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:MAX_TEXT]
