"""The bytes of each dialect, as the wire page and the error table fix them."""

from __future__ import annotations

import json

import pytest

from txsse.dialects import DIALECTS, TEXT_MEMBERS, Dialect, Speaker, choose, detect
from txsse.dialects.shapes import anthropic_error, dump
from txsse.errors import CODES, ProxyError

CHAT, COMPLETIONS, RESPONSES, ANTHROPIC, OLLAMA, SSE = DIALECTS.values()
GENERATE = detect("/api/generate")
SPEAKER = Speaker("0123456789abcdef", 1_700_000_000, "qwen3:4b")


def by_name(dialect: Dialect) -> str:
    return dialect.name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/chat/completions", "openai-chat"),
        ("/chat/completions", "openai-chat"),
        ("/openai/deployments/x/chat/completions", "openai-chat"),
        ("/v1/completions", "openai-completions"),
        ("/completions", "openai-completions"),
        ("/v1/responses", "openai-responses"),
        ("/responses", "openai-responses"),
        ("/v1/messages", "anthropic"),
        ("/anthropic/v1/messages", "anthropic"),
        ("/api/chat", "ollama"),
        ("/api/generate", "ollama"),
        ("/v1/chat/completions/", "sse"),
        ("/v1/chat/completions/control", "sse"),
        ("/xcompletions", "sse"),
        ("/messages", "sse"),
        ("/v1/messages/count_tokens", "sse"),
        ("/v1/responses/resp_1", "sse"),
        ("/api/tags", "sse"),
        ("/completion", "sse"),
        ("/v1/embeddings", "sse"),
        ("/health", "sse"),
        ("/", "sse"),
        ("", "sse"),
    ],
)
def test_the_dialect_is_told_by_the_end_of_the_path(path: str, name: str) -> None:
    assert detect(path).name == name
    assert choose("auto", path) is detect(path)
    assert choose(name, path) is detect(path)


def test_a_route_can_say_otherwise() -> None:
    assert choose("sse", "/v1/chat/completions") is SSE
    assert choose("openai-chat", "/ask") is CHAT
    assert choose("ollama", "/my/chat") is OLLAMA
    assert choose("ollama", "/api/generate") is GENERATE


def test_there_are_six() -> None:
    assert list(DIALECTS) == ["openai-chat", "openai-completions", "openai-responses", "anthropic", "ollama", "sse"]
    assert all(dialect.name == name for name, dialect in DIALECTS.items())


# -- signs of life


@pytest.mark.parametrize("dialect", [CHAT, COMPLETIONS, RESPONSES, ANTHROPIC, SSE], ids=by_name)
def test_a_keepalive_is_a_comment_and_one_newline(dialect: Dialect) -> None:
    assert dialect.keepalive() == b": txsse\n"
    assert dialect.comment('{"state":"waking"}') == b': txsse {"state":"waking"}\n'
    assert dialect.content_type == b"text/event-stream; charset=utf-8"
    assert dialect.is_stream(b"text/event-stream")
    assert not dialect.is_stream(b"application/x-ndjson")
    assert not dialect.by_lines
    assert not dialect.streams_unless_told


@pytest.mark.parametrize("dialect", [OLLAMA, GENERATE])
def test_ollamas_keepalive_is_a_blank_and_there_are_no_comments(dialect: Dialect) -> None:
    assert dialect.keepalive() == b" "
    assert dialect.comment('{"state":"waking"}') == b""
    assert dialect.content_type == b"application/x-ndjson"
    assert dialect.is_stream(b"application/x-ndjson; charset=utf-8")
    assert not dialect.is_stream(b"application/json; charset=utf-8")
    assert not dialect.is_stream(b"text/event-stream")
    assert not dialect.is_stream(None)
    assert dialect.by_lines
    assert dialect.streams_unless_told


CHAT_BEGIN = (
    b'data: {"id":"chatcmpl-txsse-0123456789abcdef","object":"chat.completion.chunk","created":1700000000,"model":"qwen3:4b","choices":['
)
COMPLETIONS_BEGIN = (
    b'data: {"id":"cmpl-txsse-0123456789abcdef","object":"text_completion","created":1700000000,"model":"qwen3:4b","choices":['
)
OLLAMA_BEGIN = b'{"model":"qwen3:4b","created_at":"2023-11-14T22:13:20Z",'
PING = b'event: ping\ndata: {"type": "ping"}\n\n'
HEARTBEATS = {
    CHAT: CHAT_BEGIN + b'{"index":0,"delta":{"content":""},"finish_reason":null}]}\n\n',
    COMPLETIONS: COMPLETIONS_BEGIN + b'{"text":"","index":0,"logprobs":null,"finish_reason":null}]}\n\n',
    RESPONSES: b"",
    ANTHROPIC: PING,
    OLLAMA: OLLAMA_BEGIN + b'"message":{"role":"assistant","content":""},"done":false}\n',
    GENERATE: OLLAMA_BEGIN + b'"response":"","done":false}\n',
    SSE: b"",
}


@pytest.mark.parametrize("dialect", HEARTBEATS, ids=by_name)
def test_heartbeat(dialect: Dialect) -> None:
    assert dialect.heartbeat(SPEAKER, None) == HEARTBEATS[dialect]


@pytest.mark.parametrize(("client", "beats"), [("codex_cli_rs/0.98", True), ("Codex", True), ("OpenAI/Python 3.51.0", False), ("", False)])
def test_of_responses_only_codex_gets_a_heartbeat(client: str, beats: bool) -> None:
    beat = b'event: keepalive\ndata: {"type":"keepalive","sequence_number":0}\n\n'
    assert RESPONSES.heartbeat(Speaker("00", 1, "m", client), None) == (beat if beats else b"")


LINE = b": txsse\n"
FRAME = b": txsse\n\n"
FORMS = [
    # dialect, auto, line, frame, frame after an id, event
    (CHAT, LINE, LINE, FRAME, LINE, HEARTBEATS[CHAT]),
    (COMPLETIONS, LINE, LINE, FRAME, LINE, HEARTBEATS[COMPLETIONS]),
    (RESPONSES, LINE, LINE, FRAME, LINE, LINE),
    (ANTHROPIC, PING, LINE, FRAME, LINE, PING),
    (OLLAMA, b" ", b" ", b" ", b" ", HEARTBEATS[OLLAMA]),
    (GENERATE, b" ", b" ", b" ", b" ", HEARTBEATS[GENERATE]),
    (SSE, LINE, LINE, FRAME, LINE, LINE),
]


@pytest.mark.parametrize(("dialect", "auto", "line", "frame", "frame_after_id", "event"), FORMS, ids=[each[0].name for each in FORMS])
def test_signs_of_life(dialect: Dialect, auto: bytes, line: bytes, frame: bytes, frame_after_id: bytes, event: bytes) -> None:
    def sign(form: str, after_id: bool = False, status: str = "") -> bytes:
        return dialect.sign_of_life(form, lambda: SPEAKER, after_id=after_id, status=status)

    assert sign("auto") == auto
    assert sign("line") == sign("line", after_id=True) == line
    assert sign("frame") == frame
    assert sign("frame", after_id=True) == frame_after_id
    assert sign("event") == sign("event", after_id=True) == event
    assert sign("none") == sign("none", status="{}") == b""


@pytest.mark.parametrize("dialect", [each[0] for each in FORMS], ids=by_name)
def test_a_status_is_said_where_there_are_comments(dialect: Dialect) -> None:
    said = dialect.comment("{}") or b" "
    assert dialect.sign_of_life("auto", lambda: SPEAKER, status="{}") == said
    assert dialect.sign_of_life("line", lambda: SPEAKER, status="{}") == said
    assert dialect.sign_of_life("frame", lambda: SPEAKER, status="{}") == (b" " if dialect.by_lines else said + b"\n")
    if beat := HEARTBEATS[dialect]:
        assert dialect.sign_of_life("event", lambda: SPEAKER, status="{}") == beat


def test_nobody_is_asked_who_speaks_for_a_comment() -> None:
    def who() -> Speaker:
        pytest.fail("a comment has no speaker")

    for form in ("auto", "line", "frame", "none"):
        assert isinstance(CHAT.sign_of_life(form, who), bytes)


# -- visible text


@pytest.mark.parametrize(("channel", "name"), [("reasoning", "reasoning_content"), ("content", "content")])
def test_chat_message(channel: str, name: str) -> None:
    text = "Modèle “x” wakes\n\n---\n"
    expected = CHAT_BEGIN + f'{{"index":0,"delta":{{"{name}":"Modèle “x” wakes\\n\\n---\\n"}},"finish_reason":null}}]}}\n\n'.encode()
    assert CHAT.message(SPEAKER, text, channel, first=True) == expected
    assert CHAT.message(SPEAKER, text, channel, first=False) == expected


def test_chat_separator() -> None:
    separator = CHAT_BEGIN + b'{"index":0,"delta":{"content":"\\n\\n---\\n\\n"},"finish_reason":null}]}\n\n'
    assert CHAT.before_answer(SPEAKER, "\n\n---\n\n", "content") == separator
    assert CHAT.before_answer(SPEAKER, "", "content") == b""
    assert CHAT.before_answer(SPEAKER, "\n\n---\n\n", "reasoning") == b""
    assert CHAT.after_message() is None


@pytest.mark.parametrize("channel", ["reasoning", "content"])
def test_completions_message_and_separator(channel: str) -> None:
    def text(said: bytes) -> bytes:
        return COMPLETIONS_BEGIN + b'{"text":"' + said + b'","index":0,"logprobs":null,"finish_reason":null}]}\n\n'

    assert COMPLETIONS.message(SPEAKER, "Model is waking up…", channel, first=True) == text("Model is waking up…".encode())
    assert COMPLETIONS.before_answer(SPEAKER, "\n\n---\n\n", channel) == text(b"\\n\\n")
    assert COMPLETIONS.before_answer(SPEAKER, "~", channel) == text(b"~")
    assert COMPLETIONS.before_answer(SPEAKER, "", channel) == b""
    assert COMPLETIONS.after_message() is None


def test_anthropic_text() -> None:
    assert (
        ANTHROPIC.message(SPEAKER, "Modèle “x” wakes\n", "content", first=True)
        == (
            "event: message_start\n"
            'data: {"type":"message_start","message":{"id":"msg_txsse_0123456789abcdef","type":"message","role":"assistant","content":[],'
            '"model":"qwen3:4b","stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":0,"output_tokens":0}}}\n\n'
            "event: content_block_start\n"
            'data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n'
            "event: content_block_delta\n"
            'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Modèle “x” wakes\\n"}}\n\n'
        ).encode()
    )
    assert ANTHROPIC.message(SPEAKER, ".", "content", first=False) == (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"."}}\n\n'
    )


def test_anthropic_thinking() -> None:
    first = ANTHROPIC.message(SPEAKER, "Model is waking up", "reasoning", first=True)
    assert first.startswith(b"event: message_start\n")
    assert first.endswith(
        b"event: content_block_start\n"
        b'data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}\n\n'
        b"event: content_block_delta\n"
        b'data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"Model is waking up"}}\n\n'
    )
    assert ANTHROPIC.message(SPEAKER, ".", "reasoning", first=False) == (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"."}}\n\n'
    )


@pytest.mark.parametrize("channel", ["reasoning", "content"])
@pytest.mark.parametrize("separator", ["", "\n\n---\n\n"])
def test_anthropics_separator_is_the_end_of_the_block(channel: str, separator: str) -> None:
    assert ANTHROPIC.before_answer(SPEAKER, separator, channel) == (
        b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
    )
    assert ANTHROPIC.after_message() is not None


def test_ollama_message_and_separator() -> None:
    assert OLLAMA.message(SPEAKER, "Model is waking up…", "reasoning", first=True) == (
        OLLAMA_BEGIN + '"message":{"role":"assistant","content":"","thinking":"Model is waking up…"},"done":false}\n'.encode()
    )
    assert OLLAMA.message(SPEAKER, "a\nb", "content", first=True) == (
        OLLAMA_BEGIN + b'"message":{"role":"assistant","content":"a\\nb"},"done":false}\n'
    )
    assert OLLAMA.before_answer(SPEAKER, "\n\n---\n\n", "content") == (
        OLLAMA_BEGIN + b'"message":{"role":"assistant","content":"\\n\\n---\\n\\n"},"done":false}\n'
    )
    assert OLLAMA.before_answer(SPEAKER, "\n\n---\n\n", "reasoning") == b""
    assert OLLAMA.before_answer(SPEAKER, "", "content") == b""
    assert OLLAMA.after_message() is None


def test_ollama_generate_message_and_separator() -> None:
    assert GENERATE.message(SPEAKER, "Hm", "reasoning", first=True) == OLLAMA_BEGIN + b'"response":"","thinking":"Hm","done":false}\n'
    assert GENERATE.message(SPEAKER, "Hm", "content", first=True) == OLLAMA_BEGIN + b'"response":"Hm","done":false}\n'
    assert GENERATE.before_answer(SPEAKER, "--", "content") == OLLAMA_BEGIN + b'"response":"--","done":false}\n'


@pytest.mark.parametrize("dialect", [RESPONSES, SSE], ids=by_name)
def test_where_nothing_can_be_shown_nothing_is(dialect: Dialect) -> None:
    assert dialect.message(SPEAKER, "Hello", "content", first=True) == b""
    assert dialect.before_answer(SPEAKER, "---", "content") == b""
    assert dialect.after_message() is None
    assert not dialect.may_show_text({})


@pytest.mark.parametrize("dialect", [CHAT, COMPLETIONS], ids=by_name)
def test_the_model_stands_in_a_chunk_as_the_request_had_it(dialect: Dialect) -> None:
    odd = Speaker("00", 1, 'a"b\\c\n\x00é😀')
    chunk = dialect.heartbeat(odd, None)
    assert chunk.count(b"\n") == 2
    assert json.loads(chunk.removeprefix(b"data: "))["model"] == odd.model


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (1_795_219_199, "2026-11-20T23:59:59Z"),
        (4_102_444_800, "2100-01-01T00:00:00Z"),
    ],
)
def test_ollamas_times_are_rfc_3339(seconds: int, written: str) -> None:
    assert json.loads(OLLAMA.heartbeat(Speaker("00", seconds, "m"), None))["created_at"] == written


# -- errors

UNAVAILABLE = ProxyError("upstream_unavailable", "The backend cannot be reached.")


@pytest.mark.parametrize("dialect", [CHAT, COMPLETIONS], ids=by_name)
def test_openai_error_frame_and_body(dialect: Dialect) -> None:
    inner = b'{"error":{"message":"The backend cannot be reached.","type":"server_error","param":null,"code":"upstream_unavailable"}}'
    assert dialect.error_frame(UNAVAILABLE, SPEAKER, None) == b"data: " + inner + b"\n\n"
    assert dialect.error_body(UNAVAILABLE) == inner
    assert dialect.done == b"data: [DONE]\n\n"
    assert dialect.error_after_their_head


def test_responses_error_frames_and_body() -> None:
    assert RESPONSES.error_frame(UNAVAILABLE, SPEAKER, None) == (
        b"event: error\n"
        b'data: {"type":"error","sequence_number":0,"code":"server_error","message":"The backend cannot be reached.","param":null,'
        b'"error":{"type":"server_error","code":"server_error","message":"The backend cannot be reached.","param":null}}\n\n'
        b"event: response.failed\n"
        b'data: {"type":"response.failed","sequence_number":1,"response":{"id":"resp_txsse_0123456789abcdef","object":"response",'
        b'"created_at":1700000000,"status":"failed","error":{"code":"server_error","message":"The backend cannot be reached."},'
        b'"incomplete_details":null,"model":"qwen3:4b","output":[],"parallel_tool_calls":true,"tool_choice":"auto","tools":[]}}\n\n'
    )
    assert RESPONSES.error_body(UNAVAILABLE) == CHAT.error_body(UNAVAILABLE)
    assert RESPONSES.done == b""
    assert RESPONSES.error_after_their_head


def test_responses_errors_continue_upstreams_stream() -> None:
    witness = RESPONSES.witness(midstream=False)
    assert witness is not None
    witness.see(b'event: response.created\ndata: {"type":"response.created","sequence_number":0,"response":{"id":"resp_1"}}\n\n')
    witness.see(b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":41,"delta":"x"}\n\n')
    first, second = RESPONSES.error_frame(UNAVAILABLE, SPEAKER, witness).split(b"\n\n")[:2]
    assert json.loads(first.partition(b"data: ")[2])["sequence_number"] == 42
    failed = json.loads(second.partition(b"data: ")[2])
    assert failed["sequence_number"] == 43
    assert failed["response"]["id"] == "resp_1"


def test_anthropic_error_frame_and_body() -> None:
    waited = ProxyError("readiness_timeout", "Not ready within 600 s.")
    assert ANTHROPIC.error_frame(waited, SPEAKER, None) == (
        b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Not ready within 600 s."}}\n\n'
    )
    assert ANTHROPIC.error_body(waited) == (
        b'{"type":"error","error":{"type":"overloaded_error","message":"Not ready within 600 s.","code":"readiness_timeout"}}'
    )
    assert ANTHROPIC.done == b""
    assert ANTHROPIC.error_after_their_head


@pytest.mark.parametrize("dialect", [OLLAMA, GENERATE])
def test_ollama_error_line_and_body(dialect: Dialect) -> None:
    assert dialect.error_frame(UNAVAILABLE, SPEAKER, None) == b'{"error":"The backend cannot be reached."}\n'
    assert dialect.error_body(UNAVAILABLE) == b'{"error":"The backend cannot be reached."}'
    assert dialect.done == b""
    assert dialect.error_after_their_head


def test_sse_error_frame_and_body() -> None:
    assert SSE.error_frame(UNAVAILABLE, SPEAKER, None) == (
        b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"The backend cannot be reached.",'
        b'"code":"upstream_unavailable"}}\n\n'
    )
    assert SSE.error_body(UNAVAILABLE) == CHAT.error_body(UNAVAILABLE)
    assert SSE.done == b""
    assert SSE.terminal_pattern is None
    assert not SSE.error_after_their_head


ERRORS = [
    ("bad_request", 400, "invalid_request_error", "invalid_request_error"),
    ("request_timeout", 408, "invalid_request_error", "invalid_request_error"),
    ("head_too_large", 431, "invalid_request_error", "request_too_large"),
    ("body_too_large", 413, "invalid_request_error", "request_too_large"),
    ("too_many_connections", 503, "server_error", "overloaded_error"),
    ("invalid_api_key", 401, "invalid_request_error", "authentication_error"),
    ("no_route", 404, "invalid_request_error", "not_found_error"),
    ("too_many_waiting", 429, "rate_limit_error", "rate_limit_error"),
    ("readiness_timeout", 503, "server_error", "overloaded_error"),
    ("queue_timeout", 503, "server_error", "overloaded_error"),
    ("wake_failed", 503, "server_error", "api_error"),
    ("upstream_unavailable", 502, "server_error", "api_error"),
    ("upstream_invalid", 502, "server_error", "api_error"),
    ("upstream_timeout", 504, "server_error", "api_error"),
    ("upstream_error", 502, "server_error", "api_error"),
    ("upstream_disconnected", 502, "server_error", "api_error"),
    ("shutting_down", 503, "server_error", "overloaded_error"),
    ("loop_detected", 508, "invalid_request_error", "invalid_request_error"),
    ("cache_miss", 504, "invalid_request_error", "invalid_request_error"),
    ("stream_not_found", 404, "invalid_request_error", "invalid_request_error"),
    ("stream_gone", 410, "invalid_request_error", "invalid_request_error"),
    ("bad_cursor", 400, "invalid_request_error", "invalid_request_error"),
    ("idempotency_conflict", 422, "invalid_request_error", "invalid_request_error"),
    ("too_many_readers", 429, "invalid_request_error", "invalid_request_error"),
    ("at_capacity", 409, "invalid_request_error", "invalid_request_error"),
    ("not_streamable", 406, "invalid_request_error", "invalid_request_error"),
    ("replay_truncated", 502, "server_error", "api_error"),
    ("cancelled", 502, "server_error", "api_error"),
    ("owner_lost", 502, "server_error", "api_error"),
]


@pytest.mark.parametrize(("code", "status", "openai", "anthropic"), ERRORS)
def test_the_table_of_errors(code: str, status: int, openai: str, anthropic: str) -> None:
    error = ProxyError(code, "x")
    assert error.http_status == status
    assert json.loads(CHAT.error_body(error))["error"]["type"] == openai
    assert anthropic_error(error)["type"] == anthropic


def test_no_code_is_without_its_row() -> None:
    assert set(CODES) <= {row[0] for row in ERRORS}


def test_upstreams_members_are_kept_in_their_order_and_ours_added() -> None:
    members = {
        "message": "too long",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "context_length_exceeded",
        "n_ctx": 4096,
    }
    error = ProxyError("upstream_error", "too long", members=members, upstream_status=400)
    assert CHAT.error_frame(error, SPEAKER, None) == (
        b'data: {"error":{"message":"too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded",'
        b'"n_ctx":4096,"status":400}}\n\n'
    )
    assert json.loads(SSE.error_frame(error, SPEAKER, None).partition(b"data: ")[2])["error"]["type"] == "invalid_request_error"
    assert ANTHROPIC.error_frame(error, SPEAKER, None) == (
        b'event: error\ndata: {"type":"error","error":{"message":"too long","type":"invalid_request_error","param":"messages",'
        b'"code":"context_length_exceeded","n_ctx":4096,"status":400}}\n\n'
    )
    assert OLLAMA.error_frame(error, SPEAKER, None) == (
        b'{"error":"too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded","n_ctx":4096,'
        b'"status":400}\n'
    )
    assert RESPONSES.error_frame(error, SPEAKER, None).startswith(
        b'event: error\ndata: {"type":"error","sequence_number":0,"code":"context_length_exceeded","message":"too long","param":"messages",'
        b'"error":{"type":"invalid_request_error","code":"context_length_exceeded","message":"too long","param":"messages","n_ctx":4096,'
        b'"status":400}}\n\nevent: response.failed\n'
    )
    assert b'"error":{"code":"context_length_exceeded","message":"too long"}' in RESPONSES.error_frame(error, SPEAKER, None)
    assert "status" not in members


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [(503, "503"), ("x", "x"), (None, "upstream_error"), (True, "upstream_error"), (1.5, "1.5")],
)
def test_a_code_is_always_a_string(theirs: object, ours: str) -> None:
    error = ProxyError("upstream_error", "x", members={"message": "x", "code": theirs}, upstream_status=503)
    for dialect in (CHAT, COMPLETIONS, RESPONSES, ANTHROPIC, SSE):
        frame = dialect.error_frame(error, SPEAKER, None).partition(b"\n\n")[0]
        assert json.loads(frame.partition(b"data: ")[2])["error"]["code"] == ours


def test_an_upstreams_type_that_is_no_string_is_replaced() -> None:
    error = ProxyError("upstream_error", "x", members={"message": "x", "type": None}, upstream_status=500)
    assert json.loads(CHAT.error_body(error))["error"]["type"] == "server_error"


def test_an_upstream_that_gave_only_a_text_gets_our_members() -> None:
    error = ProxyError("upstream_error", "no such model", members={"message": "no such model"}, upstream_status=404)
    assert CHAT.error_frame(error, SPEAKER, None) == (
        b'data: {"error":{"message":"no such model","type":"server_error","param":null,"code":"upstream_error","status":404}}\n\n'
    )
    assert ANTHROPIC.error_frame(error, SPEAKER, None) == (
        b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"no such model","code":"upstream_error",'
        b'"status":404}}\n\n'
    )
    assert OLLAMA.error_frame(error, SPEAKER, None) == b'{"error":"no such model","status":404}\n'
    assert b'"code":"server_error","message":"no such model","param":null,"error":{"type":"server_error","code":"upstream_error",' in (
        RESPONSES.error_frame(error, SPEAKER, None)
    )


def test_error_is_the_first_member_and_the_frame_one_line() -> None:
    error = ProxyError("upstream_error", "a\nb\r\n\u2028c", members={"message": "a\nb\r\n\u2028c"}, upstream_status=500)
    frame = CHAT.error_frame(error, SPEAKER, None)
    assert frame.startswith(b'data: {"error":{"message":"a\\nb\\r\\n')
    assert frame.count(b"\n") == 2
    assert b"\r" not in frame


def test_lone_surrogates_are_escaped() -> None:
    assert dump({"a": "\ud800é"}) == b'{"a":"\\ud800\\u00e9"}'


# -- where visible text is harmless


FORMLESS: list[tuple[dict[str, bytes], bool]] = [
    ({}, True),
    ({"n": b"1"}, True),
    ({"n": b"null"}, True),
    ({"n": b"2"}, False),
    ({"response_format": b"null"}, True),
    ({"response_format": b'{"type":"json_object"}'}, False),
    ({"logprobs": b"false"}, True),
    ({"logprobs": b"true"}, False),
    ({"structured_outputs": b'{"json":{}}'}, False),
    ({"guided_json": b'{"type":"object"}'}, False),
    ({"grammar": b'"root ::= [0-9]"'}, False),
    ({"json_schema": b"{"}, False),
]
TOOLS: list[tuple[dict[str, bytes], bool]] = [
    ({"tools": b"[]"}, True),
    ({"tools": b"[ ]"}, False),
    ({"tools": b'[{"type":"function"}]'}, False),
    ({"tools": b"["}, False),  # longer than what is looked at
]
SHOWN: list[tuple[Dialect, dict[str, bytes], bool]] = [
    *((CHAT, *row) for row in [*FORMLESS, *TOOLS]),
    (CHAT, {"functions": b"[{}]"}, False),
    *((COMPLETIONS, *row) for row in FORMLESS),
    (COMPLETIONS, {"prompt": b'"Once"'}, True),
    (COMPLETIONS, {"prompt": b'["a","b"]'}, False),
    (COMPLETIONS, {"suffix": b'"}"'}, False),
    (COMPLETIONS, {"suffix": b'""', "echo": b"false"}, True),
    (COMPLETIONS, {"logprobs": b"0"}, False),
    (COMPLETIONS, {"best_of": b"3"}, False),
    *((ANTHROPIC, *row) for row in TOOLS),
    (ANTHROPIC, {}, True),
    (ANTHROPIC, {"mcp_servers": b"[{}]"}, False),
    (ANTHROPIC, {"output_format": b'{"type":"json_schema"}'}, False),
    (ANTHROPIC, {"output_config": b'{"effort":"high"}'}, True),
    (ANTHROPIC, {"output_config": b'{"format":{}}'}, False),
    *((dialect, *row) for dialect in (OLLAMA, GENERATE) for row in TOOLS),
    (OLLAMA, {}, True),
    (OLLAMA, {"format": b'"json"'}, False),
    (OLLAMA, {"format": b'""'}, True),
    (GENERATE, {"format": b'{"type":"object"}'}, False),
    (GENERATE, {"suffix": b'"}"'}, False),
]


@pytest.mark.parametrize(("dialect", "members", "may"), SHOWN, ids=[f"{each[0].name}-{each[1]}" for each in SHOWN])
def test_text_is_shown_only_where_no_program_parses_the_answer(dialect: Dialect, members: dict[str, bytes], may: bool) -> None:
    assert dialect.may_show_text(members) is may
    assert members.keys() <= dialect.text_members
    assert dialect.text_members <= TEXT_MEMBERS
