"""OpenAI Responses: ``/v1/responses``."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import attrs

from txsse.dialects.base import Dialect, Filter, Speaker, Witness
from txsse.dialects.openai import PING_SUSPECTS, is_ping
from txsse.dialects.shapes import data_event, openai_error
from txsse.dialects.terminal import holds_event, is_of_type
from txsse.errors import ProxyError
from txsse.wire.eventstream import EventStreamDecoder
from txsse.wire.normalise import EventNormaliser

_TERMINAL: Final = ("response.completed", "response.failed", "response.incomplete")
_NUMBERED: Final = re.compile(rb'"sequence_number"')
_NUMBER: Final = re.compile(rb'"sequence_number"\s*:\s*([0-9]{1,18})')
_ID: Final = re.compile(rb'"response"\s*:\s*\{\s*"id"\s*:\s*"([^"\\\x00-\x1f]{1,256})"')
_SERVER_ERROR: Final = "server_error"


class OpenAIResponsesDialect(Dialect):
    """``openai-responses``: nothing but comments before ``response.created``, for the helpers of the SDKs check who speaks first.

    So no text is shown, and there is no heartbeat, but for Codex: it counts events, and skips those that it does not know.
    """

    name = "openai-responses"
    terminal_pattern = re.compile(rb"response\.(?:completed|failed|incomplete)")

    def heartbeat(self, speaker: Speaker, witness: Witness | None) -> bytes:
        if not speaker.client.lower().startswith("codex"):
            return b""
        return data_event({"type": "keepalive", "sequence_number": 0}, "keepalive")

    def is_terminal(self, frames: bytes) -> bool:
        return holds_event(frames, self.terminal_pattern, lambda event: is_of_type(event, _TERMINAL))

    def witness(self, *, midstream: bool) -> Witness | None:
        return Course()

    def normaliser(self, form: str) -> Filter:
        return EventNormaliser(frames=form == "frame", is_ping=is_ping, suspects=PING_SUSPECTS)

    def error_frame(self, error: ProxyError, speaker: Speaker, witness: Witness | None) -> bytes:
        """Two events: ``error``, in the documented flat form and in the nested one (SDKs raise of the nested one), then
        ``response.failed``, which Codex and the AI SDK go by. Their numbers continue upstream's.
        """
        members = openai_error(error)
        # The API's own codes are an enumeration of which ours are no part; upstream's stays as it is.
        code = members["code"] if error.members and error.members.get("code") is not None else _SERVER_ERROR
        kind, text, param = members["type"], members["message"], members.get("param")
        nested = {"type": kind, "code": code, "message": text, "param": param}
        if error.members is not None or error.upstream_status is not None:
            nested |= members
        number, ident = witness.last() if isinstance(witness, Course) else (-1, "")
        failed = {
            "id": ident or f"resp_txsse_{speaker.token}",
            "object": "response",
            "created_at": speaker.created,
            "status": "failed",
            "error": {"code": code, "message": text},
            "incomplete_details": None,
            "model": speaker.model,
            "output": [],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
        }
        flat = {"type": "error", "sequence_number": number + 1, "code": code, "message": text, "param": param, "error": nested}
        return data_event(flat, "error") + data_event(
            {"type": "response.failed", "sequence_number": number + 2, "response": failed}, "response.failed"
        )


@attrs.define
class Course:
    """How far a stream has come: what bore the response's id, and what bore the last number."""

    _first: bytes = b""
    _last: bytes = b""

    def see(self, frames: bytes) -> bool:
        if _NUMBERED.search(frames):
            self._last = frames
        if not self._first and b'"response"' in frames:
            self._first = frames
        return True

    def last(self) -> tuple[int, str]:
        """The last sequence number, -1 where there was none, and the response's id, ``""`` where none was told."""
        numbers = [event["sequence_number"] for event in _objects(self._last) if _is_number(event.get("sequence_number"))]
        if not numbers:  # all that is left of a very long event is its beginning
            numbers = [int(number) for number in _NUMBER.findall(self._last)]
        idents = [event["response"].get("id") for event in _objects(self._first) if isinstance(event.get("response"), dict)]
        ident = next((ident for ident in idents if ident and isinstance(ident, str)), "")
        if not ident and (match := _ID.search(self._first)):
            ident = match[1].decode("utf-8", "replace")
        return max(numbers, default=-1), ident


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _objects(frames: bytes) -> list[dict[str, Any]]:
    found = []
    for event in EventStreamDecoder(len(frames) + 1).feed(frames):
        try:
            value = json.loads(event.data)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            found.append(value)
    return found
