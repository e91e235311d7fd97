"""What both fronts promise: our own ``ProxySite``, and ``ProxyResource`` in a stranger's ``Site``."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.front.fakes import PLAIN, Bench, Bounds, ScriptedHandler, WebBench, answer
from txsse.errors import ProxyError

AnyBench = Bench | WebBench
MakeBench = Callable[..., AnyBench]

GET = b"GET /a%2Fb?q= HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nContent-Length: 5\r\n\r\n12345"
CHUNKED = b"POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n123\r\n2\r\n45\r\n0\r\n\r\n"


@pytest.fixture(params=[Bench, WebBench])
def make_bench(request: pytest.FixtureRequest) -> MakeBench:
    made: MakeBench = request.param
    return made


def head_and_body(data: bytes) -> tuple[bytes, set[bytes], bytes]:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *fields = head.split(b"\r\n")
    return first, set(fields), body


@pytest.mark.parametrize("message", [POST, CHUNKED])
def test_a_complete_request_is_handed_over(make_bench: MakeBench, message: bytes) -> None:
    bench = make_bench()
    bench.send(message)
    request = bench.handler.last.request
    assert (request.head.method, request.head.target, request.head.version) == (b"POST", b"/p", b"HTTP/1.1")
    assert (request.host, request.path, request.body) == (b"h", b"/p", b"12345")
    assert (request.peer, request.secure) == ("192.168.1.1", False)


def test_the_target_is_not_touched(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.send(GET)
    bench.send(b"GET http://other//x/?y HTTP/1.1\r\nHost: h\r\n\r\n")
    assert [(each.request.host, each.request.path) for each in bench.handler.exchanges] == [(b"h", b"/a%2Fb?q="), (b"other", b"//x/?y")]


def test_an_answer_is_what_was_written_and_nothing_else(make_bench: MakeBench) -> None:
    bench = make_bench()
    transport = bench.send(GET)
    downstream = bench.handler.last.downstream
    downstream.start(201, b"Made", [(b"X-A", b"1"), (b"X-A", b"2"), (b"Date", b"d"), (b"Content-Length", b"5")])
    assert head_and_body(transport.value()) == (b"HTTP/1.1 201 Made", {b"X-A: 1", b"X-A: 2", b"Date: d", b"Content-Length: 5"}, b"")
    downstream.write(b"hello")
    downstream.finish()
    assert transport.value().endswith(b"\r\n\r\nhello")
    assert not transport.disconnecting
    bench.send(GET, transport)
    assert len(bench.handler.exchanges) == 2


def test_an_answer_without_a_length_is_chunked_and_dated(make_bench: MakeBench) -> None:
    bench = make_bench()
    transport = bench.send(GET)
    downstream = bench.handler.last.downstream
    downstream.start(200, b"OK", [])
    downstream.write(b"one")
    downstream.write(b"three")
    downstream.finish()
    _, fields, body = head_and_body(transport.value())
    assert {each.split(b":")[0] for each in fields} == {b"Date", b"Transfer-Encoding"}
    assert body == b"3\r\none\r\n5\r\nthree\r\n0\r\n\r\n"


@pytest.mark.parametrize(("method", "status", "has_body"), [(b"HEAD", 200, False), (b"GET", 204, False), (b"GET", 304, False)])
def test_an_answer_without_a_body_is_its_head(make_bench: MakeBench, method: bytes, status: int, has_body: bool) -> None:
    bench = make_bench()
    transport = bench.send(GET.replace(b"GET", method))
    downstream = bench.handler.last.downstream
    downstream.start(status, b"X", [(b"Date", b"d"), (b"X-A", b"1")], has_body=has_body)
    downstream.finish()
    assert head_and_body(transport.value()) == (b"HTTP/1.1 %d X" % status, {b"Date: d", b"X-A: 1"}, b"")
    assert not transport.disconnecting


def test_http_1_0_is_closed_after_its_answer(make_bench: MakeBench) -> None:
    bench = make_bench()
    transport = bench.send(b"GET / HTTP/1.0\r\n\r\n")
    downstream = bench.handler.last.downstream
    downstream.start(200, b"OK", PLAIN)
    downstream.write(b"hello")
    downstream.finish()
    assert transport.value().endswith(b"\r\n\r\nhello")
    assert transport.gone and not transport.aborted


def test_pipelined_requests_are_answered_in_order(make_bench: MakeBench) -> None:
    bench = make_bench()
    transport = bench.send(GET + POST)
    assert len(bench.handler.exchanges) == 1
    answer(bench.handler.last.downstream, b"first")
    bench.clock.advance(0)
    answer(bench.handler.last.downstream, b"second")
    assert [body.split(b"HTTP")[0] for body in transport.value().split(b"\r\n\r\n")[1:]] == [b"first", b"second"]


def test_an_answer_given_at_once_is_fine(make_bench: MakeBench) -> None:
    bench = make_bench(ScriptedHandler(answer))
    transport = bench.send(GET + GET)
    assert transport.value().count(b"hello") == 2


def test_a_cut_answer_has_no_end(make_bench: MakeBench) -> None:
    bench = make_bench()
    transport = bench.send(GET)
    downstream = bench.handler.last.downstream
    downstream.start(200, b"OK", PLAIN)
    downstream.write(b"half")
    downstream.cut()
    assert transport.value().endswith(b"\r\n\r\n4\r\nhalf\r\n")
    assert transport.gone and not transport.aborted
    assert bench.handler.last.heard == []


def test_a_cut_answer_that_would_look_complete_is_reset(make_bench: MakeBench) -> None:
    bench = make_bench()
    transport = bench.send(b"GET / HTTP/1.0\r\n\r\n")
    downstream = bench.handler.last.downstream
    downstream.start(200, b"OK", PLAIN)
    downstream.write(b"half")
    downstream.cut()
    bench.pass_time(0.1)
    assert transport.value().endswith(b"half")
    assert transport.aborted


def test_an_aborted_answer_is_reset_at_once(make_bench: MakeBench) -> None:
    bench = make_bench()
    transport = bench.send(GET)
    bench.handler.last.downstream.abort()
    assert transport.aborted
    assert bench.handler.last.heard == []


def test_a_client_that_leaves_is_told_of_once(make_bench: MakeBench) -> None:
    bench = make_bench()
    transport = bench.send(POST)
    exchange = bench.handler.last
    exchange.downstream.start(200, b"OK", PLAIN)
    written = transport.value()
    transport.client_leaves()
    assert exchange.heard == ["gone"]
    exchange.downstream.write(b"x")
    exchange.downstream.finish()
    exchange.downstream.cut()
    exchange.downstream.abort()
    exchange.downstream.forget_body()
    assert exchange.downstream.pending() == 0
    assert transport.value() == written


def test_a_client_that_leaves_after_its_answer_is_nothing_to_the_exchange(make_bench: MakeBench) -> None:
    bench = make_bench(ScriptedHandler(answer))
    transport = bench.send(GET)
    transport.client_leaves()
    assert bench.handler.last.heard == []


def test_a_full_transport_pauses_the_exchange(make_bench: MakeBench) -> None:
    bench = make_bench()
    transport = bench.send(GET)
    producer = transport.producer
    assert producer is not None
    for call in (producer.pauseProducing, producer.resumeProducing):
        call()
        call()
    assert bench.handler.last.heard == ["paused", "resumed"]


@pytest.mark.parametrize(
    ("message", "status", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "bad_request"),
        (b"GET /a/../b HTTP/1.1\r\nHost: h\r\n\r\n", 400, "bad_request"),
        (b"GET /%00 HTTP/1.1\r\nHost: h\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: \x0b\r\n\r\n", 400, "bad_request"),
        (b"TRACE / HTTP/1.1\r\nHost: h\r\n\r\n", 405, "bad_request"),
        (b"POST / HTTP/1.1\r\nHost: h\r\nExpect: miracle\r\nContent-Length: 1\r\n\r\n1", 417, "bad_request"),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n" + b"x" * 1001, 413, "body_too_large"),
    ],
)
def test_what_must_not_pass_is_refused_and_closed(make_bench: MakeBench, message: bytes, status: int, code: str) -> None:
    bench = make_bench()
    transport = bench.send(message)
    assert transport.value().startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nConnection: close\r\n" in transport.value()
    assert [each.code for each in bench.handler.refused] == [code]
    bench.pass_time(10, 0.1)
    assert transport.gone and bench.handler.exchanges == []


def test_bodies_together_are_bounded(make_bench: MakeBench) -> None:
    bench = make_bench(None, Bounds(max_buffered=9))
    bench.send(POST)
    refused = bench.send(POST)
    assert refused.value().startswith(b"HTTP/1.1 503 ") and b"\r\nRetry-After: 1\r\n" in refused.value()
    bench.handler.last.downstream.forget_body()
    bench.handler.script = answer
    assert bench.send(POST).value().startswith(b"HTTP/1.1 200 ")
    assert bench.send(POST).value().startswith(b"HTTP/1.1 200 ")


def test_the_screen_has_its_say(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.handler.objection = ProxyError("no_route", "no")
    transport = bench.send(GET)
    assert transport.value().startswith(b"HTTP/1.1 404 ")
    assert bench.handler.screened == [(b"h", b"/a%2Fb?q=", "192.168.1.1")]
    assert not transport.disconnecting
