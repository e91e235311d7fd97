"""JSON as it goes on the wire, and the members of an error object in the shapes that clients know."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from txsse.errors import ProxyError


def dump(value: object) -> bytes:
    """Compact JSON in UTF-8. Lone surrogates (legal in JSON, not in UTF-8) fall back to escapes."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def data_event(value: object, event: str = "") -> bytes:
    """*value* as the JSON data of one event, named *event* if it has a name."""
    name = f"event: {event}\n".encode() if event else b""
    return name + b"data: " + dump(value) + b"\n\n"


def openai_error(error: ProxyError) -> dict[str, Any]:
    """The members of OpenAI's error object. Upstream's own are kept; ours fill what is missing."""
    kind = error.row.openai_type
    return _filled(error, kind, {"message": error.message, "type": kind, "param": None, "code": error.code})


def anthropic_error(error: ProxyError) -> dict[str, Any]:
    """The members of Anthropic's error object, in its order; upstream's own are kept."""
    kind = error.row.anthropic_type
    return _filled(error, kind, {"type": kind, "message": error.message, "code": error.code})


def ollama_error(error: ProxyError) -> dict[str, Any]:
    """Ollama's whole error object: a text, and beside it what upstream said more, if it said anything."""
    theirs: Mapping[str, Any] = error.members or {}
    members = {"error": error.message, **{name: value for name, value in theirs.items() if name not in ("error", "message")}}
    if error.upstream_status is not None:
        members["status"] = error.upstream_status
    return members


def _filled(error: ProxyError, kind: str, ours: dict[str, Any]) -> dict[str, Any]:
    members = dict(error.members or {})
    if members.keys() <= {"message"}:  # upstream gave a text at most: that is no object whose form would have to be kept
        members = ours | members
    members.setdefault("message", error.message)
    if not isinstance(members.get("type"), str):
        members["type"] = kind
    code = members.get("code")
    if code is None or isinstance(code, bool):
        members["code"] = error.code
    elif not isinstance(code, str):
        members["code"] = str(code)  # typed clients decode `code` as a string
    if error.upstream_status is not None:
        members["status"] = error.upstream_status
    return members
