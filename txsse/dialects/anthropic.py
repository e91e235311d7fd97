"""Anthropic Messages: ``/v1/messages``."""

from __future__ import annotations

import re
from typing import Final

from txsse.dialects.base import Dialect, Filter, Members, Speaker, Witness, asked
from txsse.dialects.shapes import anthropic_error, data_event, dump
from txsse.dialects.shift import BlockShift
from txsse.dialects.terminal import ends_with, holds_event, is_of_type
from txsse.errors import ProxyError
from txsse.wire.eventstream import Event
from txsse.wire.normalise import EventNormaliser

_STOP: Final = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
"""How nearly every stream ends."""
_PING: Final = b'event: ping\ndata: {"type": "ping"}\n\n'


class AnthropicDialect(Dialect):
    """``anthropic``: a ping event is legal anywhere, so it is keepalive and heartbeat; errors need their ``event`` line.

    Text of ours is content block 0 of a message that we begin; upstream's own beginning is then dropped and its blocks are counted from 1.
    On the reasoning channel that is a thinking block without a signature, which some backends refuse when a client sends it back.
    """

    name = "anthropic"
    forms = {"auto": "event"}
    terminal_pattern = re.compile(rb"message_stop")
    terminal_word = b"message_stop"
    text_members = frozenset(("tools", "mcp_servers", "output_format", "output_config"))

    def heartbeat(self, speaker: Speaker, witness: Witness | None) -> bytes:
        return _PING

    def message(self, speaker: Speaker, text: str, channel: str, *, first: bool) -> bytes:
        kind = "thinking" if channel == "reasoning" else "text"
        delta = _event("content_block_delta", index=0, delta={"type": f"{kind}_delta", kind: text})
        if not first:
            return delta
        block = {"type": kind, kind: "", **({"signature": ""} if kind == "thinking" else {})}
        message: dict[str, object] = {
            "id": f"msg_txsse_{speaker.token}",
            "type": "message",
            "role": "assistant",
            "content": [],
            "model": speaker.model,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 0},
        }
        return _event("message_start", message=message) + _event("content_block_start", index=0, content_block=block) + delta

    def before_answer(self, speaker: Speaker, separator: str, channel: str) -> bytes:
        """The end of our block: a client puts the next one below it."""
        return _event("content_block_stop", index=0)

    def after_message(self) -> Filter | None:
        return BlockShift()

    def may_show_text(self, members: Members) -> bool:
        structured = b'"format"' in members.get("output_config", b"")
        return not self.mute and not structured and not asked(members, "tools", "mcp_servers", "output_format")

    def is_terminal(self, frames: bytes) -> bool:
        return ends_with(frames, _STOP) or holds_event(frames, self.terminal_pattern, lambda event: is_of_type(event, ("message_stop",)))

    def normaliser(self, form: str) -> Filter:
        return EventNormaliser(frames=form == "frame", is_ping=_is_empty)

    def error_frame(self, error: ProxyError, speaker: Speaker, witness: Witness | None) -> bytes:
        members = anthropic_error(error)
        if error.members is None and error.upstream_status is None:
            del members["code"]  # the API's error events have a type and a message
        return _event("error", error=members)

    def error_body(self, error: ProxyError) -> bytes:
        return dump({"type": "error", "error": anthropic_error(error)})


def _event(kind: str, **members: object) -> bytes:
    return data_event({"type": kind, **members}, kind)


def _is_empty(event: Event) -> bool:
    return not event.data
