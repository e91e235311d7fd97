"""Text out of streams, however they are cut."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse.predictions.deltas import Deltas, Told
from txsse.wire.eventstream import MAX_EVENT_BYTES

CHAT = "openai-chat"


def data(value: Any) -> bytes:
    return b"data: %b\n\n" % (value if isinstance(value, bytes) else json.dumps(value).encode())


def texts(dialect: str, *events: bytes) -> list[str]:
    deltas = Deltas(dialect)
    return [text for each in events for text in deltas.feed(each)]


def chat(text: object, index: int = 0) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": {"content": text}}]}


@given(st.lists(st.text(min_size=1, max_size=8), max_size=6), st.lists(st.integers(0, 500), max_size=8))
def test_however_it_is_cut(words: list[str], cuts: list[int]) -> None:
    stream = b": k\n\n" + b"".join(data(chat(word)) for word in words) + data(b"[DONE]")
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    assert texts(CHAT, *(stream[a:b] for a, b in pairwise(edges))) == words


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["choices", "delta", "content", "text", "index", "message", "response", "type"]), inner, max_size=4
            )
        ),
        max_leaves=12,
    ),
    st.sampled_from(["openai-chat", "openai-completions", "openai-responses", "anthropic", "ollama"]),
)
def test_strange_events_are_no_text(value: Any, dialect: str) -> None:
    told = texts(dialect, json.dumps(value).encode() + b"\n" if dialect == "ollama" else data(value))
    assert all(isinstance(text, str) and text for text in told)


def test_of_several_answers_the_first() -> None:
    assert texts(CHAT, data(chat("a", 1)), data(chat("b")), data({"choices": []}), data({"choices": [{"delta": {"content": "c"}}]})) == [
        "b",
        "c",
    ]


@pytest.mark.parametrize(
    ("dialect", "event", "message"),
    [
        (CHAT, data({"error": {"message": "m", "code": 500}}), "m"),
        (CHAT, data({"object": "error", "message": "m", "error": "m"}), "m"),
        (CHAT, b'event: error\ndata: {"error":{"message":"m"}}\n\n', "m"),
        ("anthropic", b"event: error\n" + data({"type": "error", "error": {"type": "overloaded_error", "message": "m"}}), "m"),
        ("openai-responses", data({"type": "response.failed", "response": {"error": {"code": "x", "message": "m"}}}), "m"),
        ("openai-responses", data({"type": "error", "code": "x", "message": "m"}), "m"),
        ("ollama", b'{"error":"m"}\n', "m"),
        ("sse", b"event: error\ndata: m\n\n", "m"),
    ],
)
def test_errors(dialect: str, event: bytes, message: str) -> None:
    with pytest.raises(Told) as caught:
        texts(dialect, event)
    assert message in str(caught.value)


@pytest.mark.parametrize("dialect", [CHAT, "ollama"])
def test_an_event_without_an_end(dialect: str) -> None:
    with pytest.raises(Told, match="longer than"):
        texts(dialect, b"data: ", b"x" * (MAX_EVENT_BYTES + 1))
