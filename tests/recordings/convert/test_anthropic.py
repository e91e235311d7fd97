from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.recordings.convert.strategies import NAMES, UNKNOWN, VALUES, WORDS, document_of, round_trip, some, stored, told
from txsse.recordings.convert import to_document, to_stream

ANTHROPIC = "anthropic"

BLOCKS = st.one_of(
    some({"type": st.just("text"), "text": WORDS}, {"citations": st.none() | st.lists(UNKNOWN, max_size=2)}),
    some({"type": st.just("thinking"), "thinking": WORDS}, {"signature": WORDS}),
    some(
        {
            "type": st.sampled_from(("tool_use", "server_tool_use")),
            "id": NAMES,
            "name": NAMES,
            "input": st.dictionaries(NAMES, VALUES, max_size=3),
        },
        {},
    ),
    some({"type": st.sampled_from(("redacted_thinking", "web_search_tool_result", "new")), "data": VALUES}, {}),
)
DOCUMENTS = some(
    {
        "id": NAMES,
        "type": st.just("message"),
        "role": st.just("assistant"),
        "model": NAMES,
        "content": st.lists(BLOCKS, max_size=3),
        "stop_reason": st.sampled_from(("end_turn", "max_tokens", "tool_use", "stop_sequence")),
        "stop_sequence": st.none() | WORDS,
        "usage": some({"input_tokens": st.integers(0), "output_tokens": st.integers(0)}, {"service_tier": st.none() | NAMES}),
    },
    {"container": VALUES},
)


def event(kind: str, **members: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), stored({"type": kind, **members}))


def start(index: int, **block: Any) -> bytes:
    return event("content_block_start", index=index, content_block=block)


def delta(index: int, kind: str, **members: Any) -> bytes:
    return event("content_block_delta", index=index, delta={"type": kind, **members})


def stop(index: int) -> bytes:
    return event("content_block_stop", index=index)


MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {"input_tokens": 11, "cache_read_input_tokens": 0, "output_tokens": 1},
}
BEGIN = event("message_start", message=MESSAGE)
TEXT = start(0, type="text", text="") + delta(0, "text_delta", text="x") + stop(0)
DELTA = event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": 5, "input_tokens": None})
END = event("message_stop")


@given(DOCUMENTS)
def test_a_document_told_as_a_stream_is_the_document(document: dict[str, Any]) -> None:
    assert round_trip(ANTHROPIC, document) == document


def test_a_document_is_told_in_events_with_their_names() -> None:
    content = [{"type": "text", "text": "a  b"}, {"type": "tool_use", "id": "t", "name": "f", "input": {"é": 1}}]
    document = MESSAGE | {"content": content, "stop_reason": "tool_use"}
    frames = to_stream(ANTHROPIC, stored(document), include_usage=False)
    assert frames is not None
    assert (
        b"".join(frames)
        == "".join(
            f"event: {kind}\ndata: {data}\n\n"
            for kind, data in (
                (
                    "message_start",
                    '{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,'
                    '"stop_sequence":null,"usage":{"input_tokens":11,"cache_read_input_tokens":0,"output_tokens":0}}}',
                ),
                ("content_block_start", '{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}'),
                ("content_block_delta", '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a  "}}'),
                ("content_block_delta", '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"b"}}'),
                ("content_block_stop", '{"type":"content_block_stop","index":0}'),
                (
                    "content_block_start",
                    '{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}',
                ),
                (
                    "content_block_delta",
                    '{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\\"é\\":1}"}}',
                ),
                ("content_block_stop", '{"type":"content_block_stop","index":1}'),
                (
                    "message_delta",
                    '{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":1}}',
                ),
                ("message_stop", '{"type":"message_stop"}'),
            )
        ).encode()
    )


def test_a_stream_becomes_one_message() -> None:
    body = (
        BEGIN
        + event("ping")
        + start(0, type="thinking", thinking="", signature="")
        + delta(0, "thinking_delta", thinking="so")
        + delta(0, "thinking_delta", thinking=" so")
        + delta(0, "signature_delta", signature="c2ln")
        + stop(0)
        + start(1, type="tool_use", id="t", name="f", input={})
        + delta(1, "input_json_delta", partial_json="")
        + delta(1, "input_json_delta", partial_json='{"a":')
        + start(2, type="text", text="", citations=[])
        + delta(1, "input_json_delta", partial_json=" [1]}")
        + stop(1)
        + delta(2, "citations_delta", citation={"cited_text": "y"})
        + delta(2, "text_delta", text="x")
        + stop(2)
        + start(3, type="tool_use", id="u", name="g", input={})
        + stop(3)
        + start(4, type="new", data=[1])
        + stop(4)
        + event("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 3}, context_management={"a": 1})
        + DELTA.replace(b"end_turn", b"tool_use")
        + END
    )
    assert document_of(ANTHROPIC, body) == MESSAGE | {
        "content": [
            {"type": "thinking", "thinking": "so so", "signature": "c2ln"},
            {"type": "tool_use", "id": "t", "name": "f", "input": {"a": [1]}},
            {"type": "text", "text": "x", "citations": [{"cited_text": "y"}]},
            {"type": "tool_use", "id": "u", "name": "g", "input": {}},
            {"type": "new", "data": [1]},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 11, "cache_read_input_tokens": 0, "output_tokens": 5},
        "context_management": {"a": 1},
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        BEGIN + TEXT + DELTA,
        TEXT + DELTA + END,
        BEGIN + TEXT + END,
        BEGIN + BEGIN + TEXT + DELTA + END,
        BEGIN + TEXT + DELTA + END + END,
        BEGIN + TEXT + TEXT + DELTA + END,
        BEGIN + TEXT.removesuffix(stop(0)) + DELTA + END,
        BEGIN + stop(0) + DELTA + END,
        BEGIN + delta(0, "text_delta", text="x") + stop(0) + DELTA + END,
        BEGIN + TEXT + event("error", error={"type": "overloaded_error"}) + DELTA + END,
        BEGIN + TEXT + event("new_kind", index=1) + DELTA + END,
        BEGIN + TEXT.replace(b"text_delta", b"new_delta") + DELTA + END,
        BEGIN + start(0, type="tool_use", input={}) + delta(0, "input_json_delta", partial_json="{") + stop(0) + DELTA + END,
        BEGIN + start(0, type="text", text="", citations="x") + delta(0, "citations_delta", citation={}) + stop(0) + DELTA + END,
        BEGIN.replace(b'"content": []', b'"content": [{}]') + TEXT + DELTA + END,
    ],
)
def test_a_stream_that_is_no_whole_message_is_no_document(body: bytes) -> None:
    assert to_document(ANTHROPIC, BEGIN + TEXT + DELTA + END) is not None
    assert to_document(ANTHROPIC, body) is None


@pytest.mark.parametrize(
    "document",
    [
        {"type": "error", "error": {"type": "x", "message": "y"}},
        MESSAGE,
        MESSAGE | {"stop_reason": "end_turn", "usage": {}},
        MESSAGE | {"stop_reason": "end_turn", "content": "x"},
        MESSAGE | {"stop_reason": "end_turn", "content": [{"type": "text"}]},
        MESSAGE | {"stop_reason": "end_turn", "content": [{"type": "tool_use", "input": "x"}]},
        MESSAGE | {"stop_reason": "end_turn", "content": [{"type": "text", "text": "x", "citations": "x"}]},
    ],
)
def test_a_document_that_is_no_whole_message_is_no_stream(document: dict[str, Any]) -> None:
    assert to_stream(ANTHROPIC, stored(document), include_usage=True) is None


@given(st.lists(WORDS))
def test_block_follows_block(texts: list[str]) -> None:
    document = MESSAGE | {"content": [{"type": "text", "text": text} for text in texts], "stop_reason": "end_turn"}
    events = told(ANTHROPIC, document)
    for index, text in enumerate(texts):
        of_block = [each for each in events if each.get("index") == index]
        assert (of_block[0]["type"], of_block[-1]["type"]) == ("content_block_start", "content_block_stop")
        assert "".join(each["delta"]["text"] for each in of_block[1:-1]) == text
