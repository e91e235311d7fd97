"""What each dialect takes for an upstream's keepalive that breaks its clients."""

from __future__ import annotations

import pytest

from txsse.dialects import DIALECTS, Dialect, detect

CHAT, COMPLETIONS, RESPONSES, ANTHROPIC, OLLAMA, SSE = DIALECTS.values()
STREAMS = [CHAT, COMPLETIONS, RESPONSES, ANTHROPIC, SSE]
PING = b'event: ping\ndata: {"type": "ping"}\n\n'
BARE_PING = b'data: {"type":"ping"}\n\n'
EMPTY_CHOICES = b'data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices": []}\n\n'
USAGE = b'data: {"choices":[],"usage":{"total_tokens":3}}\n\n'
PROGRESS = b'data: {"choices":[],"prompt_progress":{"total":9,"cache":0,"processed":3,"time_ms":1}}\n\n'
TALK = b'data: {"choices":[{"delta":{"content":"\\"choices\\":[] event: ping"}}]}\n\n'


@pytest.mark.parametrize("dialect", STREAMS, ids=lambda each: each.name)
def test_comments_and_events_without_data(dialect: Dialect) -> None:
    normalise = dialect.normaliser("auto")
    assert normalise(b": ping\n\n:\n\nevent: ping\n\nretry: 3000\n\n" + TALK) == b": txsse\n: txsse\nretry: 3000\n" + TALK
    assert dialect.normaliser("frame")(b": ping\n\n" + TALK) == b": txsse\n\n" + TALK


@pytest.mark.parametrize(
    ("frames", "droppers"),
    [
        (b"data:\n\n", [CHAT, COMPLETIONS, RESPONSES, ANTHROPIC]),
        (b"data: \r\n\r\n", [CHAT, COMPLETIONS, RESPONSES, ANTHROPIC]),
        (PING, [CHAT, COMPLETIONS, RESPONSES]),
        (BARE_PING, [CHAT, COMPLETIONS, RESPONSES]),
        (EMPTY_CHOICES, [CHAT, COMPLETIONS]),
        (USAGE, []),
        (PROGRESS, []),
        (TALK, []),
        (b"data: [DONE]\n\n", []),
        (b'event: keepalive\ndata: {"type":"keepalive","sequence_number":3}\n\n', []),
        (b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"x"}}\n\n', []),
    ],
)
def test_who_drops_what(frames: bytes, droppers: list[Dialect]) -> None:
    for dialect in STREAMS:
        assert dialect.normaliser("auto")(frames) == (b"" if dialect in droppers else frames), dialect.name


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_ollamas_lines(path: str) -> None:
    line = b'{"message":{"content":""},"done":false}\n'
    for form in ("auto", "frame"):
        assert detect(path).normaliser(form)(b"\n" + line + b"\r\n{}\n" + line) == line + line


@pytest.mark.parametrize("dialect", STREAMS, ids=lambda each: each.name)
def test_a_first_line_may_stand_behind_a_byte_order_mark(dialect: Dialect) -> None:
    mark = b"\xef\xbb\xbf"
    assert dialect.normaliser("auto")(mark + b"id: 1\n\n" + TALK) == b"id: 1\n" + TALK
    assert dialect.normaliser("auto")(mark + b": ping\n" + TALK) == mark + b": txsse\n" + TALK


def test_each_stream_has_a_filter_of_its_own() -> None:
    assert all(dialect.normaliser("auto") is not dialect.normaliser("auto") for dialect in DIALECTS.values())
