"""Webhooks: tells somebody else's server what becomes of a prediction, as replicate/cog's HTTP API does.

In the order in which one is made: ``allow.py`` (may it go there?), ``channel.py`` (what is told when, for one prediction), ``letter.py``
(the body and its signature), ``sender.py`` (turns, tries, the end), ``post.py`` (one try), ``endpoint.py`` and ``addresses.py`` (whom
it may connect to).
"""

from __future__ import annotations

from txsse.webhooks.allow import WebhookRefused
from txsse.webhooks.channel import Channel, read_events
from txsse.webhooks.letter import EVENTS, Event
from txsse.webhooks.sender import Sender

__all__ = ["EVENTS", "Channel", "Event", "Sender", "WebhookRefused", "read_events"]
