"""How an error continues a Responses stream: what is remembered of it is what a reader of every event knows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from txsse.dialects import DIALECTS, Speaker
from txsse.dialects.openai_responses import Course
from txsse.errors import ProxyError
from txsse.wire.boundary import BoundaryTracker
from txsse.wire.eventstream import EventStreamDecoder

RESPONSES = DIALECTS["openai-responses"]


def event(kind: str, number: int | None, **members: Any) -> bytes:
    value = {"type": kind, **({} if number is None else {"sequence_number": number}), **members}
    return f"event: {kind}\ndata: {json.dumps(value)}\n\n".encode()


def test_it_wants_to_see_everything() -> None:
    witness = RESPONSES.witness(midstream=False)
    assert isinstance(witness, Course)
    assert witness.see(b": ping\n")
    assert witness.see(event("response.created", 0, response={"id": "resp_1"}))
    assert witness.see(event("response.in_progress", 1, response={"id": "resp_2"}))
    assert witness.see(b": ping\n")
    assert witness.last() == (1, "resp_1")


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([], (-1, "")),
        ([event("response.created", None, response={"id": "resp_1"})], (-1, "resp_1")),  # llama.cpp does not count
        ([event("response.created", 0, response={"instructions": "x", "id": "resp_1"})], (0, "resp_1")),
        ([event("response.created", 0, response={"id": ""}) + event("response.in_progress", 1, response={"id": "r"})], (1, "r")),
        ([event("response.output_text.delta", 7, delta='"sequence_number": 99')], (7, "")),
        ([event("a", 7), event("b", None), b'data: {"sequence_number":true}\n\n'], (-1, "")),
        ([event("a", 7) + event("b", 9) + event("c", 8)], (9, "")),
        ([b'data: {"type":"response.created","sequence_number":3,"response":{"id":"resp_long","instructions":"xxx'], (3, "resp_long")),
        ([b'data: {"sequence_number":4,"x":"yyy', b'yyy"}\n\n'], (4, "")),
        ([b'data: {"response":["id"]}\n\n'], (-1, "")),
        ([b"data: " + b'{"sequence_number":' * 2000 + b"\n\n"], (-1, "")),
    ],
)
def test_what_is_remembered(seen: list[bytes], expected: tuple[int, str]) -> None:
    course = Course()
    for frames in seen:
        course.see(frames)
    assert course.last() == expected


def test_nothing_is_copied() -> None:
    course = Course()
    first, last = event("response.created", 0, response={"id": "resp_1"}), event("response.output_text.delta", 5)
    for frames in (first, event("response.output_text.delta", 4), last):
        course.see(frames)
    assert course._first is first
    assert course._last is last


EVENTS = st.lists(
    st.one_of(
        st.just(b": keep-alive\n\n"),
        st.builds(
            event, st.just("response.output_text.delta"), st.none(), delta=st.sampled_from(("a", '{"sequence_number": 5}', "\n\ndata: x"))
        ),
        st.builds(
            event, st.just("response.created"), st.none(), response=st.fixed_dictionaries({"id": st.sampled_from(("resp_1", "resp_2"))})
        ),
    ),
    max_size=8,
)


@settings(max_examples=300)
@given(events=EVENTS, start=st.integers(0, 3), size=st.integers(1, 300))
def test_it_knows_what_a_reader_of_every_event_knows(events: list[bytes], start: int, size: int) -> None:
    stream = b""
    for number, frame in enumerate(events, start):
        stream += frame.replace(b'data: {"type"', b'data: {"sequence_number": %d, "type"' % number)
    values = [json.loads(each.data) for each in EventStreamDecoder().feed(stream)]
    numbers = [value["sequence_number"] for value in values]
    idents = [value["response"]["id"] for value in values if "response" in value]
    tracker, course = BoundaryTracker(1 << 16), Course()
    for at in range(0, len(stream), size):
        if frames := tracker.feed(stream[at : at + size]):
            course.see(frames)
    assert course.last() == (numbers[-1] if numbers else -1, idents[0] if idents else "")


def test_another_witness_is_none() -> None:
    error = ProxyError("upstream_disconnected", "Gone.")
    witness = DIALECTS["openai-chat"].witness(midstream=True)
    speaker = Speaker("00", 1, "m")
    assert RESPONSES.error_frame(error, speaker, witness) == RESPONSES.error_frame(error, speaker, None)
