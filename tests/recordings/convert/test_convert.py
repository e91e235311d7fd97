"""What holds for every dialect, whatever the bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.recordings.convert import test_anthropic, test_ollama, test_openai_chat, test_openai_completions
from tests.recordings.convert.strategies import VALUES, stored
from txsse.dialects import DIALECTS
from txsse.recordings.convert import to_document, to_stream

NAMES = st.sampled_from([*DIALECTS, "nobody's"])
ANSWERS = st.one_of(
    st.tuples(st.just("openai-chat"), test_openai_chat.DOCUMENTS),
    st.tuples(st.just("openai-completions"), test_openai_completions.DOCUMENTS),
    st.tuples(st.just("anthropic"), test_anthropic.DOCUMENTS),
    st.tuples(st.just("ollama"), test_ollama.CHATS | test_ollama.COMPLETIONS),
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every member and element inside a value, as what holds it and its name there."""
    if not isinstance(value, dict | list):
        return []
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    return [each for name, inner in inside for each in ((value, name), *places(inner))]


@given(NAMES, st.binary())
def test_no_bytes_are_too_wild(dialect: str, body: bytes) -> None:
    assert to_document(dialect, body) is None
    assert to_stream(dialect, body, include_usage=True) is None


@given(ANSWERS, st.data())
def test_a_document_with_something_odd_in_it_is_told_or_not_but_never_raises(answer: tuple[str, Any], data: st.DataObject) -> None:
    dialect, document = answer
    holder, name = data.draw(st.sampled_from(places(document)))
    holder[name] = data.draw(VALUES)
    frames = to_stream(dialect, stored(document), include_usage=True)
    assert frames is None or all(frame.endswith(b"\n") for frame in frames)


@given(ANSWERS, st.data())
def test_a_stream_with_something_odd_in_it_is_a_document_or_not_but_never_raises(answer: tuple[str, Any], data: st.DataObject) -> None:
    dialect, document = answer
    frames = to_stream(dialect, stored(document), include_usage=True)
    assert frames is not None
    at = data.draw(st.integers(0, len(frames) - 1))
    before, brace, rest = frames[at].partition(b"{")
    if brace:
        event = json.loads(brace + rest)
        holder, name = data.draw(st.sampled_from(places(event)))
        holder[name] = data.draw(VALUES)
        frames[at] = before + stored(event) + b"\n\n"
    made = to_document(dialect, b"".join(frames))
    assert made is None or isinstance(json.loads(made), dict)


@given(ANSWERS, st.data())
def test_a_stream_without_its_end_is_no_document(answer: tuple[str, Any], data: st.DataObject) -> None:
    dialect, document = answer
    frames = to_stream(dialect, stored(document), include_usage=True)
    assert frames is not None
    body = b"".join(frames).rstrip(b"\n")
    assert to_document(dialect, body) is not None
    assert to_document(dialect, body[: data.draw(st.integers(0, len(body) - 1))]) is None


@pytest.mark.parametrize("dialect", [*DIALECTS, "nobody's"])
def test_what_is_nested_too_deeply_has_no_other_form(dialect: str) -> None:
    deep = b'{"choices":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert to_stream(dialect, deep, include_usage=True) is None
    assert to_document(dialect, b"data: " + deep + b"\n\ndata: [DONE]\n\n") is None
    assert to_document(dialect, deep) is None


def test_a_plain_event_stream_has_no_other_form() -> None:
    assert to_document("sse", b"data: x\n\n") is None
    assert to_stream("sse", b'{"x":1}', include_usage=False) is None
