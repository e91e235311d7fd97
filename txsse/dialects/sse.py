"""Any event stream whose events we know nothing about."""

from __future__ import annotations

from txsse.dialects.base import Dialect, Speaker, Witness
from txsse.dialects.shapes import anthropic_error, data_event
from txsse.errors import ProxyError


class EventStreamDialect(Dialect):
    """``sse``: comments only; nothing that a stranger's parser could take for an event of its own."""

    name = "sse"
    # An `error` event in a stream that is not ours to define: only the route can say that its clients expect it.
    error_after_their_head = False

    def error_frame(self, error: ProxyError, speaker: Speaker, witness: Witness | None) -> bytes:
        return data_event({"type": "error", "error": anthropic_error(error)}, "error")
