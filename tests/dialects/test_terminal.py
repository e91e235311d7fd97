"""Where a stream ends: what a dialect finds by a look is what a reader of every event finds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from txsse.dialects import DIALECTS, Dialect, detect
from txsse.wire.eventstream import EventStreamDecoder

CHAT, COMPLETIONS, RESPONSES, ANTHROPIC, OLLAMA, SSE = DIALECTS.values()
ENDS = {
    RESPONSES: ("response.completed", "response.failed", "response.incomplete"),
    ANTHROPIC: ("message_stop",),
}


def done_in(frames: bytes) -> bool:
    return any(event.data == "[DONE]" for event in EventStreamDecoder().feed(frames))


def typed_end_in(dialect: Dialect, frames: bytes) -> bool:
    for event in EventStreamDecoder().feed(frames):
        if event.type in ENDS[dialect]:
            return True
        try:
            value = json.loads(event.data)
        except ValueError:
            continue
        if isinstance(value, dict) and value.get("type") in ENDS[dialect]:
            return True
    return False


def done_line_in(frames: bytes) -> bool:
    for line in frames.split(b"\n"):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and value.get("done") is True:
            return True
    return False


LINE_ENDS = (b"\n", b"\r\n", b"\r", b"\n\n", b"\r\n\r\n")
STRANGE = (b"data: x", b"data", b": [DONE]", b"id: 1", b": message_stop response.failed", b"\xef\xbb\xbf", b"data: [", b"data: {}")


@settings(max_examples=500)
@given(
    dialect=st.sampled_from((CHAT, COMPLETIONS)),
    pieces=st.lists(
        st.sampled_from(
            (*LINE_ENDS, *STRANGE, b"data: [DONE]", b"data:[DONE]", b"data:  [DONE]", b"data: [DONE] ", b'data: {"a":"[DONE]"}')
        ),
        max_size=14,
    ),
    bom=st.booleans(),
)
def test_done_is_an_event_of_its_own(dialect: Dialect, pieces: list[bytes], bom: bool) -> None:
    frames = b"\xef\xbb\xbf" * bom + b"".join(pieces) + b"\n\n"
    found = dialect.is_terminal(frames)
    assert found is done_in(frames)
    assert dialect.terminal_pattern is not None
    assert not found or dialect.terminal_pattern.search(frames)


def typed(names: tuple[str, ...]) -> st.SearchStrategy[bytes]:
    name = st.sampled_from((*names, "response.created", "content_block_delta", "message_stopped"))
    text = st.sampled_from((*names, *(f'"type":"{each}"' for each in names), f"data: {names[0]}\n\nevent: {names[0]}", "\\"))
    events: list[Callable[[str, str], bytes]] = [
        lambda kind, said: f"event: {kind}\n".encode(),
        lambda kind, said: f"data: {json.dumps({'type': kind, 'delta': said})}".encode(),
        lambda kind, said: f"data:{json.dumps({'delta': {'type': kind}, 'type': said})}".encode(),
        lambda kind, said: f'data: {{"type":\ndata: "{kind}"}}'.encode(),
        lambda kind, said: f'data: ["type","{kind}"]'.encode(),
        lambda kind, said: f'data: {{"type":"{kind}"'.encode(),
    ]
    return st.builds(lambda make, kind, said: make(kind, said), st.sampled_from(events), name, text)


@settings(max_examples=500)
@given(dialect=st.sampled_from(list(ENDS)), data=st.data())
def test_a_terminal_event_is_known_by_its_name_or_its_type(dialect: Dialect, data: st.DataObject) -> None:
    parts = st.sampled_from((*LINE_ENDS, *STRANGE)) | typed(ENDS[dialect])
    frames = b"".join(data.draw(st.lists(parts, max_size=14))) + b"\n\n"
    found = dialect.is_terminal(frames)
    assert found is typed_end_in(dialect, frames)
    assert dialect.terminal_pattern is not None
    assert not found or dialect.terminal_pattern.search(frames)


VALUES = st.sampled_from((True, False, None, 1, "true", '"done":true', 'x","done":true}', {"done": True}, [{"done": True}]))
LINES = st.dictionaries(st.sampled_from(("done", "response", "message")), VALUES, max_size=3)


@settings(max_examples=400)
@given(lines=st.lists(LINES | VALUES, max_size=6), spaced=st.booleans(), crlf=st.booleans(), broken=st.booleans())
def test_ollamas_last_line_says_done(lines: list[object], spaced: bool, crlf: bool, broken: bool) -> None:
    texts = [json.dumps(line, separators=None if spaced else (",", ":")) for line in lines]
    if broken and texts:
        texts[0] = texts[0][:-1]
    frames = "".join(f"{text}\r\n" if crlf else f"{text}\n" for text in texts).encode()
    for dialect in (OLLAMA, detect("/api/generate")):
        found = dialect.is_terminal(frames)
        assert found is done_line_in(frames)
        assert dialect.terminal_pattern is not None
        assert not found or dialect.terminal_pattern.search(frames)


@pytest.mark.parametrize(
    ("dialect", "frames"),
    [
        (CHAT, b"data: [DONE]\n\n"),
        (CHAT, b"\xef\xbb\xbfdata: [DONE]\n\n"),
        (CHAT, b'data: {"a":1}\n\nid: 7\ndata: [DONE]\nretry: 5\n\n: bye\n\n'),
        (CHAT, b"data: [DONE]\r\r"),
        (COMPLETIONS, b"data:[DONE]\r\n\r\n"),
        (RESPONSES, b'event: response.completed\ndata: {"type":"response.completed","sequence_number":9,"response":{}}\n\n'),
        (RESPONSES, b'data: {"response":{},"type":"response.incomplete"}\n\n'),
        (RESPONSES, b'data: {"type": "response.failed"}\n\n: bye\n'),
        (ANTHROPIC, b'event: message_stop\ndata: {"type":"message_stop"}\n\n'),
        (ANTHROPIC, b'event: ping\ndata: {"type": "ping"}\n\ndata: {"type": "message_stop"}\r\n\r\n'),
        (OLLAMA, b'{"model":"m","message":{"role":"assistant","content":""},"done_reason":"stop","done":true,"total_duration":1}\n'),
        (OLLAMA, b'  {"done": true}\r\n'),
        (OLLAMA, b'{"done":true}'),
    ],
)
def test_an_end(dialect: Dialect, frames: bytes) -> None:
    assert dialect.is_terminal(frames)
    assert not SSE.is_terminal(frames)


@pytest.mark.parametrize(
    ("dialect", "frames"),
    [
        (CHAT, b"data: [DONE]\n"),
        (CHAT, b"data: [DONE] \n\n"),
        (CHAT, b"xdata: [DONE]\n\n"),
        (CHAT, b"data: x\ndata: [DONE]\n\n"),  # one event whose text has two lines
        (CHAT, b'data: {"content":"say data: [DONE]"}\n\n'),
        (CHAT, b": data: [DONE]\n\n"),
        (RESPONSES, b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"response.completed"}\n\n'),
        (RESPONSES, b'data: {"type":"response.output_item.done","item":{"type":"response.completed"}}\n\n'),
        (RESPONSES, b": response.completed\n\n"),
        (ANTHROPIC, b'data: {"type":"content_block_delta","delta":{"text":"\\"type\\":\\"message_stop\\""}}\n\n'),
        (ANTHROPIC, b'data: {"type":["message_stop"]}\n\n'),
        (OLLAMA, b'{"message":{"content":"\\"done\\":true"},"done":false}\n'),
        (OLLAMA, b'{"message":{"tool_calls":[{"function":{"arguments":{"done":true}}}]},"done":false}\n'),
        (OLLAMA, b'{"done":true\n'),
        (OLLAMA, b'[{"done":true}]\n'),
    ],
)
def test_no_end(dialect: Dialect, frames: bytes) -> None:
    assert not dialect.is_terminal(frames)


BURSTS = [
    (CHAT, b'data: {"choices":[{"index":0,"delta":{"content":" word"}}]}\n\n', b"data: [DONE]\n\n"),
    (
        RESPONSES,
        b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"a"}\n\n',
        b"event: response.failed\ndata:\n\n",
    ),
    (ANTHROPIC, b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0}\n\n', b"event: message_stop\ndata: {}\n\n"),
    (OLLAMA, b'{"model":"m","message":{"role":"assistant","content":" word"},"done":false}\n', b'{"done":true}\n'),
]


@pytest.mark.parametrize(("dialect", "event", "end"), BURSTS, ids=[each[0].name for each in BURSTS])
def test_a_burst_is_not_decoded_to_find_its_end(dialect: Dialect, event: bytes, end: bytes) -> None:
    began = time.process_time()
    assert dialect.is_terminal(event * 20_000 + end)
    assert time.process_time() - began < 0.05  # all of it decoded takes ten times as long


@pytest.mark.parametrize(
    ("dialect", "event"),
    [
        (CHAT, b"data: x[DONE]\n\n"),
        (RESPONSES, b"data: response.completed\n\n"),
        (ANTHROPIC, b"data: message_stop\n\n"),
        (OLLAMA, b'{"a":{"done":true}}\n'),
    ],
)
def test_talk_of_the_end_costs_linear_time(dialect: Dialect, event: bytes) -> None:
    began = time.process_time()
    assert not dialect.is_terminal(event * 20_000)
    assert time.process_time() - began < 2
