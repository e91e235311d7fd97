"""Tokens are counted from what a stream says of them, however it is cut."""

from __future__ import annotations

import itertools
import json
import timeit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from txsse.dialects import DIALECTS
from txsse.dialects.usage import MAX_MODEL, MAX_PARSED, Usage, UsageWitness, usage_of_document

Told = tuple[Usage | None, str]
NOTHING: Told = (None, "")


def event(value: object, name: str = "") -> bytes:
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(value).encode() + b"\n\n"


def chunk(usage: object = None, **members: object) -> bytes:
    return event({"id": "chatcmpl-1", "model": "m", "choices": [], **members, "usage": usage})


def told(dialect: str, *reads: bytes) -> Told:
    """What a witness says, of which the relay has asked what it asks."""
    witness = UsageWitness(dialect)
    for each in reads:
        if witness.word in each:
            witness.see(each)
    return witness.read()


T24 = b'data: {"id":"chatcmpl-multiline",\ndata: "usage":{"total_tokens":3}}\n\ndata: [DONE]\n\n'
T25 = b'data: {"id":"chatcmpl-frag","usage":{"total_tokens":8}}'
FINAL = {"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13}


@pytest.mark.parametrize("end_of_line", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize(
    ("body", "usage"),
    [
        (T24, Usage(0, 3)),
        (T24.replace(b":{", b"\ndata::\ndata:\ndata:{\ndata:"), Usage(0, 3)),
        (T25, Usage(0, 8)),
        (T25 + b"\n", Usage(0, 8)),
        (chunk({"prompt_tokens": 11, "completion_tokens": 1}) + chunk(FINAL) + b"data: [DONE]\n\n", Usage(11, 2)),
        (chunk() + chunk() + chunk(FINAL) + chunk(), Usage(11, 2)),
        (b"\xef\xbb\xbf" + chunk(FINAL), Usage(11, 2)),
        (chunk({"prompt_tokens": 8, "total_tokens": 8}), Usage(8, 0)),
        (chunk({"completion_tokens": 5, "total_tokens": 8}), Usage(3, 5)),
        (chunk({"completion_tokens": 5}), Usage(0, 5)),
    ],
)
def test_the_last_usage_of_a_stream_counts(body: bytes, usage: Usage, end_of_line: bytes) -> None:
    assert told("openai-chat", body.replace(b"\n", end_of_line))[0] == usage


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"model": "m", "usage": FINAL}, (Usage(11, 2), "m")),
        ({"model": "m", "x_groq": {"usage": FINAL}}, (Usage(11, 2), "m")),
        ({"model": "m", "choices": [{"usage": FINAL}]}, (Usage(11, 2), "m")),
        ({"model": ["m"], "usage": FINAL}, (Usage(11, 2), "")),
        ({"model": "m\n", "usage": FINAL}, (Usage(11, 2), "")),
        ({"model": "m\ud800", "usage": FINAL}, (Usage(11, 2), "")),
        ({"model": "m" * (MAX_MODEL + 1), "usage": FINAL}, (Usage(11, 2), "")),
        ({"usage": {**FINAL, "prompt_tokens_details": {"cached_tokens": 9}}}, (Usage(11, 2), "")),
        ({"usage": {**FINAL, "cache_read_input_tokens": 9}}, (Usage(11, 2), "")),
        ({"usage": {"prompt_tokens": 1 << 53, "completion_tokens": 2}}, (Usage(0, 2), "")),
        ({"usage": {"prompt_tokens": -1, "completion_tokens": 2.0, "total_tokens": True}}, NOTHING),
        ({"usage": {"prompt_tokens": "7"}}, NOTHING),
        ({"usage": []}, NOTHING),
        ({"usage": {}}, NOTHING),
        ({"input_tokens": 7, "usage": None}, NOTHING),
        ([{"usage": {"prompt_tokens": None}}], NOTHING),
    ],
)
@pytest.mark.parametrize("dialect", ["openai-chat", "openai-completions", "sse"])
def test_an_event_of_a_stream(dialect: str, value: object, expected: Told) -> None:
    assert told(dialect, event(value)) == expected
    assert usage_of_document(dialect, json.dumps(value).encode()) == expected


def test_text_that_only_talks_of_usage_does_not_count() -> None:
    talk = event({"choices": [{"delta": {"content": '"usage": {"total_tokens": 9}'}}]})
    schema = event({"tools": [{"usage": {"prompt_tokens": {"type": "integer"}}}]})
    assert told("openai-chat", talk, schema) == NOTHING
    assert told("openai-chat", chunk(FINAL) + talk) == (Usage(11, 2), "m")


def test_a_response_tells_its_usage_when_it_is_completed() -> None:
    created = event({"type": "response.created", "response": {"model": "gpt", "usage": None}})
    usage = {"input_tokens": 20, "input_tokens_details": {"cached_tokens": 5}, "output_tokens": 7, "total_tokens": 27}
    completed = event({"type": "response.completed", "response": {"model": "gpt", "usage": usage}}, "response.completed")
    assert told("openai-responses", created + completed) == (Usage(20, 7), "gpt")


def test_a_response_too_long_to_be_held_back_is_read_from_its_last_piece() -> None:
    usage = {"input_tokens": 20, "output_tokens": 7}
    response = {"model": "gpt", "output": ["usage" * 20_000], "usage": usage, "user": None}
    completed = event({"type": "response.completed", "response": response}, "response.completed")
    assert told("openai-responses", completed[:65536], completed[65536:]) == (Usage(20, 7), "")


START = event(
    {
        "type": "message_start",
        "message": {
            "model": "claude",
            "usage": {"input_tokens": 25, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 100, "output_tokens": 1},
        },
    },
    "message_start",
)
TEXT = event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}}, "content_block_delta")


def stopped(**usage: object) -> bytes:
    return event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage}, "message_delta")


@pytest.mark.parametrize(
    ("reads", "usage"),
    [
        ((START,), Usage(128, 1)),
        ((START, TEXT, stopped(output_tokens=15)), Usage(128, 15)),
        ((START, stopped(output_tokens=4), stopped(output_tokens=15)), Usage(128, 15)),
        ((START, stopped(output_tokens=0)), Usage(128, 0)),
        ((START, stopped(output_tokens=15, input_tokens=0, cache_read_input_tokens=0)), Usage(128, 15)),
        ((START, stopped(output_tokens=15, input_tokens=30)), Usage(133, 15)),
        ((START.replace(b"25", b"0"), stopped(output_tokens=15, input_tokens=30)), Usage(133, 15)),
        ((START, stopped(output_tokens=-3)), Usage(128, 1)),
    ],
)
def test_a_message_tells_its_prompt_first_and_its_answer_last(reads: tuple[bytes, ...], usage: Usage) -> None:
    assert told("anthropic", *reads) == (usage, "claude")
    assert told("anthropic", b"".join(reads)) == (usage, "claude")


def test_a_message_without_a_usable_start() -> None:
    assert told("anthropic", event({"usage": {"x": 1}}), stopped(output_tokens=15)) == (Usage(0, 15), "")


OLLAMA = b'{"model":"llama3","done":true,"done_reason":"stop","prompt_eval_count":26,"prompt_eval_duration":1,"eval_count":298}'


@pytest.mark.parametrize("more", [b"", b"\n", b"\r\n", b"\n  \n"])
def test_lines_tell_it_in_the_last_one(more: bytes) -> None:
    first = b'{"model":"llama3","message":{"content":"hi"},"done":false}\n'
    assert told("ollama", first, first + OLLAMA + more) == (Usage(26, 298), "llama3")
    assert told("ollama", first) == NOTHING


def test_a_line_without_its_prompt_or_its_beginning() -> None:
    assert told("ollama", OLLAMA.replace(b'"prompt_eval_count":26,', b"")) == (Usage(0, 298), "llama3")
    assert told("ollama", OLLAMA[30:] + b"\n") == (Usage(26, 298), "")
    assert usage_of_document("ollama", b"\xef\xbb\xbf" + OLLAMA) == (Usage(26, 298), "llama3")
    assert usage_of_document("ollama", OLLAMA[30:]) == (Usage(26, 298), "")


def test_usage_in_the_tail_of_a_long_document() -> None:
    choices = [{"message": {"content": "x" * MAX_PARSED}, "finish_reason": "stop"}]
    body = json.dumps({"model": "m", "choices": choices, "usage": FINAL}).encode()
    assert usage_of_document("openai-chat", body) == (Usage(11, 2), "m")
    assert usage_of_document("openai-chat", body[-1000:]) == (Usage(11, 2), "")
    assert usage_of_document("openai-chat", body[-1000:-3]) == NOTHING
    message = {"model": "claude", "usage": {"input_tokens": 25, "cache_read_input_tokens": 5, "output_tokens": 9}}
    assert usage_of_document("anthropic", json.dumps(message).encode()) == (Usage(30, 9), "claude")


COUNTS = st.integers(0, 1 << 40)
EVENTS = st.one_of(
    st.sampled_from((TEXT, b": comment\n", b"data: [DONE]\n\n", b"id: 1\n\n", chunk(), chunk({}))),
    st.builds(lambda prompt, answer: chunk({"prompt_tokens": prompt, "completion_tokens": answer}), COUNTS, COUNTS),
    st.builds(lambda prompt, answer: chunk({"output_tokens": answer, "input_tokens": prompt}), COUNTS, COUNTS),
    st.builds(lambda answer: stopped(output_tokens=answer), COUNTS),
    st.builds(lambda answer: OLLAMA.replace(b"298", str(answer).encode()) + b"\n", COUNTS),
)


@settings(max_examples=300)
@given(
    dialect=st.sampled_from(sorted(DIALECTS)),
    events=st.lists(EVENTS, min_size=1, max_size=8),
    cuts=st.sets(st.integers(1, 7)),
    end_of_line=st.sampled_from((b"\n", b"\r\n", b"\r")),
)
def test_however_a_stream_is_cut_between_events_it_tells_the_same(
    dialect: str, events: list[bytes], cuts: set[int], end_of_line: bytes
) -> None:
    if dialect != "ollama":
        events = [each.replace(b"\n", end_of_line) for each in events]
    places = [0, *sorted(cuts), len(events)]
    reads = [b"".join(events[begin:end]) for begin, end in itertools.pairwise(places)]
    assert told(dialect, *reads) == told(dialect, b"".join(events))


BODIES = (T24 + T25, chunk(FINAL) + chunk(), START + TEXT + stopped(output_tokens=15), OLLAMA + b"\n" + OLLAMA)


@settings(max_examples=300)
@given(
    dialect=st.sampled_from((*DIALECTS, "?")),
    body=st.sampled_from(BODIES) | st.binary(),
    at=st.integers(0, 300),
    length=st.integers(0, 30),
    put=st.binary(max_size=6) | st.sampled_from((b"[" * 5000, b"9" * 5000, b'{"usage":{' * 500)),
)
def test_nothing_raises(dialect: str, body: bytes, at: int, length: int, put: bytes) -> None:
    changed = body[:at] + put + body[at + length :]
    witness = UsageWitness(dialect)
    for each in (changed[:at], changed[at:], changed):
        witness.see(each)
    for usage, model in (witness.read(), usage_of_document(dialect, changed)):
        assert usage is None or (usage.prompt >= 0 and usage.completion >= 0)
        assert model.isprintable()


@pytest.mark.parametrize("junk", [b'"usage":{' * 20_000, b'{"usage":' * 20_000, b'"usage":' * 20_000 + b"[" * 20_000, b"\n\r" * 20_000])
def test_hostile_bytes_take_no_time(junk: bytes) -> None:
    def read() -> None:
        witness = UsageWitness("anthropic")
        witness.see(b'data: {"usage":{"a":' + junk)
        assert witness.read() == NOTHING
        assert usage_of_document("openai-chat", junk * 10) == NOTHING

    assert min(timeit.repeat(read, number=1, repeat=3)) < 1.0


def test_a_chunk_that_has_none_costs_next_to_nothing() -> None:
    witness = UsageWitness("openai-chat")
    frames = chunk()
    assert min(timeit.repeat(lambda: witness.see(frames), number=1000, repeat=9)) / 1000 < 2e-6
