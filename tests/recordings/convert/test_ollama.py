from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.recordings.convert.strategies import NAMES, UNKNOWN, WORDS, document_of, round_trip, some, stored, told
from txsse.recordings.convert import to_document, to_stream

OLLAMA = "ollama"
HEAD = {"model": "m", "created_at": "2026-11-20T12:00:00Z"}
COUNTS = {"done": True, "done_reason": "stop", "eval_count": 5}

OPTIONAL: dict[str, st.SearchStrategy[Any]] = {"thinking": WORDS, "tool_calls": st.none() | st.lists(UNKNOWN, max_size=2)}
ALWAYS: dict[str, st.SearchStrategy[Any]] = {
    "model": NAMES,
    "created_at": NAMES,
    "done": st.just(True),
    "done_reason": NAMES,
    "eval_count": st.integers(0),
}
LOGPROBS = st.none() | st.lists(st.fixed_dictionaries({"token": WORDS, "logprob": st.floats(-9, 0)}), max_size=3)
MESSAGES = some({"role": st.just("assistant"), "content": WORDS}, OPTIONAL | {"images": st.none() | st.lists(WORDS)})
CHATS = some({**ALWAYS, "message": MESSAGES}, {"logprobs": LOGPROBS})
COMPLETIONS = some({**ALWAYS, "response": WORDS}, {"logprobs": LOGPROBS, "context": st.lists(st.integers(0)), **OPTIONAL})


def said(content: str, **members: Any) -> dict[str, Any]:
    return HEAD | {"message": {"role": "assistant", "content": content, **members}, "done": False}


def lines(*objects: object) -> bytes:
    return b"".join(stored(each) + b"\n" for each in objects)


@given(CHATS | COMPLETIONS)
def test_a_document_told_as_a_stream_is_the_document(document: dict[str, Any]) -> None:
    assert round_trip(OLLAMA, document) == document


@given(CHATS | COMPLETIONS)
def test_every_line_says_whose_it_is_and_only_the_last_that_it_is_done(document: dict[str, Any]) -> None:
    objects = told(OLLAMA, document)
    assert [each["done"] for each in objects] == [False] * (len(objects) - 1) + [True]
    assert {(each["model"], each["created_at"]) for each in objects} == {(document["model"], document["created_at"])}
    texts = [each["message"]["content"] if "message" in each else each["response"] for each in objects]
    assert "".join(texts) == (document["message"]["content"] if "message" in document else document["response"])


def test_a_chat_is_told_line_by_line() -> None:
    call = {"function": {"name": "f", "arguments": {"a": 1}}}
    message = {"role": "assistant", "content": "a  b", "thinking": "so", "tool_calls": [call]}
    assert told(OLLAMA, HEAD | COUNTS | {"message": message}) == [
        said("", thinking="so"),
        said("a  "),
        said("b"),
        said("", tool_calls=[call]),
        said("") | COUNTS,
    ]


def test_log_probabilities_come_with_the_whole_text() -> None:
    objects = told(OLLAMA, HEAD | COUNTS | {"response": "a b", "logprobs": [{"token": "a"}, {"token": " b"}]})
    assert objects[0] == HEAD | {"response": "a b", "logprobs": [{"token": "a"}, {"token": " b"}], "done": False}
    assert objects[1:] == [HEAD | COUNTS | {"response": ""}]


def test_lines_become_one_object() -> None:
    call = {"function": {"name": "f", "arguments": {}}}
    last = said("") | COUNTS | {"created_at": "2026-11-20T12:00:09Z"}
    body = b"  " + lines(said("", thinking="so"), said("", thinking=" so"), said("x")) + b"   " + lines(said("", tool_calls=[call]))
    body += lines(said(" y", tool_calls=[call]), last).replace(b"\n", b"\r\n") + b"\n \n"
    message = {"role": "assistant", "content": "x y", "thinking": "so so", "tool_calls": [call, call]}
    assert document_of(OLLAMA, body) == last | {"message": message}


def test_a_last_line_without_a_message_ends_the_one_before() -> None:
    assert document_of(OLLAMA, lines(said("x"), said(" y"), HEAD | COUNTS)) == said("x y") | COUNTS


def test_a_completion_becomes_one_object() -> None:
    body = lines(
        HEAD | {"response": "x", "done": False}, HEAD | {"response": " y", "done": False}, HEAD | {"response": "", "context": [1]} | COUNTS
    )
    assert document_of(OLLAMA, body) == HEAD | {"response": "x y", "context": [1]} | COUNTS


@pytest.mark.parametrize(
    "body",
    [
        b"",
        lines(said("x")),
        lines(said("x") | COUNTS, said("y")),
        lines(said("x") | COUNTS, said("y") | COUNTS),
        lines(said("x"), {"error": "x"}),
        lines(said("x"), {"error": "x", "done": True}),
        lines({"status": "success", "done": True}),
        lines(said("x"), "x", said("") | COUNTS),
        lines(said("x"), {"message": "x"} | COUNTS),
        lines({"message": {"content": None}} | COUNTS),
        lines(said("x") | COUNTS)[:-3],
    ],
)
def test_a_stream_that_is_no_whole_answer_is_no_document(body: bytes) -> None:
    assert to_document(OLLAMA, body) is None


@pytest.mark.parametrize(
    "document",
    [
        {"error": "x"},
        said("x"),
        HEAD | COUNTS,
        HEAD | COUNTS | {"message": "x"},
        HEAD | COUNTS | {"message": {"content": None}},
        HEAD | COUNTS | {"response": None},
        said("x", thinking=1) | COUNTS,
    ],
)
def test_a_document_that_is_no_whole_answer_is_no_stream(document: dict[str, Any]) -> None:
    assert to_stream(OLLAMA, stored(document), include_usage=True) is None
