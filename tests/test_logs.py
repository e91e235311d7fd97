"""The access log, the JSON observer, and what neither may show."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, Logger, LogPublisher, globalLogPublisher
from twisted.python.failure import Failure

from txsse.dialects.usage import Usage
from txsse.logs import FLUSH_SIZE, LONGEST_MODEL, AccessLog, Entry, Format, destination, json_observer, redact_target, stream_writer


def entry(**changes: Any) -> Entry:
    plain = Entry(
        time=1794830400.5,
        peer="192.0.2.7",
        method=b"POST",
        path=b"/v1/chat/completions",
        version=b"HTTP/1.1",
        status=200,
        route="default",
        upstream="llama",
        code="",
        outcome="ok",
        bytes_in=120,
        bytes_out=3456,
        hold=10.0124,
        first_byte=0.031,
        total=14.2,
        keepalives=3,
        cold=True,
        streaming=True,
        request_id=b"req-1",
    )
    return attrs.evolve(plain, **changes)


@attrs.define
class Sink:
    batches: list[str] = attrs.field(factory=list)
    failing: bool = False

    def __call__(self, text: str) -> None:
        if self.failing:
            raise OSError(28, "No space left on device")
        self.batches.append(text)


@contextmanager
def captured() -> Iterator[list[dict[str, Any]]]:
    """The events logged meanwhile."""
    events: list[dict[str, Any]] = []
    observer = cast("ILogObserver", events.append)
    globalLogPublisher.addObserver(observer)
    try:
        yield events
    finally:
        globalLogPublisher.removeObserver(observer)


def line(format: Format, **changes: Any) -> str:
    sink = Sink()
    log = AccessLog(sink, format, Clock())
    log.add(entry(**changes))
    log.stop()
    (text,) = sink.batches
    return text


def test_a_text_line_can_be_read_by_eye() -> None:
    assert line("text") == (
        "time=2026-11-16T12:00:00.500Z peer=192.0.2.7 method=POST path=/v1/chat/completions version=HTTP/1.1 status=200 route=default"
        " upstream=llama outcome=ok code=- streaming=true cold=true hold=10.012 first_byte=0.031 total=14.200 bytes_in=120 bytes_out=3456"
        " keepalives=3 request_id=req-1\n"
    )


def test_a_json_line_is_one_object_without_what_does_not_apply() -> None:
    record = json.loads(line("json", hold=None, code="", outcome="rejected", status=503))
    assert record["status"] == 503
    assert record["total"] == 14.2
    assert record["cold"] is True
    assert not {"hold", "code"} & set(record)


def test_cache_and_tokens_end_the_line_where_there_is_something_to_tell() -> None:
    plain = line("text")
    usage = {"usage": Usage(11, 2), "model": "qwen"}
    assert line("text", cache="hit", **usage) == plain[:-1] + " cache=hit model=qwen tokens=11+2\n"
    assert line("text", **usage) == plain[:-1] + " model=qwen tokens=11+2\n"
    assert line("text", cache="miss", model="qwen") == plain[:-1] + " cache=miss\n"
    assert " model=- tokens=0+0\n" in line("text", usage=Usage(0, 0))
    record = json.loads(line("json", cache="hit", **usage))
    assert (record["cache"], record["model"], record["prompt_tokens"], record["completion_tokens"]) == ("hit", "qwen", 11, 2)
    assert not {"cache", "model", "prompt_tokens", "completion_tokens"} & set(json.loads(line("json")))


def test_a_model_of_any_name_forges_nothing() -> None:
    for format in ("text", "json"):
        text = line(format, usage=Usage(1, 1), model="\ud800 status=500\n\x7f" + "x" * 1000)
        assert text.count("\n") == 1 and text.isascii() and "\x7f" not in text
        assert len(text) < 800
    assert json.loads(line("json", usage=Usage(1, 1), model="m" * 1000))["model"] == "m" * LONGEST_MODEL


def test_query_values_are_never_logged() -> None:
    for format in ("text", "json"):
        text = line(format, path=b"/v1/models?key=sk-secret&sk-bare")
        assert "sk-" not in text
        assert "/v1/models?..." in text


@pytest.mark.parametrize(
    ("path", "logged"),
    [
        (b"/-/streams/" + b"S" * 22, "/-/streams/SSSSSSSS.."),
        (b"/-/streams/" + b"S" * 22 + b"/cancel?key=1", "/-/streams/SSSSSSSS../cancel?..."),
        (b"/-/streams/node-1~" + b"S" * 22 + b"?x", "/-/streams/node-1~SSSSSSSS..?..."),
        (b"/-/streams/SSSSSSSS", "/-/streams/SSSSSSSS"),
        (b"/-/streams/", "/-/streams/"),
        (b"/-/streams", "/-/streams"),
        (b"/-/hold/" + b"T" * 22, "/-/hold/TTTTTTTT.."),
        (b"/v1/-/streams/" + b"S" * 22, "/v1/-/streams/" + "S" * 22),
    ],
)
def test_with_what_is_logged_of_the_path_of_a_stream_nobody_can_read_it(path: bytes, logged: str) -> None:
    assert redact_target(path) == logged


def test_a_long_path_is_cut() -> None:
    assert len(redact_target(b"/" + b"a" * 20000 + b"?x")) < 1100


def test_a_client_cannot_forge_a_line_or_a_field() -> None:
    text = line("text", path=b'/a" status=500\r\ntime=x \x1b[31m\x7f\x85', method=b"GET status=1")
    assert text.count("\n") == 1
    assert 'method="GET status=1" ' in text
    assert r'path="/a\" status=500\r\ntime=x \u001b[31m\u007f\u0085" ' in text


@given(path=st.binary(), method=st.binary(), request_id=st.binary(), peer=st.text())
def test_whatever_a_client_sends_stays_one_printable_line(path: bytes, method: bytes, request_id: bytes, peer: str) -> None:
    changes = {"path": path, "method": method, "request_id": request_id, "peer": peer}
    for format in ("text", "json"):
        text = line(format, **changes)
        assert text.endswith("\n")
        assert all(" " <= character <= "~" for character in text[:-1])
    assert isinstance(json.loads(line("json", **changes)), dict)


def test_lines_are_gathered_for_half_a_second_and_then_nothing_ticks() -> None:
    clock, sink = Clock(), Sink()
    log = AccessLog(sink, "text", clock)
    assert not clock.getDelayedCalls()
    log.add(entry())
    log.add(entry())
    clock.advance(0.4)
    assert sink.batches == []
    clock.advance(0.1)
    assert [batch.count("\n") for batch in sink.batches] == [2]
    clock.advance(0.5)
    assert not clock.getDelayedCalls()
    log.add(entry())
    clock.advance(0.5)
    assert len(sink.batches) == 2


def test_a_full_buffer_does_not_wait() -> None:
    sink = Sink()
    log = AccessLog(sink, "text", Clock())
    while not sink.batches:
        log.add(entry())
    assert FLUSH_SIZE <= len(sink.batches[0]) < FLUSH_SIZE + 1000
    log.stop()


def test_stop_writes_the_rest() -> None:
    clock, sink = Clock(), Sink()
    log = AccessLog(sink, "text", clock)
    log.add(entry())
    log.stop()
    assert len(sink.batches) == 1
    assert not clock.getDelayedCalls()


def test_a_full_disk_is_told_once_and_logging_goes_on_afterwards() -> None:
    clock, sink = Clock(), Sink(failing=True)
    with captured() as events:
        log = AccessLog(sink, "text", clock)
        for _ in range(3):
            log.add(entry())
            clock.advance(0.5)
        sink.failing = False
        log.add(entry())
        clock.advance(0.5)
        log.stop()
    assert [event["log_format"] for event in events if event["log_namespace"] == "txsse.logs.AccessLog"] == ["access log lost: {error}"]
    assert len(sink.batches) == 1


def test_in_the_foreground_lines_go_to_standard_output(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.__stdout__", stream)
    destination({"nodaemon": 1, "logfile": None, "syslog": None})("line\n")
    assert stream.getvalue() == "line\n"


@pytest.mark.parametrize(
    "twistd",
    [None, {"nodaemon": 0}, {"nodaemon": 1, "logfile": "txsse.log"}, {"nodaemon": 1, "syslog": 1}],
    ids=["embedded", "daemon", "logfile", "syslog"],
)
def test_elsewhere_a_batch_is_one_event_of_the_log(twistd: dict[str, Any] | None) -> None:
    with captured() as events:
        destination(twistd)("one\ntwo\n")
    assert [(event["log_namespace"], event["access_lines"]) for event in events] == [("txsse.access", "one\ntwo")]


def test_stream_writer_flushes_each_batch() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    stream_writer(stream)("line\n")
    assert raw.getvalue() == b"line\n"


def observed(publish: Any) -> list[dict[str, Any]]:
    stream = io.StringIO()
    publish(Logger(namespace="txsse.test", observer=LogPublisher(json_observer(stream))))
    return [json.loads(text) for text in stream.getvalue().splitlines()]


def test_events_become_compact_json_objects() -> None:
    (record,) = observed(lambda log: log.warn('upstream {name} said "{text}"', name="llama", text="a\nb"))
    assert set(record) == {"time", "level", "namespace", "message"}
    assert (record["level"], record["namespace"]) == ("warn", "txsse.test")
    assert record["message"] == 'upstream llama said "a\nb"'
    assert record["time"].endswith("Z")


def test_failures_carry_their_traceback() -> None:
    (record,) = observed(lambda log: log.failure("it broke", Failure(ValueError("why"))))
    assert record["level"] == "critical"
    assert "ValueError: why" in record["traceback"]


def test_access_lines_pass_the_observer_as_they_are() -> None:
    records = observed(lambda log: log.info("{access_lines}", access_lines='{"status":200}\n{"status":503}'))
    assert records == [{"status": 200}, {"status": 503}]
