"""Answers of every kind, and what the tests of the conversions look at."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from txsse.recordings.convert import to_document, to_stream
from txsse.wire.eventstream import EventStreamDecoder

JsonObject = dict[str, Any]

WORDS = st.text(st.sampled_from([*'ab \n\t\r\u00a0\u2028é😀\ud83d\x00"\\']), max_size=30) | st.text(max_size=30)
NAMES = st.text("abcdefgh_", min_size=1, max_size=8)
NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | NUMBERS | WORDS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6)
UNKNOWN = st.dictionaries(NAMES.map("x_{}".format), VALUES, max_size=2)


def some(required: dict[str, st.SearchStrategy[Any]], optional: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[JsonObject]:
    """Objects with members of unknown meaning among those that are known."""
    return st.builds(lambda known, unknown: known | unknown, st.fixed_dictionaries(required, optional=optional), UNKNOWN)


def stored(document: object) -> bytes:
    return json.dumps(document).encode()


def stream_of(*chunks: object) -> bytes:
    """An OpenAI stream of these chunks."""
    return b"".join(b"data: %s\n\n" % stored(chunk) for chunk in chunks) + b"data: [DONE]\n\n"


def document_of(dialect: str, body: bytes) -> JsonObject | None:
    made = to_document(dialect, body)
    return None if made is None else json.loads(made)


def told(dialect: str, document: object, *, include_usage: bool = True) -> list[JsonObject]:
    """The events (or lines) as which a document is told, but for ``[DONE]``; each a whole frame of its own."""
    frames = to_stream(dialect, stored(document), include_usage=include_usage)
    assert frames is not None
    if dialect == "ollama":
        assert all(frame.count(b"\n") == 1 and frame.endswith(b"\n") for frame in frames)
        return [json.loads(frame) for frame in frames]
    events = [EventStreamDecoder().feed(frame) for frame in frames]
    assert all(len(each) == 1 for each in events)
    data = [event.data for each in events for event in each]
    if dialect.startswith("openai"):
        assert data.pop() == "[DONE]"
    assert "[DONE]" not in data
    return [json.loads(each) for each in data]


def round_trip(dialect: str, document: object) -> JsonObject | None:
    frames = to_stream(dialect, stored(document), include_usage=True)
    assert frames is not None
    return document_of(dialect, b"".join(frames))
