"""Our own front, one connection at a time: raw bytes in, calls and raw bytes out."""

from __future__ import annotations

import gc
import tracemalloc
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import UNIXAddress

from tests.conftest import ExpectedErrors
from tests.front.fakes import DATE, PLAIN, Bench, Bounds, ScriptedHandler, SocketlikeTransport, answer, bytewise
from txsse.errors import ProxyError
from txsse.front.channel import AHEAD
from txsse.front.connection import LINGER_TIME
from txsse.interfaces import Downstream

GET = b"GET /a?b HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n12345"
CHUNKED_HEAD = b"POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED = CHUNKED_HEAD + b"3\r\n123\r\n2;x=y\r\n45\r\n0\r\nTrailer: t\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nDate: " + DATE + b"\r\n\r\nhello"


def statuses(transport: SocketlikeTransport) -> list[int]:
    return [int(each[:3]) for each in transport.value().split(b"HTTP/1.1 ")[1:]]


# Requests


def test_a_request_is_handed_over_as_it_came() -> None:
    bench = Bench()
    bench.clock.advance(3)
    bench.send(b"pUT http://other:1/x%2fy?q HTTP/1.1\r\nhOST: h\r\nA:  b \r\na: c\r\nContent-Length: 3\r\n\r\nxyz")
    request = bench.handler.last.request
    assert (request.head.method, request.head.target) == (b"pUT", b"http://other:1/x%2fy?q")
    assert (request.host, request.path) == (b"other:1", b"/x%2fy?q")
    assert request.head.headers == [(b"hOST", b"h"), (b"A", b"b"), (b"a", b"c")] and request.head.sized
    assert (request.body, request.peer, request.secure, request.began, request.received) == (b"xyz", "192.168.1.1", False, 3, 3)


def test_times_are_those_of_the_first_and_the_last_byte() -> None:
    bench = Bench()
    bench.clock.advance(1)
    transport = bench.send(POST[:1])
    bench.clock.advance(1)
    bench.send(POST[1:-1], transport)
    bench.clock.advance(1)
    bench.send(POST[-1:], transport)
    assert (bench.handler.last.request.began, bench.handler.last.request.received) == (1, 3)


def test_a_peer_on_a_unix_socket_has_no_address() -> None:
    bench = Bench()
    bench.send(GET, bench.connect(SocketlikeTransport(peerAddress=UNIXAddress("/run/x"))))
    assert bench.handler.last.request.peer == ""


def test_a_chunked_body_is_collected() -> None:
    bench = Bench()
    bench.send(CHUNKED)
    assert bench.handler.last.request.body == b"12345"


STREAM = b"".join((b"\r\n\r\n", GET, POST, CHUNKED, GET.replace(b"1.1", b"1.0")))
SPOILT = b"".join((POST, b"GET / HTTP/1.1\nHost: h\n\n", GET))
TOO_LONG = b"".join((GET, b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 2000 + b"\r\n\r\n"))
TOO_MUCH = b"".join((CHUNKED, CHUNKED_HEAD, b"258\r\n" + b"x" * 600 + b"\r\n" + b"258\r\n" + b"x" * 600 + b"\r\n0\r\n\r\n"))
BAD_CHUNK = b"".join((GET, CHUNKED_HEAD, b"3\r\n1234\r\n0\r\n\r\n"))


@pytest.mark.parametrize("stream", [STREAM, SPOILT, TOO_LONG, TOO_MUCH, BAD_CHUNK])
def test_byte_by_byte_and_all_at_once_are_the_same(stream: bytes) -> None:
    whole, drops = Bench(ScriptedHandler(answer)), Bench(ScriptedHandler(answer))
    expected = whole.send(stream)
    dripped = drops.connect()
    for byte in bytewise(stream):
        drops.send(byte, dripped)
    assert drops.handler.calls == whole.handler.calls
    assert len(whole.handler.calls) >= 3
    assert dripped.value() == expected.value()
    assert dripped.gone == expected.gone


@given(st.data(), st.sampled_from([STREAM, SPOILT, TOO_LONG, TOO_MUCH, BAD_CHUNK]))
@settings(max_examples=100, deadline=None)
def test_any_cut_of_the_input_gives_the_same_calls(data: st.DataObject, stream: bytes) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    whole, cut = Bench(ScriptedHandler(answer)), Bench(ScriptedHandler(answer))
    expected, transport = whole.send(stream), cut.connect()
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        cut.send(stream[begin:end], transport)
    assert cut.handler.calls == whole.handler.calls
    assert transport.value() == expected.value()


# Refusals


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"nonsense\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\nHost: h\n\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "bad_request"),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "bad_request"),
        (b"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "bad_request"),
        (b"GET /a/../b HTTP/1.1\r\nHost: h\r\n\r\n", 400, "bad_request"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad_request"),
        (CHUNKED_HEAD + b"zz\r\n", 400, "bad_request"),
        (b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n", 405, "bad_request"),
        (b"TRACE / HTTP/1.1\r\nHost: h\r\n\r\n", 405, "bad_request"),
        (b"POST / HTTP/1.1\r\nHost: h\r\nExpect: miracle\r\nContent-Length: 1\r\n\r\n", 417, "bad_request"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 1024, 431, "head_too_large"),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n", 413, "body_too_large"),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n", 413, "body_too_large"),
        (CHUNKED_HEAD + b"400\r\n" + b"x" * 1001, 413, "body_too_large"),
    ],
)
def test_what_is_refused_is_answered_once_and_closed(request_bytes: bytes, status: int, code: str) -> None:
    bench = Bench(ScriptedHandler(answer))
    transport = bench.send(request_bytes)
    assert statuses(transport) == [status]
    assert [each.code for each in bench.handler.refused] == [code]
    assert b"Connection: close\r\n" in transport.value()
    assert bench.handler.exchanges == []
    bench.send(GET, transport)
    assert bench.handler.exchanges == []
    bench.pass_time(LINGER_TIME + 1)
    assert transport.gone and not transport.aborted


def test_the_allowed_methods_are_told() -> None:
    assert b"\r\nAllow: GET, HEAD, POST," in Bench().send(b"TRACE / HTTP/1.1\r\nHost: h\r\n\r\n").value()


def test_a_head_of_exactly_the_limit_is_let_in() -> None:
    bench = Bench()
    padding = b"x" * (1024 - len(b"GET / HTTP/1.1\r\nHost: h\r\nX: \r\n\r\n"))
    bench.send(b"GET / HTTP/1.1\r\nHost: h\r\nX: " + padding + b"\r\n\r\n")
    assert len(bench.handler.exchanges) == 1


def test_the_rest_of_a_refused_request_is_read_and_dropped_for_a_while() -> None:
    bench = Bench()
    transport = bench.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n")
    assert transport.half_closed and not transport.gone
    bench.send(b"x" * 1001 + GET, transport)
    assert transport.producerState == "producing" and bench.handler.exchanges == []
    bench.pass_time(LINGER_TIME - 1)
    assert not transport.gone
    bench.pass_time(2)
    assert transport.gone


def test_the_screen_is_asked_before_the_body_comes() -> None:
    bench = Bench()
    bench.handler.objection = ProxyError("invalid_api_key", "no")
    transport = bench.send(b"POST /p HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    assert bench.handler.screened == [(b"h", b"/p", "192.168.1.1")]
    assert statuses(transport) == [401]
    assert transport.half_closed  # the body may be under way


def test_a_connection_survives_a_refusal_that_leaves_nothing_unread() -> None:
    bench = Bench(ScriptedHandler(answer))
    bench.handler.objection = ProxyError("no_route", "no")
    transport = bench.send(GET)
    bench.handler.objection = None
    bench.send(GET, transport)
    assert statuses(transport) == [404, 200]
    assert not transport.disconnecting


def test_all_bodies_together_are_bounded() -> None:
    bench = Bench(bounds=Bounds(max_body=4000, max_buffered=5000))
    bench.send(CHUNKED_HEAD + b"fa0\r\n" + b"x" * 4000 + b"\r\n0\r\n\r\n")
    first = bench.handler.last
    assert bench.site.budget.used == 4000
    declared = bench.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n")
    chunked = bench.send(CHUNKED_HEAD + b"fa0\r\n" + b"x" * 1001)
    for refused in (declared, chunked):
        assert statuses(refused) == [503]
        assert b"Retry-After: 1\r\n" in refused.value()
    assert [each.code for each in bench.handler.refused] == ["too_many_connections"] * 2
    answer(first.downstream)
    assert bench.site.budget.used == 0


def test_a_conductor_can_give_the_body_back_early() -> None:
    bench = Bench()
    transport = bench.send(POST)
    bench.handler.last.downstream.forget_body()
    assert bench.site.budget.used == 0
    transport.client_leaves()
    assert bench.site.budget.used == 0


def test_the_body_of_a_client_that_left_is_given_back() -> None:
    bench = Bench()
    transport = bench.send(POST[:-1])
    assert bench.site.budget.used == 4
    transport.client_leaves()
    assert bench.site.budget.used == 0


# Expect: 100-continue

EXPECTING = b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"


def test_a_waiting_client_is_told_to_go_on() -> None:
    bench = Bench(ScriptedHandler(answer))
    transport = bench.send(EXPECTING)
    assert transport.value() == b"HTTP/1.1 100 Continue\r\n\r\n"
    bench.send(b"12345", transport)
    assert statuses(transport) == [100, 200]


@pytest.mark.parametrize(
    "request_bytes",
    [EXPECTING + b"1", EXPECTING.replace(b"Content-Length: 5", b"Content-Length: 0"), EXPECTING.replace(b"HTTP/1.1", b"HTTP/1.0")],
)
def test_a_client_that_does_not_wait_is_not_told(request_bytes: bytes) -> None:
    assert Bench().send(request_bytes).value() == b""


# Answers


def test_an_answer_with_a_length_leaves_the_connection_open() -> None:
    bench = Bench(ScriptedHandler(answer))
    transport = bench.send(GET)
    assert transport.value() == ANSWER
    bench.send(GET, transport)
    assert transport.value() == ANSWER * 2
    assert not transport.disconnecting


def test_an_answer_without_a_length_is_chunked() -> None:
    bench = Bench()
    transport = bench.send(GET)
    downstream = bench.handler.last.downstream
    downstream.start(200, b"Fine", [(b"x-Odd", b"1"), (b"Date", b"today"), (b"X-ODD", b"2")])
    downstream.write(b"hello world, hello")
    downstream.write(b"")
    downstream.finish()
    head = b"HTTP/1.1 200 Fine\r\nx-Odd: 1\r\nDate: today\r\nX-ODD: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert transport.value() == head + b"12\r\nhello world, hello\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "status", "has_body"), [(b"HEAD", 200, True), (b"HEAD", 200, False), (b"GET", 204, True), (b"GET", 304, False)]
)
def test_an_answer_without_a_body_is_its_head(method: bytes, status: int, has_body: bool) -> None:
    bench = Bench()
    transport = bench.send(GET.replace(b"GET", method))
    downstream = bench.handler.last.downstream
    downstream.start(status, b"X", [(b"Content-Length", b"9"), (b"Date", b"d")], has_body=has_body)
    downstream.write(b"ninebytes")
    downstream.finish()
    assert transport.value() == b"HTTP/1.1 %d X\r\nContent-Length: 9\r\nDate: d\r\n\r\n" % status
    assert not transport.disconnecting


def test_http_1_0_gets_a_body_that_ends_with_the_connection() -> None:
    bench = Bench()
    transport = bench.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    downstream = bench.handler.last.downstream
    downstream.start(200, b"OK", [(b"Date", b"d")])
    downstream.write(b"hello")
    assert transport.value() == b"HTTP/1.1 200 OK\r\nDate: d\r\nConnection: close\r\n\r\nhello"
    assert not transport.gone
    downstream.finish()
    assert transport.gone and not transport.aborted


def test_a_client_that_asks_for_it_is_closed() -> None:
    transport = Bench(ScriptedHandler(answer)).send(GET.replace(b"Host: h", b"Host: h\r\nConnection: Close"))
    assert b"\r\nConnection: close\r\n" in transport.value()
    assert transport.gone and not transport.aborted


def test_fewer_bytes_than_announced_close_the_connection() -> None:
    bench = Bench()
    transport = bench.send(GET)
    downstream = bench.handler.last.downstream
    downstream.start(200, b"OK", [(b"Content-Length", b"5")])
    downstream.write(b"hell")
    downstream.finish()
    assert transport.gone


def test_a_cut_answer_has_no_last_chunk() -> None:
    bench = Bench()
    transport = bench.send(GET)
    downstream = bench.handler.last.downstream
    downstream.start(200, b"OK", PLAIN)
    downstream.write(b"half")
    downstream.cut()
    assert transport.value().endswith(b"\r\n\r\n4\r\nhalf\r\n")
    assert transport.gone and not transport.aborted
    assert bench.handler.last.heard == []


def test_a_cut_answer_that_would_look_complete_is_reset_once_it_has_left() -> None:
    bench = Bench()
    channel, transport = bench.connect_slowly()
    channel.dataReceived(b"GET / HTTP/1.0\r\n\r\n")
    downstream = bench.handler.last.downstream
    downstream.start(200, b"OK", PLAIN)
    downstream.write(b"half")
    downstream.cut()
    bench.pass_time(1)
    assert not transport.aborted
    transport.accept(10_000)
    assert transport.sent.endswith(b"half")
    bench.pass_time(0.1)
    assert transport.aborted


def test_an_aborted_answer_is_reset_at_once() -> None:
    bench = Bench()
    transport = bench.send(GET)
    bench.handler.last.downstream.abort()
    assert transport.aborted
    assert bench.handler.last.heard == []


def test_after_its_end_an_answer_does_nothing_to_the_next_one() -> None:
    bench = Bench()
    transport = bench.send(GET)
    stale = bench.handler.last.downstream
    answer(stale)
    bench.send(GET, transport)
    for call in (lambda: answer(stale), stale.cut, stale.abort):
        call()
    assert stale.pending() == 0
    assert transport.value() == ANSWER
    assert not transport.disconnecting


def test_after_the_client_has_gone_every_call_is_a_no_op() -> None:
    bench = Bench()
    transport = bench.send(GET)
    transport.client_leaves()
    exchange = bench.handler.last
    assert exchange.heard == ["gone"]
    answer(exchange.downstream)
    exchange.downstream.cut()
    exchange.downstream.abort()
    assert exchange.downstream.pending() == 0
    assert transport.value() == b""


# Pipelining


def test_pipelined_requests_are_answered_in_order() -> None:
    bench = Bench()
    transport = bench.send(GET + POST + GET)
    for number in range(3):
        assert len(bench.handler.exchanges) == number + 1
        answer(bench.handler.last.downstream, b"%d" % number)
        assert len(bench.handler.exchanges) == number + 1  # not inside of finish()
        bench.clock.advance(0)
    assert [body[:1] for body in transport.value().split(b"\r\n\r\n")[1:]] == [b"0", b"1", b"2"]


def test_a_thousand_pipelined_requests_do_not_nest() -> None:
    bench = Bench(ScriptedHandler(answer), Bounds())
    transport = bench.send(GET * 2000)
    assert len(bench.handler.exchanges) == 2000
    assert transport.value() == ANSWER * 2000


def test_reading_pauses_when_too_much_comes_ahead() -> None:
    bench = Bench()
    transport = bench.send(GET)
    bench.send(GET * (AHEAD // len(GET)), transport)
    assert transport.producerState == "producing"
    bench.send(GET, transport)
    assert transport.producerState == "paused"
    bench.handler.script = answer
    answer(bench.handler.last.downstream)
    bench.clock.advance(0)
    assert transport.producerState == "producing"
    assert len(bench.handler.exchanges) == AHEAD // len(GET) + 2


def test_a_client_that_leaves_between_pipelined_requests_is_done_with() -> None:
    bench = Bench()
    transport = bench.send(GET + GET)
    answer(bench.handler.last.downstream)
    transport.client_leaves()
    bench.clock.advance(1)
    assert len(bench.handler.exchanges) == 1


def test_no_further_request_is_begun_while_the_transport_is_full() -> None:
    bench = Bench()
    channel, transport = bench.connect_slowly()
    channel.dataReceived(GET + GET)
    answer(bench.handler.last.downstream, b"x" * 100_000)
    bench.clock.advance(0)
    assert len(bench.handler.exchanges) == 1
    transport.accept(200_000)
    assert len(bench.handler.exchanges) == 2


def test_a_failing_handler_ends_a_pipelining_connection_too(expected_errors: ExpectedErrors) -> None:
    bench = Bench()
    transport = bench.send(GET + GET)

    def fail(downstream: Downstream) -> None:
        raise ZeroDivisionError

    bench.handler.script = fail
    answer(bench.handler.last.downstream)
    bench.clock.advance(0)
    assert transport.aborted and bench.site.connections == 0
    assert len(expected_errors.flush(ZeroDivisionError)) == 1


# Deadlines


def test_a_connection_without_a_byte_closes_silently() -> None:
    bench = Bench()
    transport = bench.connect()
    bench.pass_time(9.9, 0.1)
    assert not transport.gone
    bench.pass_time(1, 0.1)
    assert transport.gone and transport.value() == b"" and bench.handler.refused == []


def test_dripping_bytes_do_not_extend_the_time_for_a_head() -> None:
    bench = Bench()
    transport = bench.connect()
    for byte in bytewise(GET[:-2]):
        bench.send(byte, transport)
        bench.pass_time(0.4, 0.1)
    assert statuses(transport) == [408]
    assert [each.code for each in bench.handler.refused] == ["request_timeout"]


def test_a_later_head_has_its_time_from_its_first_byte() -> None:
    bench = Bench(ScriptedHandler(answer))
    transport = bench.send(GET)
    bench.pass_time(70, 0.1)
    bench.send(GET[:5], transport)
    bench.pass_time(9.8, 0.1)
    assert statuses(transport) == [200]
    bench.pass_time(1, 0.1)
    assert statuses(transport) == [200, 408]


def test_an_idle_connection_closes_silently() -> None:
    bench = Bench(ScriptedHandler(answer))
    transport = bench.send(GET)
    bench.pass_time(74.9, 0.1)
    assert not transport.gone
    bench.pass_time(1.2, 0.1)
    assert transport.gone and transport.value() == ANSWER


def test_a_body_has_its_time_as_a_whole() -> None:
    bench = Bench()
    transport = bench.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n")
    for _ in range(59):
        bench.send(b"x", transport)
        bench.pass_time(1, 0.1)
    assert statuses(transport) == []
    bench.pass_time(4, 0.1)
    assert statuses(transport) == [408]
    assert transport.half_closed


def test_no_deadline_runs_while_a_request_is_answered() -> None:
    bench = Bench()
    transport = bench.send(POST)
    bench.pass_time(1000, 1)
    assert not transport.gone
    answer(bench.handler.last.downstream)
    assert transport.value().endswith(b"hello")


# Flow control and stuck readers


def test_a_full_transport_pauses_the_exchange_and_an_empty_one_resumes_it() -> None:
    bench = Bench()
    channel, transport = bench.connect_slowly()
    channel.dataReceived(GET)
    exchange = bench.handler.last
    exchange.downstream.start(200, b"OK", PLAIN)
    exchange.downstream.write(b"x" * 60_000)
    assert exchange.heard == []
    exchange.downstream.write(b"x" * 60_000)
    assert exchange.heard == ["paused"]
    assert 120_000 < exchange.downstream.pending() < 121_000
    transport.accept(200_000)
    assert exchange.heard == ["paused", "resumed"]
    assert exchange.downstream.pending() == 0


def test_an_exchange_that_fills_the_transport_at_once_is_told() -> None:
    bench = Bench(ScriptedHandler(lambda downstream: downstream.start(200, b"OK", [(b"X", b"x" * 70_000)])))
    channel, _ = bench.connect_slowly()
    channel.dataReceived(GET)
    assert bench.handler.last.heard == ["paused"]


@pytest.mark.parametrize("size", [1, 100_000])
def test_a_reader_that_accepts_no_byte_is_stalled(size: int) -> None:
    bench = Bench()
    channel, transport = bench.connect_slowly()
    channel.dataReceived(GET)
    exchange = bench.handler.last
    exchange.downstream.stall_timeout = 8.0
    exchange.downstream.start(200, b"OK", PLAIN)
    exchange.downstream.write(b"x" * size)
    for _ in range(7):
        bench.pass_time(1, 0.05)
        exchange.downstream.write(b":\n\n")  # what is written does not count, only what is accepted
    assert "stalled" not in exchange.heard
    bench.pass_time(2.2, 0.05)
    assert exchange.heard[-1] == "stalled"
    assert transport.aborted


def test_a_slow_reader_is_not_stalled() -> None:
    bench = Bench()
    channel, transport = bench.connect_slowly()
    channel.dataReceived(GET)
    exchange = bench.handler.last
    exchange.downstream.stall_timeout = 8.0
    exchange.downstream.start(200, b"OK", PLAIN)
    exchange.downstream.write(b"x" * 100_000)
    for _ in range(20):
        bench.pass_time(5, 0.05)
        transport.accept(1)
    assert exchange.heard == ["paused"]
    bench.pass_time(10, 0.05)
    assert exchange.heard == ["paused", "stalled"]


def test_a_stream_that_is_silent_and_read_to_its_end_is_not_stalled() -> None:
    bench = Bench()
    channel, transport = bench.connect_slowly()
    channel.dataReceived(GET)
    exchange = bench.handler.last
    exchange.downstream.start(200, b"OK", PLAIN)
    transport.accept(10_000)
    bench.pass_time(100, 1)
    assert exchange.heard == [] and not transport.aborted
    assert bench.clock.getDelayedCalls() == []


def test_a_reader_stuck_after_the_end_of_its_answer_is_reset() -> None:
    bench = Bench()
    channel, transport = bench.connect_slowly()
    channel.dataReceived(GET.replace(b"1.1", b"1.0"))
    answer(bench.handler.last.downstream, b"x" * 100_000)
    bench.pass_time(29, 1)
    assert transport.disconnecting and not transport.aborted
    bench.pass_time(10, 1)
    assert transport.aborted and bench.handler.last.heard == ["paused"]


def test_where_pending_bytes_are_unknown_a_pause_for_the_whole_time_is_a_stall() -> None:
    bench = Bench()
    transport = bench.send(GET)
    exchange = bench.handler.last
    exchange.downstream.start(200, b"OK", PLAIN)
    transport.protocol.pauseProducing()
    exchange.downstream.write(b"x")
    bench.pass_time(29, 0.1)
    assert exchange.heard == ["paused"]
    bench.pass_time(10, 0.1)
    assert exchange.heard == ["paused", "stalled"]


# Nothing is left, and little is held


def test_an_idle_stream_takes_less_than_a_kilobyte_and_no_timer() -> None:
    bench = Bench(ScriptedHandler(lambda downstream: downstream.start(200, b"OK", PLAIN)), Bounds(max_connections=1000))
    streams = 300
    tracemalloc.start()
    try:
        transports = [bench.send(POST) for _ in range(streams)]
        for exchange in bench.handler.exchanges:
            exchange.downstream.write(b": waiting\n\n")
            exchange.downstream.forget_body()
        kept = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, f"*/txsse/{part}/*") for part in ("front", "wire")])
    finally:
        tracemalloc.stop()
    assert sum(each.size for each in kept.statistics("filename")) / streams < 1024
    assert not hasattr(transports[0].protocol, "__dict__")
    bench.pass_time(1, 0.5)  # the wheel of the deadlines that were notices that nobody sleeps any more
    bench.clock.advance(1)
    assert bench.clock.getDelayedCalls() == []


def test_an_exchange_leaves_no_cycles_behind() -> None:
    bench = Bench()
    transport = bench.connect()
    gc.collect()
    gc.disable()
    try:
        lost: list[weakref.ref[object]] = []
        for _ in range(20):
            for request in (GET, POST, CHUNKED):
                bench.send(request, transport)
                exchange = bench.handler.exchanges.pop()
                answer(exchange.downstream)
                lost += [weakref.ref(exchange), weakref.ref(exchange.request)]
                del exchange
            bench.handler.calls.clear()
        assert [each for each in lost if each() is not None] == []
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_a_lost_connection_leaves_nothing_behind() -> None:
    bench = Bench()
    transport = bench.send(GET)
    bench.handler.last.downstream.start(200, b"OK", PLAIN)
    channel = weakref.ref(transport.protocol)
    transport.client_leaves()
    assert bench.site.connections == 0
    del transport.protocol, transport
    bench.handler.exchanges.clear()
    gc.collect()
    assert channel() is None
    bench.pass_time(80, 1)
    assert bench.clock.getDelayedCalls() == []
