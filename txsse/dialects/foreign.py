"""Upstream's own errors, in whatever shape they came, as the members of one error object."""

from __future__ import annotations

import html
import json
import math
import re
from typing import Any, Final

from txsse.wire.eventstream import EventStreamDecoder

MAX_TEXT: Final = 4096
"""Foreign text in an error frame, in bytes of UTF-8."""
_MAX_WORD: Final = 256
_MAX_BRACKETS: Final = 100

_TAGS: Final = re.compile(r"<(?:script|style)\b.*?</(?:script|style)\s*>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_EVENT: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*+(?:data|event|id|:)")


def error_members(status: int, content_type: bytes, body: bytes) -> dict[str, Any]:
    """The error object of an upstream's answer: ``message`` always there, every other member as upstream sent it.

    Known shapes: OpenAI's, llama.cpp's and Anthropic's ``{"error": {..}}``, TGI's and Ollama's ``{"error": "text"}``, vLLM's old top-level
    ``{"object": "error", ..}``, FastAPI's ``{"detail": ..}``, problem+json (RFC 9457); any of these as the only event of a stream. Anything
    else is text, HTML without its tags. An object of more than :data:`MAX_TEXT` is reduced to the members that clients read.
    """
    members = _from_json(body)
    if members is None:
        members = _from_event(body)
    if members is None:
        members = {"message": _readable(content_type, body) or f"the upstream answered {status} without a reason"}
    message = members.get("message")
    if not isinstance(message, str) or not message:
        message = json.dumps(message) if message else f"the upstream answered {status}"
    members["message"] = _cut(message, MAX_TEXT)
    return members


def _from_event(body: bytes) -> dict[str, Any] | None:
    """An error that came as an event although the status says it all (gateways, and servers that had begun to stream)."""
    if not _EVENT.match(body):
        return None
    for event in EventStreamDecoder(len(body) + 3).feed(body + b"\n\n"):
        members = _from_json(event.data.encode())
        if members is not None:
            return members
    return None


def _from_json(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body, parse_constant=_finite, parse_float=_finite)
        if not isinstance(value, dict):
            return None
        members = _from_object(value)
    except (ValueError, RecursionError):
        return None
    return {"message": body.decode("utf-8", "replace").strip()} if members is None else members


def _from_object(value: dict[str, Any]) -> dict[str, Any] | None:
    error = value.get("error")
    if isinstance(error, dict):
        return _bounded(error)
    if isinstance(error, str):
        members: dict[str, Any] = {"message": error}
        if isinstance(value.get("error_type"), str):  # TGI
            members["type"] = value["error_type"]
        return _bounded(members)
    if isinstance(value.get("message"), str):  # vLLM before 0.10: {"object": "error", "message": .., "type": .., "code": 400}
        return _bounded({key: item for key, item in value.items() if key != "object"})
    detail = value.get("detail")
    if isinstance(detail, dict):  # FastAPI's HTTPException(detail={..})
        inner = _from_object(detail)
        return {"message": json.dumps(detail)} if inner is None else inner
    detail = detail or value.get("title")
    if detail is None:
        return None
    members = {"message": detail if isinstance(detail, str) else json.dumps(detail)}
    if isinstance(kind := value.get("type"), str) and kind != "about:blank":  # problem+json
        members["type"] = kind
    if isinstance(value.get("code"), (str, int)):
        members["code"] = value["code"]
    return _bounded(members)


def _finite(number: str) -> float | None:
    """``null`` for NaN, Infinity and 1e999: Python reads and would write them, JSON has no word for them."""
    value = float(number)
    return value if math.isfinite(value) else None


def _bounded(error: dict[str, Any]) -> dict[str, Any]:
    """All members if they are small; else only those every client reads."""
    if _is_small(error):
        return dict(error)
    kept = {key: error[key] for key in ("message", "type", "param", "code") if key in error}
    return {
        key: _cut(item, MAX_TEXT if key == "message" else _MAX_WORD) if isinstance(item, str) else item
        for key, item in kept.items()
        if isinstance(item, (str, bool, float)) or item is None or (isinstance(item, int) and abs(item) < 1 << 63)
    }


def _is_small(error: dict[str, Any]) -> bool:
    """Few bytes, and so few brackets that it can be written from any height of the stack."""
    try:
        text = json.dumps(error, ensure_ascii=False)
    except RecursionError:
        return False
    return text.count("[") + text.count("{") <= _MAX_BRACKETS and len(text.encode("utf-8", "replace")) <= MAX_TEXT


def _cut(text: str, limit: int) -> str:
    """At most *limit* bytes of UTF-8."""
    raw = text.encode("utf-8", "replace")
    return text if len(raw) <= limit else raw[:limit].decode("utf-8", "ignore")


def _readable(content_type: bytes, body: bytes) -> str:
    text = body.decode("utf-8", "replace")
    if b"html" in content_type.lower() or text.lstrip()[:1] == "<":
        text = html.unescape(_TAGS.sub(" ", text))
    return _cut(" ".join("".join(char if char.isprintable() else " " for char in text).split()), MAX_TEXT)
