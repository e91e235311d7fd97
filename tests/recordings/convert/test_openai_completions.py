from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.recordings.convert.strategies import NAMES, SCALARS, WORDS, document_of, round_trip, some, stored, stream_of, told
from txsse.recordings.convert import to_document, to_stream

COMPLETIONS = "openai-completions"
HEAD = {"id": "cmpl-1", "object": "text_completion", "created": 17, "model": "m"}

LOGPROBS = st.fixed_dictionaries(
    {"tokens": st.lists(WORDS), "token_logprobs": st.lists(st.none() | st.floats(-9, 0)), "top_logprobs": st.none()}
)
CHOICES = some(
    {"text": WORDS, "finish_reason": st.sampled_from(("stop", "length"))},
    {"logprobs": st.none() | LOGPROBS, "stop_reason": SCALARS, "prompt_logprobs": st.none() | st.lists(SCALARS)},
)
DOCUMENTS = some(
    {
        "id": NAMES,
        "object": st.just("text_completion"),
        "created": st.integers(1, 2**40),
        "model": NAMES,
        "choices": st.lists(CHOICES, min_size=1, max_size=3).map(lambda them: [{"index": at, **it} for at, it in enumerate(them)]),
    },
    {"usage": st.fixed_dictionaries({"total_tokens": st.integers(0)}), "system_fingerprint": st.none() | NAMES},
)


def piece(text: str, finish: str | None = None, index: int = 0, **members: Any) -> dict[str, Any]:
    return HEAD | {"choices": [{"text": text, "index": index, "finish_reason": finish, **members}]}


@given(DOCUMENTS)
def test_a_document_told_as_a_stream_is_the_document(document: dict[str, Any]) -> None:
    assert round_trip(COMPLETIONS, document) == document


@given(DOCUMENTS)
def test_summing_the_texts_gives_the_text(document: dict[str, Any]) -> None:
    chunks = told(COMPLETIONS, document, include_usage=False)
    for choice in document["choices"]:
        pieces = [each for chunk in chunks for each in chunk["choices"] if each["index"] == choice["index"]]
        assert "".join(each["text"] for each in pieces) == choice["text"]
        assert [each["finish_reason"] for each in pieces] == [None] * (len(pieces) - 1) + [choice["finish_reason"]]


def test_a_stream_becomes_one_document() -> None:
    body = stream_of(
        piece("Hello", logprobs={"tokens": ["Hello"], "text_offset": [0]}),
        piece(" b", index=1),
        piece(" world", "stop", logprobs={"tokens": [" world"], "text_offset": [5]}),
        piece("", "length", index=1),
        HEAD | {"choices": [], "usage": {"total_tokens": 3}},
    )
    logprobs = {"tokens": ["Hello", " world"], "text_offset": [0, 5]}
    assert document_of(COMPLETIONS, body) == HEAD | {
        "choices": [
            {"index": 0, "text": "Hello world", "logprobs": logprobs, "finish_reason": "stop"},
            {"index": 1, "text": " b", "finish_reason": "length"},
        ],
        "usage": {"total_tokens": 3},
    }


@pytest.mark.parametrize("body", [stream_of(piece("x")), stream_of(piece("x", "stop"), {"error": "x"}), stream_of()])
def test_a_stream_that_is_no_whole_answer_is_no_document(body: bytes) -> None:
    assert to_document(COMPLETIONS, body) is None


@pytest.mark.parametrize("choice", [{"text": "x"}, {"text": None, "finish_reason": "stop"}, {"finish_reason": "stop"}])
def test_a_document_that_is_no_whole_answer_is_no_stream(choice: dict[str, Any]) -> None:
    assert to_stream(COMPLETIONS, stored(HEAD | {"choices": [choice]}), include_usage=False) is None
