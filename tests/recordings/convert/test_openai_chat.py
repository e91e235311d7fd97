from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from tests.recordings.convert.strategies import (
    NAMES,
    SCALARS,
    UNKNOWN,
    VALUES,
    WORDS,
    document_of,
    round_trip,
    some,
    stored,
    stream_of,
    told,
)
from txsse.recordings.convert import to_document, to_stream

CHAT = "openai-chat"
HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 17, "model": "m", "system_fingerprint": None}
USAGE = {"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13}


def chunk(delta: object, finish: str | None = None, index: int = 0, **members: Any) -> dict[str, Any]:
    return HEAD | {"choices": [{"index": index, "delta": delta, "finish_reason": finish, **members}]}


def answer(*messages: dict[str, Any], **members: Any) -> dict[str, Any]:
    choices = [
        {"index": index, "message": {"role": "assistant"} | message, "finish_reason": "stop"} for index, message in enumerate(messages)
    ]
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 17, "model": "m", "choices": choices, **members}


FUNCTIONS = some({"name": NAMES, "arguments": WORDS}, {})
CALLS = some({"id": NAMES, "type": st.just("function"), "function": FUNCTIONS}, {}) | st.fixed_dictionaries(
    {"id": NAMES, "type": st.just("custom"), "custom": st.fixed_dictionaries({"name": NAMES, "input": WORDS})}
)
MESSAGES = some(
    {"role": st.just("assistant"), "content": st.none() | WORDS},
    {
        "refusal": st.none() | WORDS,
        "reasoning_content": st.none() | WORDS,
        "reasoning": WORDS,
        "tool_calls": st.none() | st.lists(CALLS, max_size=3),
        "function_call": st.none() | FUNCTIONS,
        "annotations": st.lists(UNKNOWN, max_size=2),
        "audio": st.none(),
    },
)
TOKENS = st.lists(st.fixed_dictionaries({"token": WORDS, "logprob": st.floats(-9, 0), "top_logprobs": st.just([])}), max_size=3)
CHOICES = some(
    {"message": MESSAGES, "finish_reason": st.sampled_from(("stop", "length", "tool_calls", "function_call", "content_filter"))},
    {
        "logprobs": st.none() | st.fixed_dictionaries({"content": st.none() | TOKENS, "refusal": st.none() | TOKENS}),
        "stop_reason": SCALARS,
        "token_ids": st.none() | st.lists(st.integers(0)),
    },
)
DOCUMENTS = some(
    {
        "id": NAMES,
        "object": st.just("chat.completion"),
        "created": st.integers(1, 2**40),
        "model": NAMES,
        "choices": st.lists(CHOICES, min_size=1, max_size=3).map(lambda them: [{"index": at, **it} for at, it in enumerate(them)]),
    },
    {
        "usage": st.fixed_dictionaries({"total_tokens": st.integers(0)}),
        "system_fingerprint": st.none() | NAMES,
        "service_tier": st.none() | NAMES,
        "timings": VALUES,
    },
)


@given(DOCUMENTS)
def test_a_document_told_as_a_stream_is_the_document(document: dict[str, Any]) -> None:
    assert round_trip(CHAT, document) == document


@given(DOCUMENTS, st.booleans())
def test_what_every_client_expects_of_a_stream(document: dict[str, Any], include_usage: bool) -> None:
    chunks = told(CHAT, document, include_usage=include_usage)
    if include_usage and "usage" in document:
        assert chunks.pop() | {"choices": [], "usage": document["usage"]} == chunks[0] | {"choices": [], "usage": document["usage"]}
    assert all("usage" not in chunk and "error" not in chunk and len(chunk["choices"]) == 1 for chunk in chunks)
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    for choice in document["choices"]:
        pieces = [piece for chunk in chunks for piece in chunk["choices"] if piece["index"] == choice["index"]]
        assert pieces[0]["delta"]["role"] == "assistant"
        assert not any("role" in piece["delta"] for piece in pieces[1:])
        assert [piece["finish_reason"] for piece in pieces] == [None] * (len(pieces) - 1) + [choice["finish_reason"]]
        assert pieces[-1]["delta"] == {}
        for name in ("content", "reasoning_content", "reasoning", "refusal"):
            texts = [piece["delta"][name] for piece in pieces if piece["delta"].get(name) is not None]
            assert "".join(texts) == (choice["message"].get(name) or "")


@given(DOCUMENTS)
def test_the_official_client_puts_the_same_answer_together(document: dict[str, Any]) -> None:
    chunks = told(CHAT, document)
    state: ChatCompletionStreamState[None] = ChatCompletionStreamState()
    for each in chunks:
        state.handle_chunk(ChatCompletionChunk.construct(None, **each))
    theirs = state.current_completion_snapshot
    assert (theirs.id, theirs.created, theirs.model) == (document["id"], document["created"], document["model"])
    assert [choice.finish_reason for choice in theirs.choices] == [choice["finish_reason"] for choice in document["choices"]]
    for choice, ours in zip(theirs.choices, document["choices"], strict=True):
        message = choice.message.to_dict(mode="python")
        for name in ("role", "content", "reasoning_content", "reasoning", "refusal"):
            assert (message.get(name) or "") == (ours["message"].get(name) or "")
        calls = [call | {"index": index} for index, call in enumerate(ours["message"].get("tool_calls") or [])]
        made: Any = message.get("tool_calls") or []
        assert [_without_additions(call) for call in made] == calls
    assert (theirs.usage and theirs.usage.total_tokens) == document.get("usage", {}).get("total_tokens")


def _without_additions(call: dict[str, Any]) -> dict[str, Any]:
    """A tool call without what the client itself adds to it."""
    if call.get("function", 0) is None:
        del call["function"]
    if "function" in call:
        call["function"].pop("parsed_arguments", None)
    return call


def test_words_keep_their_blanks() -> None:
    document = answer({"content": "word1  word2\n\tx"}, {"content": None, "tool_calls": [CALL]}, usage=USAGE)
    chunks = told(CHAT, document)
    deltas = [(piece["index"], piece["delta"], piece["finish_reason"]) for each in chunks for piece in each["choices"]]
    assert deltas == [
        (0, {"role": "assistant", "content": ""}, None),
        (0, {"content": "word1  "}, None),
        (0, {"content": "word2\n\t"}, None),
        (0, {"content": "x"}, None),
        (0, {}, "stop"),
        (1, {"role": "assistant", "content": None}, None),
        (1, {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}]}, None),
        (1, {"tool_calls": [{"index": 0, "function": {"arguments": '{"a": 1}'}}]}, None),
        (1, {}, "stop"),
    ]
    assert (chunks[-1]["choices"], chunks[-1]["usage"]) == ([], USAGE)


CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


def test_usage_is_told_only_to_those_who_ask() -> None:
    chunks = told(CHAT, answer({"content": "x"}, usage=USAGE), include_usage=False)
    assert not any("usage" in each for each in chunks)


def test_a_cached_answer_comes_in_as_many_pieces_as_it_has_words() -> None:
    said = "This is a cached streaming response."
    chunks = told(CHAT, answer({"content": said}))
    texts = [each["choices"][0]["delta"].get("content") for each in chunks]
    assert texts == ["", "This ", "is ", "a ", "cached ", "streaming ", "response.", None]


def test_a_stream_becomes_one_document() -> None:
    body = stream_of(
        chunk({"role": "assistant", "content": "", "refusal": None}),
        chunk({"content": "Hello"}),
        chunk({"content": " world"}),
        chunk({}, "stop"),
        HEAD | {"choices": [], "usage": USAGE},
    )
    assert document_of(CHAT, body) == HEAD | {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello world", "refusal": None}, "finish_reason": "stop"}],
        "usage": USAGE,
    }


def test_calls_of_tools_are_put_together_by_index() -> None:
    body = stream_of(
        chunk(
            {"role": "assistant", "tool_calls": [{"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": ""}}]}
        ),
        chunk({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f"}}, {"index": 1, "function": {"arguments": '{"x"'}}]}),
        chunk({"role": "assistant", "tool_calls": [{"index": 1, "id": "", "type": None, "function": {"arguments": ":1}"}}]}),
        chunk({}, "tool_calls"),
    )
    document = document_of(CHAT, body)
    assert document is not None
    assert document["choices"][0]["message"] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f"}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": '{"x":1}'}},
        ],
    }


def test_a_call_that_has_no_arguments_is_told_in_one_piece() -> None:
    calls = [{"id": "a", "type": "function", "function": {"name": "f"}}, {"id": "b", "type": "new", "new": {"x": 1}}]
    document = answer({"content": None, "tool_calls": calls})
    deltas = [each["choices"][0]["delta"] for each in told(CHAT, document)]
    assert deltas[1:-1] == [{"tool_calls": [{"index": index} | call]} for index, call in enumerate(calls)]
    assert round_trip(CHAT, document) == document


def test_choices_are_kept_apart_and_what_belongs_to_tokens_is_put_together() -> None:
    body = stream_of(
        HEAD | {"id": "", "model": "", "choices": [], "prompt_filter_results": [1], "obfuscation": "abc", "error": None},
        chunk({"content": "b"}, index=1, token_ids=[1], content_filter_results={"hate": {"severity": "safe"}}),
        chunk({"content": "a"}, logprobs={"content": [1], "refusal": None}, stop_reason=None),
        chunk({"content": "b"}, "length", index=1, token_ids=[2], content_filter_results={}),
        chunk({"content": "a"}, "stop", logprobs={"content": [2], "refusal": None}, stop_reason="x"),
    ).replace(b"\n", b"\r\n")
    document = document_of(CHAT, body)
    assert document is not None
    assert document.keys() == HEAD.keys() | {"choices", "prompt_filter_results"}
    assert (document["id"], document["model"]) == ("chatcmpl-1", "m")
    first, second = document["choices"]
    assert (first["message"]["content"], first["logprobs"]["content"], first["stop_reason"]) == ("aa", [1, 2], "x")
    assert (second["message"]["content"], second["token_ids"], second["finish_reason"]) == ("bb", [1, 2], "length")
    assert second["content_filter_results"] == {"hate": {"severity": "safe"}}


def test_the_last_usage_counts() -> None:
    body = stream_of(
        chunk({"content": "a"}) | {"usage": {"total_tokens": 1}},
        chunk({}, "stop") | {"usage": USAGE},
        HEAD | {"choices": [], "usage": None},
    )
    assert (document_of(CHAT, body) or {})["usage"] == USAGE


def test_half_an_emoji_in_each_of_two_pieces_is_one() -> None:
    body = stream_of(chunk({"content": "\ud83d"}), chunk({"content": "\ude00"}), chunk({}, "stop"))
    assert (document_of(CHAT, body) or {})["choices"][0]["message"]["content"] == "😀"


def test_log_probabilities_come_with_the_whole_text() -> None:
    document = answer({"content": "two words", "reasoning": "so so"})
    document["choices"][0]["logprobs"] = {"content": [{"token": "two"}, {"token": " words"}], "refusal": None}
    pieces = [each["choices"][0] for each in told(CHAT, document)]
    assert [piece["delta"] for piece in pieces[1:]] == [{"reasoning": "so "}, {"reasoning": "so"}, {"content": "two words"}, {}]
    assert [piece.get("logprobs") for piece in pieces] == [None, None, None, document["choices"][0]["logprobs"], None]


FINISHED = chunk({"content": "x"}, "stop")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"data: [DONE]\n\n",
        stream_of(FINISHED).removesuffix(b"data: [DONE]\n\n"),
        stream_of(FINISHED) + b"data: [DONE]\n\n",
        stream_of(FINISHED) + stream_of(FINISHED),
        stream_of(chunk({"content": "data: [DONE]"})),
        stream_of(chunk({"content": "x"}, "error")),
        stream_of(FINISHED, {"error": {"message": "x"}}),
        stream_of(FINISHED, FINISHED | {"error": "x"}),
        stream_of(FINISHED, {"object": "error", "message": "x"}),
        stream_of(FINISHED, {"detail": "x"}),
        stream_of(chunk({"content": "x"}, "stop", error={"code": 1})),
        b"event: error\n" + stream_of(FINISHED),
        stream_of(chunk({"content": "x"}), chunk({"content": "y"}, "stop", index=1)),
        stream_of(chunk({"content": ["x"]}, "stop")),
        stream_of(chunk({"audio": {"data": "AA=="}}, "stop")),
        stream_of(chunk({"tool_calls": [{"id": "a", "function": {}}]}, "stop")),
        stream_of(chunk({"tool_calls": [{"index": 0, "id": "a"}, {"index": 0, "id": "b"}]}, "stop")),
        stream_of(chunk("x", "stop")),
        stream_of(chunk({}, "stop", index=-1)),
        stream_of(FINISHED).replace(b'"x"', b'"\xff"'),
        stream_of([FINISHED]),
    ],
)
def test_a_stream_that_is_no_whole_answer_is_no_document(body: bytes) -> None:
    assert to_document(CHAT, body) is None


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        answer(),
        answer({"content": "x"}, error={"message": "x"}),
        answer({"content": "x"}) | {"object": "error"},
        {"error": "x"},
        answer({"content": ["x"]}),
        answer({"content": "x", "audio": {"id": "x"}}),
        answer({"content": None, "tool_calls": [{"id": "x", "function": {"name": "f", "arguments": {}}}]}),
        {"choices": [{"message": {"content": "x"}, "finish_reason": None}]},
        {"choices": [{"message": {"content": "x"}, "finish_reason": "error"}]},
        {"choices": [{"finish_reason": "stop"}]},
        {"choices": [{"index": 0, "message": {}, "finish_reason": "stop"}] * 2},
    ],
)
def test_a_document_that_is_no_whole_answer_is_no_stream(document: object) -> None:
    assert to_stream(CHAT, stored(document), include_usage=True) is None
