"""Predictions by an upstream of a real proxy, on sockets in memory: what it is asked, what becomes of its answer, who is let in."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.predictions.bench import ASYNC, COLD, DONE, EVENTS, READY, UpstreamBench, event, predictions, says
from txsse.predictions.model import Invalid
from txsse.predictions.upstream import streamed
from txsse.proxy.admission import look_at_once

SLOT = READY + "max_concurrency = 1\n"
MANY = [f"word{number} " for number in range(500)]


def test_input_is_the_body_of_a_streaming_request_and_deltas_are_the_output() -> None:
    bench = UpstreamBench()
    client = bench.put("one", EVENTS, "X-Request-Id: r-1", "Prefer: x=y", "X-Other: 1", model="m", messages=[])
    connection = bench.connect()
    assert connection.head[0] == "POST /v1/chat/completions HTTP/1.1"
    assert {"Content-Type: application/json", "Accept: text/event-stream", "X-Other: 1", "X-Request-Id: r-1"} <= set(connection.head)
    assert not any(line.lower().startswith("prefer") for line in connection.head)
    assert connection.body == b'{"model": "m", "messages": [],"stream":true}'
    connection.stream(says(""), says("Onions"))
    connection.tell(says(" bloom"), event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}), DONE)
    connection.end()
    assert [name for name, _ in client.told] == ["start", "output", "output", "metric", "metric", "completed"]
    assert client.told[1][1] == {"chunk": "Onions", "index": 0}
    assert client.told[3][1] == {"name": "input_token_count", "value": 7, "mode": "replace"}
    document = client.told[-1][1]
    assert (document["id"], document["status"], document["output"]) == ("one", "succeeded", ["Onions", " bloom"])
    assert document["metrics"].pop("predict_time") >= 0
    assert document["metrics"] == {"input_token_count": 7, "output_token_count": 2}
    assert client.answer.header("location") == b"/predictions/one"
    assert client.answer.header("x-request-id") == b"r-1"
    assert bench.proxy.metrics.in_flight["llama"] == 0
    (line,) = bench.lines
    assert " route=llama " in line and " tokens=7+2" in line, line


def test_a_document_when_it_is_done() -> None:
    bench = UpstreamBench()
    client = bench.post(messages=[])
    connection = bench.connect()
    connection.stream(says("a"), says("b"))
    assert not client.transport.value()
    connection.tell(DONE)
    connection.end()
    assert client.answer.status == 200
    assert client.document["output"] == ["a", "b"]
    assert client.answer.header("location") == b"/predictions/" + client.document["id"].encode()
    assert len(client.document["id"]) == 32


@pytest.mark.parametrize(
    ("path", "events", "output"),
    [
        ("/v1/completions", [event({"choices": [{"text": "a"}]}), event({"choices": [{"text": "b", "index": 0}]}), DONE], ["a", "b"]),
        (
            "/v1/responses",
            [event({"type": "response.output_text.delta", "delta": "a"}), event({"type": "response.completed", "response": {}})],
            ["a"],
        ),
        (
            "/v1/messages",
            [
                event({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "a"}}),
                event({"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "b"}}),
                event({"type": "message_stop"}),
            ],
            ["a"],
        ),
        ("/events", [b"data: a\n\n", b": c\n\n", b"event: x\ndata: b\ndata: c\n\n"], ["a", "b\nc"]),
    ],
)
def test_the_dialect_is_that_of_the_upstreams_path(path: str, events: list[bytes], output: list[str]) -> None:
    bench = UpstreamBench(READY + predictions(path=path))
    client = bench.post(prompt="p")
    connection = bench.connect()
    assert connection.head[0] == f"POST {path} HTTP/1.1"
    connection.stream(*events)
    connection.end()
    assert (client.document["status"], client.document["output"]) == ("succeeded", output)


def test_lines_of_json_too() -> None:
    bench = UpstreamBench(READY + predictions(path="/api/chat"))
    client = bench.post(model="m")
    connection = bench.connect()
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n")
    connection.tell(b'{"message":{"content":"a"},"done":false}\n')
    connection.tell(b'{"message":{"content":""},"done":true,"prompt_eval_count":3,"eval_count":1}\n')
    connection.end()
    assert (client.document["status"], client.document["output"]) == ("succeeded", ["a"])
    assert client.document["metrics"]["output_token_count"] == 1


# -- what goes wrong


def failure_of(bench: UpstreamBench, client: Any) -> str:
    document = client.document
    assert client.answer.status == 200, "a failure is data"
    assert document["status"] == "failed"
    assert not bench.proxy.exchanges
    message: str = document["error"]
    return message


def test_an_error_of_the_upstream() -> None:
    bench = UpstreamBench()
    client = bench.post(model="m")
    body = b'{"error":{"message":"no such model","type":"invalid_request_error"}}'
    bench.connect().send(b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    assert failure_of(bench, client) == "no such model"


def test_an_error_in_its_stream() -> None:
    bench = UpstreamBench()
    client = bench.post(model="m")
    connection = bench.connect()
    connection.stream(says("a"), event({"error": {"message": "out of memory"}}), says("b"))
    assert failure_of(bench, client) == "out of memory"
    assert client.document["output"] == ["a"]
    assert connection.aborted


def test_an_answer_that_is_no_stream() -> None:
    bench = UpstreamBench()
    client = bench.post(model="m")
    bench.connect().send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
    assert "200 with application/json" in failure_of(bench, client)


def test_its_death_inside_the_stream() -> None:
    bench = UpstreamBench()
    client = bench.post(model="m")
    connection = bench.connect()
    connection.stream(says("a"))
    connection.die()
    assert "disconnected before its answer was complete" in failure_of(bench, client)
    assert client.document["output"] == ["a"]


def test_an_upstream_that_is_not_there() -> None:
    bench = UpstreamBench()
    client = bench.post(model="m")
    bench.refuse()
    bench.wait(1)
    assert "could not be reached" in failure_of(bench, client)
    assert bench.proxy.metrics.rejections["upstream_unavailable"] == 1


def test_its_silence() -> None:
    bench = UpstreamBench(READY + 'timeouts = { idle = "2s" }\n' + predictions())
    client = bench.post(model="m")
    bench.connect().stream(says("a"))
    bench.wait(4)
    assert failure_of(bench, client) == "The upstream was silent for 2 s."


def test_a_hold_without_an_end() -> None:
    bench = UpstreamBench(COLD + predictions('hold.timeout = "2s"'))
    client = bench.put("cold", ASYNC, model="m")
    assert client.document["status"] == bench.look("cold").document["status"] == "starting"
    bench.wait(0.1)
    bench.refuse()
    bench.wait(4)
    document = bench.look("cold").document
    assert document["status"] == "failed" and "not ready within 2 s" in document["error"]


def test_a_cold_upstream_is_waited_for() -> None:
    bench = UpstreamBench(COLD + predictions())
    client = bench.put("cold", EVENTS, model="m")
    bench.wait(20)
    assert client.told == [] and client.comments, "kept alive"
    bench.connect()  # the probe
    bench.wait(1)
    assert [name for name, _ in client.told] == ["start"]
    connection = bench.connect()
    connection.stream(says("a"), DONE)
    connection.end()
    assert client.told[-1][1]["status"] == "succeeded"


# -- slots


def test_no_slot_no_prediction() -> None:
    bench = UpstreamBench(SLOT + predictions())
    first = bench.put("one", EVENTS, model="m")
    refused = bench.put("two", model="m")
    assert refused.answer.status == 409
    assert refused.document == {"error": "At capacity - all prediction slots busy", "code": "at_capacity", "status": "failed"}
    assert bench.ask("GET", "/health-check").document["status"] == "BUSY"
    assert bench.put("one", ASYNC, model="m").answer.status == 202, "the one that is there is no second one"
    assert bench.look("two").answer.status == 404
    connection = bench.connect()
    connection.stream(DONE)
    connection.end()
    assert first.told[-1][1]["status"] == "succeeded"
    assert bench.ask("GET", "/health-check").document["status"] == "READY"
    assert bench.put("two", ASYNC, model="m").answer.status == 202
    assert bench.proxy.metrics.rejections["at_capacity"] == 1


def test_who_waits_for_a_cold_upstream_takes_a_slot() -> None:
    bench = UpstreamBench(COLD + "max_concurrency = 1\n" + predictions())
    bench.put("one", ASYNC, model="m")
    assert bench.put("two", ASYNC, model="m").answer.status == 409


def test_too_many_that_wait_are_refused_at_once() -> None:
    bench = UpstreamBench(COLD + predictions("hold.max_waiting = 1"))
    assert bench.put("one", ASYNC, model="m").answer.status == 202
    refused = bench.put("two", ASYNC, model="m")
    assert (refused.answer.status, refused.document["code"]) == (429, "too_many_waiting")
    assert refused.answer.header("retry-after") is not None
    assert bench.look("two").answer.status == 404
    assert len(bench.jobs) == 1


# -- leaving and cancelling


@pytest.mark.parametrize("fields", [[], [EVENTS]])
def test_who_leaves_cancels(fields: list[str]) -> None:
    bench = UpstreamBench()
    client = bench.put("one", *fields, model="m")
    connection = bench.connect()
    connection.stream(says("a"))
    client.leave()
    assert connection.aborted
    assert bench.look("one").document["status"] == "canceled"
    assert bench.look("one").document["output"] == ["a"]


@pytest.mark.parametrize("fields", [[ASYNC], [ASYNC, EVENTS]])
def test_who_prefers_not_to_wait_may_leave(fields: list[str]) -> None:
    bench = UpstreamBench()
    client = bench.put("one", *fields, model="m")
    connection = bench.connect()
    client.leave()
    connection.stream(says("a"), DONE)
    connection.end()
    assert bench.look("one").document["status"] == "succeeded"


def test_one_of_two_leaves() -> None:
    bench = UpstreamBench()
    first, second = bench.put("one", EVENTS, model="m"), bench.look("one", EVENTS)
    connection = bench.connect()
    first.leave()
    connection.stream(says("a"))
    assert [name for name, _ in second.told] == ["start", "output"]
    second.leave()
    assert connection.aborted


def test_grace_for_who_comes_back() -> None:
    bench = UpstreamBench(READY + predictions('resume = { on_disconnect = "grace", grace = "2s" }'))
    client = bench.put("one", EVENTS, model="m")
    connection = bench.connect()
    connection.stream(says("a"))
    client.leave()
    bench.wait(1)
    again = bench.look("one", EVENTS, f"Last-Event-ID: {client.events[-1].id}")
    connection.tell(says("b"))
    assert [told for _, told in again.told] == [{"chunk": "b", "index": 1}]
    bench.wait(3)
    assert not connection.aborted
    again.leave()
    bench.wait(3)
    assert connection.aborted


@pytest.mark.parametrize("sent", [True, False])
def test_cancel(sent: bool) -> None:
    bench = UpstreamBench(READY + predictions() if sent else COLD + predictions())
    client = bench.put("one", EVENTS, ASYNC, model="m")
    connection = bench.connect() if sent else None
    cancelled = bench.ask("POST", "/predictions/one/cancel")
    assert (cancelled.answer.status, cancelled.document) == (200, {})
    assert client.told[-1][1]["status"] == "canceled"
    assert connection is None or connection.aborted
    assert not bench.proxy.exchanges
    assert bench.ask("POST", "/predictions/one/cancel").answer.status == 200
    assert bench.ask("POST", "/predictions/two/cancel").answer.status == 404


def test_the_end_of_the_proxy() -> None:
    bench = UpstreamBench()
    client = bench.put("one", EVENTS, model="m")
    connection = bench.connect()
    bench.proxy.shut_down()
    assert "shutting down" in client.told[-1][1]["error"]
    assert connection.aborted


# -- flow control


def test_an_upstream_waits_for_the_only_reader() -> None:
    bench = UpstreamBench(READY + predictions('resume.max_bytes = "64KiB"'))
    client = bench.put("one", EVENTS, model="m")
    connection = bench.connect()
    client.stop_reading()
    connection.stream(says("a"))
    for word in MANY * 2:
        connection.tell(says(word))
    assert connection.transport.producerState == "paused"
    client.read_on()
    bench.wait(0.1)
    assert connection.transport.producerState == "producing"
    connection.end()
    assert [told["chunk"] for name, told in client.told if name == "output"] == ["a", *MANY, *MANY]
    assert "gap" not in str(client.comments)


def test_without_readers_the_beginning_is_forgotten_and_that_is_told() -> None:
    bench = UpstreamBench(READY + predictions('resume.max_bytes = "16KiB"'))
    bench.put("one", ASYNC, model="m")
    connection = bench.connect()
    connection.stream(*map(says, MANY))
    connection.end()
    late = bench.look("one", EVENTS)
    gap = int(late.answer.header("x-stream-gap") or b"0")
    told = [data["index"] for name, data in late.told if name == "output"]
    assert gap > 1 and told == list(range(gap - 1, len(MANY)))  # start is event 1, chunk n is event n + 2
    document = late.told[-1][1]
    assert document["status"] == "succeeded" and document["output"] == MANY
    assert bench.jobs.bytes_used < 3 * 16 * 1024


def test_a_document_has_its_bound_too() -> None:
    bench = UpstreamBench(READY + predictions('resume.max_bytes = "2KiB"'))
    bench.put("one", ASYNC, model="m")
    connection = bench.connect()
    connection.stream(*map(says, MANY))
    connection.end()
    document = bench.look("one").document
    assert document["truncated"] is True
    output = document["output"]
    assert output == MANY[: len(output)] and 0 < len(output) < len(MANY)


# -- who is who


def test_a_prediction_belongs_to_its_key() -> None:
    bench = UpstreamBench()
    mine = "Authorization: Bearer one"
    created = bench.put("mine", ASYNC, mine, model="m")
    assert created.answer.status == 202
    assert bench.look("mine", mine).answer.status == 200
    assert bench.look("mine").answer.status == bench.look("mine", "Authorization: Bearer two").answer.status == 404
    assert bench.ask("POST", "/predictions/mine/cancel", "Authorization: Bearer two").answer.status == 404
    bench.put("mine", ASYNC, "Authorization: Bearer two", model="m")
    assert bench.asked == 2, "the same id, but not the same prediction"


def test_keys_of_ours_are_not_for_the_upstream(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"ann:{hashlib.sha256(b'secret').hexdigest()}\n")
    bench = UpstreamBench(f'auth = {{ keys_file = "{keys}" }}\n' + READY + predictions())
    bench.put("one", ASYNC, "Authorization: Bearer secret", model="m")
    assert "secret" not in str(bench.connect().head)
    assert bench.look("one", "Authorization: Bearer secret").answer.status == 200


def test_several_routes_are_told_apart_by_their_other_matches() -> None:
    other = predictions('match.header = { X-Model = "b" }\nname = "b"', "/b")
    bench = UpstreamBench(READY + other + predictions('name = "a"', "/a"))
    bench.put("one", ASYNC, "X-Model: b", model="m")
    assert bench.connect().head[0].startswith("POST /b ")
    bench.put("one", ASYNC, model="m")
    assert bench.connect().head[0].startswith("POST /a ")


def test_ids_are_not_logged_in_full() -> None:
    bench = UpstreamBench()
    bench.look("0123456789abcdef")
    (line,) = bench.lines
    assert "/predictions/01234567.." in line and "9abcdef" not in line


def test_a_method_that_a_path_does_not_know_is_accounted_for() -> None:
    bench = UpstreamBench()
    client = bench.ask("GET", "/predictions", "X-Request-Id: r-1")
    assert (client.answer.status, client.answer.header("x-request-id"), client.answer.header("server")) == (405, b"r-1", None)
    (line,) = bench.lines
    assert " status=405 " in line and " code=bad_request " in line


def test_cors() -> None:
    bench = UpstreamBench(READY + predictions('cors_origins = ["https://a.example"]'))
    client = bench.put("one", ASYNC, "Origin: https://a.example", model="m")
    assert client.answer.header("access-control-allow-origin") == b"https://a.example"
    assert b"X-Stream-Gap" in (client.answer.header("access-control-expose-headers") or b"")


# -- health


@pytest.mark.parametrize(
    ("configuration", "health"),
    [
        (READY, "READY"),
        (COLD, "READY"),  # nobody knows yet; a prediction would find out
    ],
)
def test_health(configuration: str, health: str) -> None:
    bench = UpstreamBench(configuration + predictions())
    client = bench.ask("GET", "/health-check")
    assert (client.answer.status, client.document["status"]) == (200, health)
    assert bench.asked == 0, "to ask wakes nobody"


def test_an_upstream_that_is_down_and_that_nobody_starts() -> None:
    bench = UpstreamBench(COLD + predictions())
    bench.put("one", ASYNC, model="m")
    bench.wait(0.1)
    bench.refuse()
    bench.wait(0.1)
    assert bench.ask("GET", "/health-check").document["status"] == "STARTING"


# -- the body for upstream


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (b"{}", b'{"stream":true}'),
        (b" { } \n", b' { "stream":true}'),
        (b'{"a":1.0 }', b'{"a":1.0 ,"stream":true}'),
        (b'{"stream":true,"a":1}', b'{"stream":true,"a":1}'),
        (b'{"stream": false,"a":1}', b'{"stream":true,"a":1}'),
        (b'{"stream":true,"stream":null}', b'{"stream":true}'),
        (b'{"\\u0073tream":false}', b'{"stream":true}'),
        (b'{"a":{"stream":false}}', b'{"a":{"stream":false},"stream":true}'),
    ],
)
def test_stream_is_set_once(given: bytes, sent: bytes) -> None:
    members = look_at_once(given, whole=True)
    assert members is not None
    assert streamed(given, members).replace(b" ", b"") == sent.replace(b" ", b"")
    assert json.loads(streamed(given, members))["stream"] is True


def test_what_cannot_be_read_is_not_rewritten() -> None:
    with pytest.raises(Invalid):
        streamed(b'{"stream":false,"a":[1,,2]}', {"stream": b"false"})


def test_the_operator_sees_them_and_ends_one() -> None:
    bench = UpstreamBench(READY + predictions("resume.mode = 'off'"))
    client = bench.put("one", EVENTS, model="m")
    connection = bench.connect()
    connection.stream(says("a"))
    view = bench.proxy.metrics.streams_view()
    assert view is not None and bench.proxy.stream_control is None, "the paths of streams are not ours"
    (seen,) = view.glimpses()
    assert (seen.kind, seen.route, seen.state, seen.upstream, seen.first, seen.last) == ("prediction", "llama", "live", "ready", 1, 2)
    sid = client.events[0].id.partition(".")[0]
    assert seen.sid == sid[:8] + ".." and (seen.readers, view.kept, view.live) == (1, 1, 1)
    assert view.size == seen.size > 0
    assert view.end("x" * 8) == []
    (ended,) = view.end(sid[:8])
    assert (ended.state, view.live) == ("error", 0)
    assert client.told[-1][1]["status"] == "canceled" and connection.aborted
