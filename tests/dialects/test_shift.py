"""Upstream's Anthropic stream behind a message of ours: what changes, and that nothing else does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from txsse.dialects import DIALECTS, Speaker
from txsse.dialects.shift import BlockShift
from txsse.wire.boundary import BoundaryTracker
from txsse.wire.eventstream import EventStreamDecoder

ANTHROPIC = DIALECTS["anthropic"]


def event(value: dict[str, Any], line_end: str = "\n", spaced: bool = False) -> bytes:
    text = json.dumps(value, ensure_ascii=False, separators=None if spaced else (",", ":"))
    return f"event: {value['type']}{line_end}data: {text}{line_end}{line_end}".encode()


START = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": "claude",
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 25, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 7, "output_tokens": 1},
    },
}


def test_a_whole_stream() -> None:
    """The events of the API's own documentation, llama.cpp's order of members and vLLM's among them."""
    theirs = (
        event(START)
        + b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n'
        + b'event: ping\ndata: {"type": "ping"}\n\n'
        + b'event: content_block_delta\ndata: {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "H"}}\n\n'
        + b'data: {"delta":{"text":"\\"index\\":9","type":"text_delta"},"index":0,"type":"content_block_delta"}\n\n'
        + b": keep-alive\n\n"
        + b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
        + b'data: {"type":"content_block_start","index":99,"content_block":{"type":"tool_use","input":{"index":5}}}\r\n\r\n'
        + b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":15}}\n\n'
        + b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    )
    assert BlockShift()(theirs) == (
        b'event: content_block_start\ndata: {"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}\n\n'
        b'event: ping\ndata: {"type": "ping"}\n\n'
        b'event: content_block_delta\ndata: {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "H"}}\n\n'
        b'data: {"delta":{"text":"\\"index\\":9","type":"text_delta"},"index":1,"type":"content_block_delta"}\n\n'
        b": keep-alive\n\n"
        b'event: content_block_stop\ndata: {"type":"content_block_stop","index":1}\n\n'
        b'data: {"type":"content_block_start","index":100,"content_block":{"type":"tool_use","input":{"index":5}}}\r\n\r\n'
        b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":'
        b'{"input_tokens":25,"cache_creation_input_tokens":0,"cache_read_input_tokens":7,"output_tokens":15}}\n\n'
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    )


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ('{"output_tokens":1}', '{"input_tokens":25,"cache_creation_input_tokens":0,"cache_read_input_tokens":7,"output_tokens":1}'),
        ('{ "input_tokens": 3 }', '{"cache_creation_input_tokens":0,"cache_read_input_tokens":7, "input_tokens": 3 }'),
        ("{}", '{"input_tokens":25,"cache_creation_input_tokens":0,"cache_read_input_tokens":7}'),
        ("null", "null"),
    ],
)
def test_the_prompts_tokens_are_told_at_the_end_unless_upstream_does(usage: str, expected: str) -> None:
    shift = BlockShift()
    assert shift(event(START)) == b""
    assert shift(f'data: {{"type":"message_delta","usage":{usage}}}\n\n'.encode()) == (
        f'data: {{"type":"message_delta","usage":{expected}}}\n\n'.encode()
    )


@pytest.mark.parametrize("message", [{}, {"usage": None}, {"usage": {"input_tokens": "many"}}, None])
def test_an_upstream_that_counts_nothing(message: object) -> None:
    shift = BlockShift()
    end = b'data: {"type":"message_delta","usage":{"output_tokens":1}}\n\n'
    assert shift(event({"type": "message_start", "message": message})) == b""
    assert shift(end) == end


@pytest.mark.parametrize(
    "frames",
    [
        b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"index"}}\n\n',
        b'data: {"type":"content_block_delta","index":"0"}\n\n',
        b'data: {"type":"content_block_delta","index":true}\n\n',
        b'data: {"type":"content_block_delta","index":-1.5}\n\n',
        b'data: ["index",0]\n\n',
        b"data: no JSON\n\n",
        b"data:\n\n",
        b"data: " + b'{"a":' * 2000 + b"\n\n",
        b"retry: 3000\n\n",
        b"\n\r\n",
        b': {"type":"message_start"}\n',
    ],
)
def test_what_it_does_not_understand_passes(frames: bytes) -> None:
    assert BlockShift()(frames) == frames


def test_data_may_have_many_lines() -> None:
    theirs = (
        b'id: 3\r\ndata: {"delta": {"text":\r\ndata:"x"},\r\ndata:   "index":\r\nretry: 5\r\ndata: 9 ,"type":"content_block_delta"}\r\n\r\n'
    )
    assert BlockShift()(theirs) == theirs.replace(b"data: 9 ", b"data: 10 ")


def test_of_an_event_that_is_too_long_the_beginning_is_enough() -> None:
    shift = BlockShift()
    assert shift(b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"xxxx').endswith(
        b'"index":1,"delta":{"type":"text_delta","text":"xxxx'
    )
    assert shift(b'xx"index":0}') == b'xx"index":0}'
    assert shift(b'"}}\n\ndata: {"index":1,"type":"content_block_stop"}\n\n') == b'"}}\n\ndata: {"index":2,"type":"content_block_stop"}\n\n'
    assert shift(b'data: {"index":1,"delta":{"text":"yyyy') == b'data: {"index":2,"delta":{"text":"yyyy'
    assert shift(b'"}}\n\n') == b'"}}\n\n'


def test_a_beginning_of_a_message_that_is_too_long_is_dropped_whole() -> None:
    shift = BlockShift()
    assert shift(b'event: message_start\ndata: {"type":"message_start","message":{"content":"xxxx') == b""
    assert shift(b"xxxx") == b""
    assert shift(b'"}}\n\nevent: ping\ndata: {}\n\n') == b"event: ping\ndata: {}\n\n"


TEXT = st.sampled_from(("", "Hi", '"index":0', "data: \n\n", "é€😀", "\\", "\u2028"))
BODIES = st.one_of(
    st.builds(
        lambda index, text: {"type": "content_block_delta", "index": index, "delta": {"text": text, "index": 3}}, st.integers(0, 12), TEXT
    ),
    st.builds(lambda index, text: {"delta": {"text": text}, "index": index, "type": "content_block_delta"}, st.integers(0, 12), TEXT),
    st.builds(lambda index: {"type": "content_block_stop", "index": index}, st.integers(0, 12)),
    st.builds(lambda tokens: {"type": "message_delta", "usage": {"output_tokens": tokens}}, st.integers(0, 12)),
    st.sampled_from(({"type": "ping"}, {"type": "message_stop"}, START)),
)
EVENTS = st.lists(st.builds(event, BODIES, st.sampled_from(("\n", "\r\n", "\r")), st.booleans()), max_size=8)


def values(stream: bytes) -> list[dict[str, Any]]:
    return [json.loads(each.data) for each in EventStreamDecoder().feed(stream)]


@settings(max_examples=300)
@given(events=EVENTS, sizes=st.lists(st.integers(1, 200), min_size=1, max_size=12))
def test_every_event_is_the_same_but_for_its_index(events: list[bytes], sizes: list[int]) -> None:
    stream = b"".join(events)
    tracker, shift = BoundaryTracker(1 << 16), BlockShift()
    out, at, step = b"", 0, 0
    while at < len(stream):
        size = sizes[step % len(sizes)]
        out += shift(tracker.feed(stream[at : at + size]))
        at, step = at + size, step + 1
    assert out == BlockShift()(stream)
    expected = []
    started = False
    for value in values(stream):
        started |= value["type"] == "message_start"
        if value["type"] == "message_delta" and started:
            value["usage"] |= {"input_tokens": 25, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 7}
        if "index" in value:
            value["index"] += 1
        if value["type"] != "message_start":
            expected.append(value)
    assert values(out) == expected


def test_a_client_sees_one_message_with_our_block_first() -> None:
    shift = ANTHROPIC.after_message()
    assert shift is not None
    speaker = Speaker("ab", 1, "m")
    ours = ANTHROPIC.message(speaker, "Waking up", "content", first=True) + ANTHROPIC.message(speaker, ".", "content", first=False)
    theirs = event(START) + event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
    stream = values(ours + ANTHROPIC.before_answer(speaker, "---", "content") + shift(theirs))
    assert [(value["type"], value.get("index")) for value in stream] == [
        ("message_start", None),
        ("content_block_start", 0),
        ("content_block_delta", 0),
        ("content_block_delta", 0),
        ("content_block_stop", 0),
        ("content_block_start", 1),
    ]
