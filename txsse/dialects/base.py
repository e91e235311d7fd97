"""What it takes to speak an API on a stream: one interface, one small file a dialect.

A dialect only makes bytes. When they are sent is the exchange's business (``txsse/exchange``).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import attrs

from txsse.errors import ProxyError


@attrs.frozen
class Speaker:
    """Who speaks in frames of our own: the ids a client sees before upstream's appear.

    :param token: hexadecimal, unique to the exchange.
    :param created: Unix time in whole seconds.
    :param model: the request's ``model`` member, or ``"unknown"``.
    """

    token: str
    created: int
    model: str


class Dialect(ABC):
    """How one API says keepalive, heartbeat, message, separator and error, and what ends its stream.

    The defaults are those of a plain event stream; ``b""`` means that the dialect has no such thing.
    """

    name: ClassVar[str]
    content_type: ClassVar[bytes] = b"text/event-stream; charset=utf-8"
    done: ClassVar[bytes] = b""
    """What follows an error frame when the stream is to end cleanly (``error_end = "done"``)."""
    error_after_their_head: ClassVar[bool] = True
    """May an error frame follow bytes of a head that upstream sent?"""
    terminal_hint: ClassVar[bytes | None] = None
    """Bytes that every terminal event contains: the relay looks closer only where they occur. ``None``: no terminal event."""

    def keepalive(self) -> bytes:
        """The shortest invisible bytes that reset an idle timer: a comment and ONE newline.

        A blank line after an ``id:`` line is an empty event that kills openai-python, LangChain and LiteLLM.
        """
        return b": txsse\n"

    def comment(self, text: str) -> bytes:
        """*text* (one line) as an invisible line of its own."""
        return f": txsse {text}\n".encode()

    def heartbeat(self, speaker: Speaker) -> bytes:
        """A parsed event that means nothing, for clients that count events and not bytes."""
        return b""

    def message(self, speaker: Speaker, text: str, channel: str) -> bytes:
        """*text* shown to a person, on the ``reasoning`` or the ``content`` channel."""
        return b""

    def may_show_text(self, members: dict[str, bytes]) -> bool:
        """Would visible text be harmless in the answer to a request with these top-level members (raw JSON texts)?"""
        return False

    def is_terminal(self, frames: bytes) -> bool:
        """Do these whole events hold the one that ends the stream?"""
        return False

    @abstractmethod
    def error_frame(self, error: ProxyError) -> bytes:
        """*error* as the last event of a stream that the client has begun to read."""

    def error_body(self, error: ProxyError) -> bytes:
        """*error* as the JSON body of an ordinary response: OpenAI's shape, which most clients know."""
        return dump({"error": openai_error(error)})


def dump(value: Any) -> bytes:
    """Compact JSON in UTF-8. Lone surrogates (legal in JSON, not in UTF-8) fall back to escapes."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def openai_error(error: ProxyError) -> dict[str, Any]:
    """The members of OpenAI's error object. Upstream's own are kept; ours fill what is missing."""
    kind = error.row.openai_type
    return _filled(error, kind, {"message": error.message, "type": kind, "param": None, "code": error.code})


def anthropic_error(error: ProxyError) -> dict[str, Any]:
    """The members of Anthropic's error object, in its order; upstream's own are kept."""
    kind = error.row.anthropic_type
    return _filled(error, kind, {"type": kind, "message": error.message, "code": error.code})


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
