"""What a request says about itself: does it stream, may a head of ours come before upstream's, may its answer be padded?"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, Cooperator

from tests.fakes import RecordingDownstream
from tests.proxy.test_handler import READY, Bench
from txsse.dialects import detect
from txsse.interfaces import Exchange, Request
from txsse.proxy.admission import Admission, brings_json, is_streaming, look_at_once
from txsse.wire.headers import Headers
from txsse.wire.http1 import RequestHead


def request(body: bytes, method: bytes = b"POST", path: bytes = b"/v1/chat/completions") -> Request:
    return Request(RequestHead(method, path, b"HTTP/1.1", [(b"Host", b"x")]), body, "192.0.2.1", False, b"x", path, 0.0, 0.0)


def streams(body: bytes, path: str, method: bytes = b"POST", *, setting: str = "auto", takes_events: bool = False) -> bool:
    made = request(body, method, path.encode())
    return is_streaming(setting, made, look_at_once(body, whole=True), detect(path), takes_events=takes_events)


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"m"}', True),
        (b'{"stream":true}', True),
        (b'{"stream":null}', True),
        (b'{"stream":false}', False),
        (b'{"stream":true,"stream":false}', False),
        (b'{"stream":false,"stream":null}', True),
        (b'{"stream":"yes"}', False),
        (b'{"options":{"stream":false}}', True),
        (b"", False),
        (b"no JSON", False),
        (b'["stream"]', False),
    ],
)
def test_ollama_streams_unless_told_otherwise(path: str, body: bytes, expected: bool) -> None:
    assert streams(body, path) is expected
    assert not streams(body, path, b"HEAD")
    assert not streams(body, path, setting="never")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/x"])
def test_the_others_stream_only_if_told_to(path: str) -> None:
    assert streams(b'{"stream":true}', path)
    for body in (b"{}", b'{"stream":null}', b'{"stream":false}', b'{"a":{"stream":true}}'):
        assert not streams(body, path)
        assert not streams(body, path, takes_events=True)
    assert streams(b"", path, b"GET", takes_events=True)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a":1}', True),
        (b'\r\n\t {"a":1}', True),
        (b"\xef\xbb\xbf[1]", True),
        (b"", False),
        (b"a=1", False),
        (b"\x1f\x8b", False),
        (b"--boundary\r\n", False),
    ],
)
def test_which_body_lets_expect_json(body: bytes, expected: bool) -> None:
    assert brings_json(request(body)) is expected


# -- a head of ours before upstream's

ROUTE = '[[route]]\nupstream = "llama"\n'
ACCEPTS: Headers = [(b"Accept", b"text/event-stream")]
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


def wait(bench: Bench, seconds: float) -> None:
    bench.reactor.pump([0.25] * round(seconds * 4))


@pytest.mark.parametrize(
    ("route", "path", "method", "headers", "commits"),
    [
        ("", b"/v1/chat/completions", b"POST", [], True),
        ("", b"/my/own/api", b"POST", [], False),
        ("", b"/my/own/api", b"GET", ACCEPTS, True),
        ('dialect = "sse"', b"/my/own/api", b"POST", [], True),
        ('streaming = "always"', b"/my/own/api", b"POST", [], True),
        ('dialect = "openai-chat"', b"/my/own/api", b"POST", [], True),
        ('dialect = "sse"', b"/v1/chat/completions", b"POST", [], True),
    ],
)
def test_to_an_api_that_we_do_not_know_nothing_is_said_before_its_head_unless_the_route_says_so(
    route: str, path: bytes, method: bytes, headers: Headers, commits: bool
) -> None:
    bench = Bench(READY + ROUTE + route)
    exchange, client = bench.open(method, path, headers=headers, body=b'{"stream":true}' if method == b"POST" else b"")
    protocol, _ = bench.connect()
    wait(bench, 6)
    assert (client.status == 200) is commits
    assert client.body == (b": txsse\n" if commits else b"")
    wait(bench, 14)
    protocol.dataReceived(EVENTS + b"data: x\n\n")
    wait(bench, 17)
    assert client.body.endswith(b"data: x\n\n: txsse\n"), "in a stream of upstream's own there are comments for everybody"
    exchange.client_gone()


def test_what_such_an_upstream_answers_else_passes_as_it_is() -> None:
    bench = Bench(READY + ROUTE)
    _, client = bench.open(path=b"/my/own/api", body=b'{"stream":true}')
    protocol, _ = bench.connect()
    wait(bench, 60)
    protocol.dataReceived(b'HTTP/1.1 418 No\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"a":false}')
    assert (client.status, client.body) == (418, b'{"a":false}')


# -- JSON kept alive

PADS = ROUTE + '[route.keepalive]\njson = "whitespace"\n'


def test_json_is_kept_alive_by_blanks() -> None:
    bench = Bench(READY + PADS)
    _, client = bench.open(path=b"/v1/embeddings", headers=[(b"Accept-Encoding", b"gzip")], body=b'{"input":"x"}')
    protocol, transport = bench.connect()
    assert b"\r\nAccept-Encoding: identity\r\n" in transport.value(), "a blank cannot go before a gzip header"
    wait(bench, 6)
    assert client.status == 200
    assert client.header(b"content-type") == b"application/json"
    wait(bench, 32)
    assert client.body == b"   "
    protocol.dataReceived(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n{"a": 1}')
    assert (client.body, client.end) == (b'   {"a": 1}', "finish")


@pytest.mark.parametrize(
    ("method", "body", "headers"),
    [
        (b"GET", b"", []),
        (b"HEAD", b"", []),
        (b"HEAD", b"{}", []),
        (b"POST", b"a=1", []),
        (b"POST", b"\x1f\x8b\x08", [(b"Content-Encoding", b"gzip")]),
    ],
)
def test_what_brings_no_json_waits_in_silence(method: bytes, body: bytes, headers: Any) -> None:
    bench = Bench(READY + PADS)
    exchange, client = bench.open(method, b"/v1/models", headers=headers, body=body)
    bench.connect()
    wait(bench, 60)
    assert client.status == 0
    exchange.client_gone()


def test_a_stream_is_never_padded() -> None:
    bench = Bench(READY + PADS)
    exchange, client = bench.open(body=b'{"stream":true}')
    bench.connect()
    wait(bench, 6)
    assert client.body == b": txsse\n"
    exchange.client_gone()


class Exchanging:
    """An exchange that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def client_paused(self) -> None:
        self.told.append("paused")

    def client_resumed(self) -> None:
        self.told.append("resumed")

    def client_gone(self) -> None:
        self.told.append("gone")

    def client_stalled(self) -> None:
        self.told.append("stalled")


@pytest.mark.parametrize("when", ["never", "before", "before, and it read on", "while it begins"])
def test_a_client_whose_socket_is_full_before_its_exchange_is_there(when: str) -> None:
    clock = Clock()
    found: Deferred[None] = Deferred()
    exchange = Exchanging()

    def steps() -> Generator[Deferred[Any] | None, None, int]:
        yield found
        return 7

    def admit(number: int) -> Exchange:
        assert number == 7
        if when == "while it begins":
            admission.client_paused()
        return exchange

    over: list[bool] = []
    admission = Admission(request(b""), RecordingDownstream(clock), steps(), admit, lambda _, abandoned: over.append(abandoned))
    admission.go(Cooperator(scheduler=lambda turn: clock.callLater(0, turn)))
    clock.advance(0)
    if when.startswith("before"):
        admission.client_paused()
    if when.endswith("read on"):
        admission.client_resumed()
    assert exchange.told == []
    found.callback(None)
    clock.advance(0)
    assert over == [False]
    assert exchange.told == (["paused"] if when in ("before", "while it begins") else [])
    admission.client_resumed()
    admission.client_gone()
    assert exchange.told[-2:] == ["resumed", "gone"]
