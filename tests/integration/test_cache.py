"""The cache as a client sees it: what is kept, for whom, how long, and who may ask for something else."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from tests.integration.bench import CHAT, DONE, Bench, ch, error_of, is_cut, last_error
from tests.integration.caching import (
    HI,
    KEY,
    READY,
    STOP,
    also,
    ask,
    begin,
    cache,
    document,
    event,
    operate,
    plain,
    question,
    says,
    told,
    turns,
    unspoken,
    until_in_flight,
    verdict,
)
from tests.integration.process import TIMES, Proxy, route, server, upstream
from tests.timing import at_best
from txsse.testing import (
    CLOSE,
    LAST_CHUNK,
    REQUEST,
    RESET,
    STREAM_HEAD,
    ScriptedUpstream,
    answer,
    chunk,
    eventually,
    free_port,
    head,
    sleep,
    steps,
    stream,
)

MESSAGES, RESPONSES, OLLAMA = "/v1/messages", "/v1/responses", "/api/chat"
CONFIG = (
    server()
    + upstream(more=READY)
    + upstream("asleep", 'probe = { preset = "tcp", interval = "20ms" }\nwake = { http = [{ url = "http://127.0.0.1:$hook/" }] }')
    + upstream("unasked", 'probe = { preset = "tcp", interval = "20ms" }\nwake = { http = [{ url = "http://127.0.0.1:$hook/" }] }')
    + upstream("resting", 'probe = { preset = "tcp", interval = "20ms" }')
    + upstream("away", 'probe = { preset = "tcp", interval = "20ms" }\nfallback = "main"', port="nowhere")
    + route("asleep", "asleep", 'no_wake = { user_agents = ["probe/*"] }\n' + TIMES.replace('"300ms"', '"60s"') + cache())
    + route("unasked", "unasked", cache())
    + route("away", "away", TIMES + cache())
    + route("off", more="")
    + route("placed", "resting", 'hold = { placeholder = { status = 503, body = "soon" } }\n' + cache())
    + route("fixed", more='static = { status = 200, body = "closed", when = "always" }\n' + cache())
    + route("deterministic", more=cache(mode="deterministic"))
    + route("opt-in", more=cache(mode="opt-in"))
    + route("shared", more=cache('scope = "shared"'))
    + route("by-user", more=cache('scope = "header:X-User"'))
    + route("brief", more=cache('ttl = "150ms"'))
    + route("careless", more=cache('ignore = ["user", "metadata"]'))
    + route("small", more=cache('max_entry = "8KiB"'))
    + route("convert", more=cache("convert = true"))
    + route("kept", more=cache("no_cache_writes = false"))
    + route(more=cache())
)


# What may be stored

V7 = event({"type": "response.created", "response": {"id": "resp-1"}})
COMPLETED = event({"type": "response.completed", "response": {"id": "resp-1", "status": "completed"}})
STORED: dict[str, tuple[bytes, bool]] = {
    "V1 nothing": (b"", False),
    "V2 a whole answer": (HI, True),
    "V3 the last blank line is missing": (says("hi") + STOP + b"data: [DONE]\n", True),
    "V4 no end": (says("hi") + STOP, False),
    "V5 no JSON": (b'data: {"id":"chatcmpl-1"\n\n' + DONE, False),
    "V6 comments only": (b": keep-alive\n\n: still-alive\n\n" + DONE, False),
    "V7 events after the end": (V7 + DONE + COMPLETED, False),
    "V8 a comment after the end": (V7 + DONE + b": keep-alive\n\n", False),
    "V9 part of a comment after the end": (HI + b": trailing keepalive", False),
    "V10 no finish reason": (says("hi") + DONE, False),
    "V11 one choice of two": (says("a") + says("b", index=1) + STOP + DONE, False),
    "V11 both of them": (says("a") + says("b", index=1) + STOP + says(finish="length", index=1) + DONE, True),
    "V12 an error": (event({"error": {"message": "temperature must be > 0"}, "detail": "Validation error"}) + DONE, False),
    "V13 vLLM's error": (ch("a") + event({"object": "error", "message": "x"}) + DONE, False),
    "V14 an error event": (b"event: error\n" + event({"type": "error", "code": "x", "message": "y"}), False),
    "V16 the end as text": (ch("data: [DONE]") + STOP, False),
    "V16 .. and a real one": (ch("data: [DONE]") + STOP + DONE, True),
    "filtered": (says("hi") + says(finish="content_filter") + DONE, False),
    "an error in a choice": (event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "error": {"code": 1}}]}) + DONE, False),
    "the end twice": (HI + DONE, False),
    "CRLF": (HI.replace(b"\n", b"\r\n"), True),
    "CR": (HI.replace(b"\n", b"\r"), True),
    "a byte order mark": (b"\xef\xbb\xbf" + HI, True),
    "data over two lines": (says("hi") + STOP.replace(b',"choices"', b',\ndata: "choices"') + DONE, True),
    "ids and other fields": (b"id: 7\nretry: 10\n" + says("hi") + b"event: x\n" + STOP + DONE, True),
}


@pytest.mark.parametrize("case", STORED)
async def test_only_a_whole_answer_is_stored(bench: Bench, case: str) -> None:
    body, kept = STORED[case]
    await bench.play(turns(stream(*([body] if body else []))))
    asked = question()
    first, second = await ask(bench, asked), await ask(bench, asked)
    assert [verdict(first), verdict(second)] == ["MISS", "HIT" if kept else "MISS"]
    assert first.body == second.body == body
    assert len(bench.upstream.requests) == (1 if kept else 2)


@pytest.mark.parametrize("end", [CLOSE, RESET])
async def test_v16_an_answer_that_breaks_off_is_not_stored(bench: Bench, end: Any) -> None:
    await bench.play(turns(steps(STREAM_HEAD + chunk(ch("data: [DONE]")), 0.01, end), stream(HI)))
    asked = question()
    first = await begin(bench, asked)
    await is_cut(first)
    assert first.body.startswith(ch("data: [DONE]"))
    assert last_error(first)["code"] == "upstream_disconnected"
    second = await ask(bench, asked)
    assert (verdict(second), second.body) == ("MISS", HI)


async def test_an_answer_that_upstream_does_not_end_itself_is_not_stored(bench: Bench) -> None:
    await bench.play(turns(steps(STREAM_HEAD + chunk(HI), 0.02, RESET), stream(HI)))
    asked = question()
    first = await ask(bench, asked)
    assert (verdict(first), first.body) == ("MISS", HI), "its client has all there is"
    assert [verdict(await ask(bench, asked)) for _ in range(2)] == ["MISS", "HIT"]


ERROR = b'{"error":{"message":"no","type":"server_error"}}'
STATUSES = ["301 Moved Permanently", "400 Bad Request", "429 Too Many Requests", "500 Oops", "503 Later", "504 Too Late"]


@pytest.mark.parametrize("asked", [question, plain])
async def test_v15_only_200_is_stored(bench: Bench, asked: Callable[[], bytes]) -> None:
    answers = [answer(ERROR, status) for status in STATUSES] + [answer(document(), "201 Created"), head("HTTP/1.1 204 No Content")]
    await bench.play(turns(*[each for each in answers for _ in range(2)]))
    for each in answers:
        body = asked()
        for _ in range(2):
            client = await ask(bench, body)
            assert each.startswith(b"HTTP/1.1 %d " % client.response.status), "every answer comes from the backend"
            assert verdict(client) == "UNCACHEABLE; reason=status"
    assert len(bench.upstream.requests) == 2 * len(answers)


async def test_v15_an_interim_response_is_no_answer(bench: Bench) -> None:
    await bench.play(turns(head("HTTP/1.1 100 Continue") + answer(ERROR, "500 Oops"), head("HTTP/1.1 100 Continue") + stream(HI)))
    asked = question()
    assert (await ask(bench, asked)).response.status == 500
    assert [verdict(await ask(bench, asked)) for _ in range(2)] == ["MISS", "HIT"]


OBJECTIONS = {
    "Cache-Control: no-store": "no_store",
    "Cache-Control: max-age=60, private": "no_store",
    "Content-Encoding: gzip": "encoded",
    "Vary: X-Weather": "vary",
    "Vary: *": "vary",
    "Cache-Control: no-cache": "",  # every stream says so
    "Vary: Accept, Origin, Accept-Encoding": "",
}


@pytest.mark.parametrize("field", OBJECTIONS)
async def test_what_upstream_says_of_storing_holds(bench: Bench, field: str) -> None:
    fields = ["Content-Type: text/event-stream", "Transfer-Encoding: chunked", field]
    await bench.play(turns(head("HTTP/1.1 200 OK", fields) + chunk(HI) + LAST_CHUNK))
    asked, reason = question(), OBJECTIONS[field]
    first, second = await ask(bench, asked), await ask(bench, asked)
    wanted = [f"UNCACHEABLE; reason={reason}"] * 2 if reason else ["MISS", "HIT"]
    assert [verdict(first), verdict(second)] == wanted
    assert first.body == second.body == HI


async def test_the_answer_of_a_fallback_is_not_stored(bench: Bench) -> None:
    await bench.play(turns(stream(HI)))
    asked = question()
    for _ in range(2):
        client = await ask(bench, asked, case="away")
        assert unspoken(client) == HI
        assert client.response.header("x-txsse-cache") != b"HIT"
    assert len(bench.upstream.requests) == 2
    assert await bench.metric("txsse_cache_refusals_total", reason="fallback") >= 2


async def test_what_is_too_large_is_relayed_and_not_kept(bench: Bench) -> None:
    large = says("x" * 9000) + STOP + DONE
    await bench.play(turns(stream(large)))
    asked = question()
    for _ in range(2):
        client = await ask(bench, asked, case="small")
        assert (verdict(client), client.body) == ("MISS", large)


async def test_what_is_just_not_too_large_is_kept(bench: Bench) -> None:
    most = 8 * 1024
    fitting = says("x" * (most - len(says("x")) + 1 - len(STOP + DONE))) + STOP + DONE
    assert len(fitting) == most
    await bench.play(turns(stream(fitting)))
    asked = question()
    assert [verdict(await ask(bench, asked, case="small")) for _ in range(2)] == ["MISS", "HIT"]


async def test_upstreams_comments_are_relayed_and_not_kept(bench: Bench) -> None:
    noisy = b": OPENROUTER PROCESSING\n\n" + says("a") + b": ping\n\n" + STOP + b": x\n" + DONE
    await bench.play(turns(stream(noisy)))
    asked = question()
    first, second = await ask(bench, asked), await ask(bench, asked)
    assert first.body == noisy
    assert verdict(second) == "HIT"
    assert second.comments == []
    assert second.events == first.events


@pytest.mark.parametrize("size", [1, 7, 64])
async def test_how_the_bytes_come_makes_no_difference(bench: Bench, size: int) -> None:
    body = HI.replace(b"\n", b"\r\n") + b""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    await bench.play(turns(stream(*pieces)))
    asked = question()
    first, second = await ask(bench, asked), await ask(bench, asked)
    assert verdict(second) == "HIT"
    assert first.body == second.body == body


FRAMINGS = {
    "counted": answer(HI, headers=["Content-Type: text/event-stream"]),
    "counted, with a charset": answer(HI, headers=["Content-Type: text/event-stream; charset=utf-8"]),
    "until the end": head("HTTP/1.1 200 OK", ["Content-Type: text/event-stream"]) + HI,
}


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_a_stream_in_another_framing_is_stored(bench: Bench, framing: str) -> None:
    await bench.play(turns(steps(FRAMINGS[framing], CLOSE)))
    asked = question()
    first, second = await ask(bench, asked), await ask(bench, asked)
    assert [verdict(first), verdict(second)] == ["MISS", "HIT"]
    assert first.body == second.body == HI
    assert first.response.header("content-type") == second.response.header("content-type")


async def test_a_counted_stream_that_is_not_whole_is_not_stored(bench: Bench) -> None:
    await bench.play(turns(answer(says("hi"), headers=["Content-Type: text/event-stream"])))
    asked = question()
    assert [verdict(await ask(bench, asked)) for _ in range(2)] == ["MISS", "MISS"]


async def test_a_document_in_the_place_of_a_stream_is_relayed_and_not_stored(bench: Bench) -> None:
    await bench.play(turns(answer(document()), stream(HI)))
    asked = question()
    assert (await ask(bench, asked)).body == document()
    assert [verdict(await ask(bench, asked)) for _ in range(2)] == ["MISS", "HIT"]


async def test_json_answers_are_stored(bench: Bench) -> None:
    bad = document().replace(b'"stop"', b"null")
    await bench.play(turns(answer(document()), answer(bad), answer(bad), answer(ERROR), answer(ERROR), answer(b"no JSON")))
    asked = plain()
    first, second = await ask(bench, asked), await ask(bench, asked)
    assert [verdict(first), verdict(second)] == ["MISS", "HIT"]
    assert first.body == second.body == document()
    assert second.response.header("content-type") == b"application/json"
    assert second.response.header("content-length") == b"%d" % len(document())
    for asked in (plain(), plain(), plain()):
        assert [verdict(await ask(bench, asked)) for _ in range(2)] == ["MISS", "MISS"]


ANTHROPIC = b"".join(
    b"event: %b\ndata: %b\n\n" % (json.loads(data)["type"].encode(), data)
    for data in (
        b'{"type":"message_start","message":{"id":"msg_1","model":"m","usage":{"input_tokens":25,"output_tokens":1}}}',
        b'{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}',
        b'{"type":"ping"}',
        b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello"}}',
        b'{"type":"content_block_stop","index":0}',
        b'{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":15}}',
        b'{"type":"message_stop"}',
    )
)
LINES = (
    b'{"model":"m","message":{"role":"assistant","content":"Hel"},"done":false}\n'
    b'{"model":"m","message":{"role":"assistant","content":"lo"},"done":false}\n'
    b'{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","prompt_eval_count":26,"eval_count":8}\n'
)
RESPONSE = b"event: response.created\n" + V7 + b"event: response.completed\n" + COMPLETED
DIALECTS: dict[str, tuple[str, str, bytes, bytes]] = {
    "anthropic": (MESSAGES, "text/event-stream", ANTHROPIC, ANTHROPIC[: ANTHROPIC.index(b"event: message_stop")]),
    "ollama": (OLLAMA, "application/x-ndjson", LINES, LINES[: LINES.rindex(b'{"model"')]),
    "responses": (RESPONSES, "text/event-stream", RESPONSE, b"event: response.created\n" + V7),
    "an unknown API": ("/events", "text/event-stream", b"data: a\n\ndata: b\n\n", b"data: a\n\nevent: error\ndata: {}\n\n"),
}


@pytest.mark.parametrize("name", DIALECTS)
async def test_every_dialect_has_its_own_end(bench: Bench, name: str) -> None:
    target, kind, whole, part = DIALECTS[name]
    top = head("HTTP/1.1 200 OK", [f"Content-Type: {kind}", "Transfer-Encoding: chunked"])
    await bench.play(turns(top + chunk(part) + LAST_CHUNK, top + chunk(whole) + LAST_CHUNK))
    asked = question()
    results = [await ask(bench, asked, target=target) for _ in range(3)]
    assert [verdict(each) for each in results] == ["MISS", "MISS", "HIT"]
    assert [each.body for each in results] == [part, whole, whole]
    assert results[2].response.header("content-type") == kind.encode()


# Keys


async def test_c1_order_and_white_space_do_not_count(bench: Bench) -> None:
    await bench.play(turns(stream(HI)))
    asked = question(temperature=0.5)
    members = json.loads(asked)
    variants = [
        asked,
        json.dumps(dict(reversed(members.items()))).encode(),
        json.dumps(members, indent=3).encode() + b"\r\n",
        json.dumps(members, separators=(",", ":")).replace("question", "\\u0071uestion").encode(),
    ]
    assert [verdict(await ask(bench, each)) for each in variants] == ["MISS", "HIT", "HIT", "HIT"]
    assert len(bench.upstream.requests) == 1


C2: dict[str, Any] = {
    "temperature": 0.1,
    "seed": 1,
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "top_k": 40,
    "chat_template_kwargs": {"enable_thinking": False},
    "num_ctx": 4096,
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "logit_bias": {"50256": -100},
    "stream_options": {"include_usage": True},
    "n": 2,
    "user": "u",
    "a_member_of_tomorrow": None,
}


async def test_c2_every_member_counts(bench: Bench) -> None:
    await bench.play(turns(*[stream(told(f"{number}")) for number in range(len(C2) + 1)]))
    asked = question()
    variants = [asked, *[also(asked, **{name: value}) for name, value in C2.items()]]
    first = [await ask(bench, each) for each in variants]
    assert [verdict(each) for each in first] == ["MISS"] * len(variants)
    again = [await ask(bench, each) for each in variants]
    assert [verdict(each) for each in again] == ["HIT"] * len(variants)
    assert [each.body for each in again] == [each.body for each in first]


async def test_c2_but_for_those_that_a_route_ignores(bench: Bench) -> None:
    await bench.play(turns(stream(HI)))
    asked = question()
    variants = [asked, also(asked, user="a"), also(asked, metadata={"trace": 1}), also(asked, users="a")]
    assert [verdict(await ask(bench, each, case="careless")) for each in variants] == ["MISS", "HIT", "HIT", "MISS"]


async def test_c3_numbers_are_what_is_written(bench: Bench) -> None:
    await bench.play(turns(stream(HI)))
    asked = question(seed=0)
    texts = [b"1", b"1.0", b"1e0", b"9007199254740993", b"9007199254740992", b"123456789012345678901234567890", b"1E400"]
    for text in texts:
        assert verdict(await ask(bench, asked.replace(b'"seed": 0', b'"seed": ' + text))) == "MISS", text
    assert len(bench.upstream.requests) == len(texts)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"stream":true,"model":"a","model":"b"}', "duplicate_member"),
        (b'{"stream":true,"x":{"a":1,"a":1}}', "duplicate_member"),
        (b'{"stream":true,"x":', "not_json"),
        (b"[1]", "not_json"),
    ],
)
async def test_what_cannot_be_compared_is_not_cached(bench: Bench, body: bytes, reason: str) -> None:
    await bench.play(turns(stream(HI)))
    results = [await ask(bench, body) for _ in range(2)]
    assert [verdict(each) for each in results] == [f"UNCACHEABLE; reason={reason}"] * 2
    assert [bytes(each.body) for each in bench.upstream.requests] == [body, body]
    assert {each.body for each in results} == {HI}


async def test_a_body_in_a_coding_a_get_and_a_condition_are_not_looked_up(bench: Bench) -> None:
    await bench.play(turns(stream(HI)))
    assert verdict(await ask(bench, question(), "Content-Encoding: gzip")) == "UNCACHEABLE; reason=encoded"
    got = await bench.get(headers=[KEY, "Accept: text/event-stream"])
    await got.complete()
    assert verdict(got) == "UNCACHEABLE; reason=method"
    for field in ("Range: bytes=0-5", 'If-None-Match: "x"'):
        assert verdict(await ask(bench, question(), field)) == "BYPASS"


async def test_the_path_and_the_version_of_the_api_count(bench: Bench) -> None:
    await bench.play(turns(stream(HI)))
    asked = question()
    for target in (CHAT, CHAT + "?api-version=1", CHAT + "?api-version=2", "/other" + CHAT):
        assert verdict(await ask(bench, asked, target=target)) == "MISS", target
    for field in ("OpenAI-Beta: x", "Accept: text/event-stream", "Origin: http://a.example"):
        assert verdict(await ask(bench, asked, field)) == "MISS", field
    assert verdict(await ask(bench, asked)) == "HIT"
    assert verdict(await ask(bench, asked, "User-Agent: another", "X-Request-Id: 7")) == "HIT"


# Who shares


CREDENTIALS = [KEY, "Authorization: Bearer two", "Proxy-Authorization: Bearer one", "Cookie: s=1", "x-api-key: 1", "api-key: 1"]


async def test_c4_each_credential_has_its_own(bench: Bench) -> None:
    await bench.play(turns(*[stream(told(str(number))) for number in range(len(CREDENTIALS) + 1)]))
    asked = question()
    fields = [*CREDENTIALS, "x-goog-api-key: 1"]
    for expected in ("MISS", "HIT"):
        results = [await ask(bench, asked, key=each) for each in fields]
        assert [verdict(each) for each in results] == [expected] * len(fields)
        assert [each.body for each in results] == [told(str(number)) for number in range(len(fields))]


async def test_without_a_credential_nothing_is_cached(bench: Bench) -> None:
    await bench.play(turns(stream(HI)))
    asked = question()
    for key in ("", "", "Authorization: Bearer"):
        assert verdict(await ask(bench, asked, key=key)) == "UNCACHEABLE; reason=no_credential"
    assert await bench.metric("txsse_cache_refusals_total", reason="no_credential") >= 3


async def test_c4_a_shared_cache_is_everybodys(bench: Bench) -> None:
    await bench.play(turns(stream(HI)))
    asked = question()
    assert [verdict(await ask(bench, asked, case="shared", key=key)) for key in ("", KEY, "Cookie: s=1")] == ["MISS", "HIT", "HIT"]


async def test_a_header_can_tell_who_shares(bench: Bench) -> None:
    await bench.play(turns(stream(HI)))
    asked = question()

    async def of(*fields: str) -> str:
        return verdict(await ask(bench, asked, *fields, case="by-user"))

    assert [await of("X-User: a"), await of("X-User: b"), await of("x-user: a"), await of()] == [
        "MISS",
        "MISS",
        "HIT",
        "UNCACHEABLE; reason=no_scope_header",
    ]
    assert verdict(await ask(bench, asked, "X-User: a", case="by-user", key="Authorization: Bearer two")) == "HIT"


# Which requests


async def test_a_route_without_a_cache_says_nothing_of_it(bench: Bench) -> None:
    await bench.play(turns(stream(HI)))
    asked = question(temperature=0)
    for _ in range(2):
        client = await ask(bench, asked, "X-Txsse-Cache: 1", case="off")
        assert verdict(client) == ""
        assert client.response.header("age") is None
    assert len(bench.upstream.requests) == 2


@pytest.mark.parametrize(
    ("members", "cached"),
    [({"temperature": 0}, True), ({"temperature": 0.0}, True), ({"seed": 42}, True), ({}, False), ({"temperature": 0.1}, False)],
)
async def test_deterministic_takes_what_has_one_answer(bench: Bench, members: dict[str, Any], cached: bool) -> None:
    await bench.play(turns(stream(HI)))
    asked = question(**members)
    results = [verdict(await ask(bench, asked, case="deterministic")) for _ in range(2)]
    assert results == (["MISS", "HIT"] if cached else ["UNCACHEABLE; reason=not_deterministic"] * 2)


async def test_a_client_can_ask_for_it_or_not(bench: Bench) -> None:
    await bench.play(turns(stream(HI)))
    for case in ("opt-in", "deterministic"):
        asked = question()
        assert [verdict(await ask(bench, asked, "X-Txsse-Cache: 1", case=case)) for _ in range(2)] == ["MISS", "HIT"]
        refused = {"opt-in": "BYPASS", "deterministic": "UNCACHEABLE; reason=not_deterministic"}
        assert verdict(await ask(bench, asked, case=case)) == refused[case]
    for case in ("", "opt-in", "deterministic"):
        asked = question(temperature=0)
        assert verdict(await ask(bench, asked, "X-Txsse-Cache: 0", case=case)) == "BYPASS"
    assert all(each.header("x-txsse-cache") is None for each in bench.upstream.requests), "it is between the client and us"


# What a request may say


async def test_c6_no_cache_goes_upstream_and_replaces(bench: Bench) -> None:
    await bench.play(turns(stream(told("1")), stream(told("2")), stream(says("broken"))))
    asked = question()
    assert (await ask(bench, asked)).body == told("1")
    for number, field in enumerate(("Cache-Control: no-cache", "Pragma: no-cache")):
        renewed = await ask(bench, asked, field)
        assert verdict(renewed) == "BYPASS"
        if not number:
            assert renewed.body == told("2")
        again = await ask(bench, asked)
        assert (verdict(again), again.body) == ("HIT", told("2")), "what is not whole replaces nothing"


async def test_c6_where_no_cache_does_not_write_the_old_answer_stays(bench: Bench) -> None:
    await bench.play(turns(stream(told("1")), stream(told("2"))))
    asked = question()
    clients = [await ask(bench, asked, *fields, case="kept") for fields in ([], ["Cache-Control: no-cache"], [])]
    assert [(verdict(client), client.body) for client in clients] == [
        ("MISS", told("1")),
        ("BYPASS", told("2")),
        ("HIT", told("1")),
    ]


async def test_c7_no_store_leaves_everything_as_it_is(bench: Bench) -> None:
    await bench.play(turns(*[stream(told(str(number))) for number in range(4)]))
    asked = question()
    results = [await ask(bench, asked, *fields) for fields in (["Cache-Control: no-store"], [], ["Cache-Control: No-Store, max-age=5"], [])]
    assert [verdict(each) for each in results] == ["BYPASS", "MISS", "BYPASS", "HIT"]
    assert [each.body for each in results] == [told("0"), told("1"), told("2"), told("1")]


@pytest.mark.parametrize("target", [CHAT, MESSAGES, RESPONSES, OLLAMA, "/v1/completions", "/anything"])
async def test_c8_only_if_cached_asks_and_wakes_nobody(bench: Bench, target: str) -> None:
    hook = ScriptedUpstream(reactor, steps(REQUEST, answer(b"ok")), port=bench.proxy.ports["hook"])
    await hook.open()
    before = await bench.metric("txsse_rejections_total", reason="cache_miss")
    for body in (question(), plain()):
        client = await ask(bench, body, "Cache-Control: only-if-cached", case="unasked", target=target)
        assert client.response.status == 504
        assert client.response.header("content-type") == b"application/json"
        said = json.loads(client.body)
        if target == MESSAGES:
            assert (said["type"], said["error"]["type"], said["error"]["code"]) == ("error", "invalid_request_error", "cache_miss")
        elif target == OLLAMA:
            assert isinstance(said["error"], str)
        elif target == "/anything":
            assert said["error"]["code"] == "cache_miss"
        else:
            assert said["error"] == {**said["error"], "type": "invalid_request_error", "param": None, "code": "cache_miss"}
    assert await bench.metric("txsse_rejections_total", reason="cache_miss") == before + 2
    assert await bench.metric("txsse_waiting", upstream="unasked") == 0
    assert json.loads(bytes((await bench.admin("/queue")).body))["unasked"]["demand"] == 0
    assert hook.connections == []
    await hook.stop()


async def test_only_if_cached_is_answered_with_what_is_there(bench: Bench) -> None:
    await bench.play(turns(stream(HI)))
    asked = question()
    await ask(bench, asked)
    client = await ask(bench, asked, "Cache-Control: only-if-cached")
    assert (verdict(client), client.body) == ("HIT", HI)
    for field in ("Cache-Control: only-if-cached, no-cache", "Cache-Control: only-if-cached, no-store"):
        client = await ask(bench, asked, field)
        assert (client.response.status, verdict(client)) == (504, "BYPASS")
    unknown = await ask(bench, question(), "Cache-Control: only-if-cached")
    assert (unknown.response.status, verdict(unknown)) == (504, "MISS")
    keyless = await ask(bench, asked, "Cache-Control: only-if-cached", key="")
    assert (error_of(keyless.body)["code"], verdict(keyless)) == ("cache_miss", "UNCACHEABLE; reason=no_credential")
    assert len(bench.upstream.requests) == 1


async def test_c9_an_entry_grows_old(bench: Bench) -> None:
    await bench.play(turns(stream(told("1")), stream(told("2"))))
    asked = question()
    await ask(bench, asked)
    young = await ask(bench, asked, "Cache-Control: max-age=1")
    assert (verdict(young), young.response.header("age")) == ("HIT", b"0")
    while (old := await ask(bench, asked)).response.header("age") != b"1":
        assert old.response.header("age") == b"0"
        await sleep(reactor, 0.02)
    assert verdict(await ask(bench, asked, "Cache-Control: max-age=60")) == "HIT"
    renewed = await ask(bench, asked, "Cache-Control: max-age=0")
    assert (verdict(renewed), renewed.body) == ("MISS", told("2"))
    again = await ask(bench, asked, "Cache-Control: max-age=1")
    assert (verdict(again), again.body, again.response.header("age")) == ("HIT", told("2"), b"0")


async def test_c10_an_entry_has_its_time(bench: Bench) -> None:
    await bench.play(turns(stream(told("1")), stream(told("2"))))
    asked = question()
    assert (await ask(bench, asked, case="brief")).body == told("1")
    while (client := await ask(bench, asked, "Cache-Control: only-if-cached", case="brief")).response.status == 200:
        assert client.body == told("1")
    assert error_of(client.body)["code"] == "cache_miss"
    renewed = await ask(bench, asked, case="brief")
    assert (verdict(renewed), renewed.body) == ("MISS", told("2"))


# What a hit looks like


async def test_c11_the_head_of_a_hit(bench: Bench) -> None:
    fields = [
        "Content-Type: text/event-stream; charset=utf-8",
        "Transfer-Encoding: chunked",
        "Connection: X-Hop",
        "X-Hop: secret",
        "Set-Cookie: a=b",
        "Date: Mon, 01 Jan 2001 00:00:00 GMT",
        "X-Request-Id: theirs",
        "X-RateLimit-Remaining: 7",
        "Cache-Control: no-cache",
    ]
    await bench.play(turns(head("HTTP/1.1 200 OK", fields) + chunk(HI) + LAST_CHUNK))
    asked = question()
    miss = (await ask(bench, asked)).response
    hit = (await ask(bench, asked, "X-Request-Id: mine")).response
    assert miss.header("set-cookie") == b"a=b"
    assert miss.header("age") is None
    assert (hit.status, hit.header("x-txsse-cache")) == (200, b"HIT") and int(hit.header("age") or -1) >= 0
    assert hit.header("content-type") == b"text/event-stream; charset=utf-8"
    assert hit.header("cache-control") == b"no-cache"
    assert hit.header("x-request-id") == b"mine"
    for name in ("set-cookie", "x-hop", "x-ratelimit-remaining"):
        assert hit.header(name) is None, name
    assert hit.header("date") != b"Mon, 01 Jan 2001 00:00:00 GMT"


async def test_browsers_may_read_a_hit_as_they_may_read_a_miss(bench: Bench) -> None:
    fields = ["Content-Type: text/event-stream", "Transfer-Encoding: chunked", "Vary: Origin", "Access-Control-Allow-Credentials: true"]
    top = head("HTTP/1.1 200 OK", [*fields, "Access-Control-Allow-Origin: http://a.example"])
    await bench.play(turns(top + chunk(HI) + LAST_CHUNK))
    asked = question()
    for expected in ("MISS", "HIT"):
        client = await ask(bench, asked, "Origin: http://a.example")
        assert verdict(client) == expected
        assert client.response.header("access-control-allow-origin") == b"http://a.example"
        assert client.response.header("access-control-allow-credentials") == b"true"
    assert verdict(await ask(bench, asked, "Origin: http://b.example")) == "MISS", "it is told who may read it"


async def test_a_long_answer_is_there_for_who_asks_at_once(bench: Bench) -> None:
    long = says("x" * 500) * 1400 + STOP + DONE
    await bench.play(turns(stream(long)))
    asked = question()
    client = await bench.client()
    for _ in range(4):
        client.post(CHAT, asked, [KEY])
    await client.complete(4)
    assert [each.header("x-txsse-cache") for each in client.responses] == [b"MISS", b"HIT", b"HIT", b"HIT"]
    assert {bytes(each.body) for each in client.responses} == {long}


async def test_a_long_request_is_looked_up_too(bench: Bench) -> None:
    await bench.play(turns(stream(HI)))
    asked = question(pad="x" * 2_000_000)
    assert [verdict(await ask(bench, asked)) for _ in range(2)] == ["MISS", "HIT"]


async def test_an_old_client_reads_a_hit(bench: Bench) -> None:
    await bench.play(turns(stream(HI)))
    asked = question()
    await ask(bench, asked)
    fields = ["Host: h", KEY, f"Content-Length: {len(asked)}"]
    client = await bench.send(head(f"POST {CHAT} HTTP/1.0", fields) + asked)
    await client.gone()
    assert (verdict(client), client.body, client.response.complete) == ("HIT", HI, True)
    assert not client.response.chunked


async def test_upstream_is_asked_for_plain_bytes(bench: Bench) -> None:
    await bench.play(turns(stream(HI), answer(document())))
    for asked in (question(), plain()):
        await ask(bench, asked, "Accept-Encoding: gzip")
    assert [each.header("accept-encoding") for each in bench.upstream.requests] == [b"identity"] * 2


async def test_what_is_stored_comes_before_a_placeholder_and_after_a_fixed_answer(bench: Bench) -> None:
    await bench.play(turns(stream(HI)))
    asked = question()
    while verdict(client := await ask(bench, asked, case="placed")) != "HIT":
        assert client.body in (b"soon", HI)
    await bench.upstream.stop()
    while (client := await ask(bench, question(), case="placed")).response.status != 503:
        assert client.response.status == 502
    hit = await ask(bench, asked, case="placed")
    assert (verdict(hit), hit.body) == ("HIT", HI)
    fixed = await ask(bench, asked, case="fixed")
    assert (verdict(fixed), fixed.body) == ("", b"closed")


async def test_hits_follow_each_other_on_one_connection(bench: Bench) -> None:
    await bench.play(turns(stream(HI)))
    asked = question()
    client = await ask(bench, asked)
    for _ in range(50):
        client.post(CHAT, asked, [KEY])
    await client.complete(51)
    assert {bytes(each.body) for each in client.responses} == {HI}
    assert len(bench.upstream.requests) == 1


async def test_bar_a_hit_begins_within_10_ms(bench: Bench) -> None:
    await bench.play(turns(stream(HI)))
    asked = question()
    client = await ask(bench, asked)

    async def measure() -> float:
        count = len(client.reads)
        sent = client.post(CHAT, asked, [KEY])
        await client.until(lambda: len(client.reads) > count)
        return client.reads[count].at - sent

    await at_best(measure, 0.01)


async def test_c12_a_hit_while_the_backend_is_away_wakes_nobody(bench: Bench) -> None:
    hook = ScriptedUpstream(reactor, steps(REQUEST, answer(b"ok"), repeat=True), port=bench.proxy.ports["hook"])
    await hook.open()
    await bench.play(turns(stream(HI)))
    asked = question()
    assert verdict(await ask(bench, asked, case="asleep")) == "MISS"
    await bench.upstream.stop()
    fresh = await begin(bench, question(), case="asleep")  # so that the proxy sees that nobody is there
    await fresh.contains(b": txsse")
    await eventually(reactor, lambda: hook.requests)
    woken = len(hook.requests)
    fresh.close()
    await until_in_flight(bench, 0, "asleep")
    for agent in ("curl/8", "probe/1"):
        client = await ask(bench, asked, f"User-Agent: {agent}", case="asleep")
        assert (verdict(client), client.body) == ("HIT", HI)
        assert client.response.header("x-txsse-cold-start") == b"false"
    client = await ask(bench, question(), "User-Agent: probe/1", case="asleep")
    assert (client.response.status, verdict(client), error_of(client.body)["code"]) == (503, "MISS", "readiness_timeout")
    assert len(hook.requests) == woken
    assert await bench.metric("txsse_waiting", upstream="asleep") == 0
    await hook.stop()


def chunks_of(proxy: Proxy, **members: Any) -> list[dict[str, Any]]:
    """What openai's client makes of a stream."""
    base = f"http://127.0.0.1:{proxy.port}/v1"
    with openai.OpenAI(base_url=base, api_key="one", max_retries=0, timeout=60) as api:
        return [each.model_dump() for each in api.chat.completions.create(**members)]


async def test_openais_client_reads_a_hit_as_it_read_the_miss(bench: Bench) -> None:
    def delta(value: object, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": value, "finish_reason": finish, "logprobs": None}
        return event({"id": "chatcmpl-9", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": [choice]})

    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    body = [
        delta({"role": "assistant", "content": None, "reasoning_content": "hm "}),
        delta({"content": "Hello  "}),
        delta({"tool_calls": [call]}),
        delta({"tool_calls": [{"index": 0, "function": {"arguments": '{"a": 1}'}}]}),
        delta({}, "tool_calls"),
        event({"id": "chatcmpl-9", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": [], "usage": usage}),
        DONE,
    ]
    await bench.play(turns(stream(*body)))
    asked = {"model": "m", "messages": [{"role": "user", "content": "openai's client"}], "stream": True}
    first = await deferToThread(chunks_of, bench.proxy, **asked)
    second = await deferToThread(chunks_of, bench.proxy, **asked)
    assert first == second
    assert len(first) == len(body) - 1
    assert len(bench.upstream.requests) == 1


# The other form of an answer


async def test_c5_a_stream_and_a_document_have_keys_of_their_own(bench: Bench) -> None:
    usage = {"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13}
    streamed = says("Hello") + says(" world") + STOP + event({"choices": [], "usage": usage}) + DONE
    whole = document("Hello world", usage=usage)
    await bench.play(turns(stream(streamed), answer(whole)))
    asked = question()
    results = [await ask(bench, each) for each in (asked, also(asked, stream=False), asked, also(asked, stream=False))]
    assert [verdict(each) for each in results] == ["MISS", "MISS", "HIT", "HIT"]
    assert [each.body for each in results] == [streamed, whole, streamed, whole]


TEXT = "word1  word2\n\tx"


@pytest.mark.parametrize("include_usage", [True, False])
async def test_c23_a_document_answers_as_a_stream(bench: Bench, include_usage: bool) -> None:
    calls = [{"id": f"call_{n}", "type": "function", "function": {"name": "f", "arguments": f'{{"n": {n}}}'}} for n in range(2)]
    choices = [
        {"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"},
        {"index": 1, "message": {"role": "assistant", "content": None, "tool_calls": calls}, "finish_reason": "tool_calls"},
    ]
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    await bench.play(turns(answer(document(choices=choices, usage=usage))))
    asked = plain()
    await ask(bench, asked, case="convert")
    options = {"stream_options": {"include_usage": True}} if include_usage else {}
    client = await ask(bench, also(asked, stream=True, **options), case="convert")
    assert verdict(client) == "HIT"
    assert client.response.header(
        "content-type",
    ) in (b"text/event-stream", b"text/event-stream; charset=utf-8")
    assert client.body.count(DONE) == 1 and client.body.endswith(DONE)
    chunks = [json.loads(each.data) for each in client.events[:-1]]
    assert [each["usage"] for each in chunks if each.get("usage")] == ([usage] if include_usage else [])
    told_by: dict[int, list[dict[str, Any]]] = {0: [], 1: []}
    for each in chunks:
        for choice in each["choices"]:
            told_by[choice["index"]].append(choice)
    for said in told_by.values():
        assert said[0]["delta"]["role"] == "assistant"
        assert [each["finish_reason"] for each in said[:-1]] == [None] * (len(said) - 1)
    assert told_by[0][-1]["finish_reason"] == "stop" and told_by[1][-1]["finish_reason"] == "tool_calls"
    assert "".join(each["delta"].get("content") or "" for each in told_by[0]) == TEXT
    arguments = ["", ""]
    for each in told_by[1]:
        for call in each["delta"].get("tool_calls", []):
            arguments[call["index"]] += call["function"].get("arguments", "")
    assert arguments == ['{"n": 0}', '{"n": 1}']
    assert len(bench.upstream.requests) == 1


async def test_c23_a_stream_answers_as_a_document(bench: Bench) -> None:
    await bench.play(turns(stream(says("word1  "), says("word2\n"), says("\tx"), STOP, DONE)))
    asked = question()
    await ask(bench, asked, case="convert")
    client = await ask(bench, also(asked, stream=False), case="convert")
    assert verdict(client) == "HIT"
    assert client.response.header("content-type") == b"application/json"
    choice = json.loads(client.body)["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (TEXT, "stop")
    assert len(bench.upstream.requests) == 1


async def test_an_error_becomes_no_stream_of_success(bench: Bench) -> None:
    await bench.play(turns(answer(ERROR), stream(HI)))
    asked = plain()
    assert (await ask(bench, asked, case="convert")).body == ERROR
    client = await ask(bench, also(asked, stream=True), case="convert")
    assert (verdict(client), client.body) == ("MISS", HI)


# Tokens


async def tokens(bench: Bench, model: str) -> dict[str, float]:
    return {kind: await bench.metric("txsse_tokens_total", model=model, kind=kind) for kind in ("prompt", "completion", "cached")}


def usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


T24 = b'data: {"id":"chatcmpl-multiline",\ndata: "usage":{"total_tokens":3}}\n\ndata: [DONE]\n\n'
T25 = b'data: {"id":"chatcmpl-frag","usage":{"total_tokens":8}}'
T26 = says("a") + event({"choices": [], "usage": usage(5, 1)}) + STOP + event({"choices": [], "usage": usage(5, 7)}) + DONE
COUNTED: dict[str, tuple[bytes, int, str, tuple[int, int]]] = {
    "T24": (T24, 1, "text/event-stream", (0, 3)),
    "T24-crlf": (T24.replace(b"\n", b"\r\n"), 1, "text/event-stream", (0, 3)),
    "T24-bytes": (T24, 0, "text/event-stream", (0, 3)),
    "T25": (T25, 1, "text/event-stream", (0, 8)),
    "T26": (T26, 1, "text/event-stream", (5, 7)),
    "T26-bytes": (T26, 0, "text/event-stream", (5, 7)),
    "T26-crlf": (T26.replace(b"\n", b"\r\n"), 1, "text/event-stream", (5, 7)),
    "JSON": (document(usage=usage(3, 4)).replace(b'"model": "m",', b""), 1, "application/json", (3, 4)),
}


@pytest.mark.parametrize("case", ["off", ""])
async def test_t24_to_t26_tokens_are_counted_once(bench: Bench, case: str) -> None:
    scripts = []
    for body, whole, kind, _ in COUNTED.values():
        pieces = [body] if whole else [body[at : at + 1] for at in range(len(body))]
        top = head("HTTP/1.1 200 OK", [f"Content-Type: {kind}", "Transfer-Encoding: chunked"])
        scripts.append(top + b"".join(map(chunk, pieces)) + LAST_CHUNK)
    await bench.play(turns(*scripts))
    for name, (body, _, kind, (prompt, completion)) in COUNTED.items():
        model = f"{name}-{case}"
        client = await ask(bench, question(model=model, stream=kind != "application/json"), f"X-Request-Id: tokens-{model}", case=case)
        assert client.body == body, name
        assert await tokens(bench, model) == {"prompt": prompt, "completion": completion, "cached": 0}, name
    for name, (_, _, _, (prompt, completion)) in COUNTED.items():
        line = await bench.logged(f"request_id=tokens-{name}-{case} ")
        assert f" tokens={prompt}+{completion}" in line
        assert ("cache=miss" in line) == (not case)


async def test_the_tokens_of_a_hit_are_counted_apart(bench: Bench) -> None:
    await bench.play(turns(stream(T26)))
    asked = question(model="hit-1")
    for number in range(3):
        await ask(bench, asked, f"X-Request-Id: tokens-hit-{number}.")
    assert await tokens(bench, "hit-1") == {"prompt": 5, "completion": 7, "cached": 24}
    line = await bench.logged("request_id=tokens-hit-2.")
    assert " cache=hit" in line and " tokens=5+7" in line


async def test_what_the_cache_did_is_counted(bench: Bench) -> None:
    async def counts() -> dict[str, float]:
        return {name: await bench.metric("txsse_cache_total", result=name) for name in ("hit", "miss", "store", "bypass", "uncacheable")}

    await bench.play(turns(stream(HI)))
    before, asked = await counts(), question()
    for fields in ([], [], [], ["Cache-Control: no-store"]):
        await ask(bench, asked, *fields)
    await ask(bench, asked, key="")
    after = await counts()
    assert {name: after[name] - before[name] for name in after} == {"hit": 2, "miss": 1, "store": 1, "bypass": 1, "uncacheable": 1}


# The operator


async def entries(bench: Bench, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(bytes((await operate(bench, f"/cache?route={name}")).body))["entries"]
    return found


async def test_entries_can_be_seen_and_deleted(bench: Bench) -> None:
    await bench.play(turns(stream(HI)))
    await operate(bench, "/cache", "DELETE")
    asked = [question() for _ in range(3)]
    for each in asked:
        await ask(bench, each)
    await ask(bench, asked[0], case="shared")
    assert await bench.metric("txsse_cache_entries") == 4
    assert await bench.metric("txsse_cache_bytes") > 4 * len(HI)
    await ask(bench, asked[1])
    first, *others = await entries(bench, await _main_route(bench))
    assert len(others) == 2 and first["hits"] == 1, "the one that was used last comes first"
    assert (first["dialect"], first["model"]) == ("openai-chat", "")
    assert json.loads(bytes((await operate(bench, f"/cache/{first['key']}", "DELETE")).body)) == {"purged": 1}
    assert (await operate(bench, f"/cache/{first['key']}", "DELETE")).status == 404
    assert [verdict(await ask(bench, each)) for each in asked] == ["HIT", "MISS", "HIT"]

    assert json.loads(bytes((await operate(bench, "/cache?route=shared", "DELETE")).body)) == {"purged": 1}
    assert verdict(await ask(bench, asked[0], case="shared")) == "MISS"
    assert verdict(await ask(bench, asked[0])) == "HIT"

    assert json.loads(bytes((await operate(bench, "/cache", "DELETE")).body)) == {"purged": 4}
    assert await bench.metric("txsse_cache_bytes") == 0
    assert [verdict(await ask(bench, each)) for each in asked] == ["MISS"] * 3


async def _main_route(bench: Bench) -> str:
    """The name of the route that has none in the file."""
    names: list[str] = list(json.loads(bytes((await operate(bench, "/status")).body))["routes"])
    return names[-1]


@pytest.mark.parametrize(
    ("target", "status"), [("/cache?route=nobody", 404), ("/cache?rout=shared", 400), ("/cache/xyz", 400), ("/cache/" + "0" * 64, 404)]
)
async def test_a_slip_empties_nothing(bench: Bench, target: str, status: int) -> None:
    await bench.play(turns(stream(HI)))
    asked = question()
    await ask(bench, asked)
    assert (await operate(bench, target, "DELETE")).status == status
    assert (await operate(bench, "/cache", "POST")).status == 405
    assert verdict(await ask(bench, asked)) == "HIT"


# Bounds, restarts, reloads


LARGE = says("x" * 20_000) + STOP + DONE


async def test_c10_the_one_that_was_used_least_recently_goes(own_proxies: Callable[[str], Proxy]) -> None:
    limit = 3 * (len(LARGE) + 2000) + 4000
    bench = Bench(
        reactor, own_proxies(server() + upstream(more=READY) + route(more=cache('max_entry = "40KiB"')) + f"[store]\nmax_bytes = {limit}")
    )
    await bench.play(turns(stream(LARGE)))
    asked = [question() for _ in range(4)]
    for each in asked[:3]:
        assert verdict(await ask(bench, each)) == "MISS"
    assert await bench.metric("txsse_cache_entries") == 3
    assert verdict(await ask(bench, asked[0])) == "HIT"
    assert verdict(await ask(bench, asked[3])) == "MISS"
    assert await bench.metric("txsse_cache_bytes") <= limit
    assert await bench.metric("txsse_cache_total", result="evict") == 1
    assert [verdict(await ask(bench, asked[at])) for at in (0, 2, 3)] == ["HIT"] * 3
    assert verdict(await ask(bench, asked[1])) == "MISS", "it was the least recently used one"
    await bench.close()


async def test_a_restart_keeps_what_is_in_the_file(own_proxies: Callable[[str], Proxy], tmp_path: Path) -> None:
    port = free_port()
    configuration = (
        server(f'state_dir = "{tmp_path}"')
        + upstream(more=READY).replace("$main", str(port))
        + route(more=cache())
        + '[store]\nkind = "sqlite"'
    )
    model = ScriptedUpstream(reactor, turns(stream(HI), answer(document(usage=usage(3, 4)))), port=port)
    await model.open()
    bench = Bench(reactor, own_proxies(configuration))
    streamed, whole = question(), plain()
    for body in (streamed, whole):
        assert verdict(await ask(bench, body)) == "MISS"
        assert verdict(await ask(bench, body)) == "HIT"
    await bench.close()
    assert bench.proxy.stop() == 0
    await model.stop()

    again = Bench(reactor, own_proxies(configuration))
    for body, expected in ((streamed, HI), (whole, document(usage=usage(3, 4)))):
        client = await ask(again, body)
        assert (verdict(client), client.body) == ("HIT", expected)
        assert client.response.header("age") is not None
    assert await tokens(again, "m") == {"prompt": 0, "completion": 0, "cached": 7}
    key = json.loads(bytes((await operate(again, "/cache")).body))["entries"][0]["key"]
    assert (await operate(again, f"/cache/{key}", "DELETE")).status == 200
    assert (await ask(again, whole, "Cache-Control: only-if-cached")).response.status == 504
    assert verdict(await ask(again, streamed, "Cache-Control: only-if-cached")) == "HIT"
    await again.close()


async def test_a_reload_with_another_backend_does_not_tell_old_answers(own_proxies: Callable[[str], Proxy]) -> None:
    configuration = server() + upstream(more=READY) + route(more=cache())
    bench = Bench(reactor, own_proxies(configuration))
    await bench.play(turns(stream(told("old"))))
    asked = question()
    await ask(bench, asked)
    second = ScriptedUpstream(reactor, turns(stream(told("new"))), port=bench.proxy.ports["second"])
    await second.open()

    async def reload(text: str) -> None:
        count = bench.proxy.log.count("reloaded")
        bench.proxy.configure(text)
        bench.proxy.signal(signal.SIGHUP)
        await eventually(reactor, lambda: bench.proxy.log.count("reloaded") > count, what="the reload")

    await reload(configuration + "# nothing has changed\n")
    assert verdict(await ask(bench, asked)) == "HIT"
    await reload(configuration.replace("$main", "$second"))
    for expected in ("MISS", "HIT"):
        client = await ask(bench, asked)
        assert (verdict(client), client.body) == (expected, told("new"))
    await reload(configuration.replace('"all"', '"off"').replace("$main", "$second"))
    assert verdict(await ask(bench, asked)) == ""
    await reload(configuration)
    client = await ask(bench, asked)
    assert (verdict(client), client.body) == ("HIT", told("old")), "the old one is itself again"
    assert len(bench.upstream.requests) == 1
    await second.stop()
    await bench.close()
