"""Admission: which requests are refused, which stream, where they go, what is counted; with real backends on a reactor in memory."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from tests.conftest import ExpectedErrors
from tests.fakes import RecordingDownstream
from tests.upstream.certificates import Authority
from txsse.config import loads
from txsse.errors import CODES, ProxyError
from txsse.interfaces import Exchange, Request
from txsse.logs import AccessLog
from txsse.proxy.admission import NOBODY, PEEK_AT_ONCE
from txsse.proxy.answers import LONGEST_RETRY_AFTER
from txsse.proxy.handler import SPREAD, Proxy
from txsse.wire.headers import Headers
from txsse.wire.http1 import RequestHead, decoded_path

READY = """
[[upstream]]
name = "llama"
url = "http://127.0.0.1:8080"
probe = { preset = "none" }
"""
COLD = READY.replace('"none"', '"tcp"')
CHAT = b"/v1/chat/completions"
JSON: Headers = [(b"Content-Type", b"application/json")]


class Bench:
    """A proxy, its clients and the sockets of its backends."""

    def __init__(self, configuration: str = READY, *, log: list[str] | None = None) -> None:
        self.reactor: Any = MemoryReactorClock()
        lines = None if log is None else AccessLog(log.append, "text", self.reactor)
        self.proxy = Proxy(loads(configuration), self.reactor, "abc", lines)

    def request(
        self, method: bytes = b"POST", path: bytes = CHAT, headers: Headers | None = None, body: bytes = b"", host: bytes = b"example.org"
    ) -> Request:
        fields = [(b"Host", host), *(headers or [])]
        if body:
            fields.append((b"Content-Length", b"%d" % len(body)))
        now = self.reactor.seconds()
        return Request(RequestHead(method, path, b"HTTP/1.1", fields), body, "192.0.2.7", False, host, path, now, now)

    def screen(self, method: bytes = b"POST", path: bytes = CHAT, headers: Headers | None = None) -> str:
        request = self.request(method, path, headers)
        error = self.proxy.screen(request.head, request.host, request.path, request.peer)
        return "" if error is None else error.code

    def open(self, *args: Any, **kwargs: Any) -> tuple[Exchange, RecordingDownstream]:
        downstream = RecordingDownstream(self.reactor)
        return self.proxy.open(self.request(*args, **kwargs), downstream), downstream

    def connect(self) -> tuple[Any, StringTransport]:
        """The newest connection that was asked for comes about: its protocol, and what is sent on it."""
        factory = self.reactor.tcpClients[-1][2]
        protocol = factory.buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    def refuse_connection(self) -> None:
        self.reactor.tcpClients[-1][2].clientConnectionFailed(None, Failure(ConnectionRefusedError()))
        self.reactor.advance(0)

    def streaming(self) -> bool:
        (conductor,) = self.proxy.exchanges
        return conductor.streaming

    def refuse(self, error: ProxyError, head: RequestHead | None = None, path: bytes = CHAT) -> RecordingDownstream:
        downstream = RecordingDownstream(self.reactor)
        self.proxy.refuse(error, head, path, "192.0.2.7", downstream)
        return downstream


# -- screening


def test_a_request_that_came_through_us_is_a_loop() -> None:
    assert Bench().screen(headers=[(b"Via", b"1.1 other, 1.1 txsse-abc")]) == "loop_detected"
    assert Bench().screen(headers=[(b"Via", b"1.1 txsse-abcd")]) == ""


def test_what_no_route_takes_is_refused_at_the_head() -> None:
    bench = Bench(READY + '[[route]]\nupstream = "llama"\nmatch = { path = "/v1/**" }\n')
    assert bench.screen(path=b"/v2/x") == "no_route"
    assert bench.screen(path=b"/v1/x?y=/z") == ""


def test_a_route_that_asks_for_a_model_is_not_refused_before_the_body_is_read() -> None:
    bench = Bench(READY + '[[route]]\nupstream = "llama"\nmatch = { model = "qwen*" }\n')
    assert bench.screen() == ""
    _, client = bench.open(body=b'{"model":"llama3"}')
    assert client.status == 404
    assert json.loads(client.body)["error"]["code"] == "no_route"
    assert bench.proxy.metrics.requests == {("", 404, "rejected"): 1}  # no route's account
    bench.open(body=b'{"model":"qwen3"}')
    assert len(bench.proxy.exchanges) == 1


def test_keys(tmp_path: Path) -> None:
    import hashlib

    keys = tmp_path / "keys"
    keys.write_text(f"ann:{hashlib.sha256(b'secret').hexdigest()}\n")
    cors = '[[route]]\nupstream = "llama"\ncors_origins = ["https://chat.example"]\n'
    bench = Bench(f'auth = {{ keys_file = "{keys}" }}\n' + READY + cors)
    assert bench.screen() == "invalid_api_key"
    assert bench.screen(headers=[(b"Authorization", b"Bearer wrong")]) == "invalid_api_key"
    assert bench.screen(headers=[(b"Authorization", b"Bearer secret")]) == ""
    assert bench.screen(headers=[(b"X-Api-Key", b"secret")]) == ""
    preflight: Headers = [(b"Origin", b"https://chat.example"), (b"Access-Control-Request-Method", b"POST")]
    assert bench.screen(b"OPTIONS", headers=preflight) == ""
    assert bench.screen(b"POST", headers=preflight) == "invalid_api_key"
    foreign: Headers = [(b"Origin", b"https://evil.example"), (b"Access-Control-Request-Method", b"POST")]
    assert bench.screen(b"OPTIONS", headers=foreign) == "invalid_api_key", "it would be held, and wake the upstream"
    bench.open(headers=[(b"Authorization", b"Bearer secret")], body=b"{}")
    assert b"secret" not in bench.connect()[1].value()


# -- what streams

GZIP: Headers = [(b"Content-Encoding", b"gzip")]
DECISIONS = [
    (b"POST", [], b'{"stream":true,"model":"test"}', True),
    (b"POST", [], b'{"stream":false}', False),
    (b"POST", [], b'{"model":"test"}', False),
    (b"POST", [], b"", False),
    (b"POST", [], b"not json", False),
    (b"POST", [], b'{"stream":"true"}', False),
    (b"POST", [], b'{"stream":1}', False),
    (b"POST", [], b'{"stream":null}', False),
    (b"POST", [], b'{"Stream":true}', False),
    (b"POST", [], b'{"messages":[{"content":"\\"stream\\":true"}]}', False),
    (b"POST", [], b'{"metadata":{"stream":true}}', False),
    (b"POST", [], b'{"a":[{"stream":true}],"stream":false}', False),
    (b"POST", [], b'\xef\xbb\xbf{"stream":true}', True),
    (b"POST", [], b' \r\n\t{ "stream" : true }\n', True),
    (b"POST", [], b'{"stream":true,"stream":false}', False),
    (b"POST", [], b'{"stream":false,"stream":true}', True),
    (b"POST", [], b'{"str\\u0065am":true}', True),
    (b"POST", [], b'{"stream":true', False),
    (b"POST", [], b'{"stream":true} x', False),
    (b"POST", [], b'[{"stream":true}]', False),
    (b"POST", GZIP, b'{"stream":true}', False),
    (b"POST", [(b"Content-Encoding", b"identity")], b'{"stream":true}', True),
    (b"POST", [(b"Accept", b"text/event-stream")], b'{"stream":false}', False),
    (b"POST", [(b"Accept", b"text/event-stream")], b"", False),
    (b"POST", [(b"Accept", b"application/json")], b'{"stream":true}', True),
    (b"GET", [(b"Accept", b"text/event-stream")], b"", True),
    (b"GET", [(b"Accept", b"text/html, Text/Event-Stream;q=0.9")], b"", True),
    (b"GET", [(b"Accept", b"text/event-stream-foo")], b"", False),
    (b"GET", [(b"Accept", b"*/*")], b"", False),
    (b"GET", [], b'{"stream":true}', False),
    (b"GET", [(b"Accept", b"text/event-stream;q=0, */*")], b"", False),
    (b"GET", [(b"Accept", b"text/event-stream; q=0.01")], b"", True),
    (b"HEAD", [(b"Accept", b"text/event-stream")], b"", False),
    (b"HEAD", [], b'{"stream":true}', False),
]


@pytest.mark.parametrize(("method", "headers", "body", "streams"), DECISIONS)
def test_what_streams_is_decided_by_the_body_and_the_body_goes_on_byte_for_byte(
    method: bytes, headers: Headers, body: bytes, streams: bool
) -> None:
    bench = Bench()
    exchange, _ = bench.open(method, headers=headers, body=body)
    assert bench.streaming() is streams
    head, _, sent = bench.connect()[1].value().partition(b"\r\n\r\n")
    assert sent == body
    assert (b"\r\nAccept-Encoding: identity" in head) is streams
    exchange.client_gone()


@pytest.mark.parametrize(("setting", "streams"), [("always", True), ("never", False)])
def test_a_route_may_say_otherwise(setting: str, streams: bool) -> None:
    bench = Bench(READY + f'[[route]]\nupstream = "llama"\nstreaming = "{setting}"\n')
    bench.open(body=b'{"stream":true}' if not streams else b"{}")
    assert bench.streaming() is streams


# -- large bodies


def large(stream: bool) -> bytes:
    text = "x" * (4 * PEEK_AT_ONCE)
    return json.dumps({"messages": [{"content": text}], "stream": stream}).encode()


@pytest.mark.parametrize("stream", [True, False])
def test_a_large_body_is_looked_through_in_turns_of_their_own(stream: bool) -> None:
    bench = Bench()
    exchange, client = bench.open(body=large(stream))
    assert bench.proxy.exchanges == set()
    exchange.client_paused()
    exchange.client_resumed()
    bench.reactor.pump([0.01] * 50)
    assert bench.streaming() is stream
    _, transport = bench.connect()
    assert transport.value().endswith(b"\r\n\r\n" + large(stream))
    exchange.client_gone()
    assert bench.proxy.exchanges == set()
    assert client.status == 0


def test_a_client_that_leaves_while_we_look() -> None:
    bench = Bench()
    exchange, client = bench.open(body=large(True))
    exchange.client_gone()
    exchange.client_gone()
    exchange.client_stalled()
    bench.reactor.pump([0.01] * 20)
    assert bench.proxy.exchanges == set()
    assert bench.reactor.tcpClients == []
    assert client.status == 0


def test_a_bug_of_ours_after_the_look_aborts_and_does_not_hang(expected_errors: ExpectedErrors) -> None:
    bench = Bench()
    _, client = bench.open(body=large(True))
    bench.proxy.table = None  # type: ignore[assignment]  # something that cannot be
    bench.reactor.pump([0.01] * 50)
    assert client.end == "abort"
    assert len(expected_errors.flush(AttributeError)) == 1


def test_an_end_while_we_look() -> None:
    bench = Bench()
    _, client = bench.open(body=large(True))
    bench.proxy.shut_down()
    assert (client.status, client.end) == (503, "finish")
    assert b'"code":"shutting_down"' in client.body
    assert list(bench.proxy.metrics.requests) == [("llama", 503, "shutdown")]
    bench.proxy.close()
    bench.reactor.advance(1)
    assert bench.proxy.exchanges == set()


def test_a_small_body_starts_at_once() -> None:
    bench = Bench()
    bench.open(body=b'{"stream":true}')
    assert len(bench.reactor.tcpClients) == 1


# -- preflights

CORS = '[[route]]\nupstream = "llama"\ncors_origins = ["https://chat.example"]\n'
PREFLIGHT: Headers = [
    (b"Origin", b"https://chat.example"),
    (b"Access-Control-Request-Method", b"POST"),
    (b"Access-Control-Request-Headers", b"authorization"),
]


def test_a_preflight_does_not_wait_for_a_model() -> None:
    bench = Bench(COLD + CORS)
    exchange, client = bench.open(b"OPTIONS", headers=PREFLIGHT)
    assert exchange is NOBODY
    assert (client.status, client.has_body, client.end) == (204, False, "finish")
    assert client.header(b"access-control-allow-origin") == b"https://chat.example"
    assert client.header(b"access-control-allow-headers") == b"authorization"
    assert client.header(b"x-request-id")
    assert bench.reactor.tcpClients == []
    exchange.client_gone()


def test_a_ready_upstream_answers_preflights_itself() -> None:
    bench = Bench(READY + CORS)
    bench.open(b"OPTIONS", headers=PREFLIGHT)
    assert b"OPTIONS /v1/chat/completions HTTP/1.1\r\n" in bench.connect()[1].value()


@pytest.mark.parametrize(
    ("method", "headers"),
    [(b"OPTIONS", [(b"Origin", b"https://evil.example"), *PREFLIGHT[1:]]), (b"OPTIONS", PREFLIGHT[:1]), (b"GET", PREFLIGHT)],
)
def test_what_is_no_preflight_of_an_allowed_origin_is_held(method: bytes, headers: Headers) -> None:
    bench = Bench(COLD + CORS)
    bench.open(method, headers=headers)
    assert len(bench.proxy.exchanges) == 1


# -- heads of ours


def test_the_head_of_a_committed_stream() -> None:
    bench = Bench(READY + CORS)
    bench.open(headers=[(b"Origin", b"https://chat.example"), (b"X-Request-Id", b"req_1")], body=b'{"stream":true}')
    bench.connect()
    bench.reactor.pump([0.05] * 102)
    (conductor,) = bench.proxy.exchanges
    client: Any = conductor.downstream
    assert client.status == 200
    assert client.headers == [
        (b"Content-Type", b"text/event-stream; charset=utf-8"),
        (b"Cache-Control", b"no-cache, no-transform"),
        (b"X-Accel-Buffering", b"no"),
        (b"X-Txsse-Cold-Start", b"false"),
        (b"X-Request-Id", b"req_1"),
        (b"Access-Control-Allow-Origin", b"https://chat.example"),
        (b"Vary", b"Origin"),
    ]
    assert client.body == b": txsse\n"


@pytest.mark.parametrize(("setting", "shown"), [("", None), ('cold_start_header = "X-Cold"', b"X-Cold"), ('cold_start_header = ""', b"")])
def test_the_cold_start_header_has_the_configured_name(setting: str, shown: bytes | None) -> None:
    bench = Bench(f"[server]\n{setting}\n" + READY)
    _, client = bench.open(body=b"{}")
    protocol, _ = bench.connect()
    protocol.dataReceived(b"HTTP/1.1 200 OK\r\nX-Txsse-Cold-Start: true\r\nX-Cold: 1\r\nContent-Length: 2\r\n\r\n{}")
    name = b"X-Txsse-Cold-Start" if shown is None else shown
    expected = {b"X-Txsse-Cold-Start": b"true", b"X-Cold": b"1"}
    if name:
        expected[name] = b"false"
    assert {key: value for key, value in client.headers if b"Cold" in key} == expected
    assert client.body == b"{}"


def test_upstreams_head_goes_out_as_it_is_without_hop_by_hop_fields() -> None:
    bench = Bench()
    _, client = bench.open(headers=[(b"X-Request-Id", b"mine")], body=b"{}")
    protocol, transport = bench.connect()
    assert b"\r\nX-Request-Id: mine\r\n" in transport.value()
    protocol.dataReceived(
        b"HTTP/1.1 202 Sure\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-Upstream: a\r\nx-upstream: B\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    )
    assert client.status == 202
    assert client.headers == [
        (b"X-Upstream", b"a"),
        (b"x-upstream", b"B"),
        (b"X-Txsse-Cold-Start", b"false"),
        (b"X-Request-Id", b"mine"),
    ]


# -- refusals


@pytest.mark.parametrize("code", CODES)
def test_a_refusal_is_json_with_its_status(code: str) -> None:
    client = Bench().refuse(ProxyError(code, "No."))
    assert (client.status, client.end) == (CODES[code].status, "finish")
    assert json.loads(client.body)["error"] == {"message": "No.", "type": CODES[code].openai_type, "param": None, "code": code}
    assert client.header(b"content-type") == b"application/json"
    assert client.header(b"content-length") == b"%d" % len(client.body)
    assert (client.header(b"retry-after") is not None) is (client.status in (429, 503))
    assert re.fullmatch(rb"[0-9a-f]{16,32}", client.header(b"x-request-id") or b"")


@pytest.mark.parametrize(("given", "sent"), [(None, b"5"), (0, b"1"), (0.2, b"1"), (7.6, b"8"), (60, b"60"), (3600, b"60")])
def test_retry_after_is_between_a_second_and_a_minute(given: float | None, sent: bytes) -> None:
    client = Bench().refuse(ProxyError("too_many_connections", "No.", retry_after=given))
    assert client.header(b"retry-after") == sent
    assert int(sent) <= LONGEST_RETRY_AFTER


def test_what_a_refusal_of_a_method_and_of_a_key_say() -> None:
    bench = Bench()
    assert bench.refuse(ProxyError("bad_request", "No.", status=405, allow=b"GET, POST")).header(b"allow") == b"GET, POST"
    assert bench.refuse(ProxyError("bad_request", "No.", status=405, allow=b"GET, POST")).status == 405
    assert bench.refuse(ProxyError("invalid_api_key", "No.")).header(b"www-authenticate") == b"Bearer"


def test_the_answer_to_head_has_no_body() -> None:
    bench = Bench()
    client = bench.refuse(ProxyError("no_route", "No."), RequestHead(b"HEAD", CHAT, b"HTTP/1.1", [(b"Host", b"x")]))
    assert (client.has_body, client.body) == (False, b"")
    assert int(client.header(b"content-length") or b"0") > 0


def test_refusals_are_counted_by_code_and_logged() -> None:
    lines: list[str] = []
    bench = Bench(READY + CORS, log=lines)
    head = RequestHead(b"POST", CHAT, b"HTTP/1.1", [(b"Host", b"x"), (b"Origin", b"https://chat.example"), (b"X-Request-Id", b"r1")])
    client = bench.refuse(ProxyError("body_too_large", "No."), head)
    assert client.header(b"access-control-allow-origin") == b"https://chat.example"
    assert bench.proxy.metrics.rejections == {"body_too_large": 1}
    assert bench.proxy.metrics.requests == {("llama", 413, "rejected"): 1}
    bench.proxy.close()
    (line,) = "".join(lines).splitlines()
    assert "body_too_large" in line
    assert "r1" in line


# -- the account


def test_a_request_is_counted_once_and_logged_once() -> None:
    lines: list[str] = []
    bench = Bench(log=lines)
    metrics = bench.proxy.metrics
    _, client = bench.open(body=b"{}", path=b"/v1/embeddings?key=secret")
    assert metrics.in_flight == {"llama": 1}
    bench.reactor.advance(0.5)
    protocol, _ = bench.connect()
    protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    assert client.body == b"{}"
    assert metrics.in_flight["llama"] == 0
    assert metrics.requests == {("llama", 200, "ok"): 1}
    assert metrics.relayed_bytes == {"llama": 2}
    assert metrics.first_byte_seconds["llama"].total == 0.5
    assert not metrics.hold_seconds
    bench.proxy.close()
    (line,) = "".join(lines).splitlines()
    assert "outcome=ok" in line
    assert "secret" not in line


def test_a_client_that_left_before_a_status_is_a_499() -> None:
    bench = Bench()
    exchange, _ = bench.open(body=b"{}")
    exchange.client_gone()
    assert bench.proxy.metrics.requests == {("llama", 499, "client_closed"): 1}


def test_a_refusal_of_ours_after_dispatch_is_a_rejection_and_no_stream_error() -> None:
    bench = Bench()
    _, client = bench.open(body=b"{}", headers=[(b"X-Request-Id", b"r1")])
    bench.refuse_connection()
    assert client.status == 502
    assert json.loads(client.body)["error"]["code"] == "upstream_unavailable"
    assert (client.header(b"x-txsse-cold-start"), client.header(b"x-request-id")) == (b"false", b"r1")
    assert bench.proxy.metrics.rejections == {"upstream_unavailable": 1}
    assert not bench.proxy.metrics.stream_errors
    assert bench.proxy.metrics.requests == {("llama", 502, "upstream_error"): 1}


def test_a_failure_inside_a_stream_is_a_stream_error() -> None:
    bench = Bench()
    _, client = bench.open(body=b'{"stream":true}')
    protocol, _ = bench.connect()
    protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
    assert b'"code":"upstream_invalid"' in client.body
    bench.reactor.pump([0.01] * 30)
    assert client.end == "cut"
    assert bench.proxy.metrics.stream_errors == {"upstream_invalid": 1}
    assert bench.proxy.metrics.relayed_bytes == {"llama": 0}  # the error frame was ours
    assert not bench.proxy.metrics.rejections


def test_a_held_request_is_an_observation_of_the_upstreams_hold() -> None:
    bench = Bench(COLD)
    exchange, _ = bench.open(body=b"{}")
    bench.reactor.advance(0.01)
    bench.refuse_connection()
    assert bench.proxy.backends["llama"].waiting == 1
    bench.reactor.advance(0.29)
    exchange.client_gone()
    assert bench.proxy.metrics.hold_seconds["llama"].total == pytest.approx(0.3)
    assert bench.proxy.backends["llama"].waiting == 0


# -- a new configuration


def test_a_reload_keeps_backends_of_which_nothing_changed() -> None:
    two = READY + READY.replace("llama", "other")
    routes = '[[route]]\nupstream = "llama"\n'
    bench = Bench(two + routes)
    old = dict(bench.proxy.backends)
    bench.proxy.configure(loads(two.replace(":8080", ":8081", 1) + routes))
    assert bench.proxy.backends["other"] is old["other"]
    assert bench.proxy.backends["llama"] is not old["llama"]
    assert {route.backend for route in bench.proxy.table.routes} <= set(bench.proxy.backends.values())


def test_a_reload_takes_a_certificate_that_was_renewed_in_its_file(tmp_path: Path) -> None:
    file = Authority(tmp_path).ca_file
    configuration = READY.replace("http:", "https:") + f'tls = {{ ca_file = "{file}" }}\n'
    bench = Bench(configuration)
    first = bench.proxy.backends["llama"]
    bench.proxy.configure(loads(configuration))
    assert bench.proxy.backends["llama"] is first
    Authority(tmp_path)  # overwrites it
    bench.proxy.configure(loads(configuration))
    assert bench.proxy.backends["llama"] is not first


def test_requests_under_way_keep_what_they_began_with() -> None:
    bench = Bench()
    _, client = bench.open(body=b'{"stream":true}')
    protocol, _ = bench.connect()
    bench.proxy.configure(loads(READY.replace("8080", "8081") + '[[route]]\nupstream = "llama"\nname = "new"\n'))
    protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: x\n\n")
    assert client.body == b"data: x\n\n"
    bench.open(body=b"{}")
    assert bench.reactor.tcpClients[-1][1] == 8081
    assert bench.proxy.metrics.in_flight == {"llama": 1, "new": 1}


def test_a_configuration_that_cannot_be_used_changes_nothing(tmp_path: Path) -> None:
    bench = Bench()
    before = (bench.proxy.configuration, bench.proxy.backends, bench.proxy.table)
    keys = tmp_path / "keys"
    keys.write_text("")
    bad = loads(f'auth = {{ keys_file = "{keys}" }}\n' + READY.replace("8080", "9"))
    keys.write_text("nonsense\n")
    with pytest.raises(ValueError, match="keys"):
        bench.proxy.configure(bad)
    assert (bench.proxy.configuration, bench.proxy.backends, bench.proxy.table) == before


# -- the end


def test_shutting_down_ends_each_in_its_own_way() -> None:
    bench = Bench()
    _, plain = bench.open(body=b"{}")
    bench.connect()
    _, stream = bench.open(body=b'{"stream":true}')
    bench.connect()
    bench.reactor.pump([0.05] * 102)
    assert (plain.status, stream.status) == (0, 200)
    bench.proxy.shut_down()
    assert plain.status == 503
    assert json.loads(plain.body)["error"]["code"] == "shutting_down"
    assert b'"code":"shutting_down"' in stream.body
    bench.reactor.pump([0.01] * 30)
    assert stream.end == "cut"
    assert bench.proxy.exchanges == set()
    bench.proxy.close()
    bench.reactor.advance(5)
    assert bench.reactor.getDelayedCalls() == []


def test_decoded_paths_choose_the_dialect() -> None:
    assert decoded_path(b"/v1/chat%2Fcompletions") == "/v1/chat%2Fcompletions"
    bench = Bench()
    bench.open(path=b"/v1/chat/complet%69ons?x", body=b"{}")
    (conductor,) = bench.proxy.exchanges
    assert conductor.dialect.name == "openai-chat"


# -- streams that can be come back to

RESUMING = READY + '[[route]]\nupstream = "llama"\n[route.resume]\nmode = "auto"\n'
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n"
NUMBERED: Headers = [(b"X-Txsse-Resume", b"1"), *JSON]


def streaming(bench: Bench, count: int) -> list[RecordingDownstream]:
    """So many streams of one event."""
    clients = []
    for _ in range(count):
        _, client = bench.open(headers=NUMBERED, body=b'{"stream":true}')
        protocol, _ = bench.connect()
        protocol.dataReceived(STREAM)
        clients.append(client)
    return clients


@pytest.mark.parametrize(("count", "spread"), [(20, 0.0), (40, SPREAD)])
def test_many_who_will_come_back_are_not_sent_away_all_at_once(count: int, spread: float) -> None:
    bench = Bench(RESUMING)
    clients = streaming(bench, count)
    began = bench.reactor.seconds()
    bench.proxy.shut_down()
    bench.reactor.pump([0.005] * 200)
    told = [next(at for at, data in client.writes if b"shutting_down" in data) - began for client in clients]
    assert sorted(told)[-1] == pytest.approx(spread, abs=0.05)
    assert sum(at < spread / 2 for at in told) == pytest.approx(count / 2 if spread else 0, abs=count / 8)
    assert all(client.end == "cut" and b"\nretry: " in client.body for client in clients)
    assert bench.proxy.streams is not None
    assert bench.proxy.streams.live == count, "the streams themselves end last"
    bench.proxy.end_streams()
    assert {run.error.code for run in bench.proxy.streams if run.error is not None} == {"shutting_down"}
    assert bench.proxy.streams.live == 0
    assert bench.proxy.exchanges == set()


def test_the_path_of_streams_is_ours_only_where_some_are_kept() -> None:
    path = b"/-/streams/" + b"S" * 22
    for configuration, status in ((RESUMING, 404), (READY, 0), (READY + '[[route]]\n[route.cache]\nmode = "all"\n', 0)):
        _, client = Bench(configuration).open(b"GET", path)
        assert client.status == status, configuration
    nowhere = RESUMING.replace("[[route]]\n", '[[route]]\nmatch = { path = "/v1/**" }\n')
    assert Bench(nowhere).screen(b"GET", path) == ""
    assert Bench(nowhere).screen(b"GET", b"/-/stream/x") == "no_route"


def test_streams_stay_when_a_reload_makes_no_more_of_them() -> None:
    bench = Bench(RESUMING)
    (client,) = streaming(bench, 1)
    location = client.header(b"location")
    assert location is not None
    bench.proxy.configure(loads(READY))
    _, again = bench.open(b"GET", location)
    assert (again.status, again.body) == (200, b"id: %b.1\ndata: 1\n\n" % location.removeprefix(b"/-/streams/"))


def test_a_stream_is_read_by_get() -> None:
    _, client = Bench(RESUMING).open(b"PUT", b"/-/streams/" + b"S" * 22)
    assert (client.status, client.header(b"allow")) == (405, b"GET")
