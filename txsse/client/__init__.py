"""A client of event streams that takes a broken one up again: :class:`EventSource`."""

from __future__ import annotations

from txsse.client.errors import StreamLost, StreamRefused
from txsse.client.event_source import EventSource, State
from txsse.client.policy import Backoff

__all__ = ["Backoff", "EventSource", "State", "StreamLost", "StreamRefused"]
