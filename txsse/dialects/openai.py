"""What OpenAI's chunked streams have in common: ``[DONE]``, their error frame, whose chunks they are, and what only looks like one."""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar, Final

import attrs

from txsse.dialects.base import Dialect, Filter, Members, Speaker, Witness, asked
from txsse.dialects.shapes import data_event, openai_error
from txsse.dialects.terminal import ends_with, holds_event
from txsse.errors import ProxyError
from txsse.wire.eventstream import Event, EventStreamDecoder
from txsse.wire.normalise import EventNormaliser

# Names of what every server calls differently: the answer has to have a form.
_STRUCTURED: Final = (
    "response_format",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "json_schema",
    "grammar",
)
PING_SUSPECTS: Final = (b"event: ping", b'"ping"')
_EMPTY_SUSPECTS: Final = (b'"choices":[]', b'"choices": []')
_ENVELOPE: Final = frozenset(("id", "object", "created", "model", "system_fingerprint", "service_tier", "choices", "usage"))
_NAMED: Final = re.compile(rb'"id"\s*:\s*"[^"]')


class OpenAIDialect(Dialect):
    """Base of the dialects whose streams are chunks with ``choices``.

    Chunks of ours have exactly one choice, no role, no ``"error": null``: what every measured client survives.
    """

    done = b"data: [DONE]\n\n"
    terminal_pattern = re.compile(rb"\[DONE\]")
    terminal_word = b"[DONE]"
    id_prefix: ClassVar[str]
    object_name: ClassVar[str]

    def is_terminal(self, frames: bytes) -> bool:
        return ends_with(frames, self.done) or holds_event(frames, self.terminal_pattern, lambda event: event.data == "[DONE]")

    def witness(self, *, midstream: bool) -> Witness | None:
        return FirstChunk() if midstream else None

    def normaliser(self, form: str) -> Filter:
        return EventNormaliser(frames=form == "frame", is_ping=is_ping, suspects=PING_SUSPECTS + _EMPTY_SUSPECTS)

    def error_frame(self, error: ProxyError, speaker: Speaker, witness: Witness | None) -> bytes:
        return data_event({"error": openai_error(error)})

    def chunk(self, speaker: Speaker, choice: dict[str, Any], witness: Witness | None = None) -> bytes:
        """One chunk with one choice, in upstream's name as far as *witness* knows it, else in ours."""
        envelope = {"id": f"{self.id_prefix}{speaker.token}", "created": speaker.created, "model": speaker.model}
        if isinstance(witness, FirstChunk):
            envelope |= witness.envelope()
        return data_event(
            {
                "id": envelope["id"],
                "object": self.object_name,
                "created": envelope["created"],
                "model": envelope["model"],
                "choices": [choice],
            }
        )


def wants_form(members: Members) -> bool:
    """Does a program parse the answer: structured output, several choices, log probabilities?"""
    return members.get("n", b"1").strip() not in (b"1", b"null") or asked(members, "logprobs", *_STRUCTURED)


FORM_MEMBERS: Final = frozenset(("n", "logprobs", *_STRUCTURED))
"""The members :func:`wants_form` looks at."""


@attrs.define
class FirstChunk:
    """Remembers the first chunks that bear an id: id, time and model of the stream (Azure's first chunk has none of them)."""

    _frames: bytes = b""
    _known: dict[str, Any] | None = None

    def see(self, frames: bytes) -> bool:
        if not self._frames and _NAMED.search(frames):
            self._frames = frames
        return not self._frames

    def envelope(self) -> dict[str, Any]:
        """The members ``id``, ``created`` and ``model``, those that upstream has told."""
        if self._known is None and self._frames:
            events = EventStreamDecoder(len(self._frames) + 1).feed(self._frames)
            self._known = next(filter(None, map(_envelope_of, events)), {})
        return self._known or {}


def _envelope_of(event: Event) -> dict[str, Any]:
    chunk = _object(event.data)
    if not isinstance(chunk.get("id"), str) or not chunk["id"]:
        return {}
    kinds = {"id": str, "created": int, "model": str}
    return {name: chunk[name] for name, kind in kinds.items() if isinstance(chunk.get(name), kind) and chunk[name]}


def is_ping(event: Event) -> bool:
    """Is this no chunk, or one with nothing in it?

    An event without text, a ``ping`` event (its chunk has no ``choices``), and a chunk whose choices are empty although it holds nothing
    else either: applications that take ``choices[0]`` of every chunk die of these. With usage, timings, filter results or progress in it,
    it has something to say and passes.
    """
    if not event.data or event.type == "ping":
        return True
    chunk = _object(event.data)
    if chunk.get("type") == "ping":
        return True
    return chunk.get("choices") == [] and chunk.keys() <= _ENVELOPE and not chunk.get("usage")


def _object(data: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
