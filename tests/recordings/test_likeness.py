"""Events that are like the one before: left out where nothing about them can differ, and nowhere else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse.recordings.likeness import past_likes
from txsse.recordings.verdict import judge
from txsse.wire.peek import at_once

DONE = b"data: [DONE]\n\n"


def chunk(content: str = "", finish: str | None = None, **members: object) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice], **members}).encode() + b"\n\n"


def left_out(first: bytes, rest: bytes, most: int = 1 << 20) -> int:
    """Bytes of *rest*."""
    return past_likes(first + rest, 0, len(first), most) - len(first)


@pytest.mark.parametrize("text", ["a", "", "two words", '\n\t"\\/', "é \U0001f600", "data: [DONE]", '"finish_reason":"stop"', "x" * 1000])
def test_another_text_makes_no_difference(text: str) -> None:
    like, other = chunk(text), chunk("b", finish="stop")
    assert left_out(chunk("first"), like + like + other) == 2 * len(like)


def test_all_but_the_last_bytes_are_looked_at() -> None:
    likes = chunk("a") * 10
    assert left_out(chunk("first"), likes) == len(likes)
    assert left_out(chunk("first"), likes[:-1]) == len(likes) - len(chunk("a"))
    assert left_out(chunk("first"), likes, most=3 * len(chunk("a"))) <= 3 * len(chunk("a"))


@pytest.mark.parametrize(
    "other",
    [
        chunk("a", finish="stop"),
        chunk("a", error={"message": "x"}),
        chunk("a").replace(b'"a"', b'"a","error":"x"'),
        chunk("a").replace(b'"a"', b'"a\n"'),
        chunk("a").replace(b'"a"', b'"\\a"'),
        chunk("a").replace(b'"a"', b'"\\u00g0"'),
        chunk("a").replace(b'"a"', b'"a\\"'),
        chunk("a").replace(b'"a"', b'"\x01"'),
        chunk("a").replace(b'"index"', b'"Index"'),
        b"event: error\n" + chunk("a"),
        b"\n" + chunk("a"),
        DONE,
        b": ping\n\n",
    ],
)
def test_anything_else_does(other: bytes) -> None:
    like = chunk("a")
    assert left_out(chunk("first"), other + like) == 0
    assert left_out(chunk("first"), like + other + like) == len(like)


def test_an_event_without_a_text_has_no_likes() -> None:
    assert left_out(DONE, DONE) == 0
    assert left_out(chunk(""), chunk("") * 2) == 0


EVENTS = st.sampled_from(
    [
        *(chunk(text) for text in ("", "a", "b\n", '\\"', "error")),
        *(chunk(text, finish=reason) for text in ("", "a", "b") for reason in ("stop", "content_filter")),
        *(chunk(text).replace(b'"content"', b'"text"') for text in ("a", "b")),
        *(b"event: error\n" + chunk(text) for text in ("a", "b")),
        b'data: {"text":"a","type":"message_stop"}\n\n',
        b'data: {"text":"b","type":"message_stop"}\n\n',
        b'data: {"text":"c","type":"message_delta","delta":{"stop_reason":"end_turn"}}\n\n',
        b'data: {"text":"a","type":"response.completed","response":{"status":"completed"}}\n\n',
        b'data: {"text":"b","type":"response.completed","response":{"status":"completed"}}\n\n',
        b'data: {"text":"a"\n\n',
        b'data: {"text":"b"\n\n',
        b"data: [DONE]\n\n",
        b": ping\n\n",
        b"\n",
    ]
)


@given(st.lists(EVENTS, max_size=12), st.sampled_from(["openai-chat", "openai-responses", "anthropic", "sse"]), st.booleans())
def test_the_verdict_is_that_of_a_stream_in_which_all_are_parsed(events: list[bytes], dialect: str, closed: bool) -> None:
    body = b"".join(events).removesuffix(b"" if closed else b"\n")
    # Lines that end with CRLF are never left out.
    assert at_once(judge(dialect, True, body)).reason == at_once(judge(dialect, True, body.replace(b"\n", b"\r\n"))).reason
