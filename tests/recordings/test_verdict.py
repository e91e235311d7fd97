"""What may be stored, as bytes."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from txsse.dialects import DIALECTS
from txsse.recordings.verdict import MAX_PARSED, REASONS, STEP, TURNS, judge
from txsse.wire.peek import at_once

DONE = b"data: [DONE]\n\n"


def event(value: object, name: str = "") -> bytes:
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(value).encode() + b"\n\n"


def chunk(content: str = "", finish: object = None, index: int = 0, **members: object) -> bytes:
    delta = {"content": content} if content else {}
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice], **members})


def verdict(body: bytes, dialect: str = "openai-chat", *, streamed: bool = True) -> str:
    return at_once(judge(dialect, streamed, body)).reason


V2 = chunk("hi") + chunk(finish="stop") + DONE
CREATED = event({"type": "response.created", "response": {"id": "resp-1"}})
COMPLETED = event({"type": "response.completed", "response": {"id": "resp-1", "status": "completed", "error": None}})
MESSAGE = (
    event({"type": "message_start", "message": {"id": "msg_1", "stop_reason": None}}, "message_start")
    + event({"type": "ping"}, "ping")
    + event({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}}, "message_delta")
    + event({"type": "message_stop"}, "message_stop")
)
LINES = b'{"model":"m","message":{"role":"assistant","content":"hi"},"done":false}\n{"model":"m","done":true,"done_reason":"stop"}\n'
LITERAL = chunk("data: [DONE]")


@pytest.mark.parametrize(
    ("case", "dialect", "body", "reason"),
    [
        ("V1", "openai-chat", b"", "empty"),
        ("V2", "openai-chat", V2, ""),
        ("V3", "openai-chat", V2.removesuffix(b"\n"), ""),
        ("V4", "openai-chat", V2.removesuffix(DONE), "no_terminal"),
        ("V5", "openai-chat", b'data: {"id":"chatcmpl-1"\n\n' + DONE, "not_json"),
        ("V6", "openai-chat", b": keep-alive\n\n: still-alive\n\n" + DONE, "empty"),
        ("V7", "openai-responses", CREATED + DONE + COMPLETED, "not_json"),
        ("V7 as chat", "openai-chat", CREATED + DONE + COMPLETED, "after_terminal"),
        ("V8", "openai-responses", CREATED + DONE + b": keep-alive\n\n", "not_json"),
        ("V8 as chat", "openai-chat", V2 + b": keep-alive\n\n", "after_terminal"),
        ("V9", "openai-chat", V2 + b": trailing keepalive", "after_terminal"),
        ("V10", "openai-chat", chunk("hi") + chunk() + DONE, "unfinished"),
        ("V11 one", "openai-chat", chunk("a") + chunk("b", index=1) + chunk(finish="stop") + DONE, "unfinished"),
        (
            "V11 both",
            "openai-chat",
            chunk("a") + chunk("b", index=1) + chunk(finish="stop") + chunk(finish="length", index=1) + DONE,
            "",
        ),
        ("V12", "openai-chat", event({"error": {"message": "temperature must be > 0"}, "detail": "Validation error"}) + DONE, "error"),
        ("V13", "openai-chat", chunk("a") + event({"object": "error", "message": "x"}) + DONE, "error"),
        *(
            (f"V14 as {dialect}", dialect, event({"type": "error", "code": "x", "message": "y"}, "error"), "error")
            for dialect in ("openai-chat", "openai-completions", "openai-responses", "anthropic", "sse")
        ),
        ("V16 dies", "openai-chat", LITERAL, "no_terminal"),
        ("V16 ends", "openai-chat", LITERAL + chunk(finish="stop") + DONE, ""),
    ],
)
def test_the_table(case: str, dialect: str, body: bytes, reason: str) -> None:
    assert verdict(body, dialect) == reason, case


@pytest.mark.parametrize("finish", ["stop", "length", "tool_calls", "function_call"])
@pytest.mark.parametrize("dialect", ["openai-chat", "openai-completions"])
def test_a_choice_may_end_for_these_reasons(dialect: str, finish: str) -> None:
    assert verdict(chunk("hi", finish) + DONE, dialect) == ""


@pytest.mark.parametrize("finish", ["content_filter", "error", "abort", "insufficient_system_resource", 1, ["stop"]])
def test_a_choice_may_end_for_no_other_reason(finish: object) -> None:
    assert verdict(chunk("hi") + chunk(finish="stop") + chunk(finish=finish) + DONE) == "finish_reason"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\xef\xbb\xbf" + V2, ""),
        (V2.replace(b"\n", b"\r\n"), ""),
        (V2.replace(b"\n", b"\r"), ""),
        (V2.replace(b"\n", b"\r").removesuffix(b"\r"), ""),
        (V2.removesuffix(b"\n\n"), ""),
        (V2.replace(b"data: ", b"data:"), ""),
        (V2 + b"\n\r\n\n", ""),
        (b": hello\n" + V2.replace(DONE, b": almost\n\n: there\n" + DONE), ""),
        (V2.replace(DONE, b"id: 7\ndata: [DONE]\nretry: 5\n\n"), ""),
        (chunk("hi") + event({"choices": [], "usage": {"total_tokens": 3}}) + chunk(finish="stop") + DONE, ""),
        (event({"choices": [{"delta": {"content": "hi"}, "finish_reason": ""}]}) + chunk(finish="stop") + DONE, ""),
        (chunk("hi", "stop", error=None) + DONE, ""),
        (V2.removesuffix(b"]\n\n"), "not_json"),
        (V2.replace(b"[DONE]", b"[DONE] "), "not_json"),
        (V2.replace(b"[DONE]\n", b"[DONE]\n: comment\n"), "after_terminal"),
        (V2 + b"id: 8\n\n", "after_terminal"),
        (V2 + b"event: ping\n\n", "after_terminal"),
        (V2 + b"data", "after_terminal"),
        (V2 + b"\xef\xbb\xbfdata: x\n\n", "after_terminal"),
        (V2 + DONE, "after_terminal"),
        (b"data\n\n" + V2, "not_json"),
        (event([1]) + V2, "not_json"),
        (event({"choices": {}}) + V2, "not_json"),
        (event({"choices": ["x"]}) + V2, "not_json"),
        (event({"choices": [{"index": "0"}]}) + V2, "not_json"),
        (event({"id": "1"}) + DONE, "unfinished"),
        (b"\n" * 9, "empty"),
        (DONE, "empty"),
        (b"event: error\n" + V2, "error"),
        (V2.replace(DONE, b"event: error\n" + DONE), "error"),
        (event({"choices": [{"finish_reason": None, "error": {"message": "x"}}]}) + V2, "error"),
        (event({"error": "text"}) + V2, "error"),
        (event({"detail": [{"msg": "field required"}]}) + V2, "error"),
        (event({"message": "no", "code": 400}) + V2, "error"),
        (b"data: " + b"[" * 100_000 + b"\n\n" + V2, "not_json"),
        (b"data: " + b"9" * 10_000 + b"\n\n" + V2, "not_json"),
    ],
)
def test_a_chat_stream(body: bytes, reason: str) -> None:
    assert verdict(body) == reason


@pytest.mark.parametrize("kind", ["completed", "incomplete"])
def test_a_response_that_ran_out_of_tokens_is_stored_as_length_is(kind: str) -> None:
    def ended(reason: str) -> bytes:
        response = {"status": "incomplete", "incomplete_details": {"reason": reason}}
        return CREATED + event({"type": f"response.{kind}", "response": response}, f"response.{kind}")

    assert verdict(ended("max_output_tokens"), "openai-responses") == ""
    assert verdict(ended("content_filter"), "openai-responses") == "finish_reason"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (CREATED + COMPLETED, ""),
        (CREATED + COMPLETED.removesuffix(b"\n\n"), ""),
        (COMPLETED, ""),
        (b"\xef\xbb\xbf" + COMPLETED, ""),
        (CREATED + event({"response": {"status": "completed"}}, "response.completed"), ""),
        (CREATED, "no_terminal"),
        (CREATED + COMPLETED + CREATED, "after_terminal"),
        (CREATED + COMPLETED + DONE, ""),
        (CREATED + COMPLETED + DONE + DONE, "after_terminal"),
        (CREATED + COMPLETED + DONE + b": bye\n\n", "after_terminal"),
        (CREATED + COMPLETED + b": bye\n\n", "after_terminal"),
        (CREATED + COMPLETED.replace(b'"completed"', b'"in_progress"'), "unfinished"),
        (CREATED + COMPLETED.replace(b'"completed"', b'"failed"'), "error"),
        (CREATED + COMPLETED.replace(b"null", b'{"code":"server_error"}'), "error"),
        (CREATED + event({"type": "response.failed", "response": {"status": "failed"}}), "error"),
        (CREATED + event({"type": "response.incomplete", "response": None}), "finish_reason"),
    ],
)
def test_a_stream_of_responses(body: bytes, reason: str) -> None:
    assert verdict(body, "openai-responses") == reason


@pytest.mark.parametrize("stop", ["end_turn", "stop_sequence", "max_tokens", "tool_use"])
def test_a_message_may_stop_for_these_reasons(stop: str) -> None:
    assert verdict(MESSAGE.replace(b"end_turn", stop.encode()), "anthropic") == ""


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (MESSAGE.replace(b"end_turn", b"refusal"), "finish_reason"),
        (MESSAGE.replace(b"end_turn", b"pause_turn"), "finish_reason"),
        (MESSAGE.replace(b'"end_turn"', b"null"), "unfinished"),
        (MESSAGE.replace(b'{"stop_reason": "end_turn"}', b"7"), "unfinished"),
        (MESSAGE[: MESSAGE.index(b"event: message_stop")], "no_terminal"),
        (MESSAGE + event({"type": "ping"}, "ping"), "after_terminal"),
        (MESSAGE + DONE, ""),
        (MESSAGE + DONE + event({"type": "ping"}, "ping"), "after_terminal"),
        (MESSAGE.removesuffix(b"\n\n"), ""),
        (event({"type": "ping"}, "ping") + event({"type": "error", "error": {"type": "overloaded_error"}}, "error"), "error"),
        (event({"type": "error", "error": {"type": "overloaded_error"}}) + MESSAGE, "error"),
    ],
)
def test_a_message(body: bytes, reason: str) -> None:
    assert verdict(body, "anthropic") == reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (LINES, ""),
        (LINES.removesuffix(b"\n"), ""),
        (LINES.replace(b"\n", b"\r\n"), ""),
        (b"\xef\xbb\xbf   " + LINES.replace(b"\n", b"\n   \n  ") + b"\n\n", ""),
        (LINES.replace(b'"stop"', b'"length"'), ""),
        (LINES.replace(b',"done_reason":"stop"', b""), ""),
        (LINES.replace(b'"stop"', b'"load"'), "finish_reason"),
        (LINES.replace(b'"stop"', b'"unload"'), "finish_reason"),
        (LINES[: LINES.index(b"\n") + 1], "no_terminal"),
        (LINES + LINES, "after_terminal"),
        (LINES + b'{"error":"late"}\n', "after_terminal"),
        (LINES[:-3], "not_json"),
        (b'{"error":"model runner has stopped"}\n', "error"),
        (b": comment\n" + LINES, "not_json"),
        (b" \n \n", "empty"),
    ],
)
def test_lines(body: bytes, reason: str) -> None:
    assert verdict(body, "ollama") == reason


@pytest.mark.parametrize("dialect", ["sse", "a dialect of tomorrow"])
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"data: hello\n\n", ""),
        (b"data: 1\r\n\r\n", ""),
        (b"data: 1\r\r", ""),
        (b'data: {"a":1}\n\n: bye\n', ""),
        (b'data: {"a":\n\n', ""),
        (b"event: done\ndata\n\nid: 7\n\n", ""),
        (b": only\n\nevent: x\n\n", "empty"),
        (b"data: hel", "unfinished"),
        (b"data: 1\n\ndata: hello\n", "unfinished"),
        (b"data: 1\n\ndata: hello\r\n", "unfinished"),
        (b"event: error\ndata: oh\n\n", "error"),
        (b'data:  {"error":"oh"}\n\n', "error"),
        (b'data: {"detail":"Not authenticated"}\n\n', "error"),
    ],
)
def test_an_unknown_stream(dialect: str, body: bytes, reason: str) -> None:
    assert verdict(body, dialect) == reason


DOCUMENTS: list[tuple[str, object, str]] = [
    ("openai-chat", {"choices": [{"index": 0, "message": {}, "finish_reason": "stop"}]}, ""),
    ("openai-chat", {"choices": [{"finish_reason": "stop"}, {"finish_reason": "tool_calls"}]}, ""),
    ("openai-chat", {"choices": [{"finish_reason": "stop"}, {"finish_reason": None}]}, "unfinished"),
    ("openai-chat", {"choices": [{"finish_reason": "content_filter"}]}, "finish_reason"),
    ("openai-chat", {"choices": []}, "unfinished"),
    ("openai-chat", {"choices": None}, "unfinished"),
    ("openai-chat", {"id": "x"}, "unfinished"),
    ("openai-chat", {"error": {"message": "x"}}, "error"),
    ("openai-chat", {"detail": "x"}, "error"),
    ("openai-chat", {"message": "x", "code": 7}, "error"),
    ("openai-chat", [{"finish_reason": "stop"}], "not_json"),
    ("openai-completions", {"choices": [{"text": "x", "index": 0, "finish_reason": "length"}]}, ""),
    ("openai-responses", {"status": "completed", "error": None}, ""),
    ("openai-responses", {"status": "completed", "error": {"code": "x"}}, "error"),
    ("openai-responses", {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, ""),
    ("openai-responses", {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "finish_reason"),
    ("openai-responses", {"status": "failed"}, "error"),
    ("openai-responses", {"status": "queued"}, "unfinished"),
    ("openai-responses", {}, "unfinished"),
    ("anthropic", {"type": "message", "stop_reason": "tool_use"}, ""),
    ("anthropic", {"type": "message", "stop_reason": "refusal"}, "finish_reason"),
    ("anthropic", {"type": "message", "stop_reason": None}, "unfinished"),
    ("anthropic", {"type": "error", "error": {}}, "error"),
    ("ollama", {"message": {}, "done": True, "done_reason": "stop"}, ""),
    ("ollama", {"response": "x", "done": True}, ""),
    ("ollama", {"done": True, "done_reason": "load"}, "finish_reason"),
    ("ollama", {"done": 1}, "unfinished"),
    ("ollama", {"error": "x"}, "error"),
    ("sse", {"object": "list", "data": []}, ""),
    ("sse", [], ""),
    ("sse", {"object": "error", "message": "x"}, "error"),
    ("sse", 7, "not_json"),
    ("sse", None, "not_json"),
]


@pytest.mark.parametrize("padding", [0, MAX_PARSED])
@pytest.mark.parametrize(("dialect", "value", "reason"), DOCUMENTS)
def test_a_document_is_judged_alike_whatever_its_size(dialect: str, value: object, reason: str, padding: int) -> None:
    if padding and isinstance(value, dict):
        value = {"padding": '"finish_reason": null' * (padding // 10), **value}
    elif padding and isinstance(value, list):
        value = [*value, "x" * padding]
    for body in (json.dumps(value).encode(), json.dumps(value, indent=1).encode() + b"\n"):
        assert verdict(body, dialect, streamed=False) == reason


@pytest.mark.parametrize("size", [1, MAX_PARSED])
def test_a_document_has_to_be_whole(size: int) -> None:
    body = json.dumps({"text": "x" * size, "choices": [{"finish_reason": "stop"}]}).encode()
    assert verdict(body, streamed=False) == ""
    assert verdict(body[:-1], streamed=False) == "not_json"
    assert verdict(body + b"{}", streamed=False) == "not_json"
    assert verdict(b"<" + body, streamed=False) == "not_json"
    assert verdict(b"[" + body, "sse", streamed=False) == "not_json"
    assert verdict(b" \n", streamed=False) == "empty"


def test_a_long_document_with_members_too_long_to_be_kept() -> None:
    long = "x" * MAX_PARSED
    assert verdict(json.dumps({"error": {"message": long}}).encode(), streamed=False) == "error"
    assert verdict(json.dumps({"message": long, "code": 7}).encode(), streamed=False) == "error"
    assert verdict(json.dumps({"choices": [{"text": long, "finish_reason": None}]}).encode(), streamed=False) == "unfinished"
    assert verdict(json.dumps({"choices": long}).encode(), streamed=False) == "not_json"
    assert verdict(json.dumps({"n": long, "code": 7, "status": "completed"}).encode(), "openai-responses", streamed=False) == ""


def test_a_long_stream_is_judged_in_turns() -> None:
    steps = list(judge("openai-chat", True, b"".join(chunk("hello", n=n) for n in range(5000)) + V2))
    assert len(steps) >= 5000 // TURNS
    alike = chunk("hello") * 5000 + V2
    assert len(list(judge("openai-chat", True, alike))) >= len(alike) // (2 * STEP)
    lines = list(judge("ollama", True, b'{"done":false}\n' * 5000 + LINES))
    assert len(lines) >= 5000 // TURNS
    assert len(list(judge("sse", False, b'{"a":"%b"}' % (b"x" * (1 << 20))))) > 4


def test_a_turn_is_short() -> None:
    steps = judge("openai-chat", True, chunk("hello wonderful world") * 6000 + V2)
    turns = []
    before = time.perf_counter()
    for _ in steps:
        now = time.perf_counter()
        turns.append(now - before)
        before = now
    assert sorted(turns)[len(turns) // 2] < 0.01


@pytest.mark.parametrize(
    ("dialect", "body"), [("openai-chat", V2), ("openai-responses", CREATED + COMPLETED), ("anthropic", MESSAGE), ("ollama", LINES)]
)
def test_what_is_cut_is_never_stored(dialect: str, body: bytes) -> None:
    for end in range(len(body.rstrip(b"\r\n"))):
        assert verdict(body[:end], dialect) in REASONS


PIECES = st.sampled_from(
    (
        *(chunk("hi"), chunk(finish="stop"), chunk(finish="stop", index=1), DONE, CREATED, COMPLETED, MESSAGE, LINES),
        *(b": comment\n", b"\n", b"\r", b"\r\n", b"data: x\n\n", b"event: error\n", b'{"done":true}\n', b"\xef\xbb\xbf", b"\xff"),
        *(b'data: {"error":1}\n\n', b"data", b"data: [DONE]", b'{"choices":[]}', b"[", b"]", b"{", b"}"),
    )
)


@settings(max_examples=300)
@given(dialect=st.sampled_from((*DIALECTS, "?")), streamed=st.booleans(), body=st.lists(PIECES, max_size=8).map(b"".join) | st.binary())
def test_nothing_raises(dialect: str, streamed: bool, body: bytes) -> None:
    assert verdict(body, dialect, streamed=streamed) in REASONS | {""}


@settings(max_examples=300)
@given(st.lists(PIECES, max_size=6).map(b"".join))
def test_after_a_stored_chat_stream_come_only_blank_lines(more: bytes) -> None:
    stored = verdict(V2 + more) == ""
    assert stored == (not more.strip(b"\r\n"))


MUTATIONS = st.tuples(st.integers(0, 400), st.integers(0, 20), st.binary(max_size=6))


@settings(max_examples=300)
@given(
    case=st.sampled_from((("openai-chat", V2), ("openai-responses", COMPLETED), ("anthropic", MESSAGE), ("ollama", LINES))), cut=MUTATIONS
)
def test_no_mutation_raises(case: tuple[str, bytes], cut: tuple[int, int, bytes]) -> None:
    dialect, body = case
    at, length, put = cut
    assert verdict(body[:at] + put + body[at + length :], dialect) in REASONS | {""}
    assert verdict(body[:at] + put + body[at + length :], dialect, streamed=False) in REASONS | {""}
