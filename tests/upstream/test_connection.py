from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from tests.upstream.recording import RecordingReceiver
from txsse.interfaces import Failed, Fault
from txsse.upstream.connection import SLICE, UpstreamConnection
from txsse.wire.http1 import ResponseHead

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
EMPTY = OK + b"Content-Length: 0\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


class CountingTransport(StringTransport):
    """Each write may be a system call."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0

    def write(self, data: bytes) -> None:
        super().write(data)
        self.writes += 1


class NarrowTransport(StringTransport):
    """Like a socket that takes nothing until the test says so: pauses a producer after two slices, as Twisted's transports do."""

    def __init__(self) -> None:
        super().__init__()
        self.queued = 0

    def write(self, data: bytes) -> None:
        super().write(data)
        self.queued += len(data)
        if self.producer is not None and self.queued > SLICE:
            self.producer.pauseProducing()

    def drain(self) -> None:
        self.queued = 0
        if self.producer is not None:
            self.producer.resumeProducing()


class Side:
    """A connection on a transport in memory, and its owner."""

    def __init__(self, transport: StringTransport | None = None) -> None:
        self.freed: list[bool] = []
        self.lost = 0
        self.transport = transport or StringTransport()
        self.connection = UpstreamConnection(self)
        self.connection.makeConnection(self.transport)

    def connection_free(self, connection: UpstreamConnection, reusable: bool) -> None:
        assert connection is self.connection and not connection.busy
        self.freed.append(reusable)

    def connection_lost(self, connection: UpstreamConnection) -> None:
        assert connection is self.connection and not connection.busy
        self.lost += 1

    def send(self, body: bytes = b"", method: bytes = b"POST") -> RecordingReceiver:
        receiver = RecordingReceiver()
        self.connection.send(HEAD, body, method, receiver)
        return receiver

    def receive(self, data: bytes) -> None:
        self.connection.dataReceived(data)

    def fin(self) -> None:
        self.connection.connectionLost(Failure(ConnectionDone()))

    def reset(self) -> None:
        self.connection.connectionLost(Failure(ConnectionLost()))

    @property
    def aborted(self) -> bool:
        return self.transport.disconnected


@pytest.fixture
def side() -> Side:
    return Side()


@pytest.mark.parametrize("body", [b"", b"body", b"x" * SLICE])
def test_a_small_request_leaves_in_one_write(body: bytes) -> None:
    transport = CountingTransport()
    Side(transport).send(body)
    assert transport.value() == HEAD + body
    assert transport.writes == 1 and transport.producer is None


def test_each_read_is_one_call(side: Side) -> None:
    receiver = side.send()
    side.receive(CHUNKED + b"1\r\na\r\n1\r\nb\r\n")
    side.receive(b"1\r\nc\r\n2\r\nde\r\n")
    side.receive(b"1\r\nf\r\n0\r\n\r\n")
    assert receiver.head is not None and receiver.head.status == 200
    assert receiver.reads == [b"ab", b"cde", b"f"]
    assert receiver.ended


def test_it_carries_one_request_after_the_other(side: Side) -> None:
    for number in range(3):
        receiver = side.send()
        side.receive(OK + b"Content-Length: 1\r\n\r\n%d" % number)
        assert receiver.ended and receiver.body == b"%d" % number
    assert side.freed == [True] * 3
    assert side.connection.served == 3


def test_the_answer_to_head_has_no_body(side: Side) -> None:
    receiver = side.send(method=b"HEAD")
    side.receive(OK + b"Content-Length: 100\r\n\r\n")
    assert receiver.ended and receiver.reads == []
    assert side.freed == [True]


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Connection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        EMPTY + b"garbage",
        EMPTY + EMPTY,
    ],
)
def test_a_connection_that_cannot_be_used_again_is_given_back_as_such(side: Side, answer: bytes) -> None:
    receiver = side.send()
    side.receive(answer)
    assert receiver.ended
    assert side.freed == [False]


def test_a_paused_connection_is_given_back_reading(side: Side) -> None:
    receiver = side.send()
    receiver.on_body = side.connection.pause
    side.receive(OK + b"Content-Length: 3\r\n\r\nabc")
    assert receiver.ended and side.freed == [True]
    assert side.transport.producerState == "producing"


def test_pause_and_resume_are_idempotent(side: Side) -> None:
    calls: list[str] = []
    side.transport.pauseProducing = lambda: calls.append("pause")  # type: ignore[method-assign]  # counts
    side.transport.resumeProducing = lambda: calls.append("resume")  # type: ignore[method-assign]
    side.send()
    side.connection.resume()
    side.connection.pause()
    side.connection.pause()
    side.connection.resume()
    side.connection.resume()
    assert calls == ["pause", "resume"]


# What is told together.


class Diary(RecordingReceiver):
    """Writes down the order of what it hears; aborts when it hears *fatal*."""

    def __init__(self, side: Side, fatal: str = "") -> None:
        super().__init__()
        self.heard: list[str] = []
        self._side = side
        self._fatal = fatal

    def _hear(self, what: str) -> None:
        self.heard.append(what)
        if what == self._fatal:
            self._side.connection.abort()

    def cork(self) -> None:
        super().cork()
        self._hear("cork")

    def uncork(self) -> None:
        super().uncork()
        self._hear("uncork")

    def response_started(self, head: ResponseHead) -> None:
        super().response_started(head)
        self._hear("head")

    def body_received(self, data: bytes) -> None:
        super().body_received(data)
        self._hear(data.decode())

    def response_ended(self) -> None:
        super().response_ended()
        self._hear("end")

    def dispatch_failed(self, failed: Failed) -> None:
        super().dispatch_failed(failed)
        self._hear(failed.fault.value)


def diary(*reads: bytes, fatal: str = "") -> str:
    side = Side()
    receiver = Diary(side, fatal)
    side.connection.send(HEAD, b"", b"GET", receiver)
    for read in reads:
        side.receive(read)
    return " ".join(receiver.heard)


@pytest.mark.parametrize(
    ("reads", "heard"),
    [
        ([EMPTY], "cork head end uncork"),
        ([OK, b"Content-Length: 2\r\n\r\nab"], "cork head ab end uncork"),
        ([CHUNKED, b"1\r\na\r\n", b"1\r\nb", b"\r\n", b"0\r\n\r\n"], "cork head uncork a b cork end uncork"),
        ([CHUNKED + b"1\r\na\r\n", b"1\r\nb\r\n0\r\n\r\n"], "cork head a uncork cork b end uncork"),
        ([CHUNKED, b"1\r\na\r\nzz\r\n"], "cork head uncork cork a invalid uncork"),
        ([OK + b"\r\n", b"a", b"b"], "cork head uncork a b"),
        ([b"nonsense"], "cork invalid uncork"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", OK], ""),
    ],
)
def test_a_read_with_more_than_body_bytes_is_told_corked(reads: list[bytes], heard: str) -> None:
    assert diary(*reads) == heard


@pytest.mark.parametrize(
    ("fatal", "heard"),
    [("head", "cork head uncork"), ("a", "cork head a uncork"), ("end", "cork head a end uncork")],
)
def test_abort_while_told_is_followed_by_the_uncork_alone(fatal: str, heard: str) -> None:
    assert diary(OK + b"Content-Length: 1\r\n\r\na", fatal=fatal) == heard
    assert diary(CHUNKED + b"1\r\na\r\n0\r\n\r\n", fatal=fatal) == heard


CALLS = st.sampled_from(
    [
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 9\r\n\r\n123456789",
        CHUNKED + b"5\r\nhello\r\n1;x=y\r\n!\r\n0\r\nTrailer: v\r\n\r\n",
        CHUNKED + b"5\r\nhello\r\nzz\r\n",
        OK + b"\r\nuntil close",
        OK + b"bad\r\n\r\n",
        EMPTY + b"\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ]
)


@given(CALLS, st.lists(st.integers(0, 120), max_size=8))
def test_however_the_response_is_cut_the_same_is_heard(data: bytes, cuts: list[int]) -> None:
    def hear(reads: Iterable[bytes]) -> tuple[object, ...]:
        side = Side()
        receiver = side.send()
        for read in reads:
            if read and not side.aborted:
                side.receive(read)
        usable = side.freed == [True] and not side.aborted
        side.fin()
        assert not receiver.corked
        return receiver.head, receiver.body, receiver.ended, receiver.failed, usable

    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    assert hear(data[a:b] for a, b in itertools.pairwise(places)) == hear([data])


# How it fails.


@pytest.mark.parametrize(("end", "how"), [(Side.fin, "connection closed"), (Side.reset, "connection reset")])
def test_death_before_a_byte_on_a_fresh_connection_is_a_reset(side: Side, end: object, how: str) -> None:
    receiver = side.send()
    end(side)  # type: ignore[operator]  # Side.fin or Side.reset
    assert receiver.failed == Failed(Fault.RESET, how + " before a response")
    assert side.lost == 1


def test_a_tls_alert_before_a_byte_is_invalid(side: Side) -> None:
    receiver = side.send()
    side.connection.connectionLost(Failure(SSL.Error([("SSL routines", "", "tlsv13 alert certificate required")])))
    assert receiver.failed == Failed(Fault.INVALID, "TLS: tlsv13 alert certificate required")


def test_death_before_a_byte_on_a_used_connection_is_stale(side: Side) -> None:
    side.send()
    side.receive(EMPTY)
    receiver = side.send(b"a POST's body")
    side.fin()
    assert receiver.failed == Failed(Fault.STALE, "kept-alive connection closed")


@pytest.mark.parametrize("part", [b"H", OK, b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_death_inside_the_head_is_invalid(side: Side, part: bytes) -> None:
    side.send()
    side.receive(EMPTY)
    receiver = side.send()
    side.receive(part)
    side.fin()
    assert receiver.failed == Failed(Fault.INVALID, "connection closed inside the response head")


@pytest.mark.parametrize("answer", [CHUNKED + b"3\r\nab", CHUNKED + b"3\r\nabc\r\n", CHUNKED, OK + b"Content-Length: 3\r\n\r\nab"])
def test_death_inside_the_body_is_a_truncation(side: Side, answer: bytes) -> None:
    receiver = side.send()
    side.receive(answer)
    side.fin()
    assert receiver.failed == Failed(Fault.TRUNCATED, "connection closed inside the response")


def test_a_body_until_close_ends_by_a_fin(side: Side) -> None:
    receiver = side.send()
    side.receive(OK + b"\r\nabc")
    side.fin()
    assert receiver.ended and receiver.body == b"abc"
    assert side.freed == [] and side.lost == 1


def test_a_body_until_close_does_not_end_by_a_reset(side: Side) -> None:
    receiver = side.send()
    side.receive(OK + b"\r\nabc")
    side.reset()
    assert receiver.failed == Failed(Fault.TRUNCATED, "connection reset inside the response")


@pytest.mark.parametrize(
    ("answer", "detail", "body"),
    [
        (b"nonsense", "malformed response head", b""),
        (CHUNKED + b"1\r\na\r\nzz\r\n", "malformed chunk in the response", b"a"),
        (b"HTTP/1.1 101 X\r\n\r\n", "unexpected 101 response", b""),
    ],
)
def test_nonsense_is_invalid_and_ends_the_connection(side: Side, answer: bytes, detail: str, body: bytes) -> None:
    receiver = side.send()
    side.receive(answer)
    assert receiver.failed == Failed(Fault.INVALID, detail)
    assert receiver.body == body
    assert side.aborted and side.freed == []


@pytest.mark.parametrize("data", [b"\r\n", b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"])
def test_what_nobody_asked_for_ends_the_connection(side: Side, data: bytes) -> None:
    side.send()
    side.receive(EMPTY)
    side.receive(data)
    assert side.aborted


# Abort.

SENT = b""
PHASES = [SENT, b"HTTP/1.1 20", b"HTTP/1.1 100 Continue\r\n\r\n", CHUNKED, CHUNKED + b"1\r\na\r\n", CHUNKED + b"5\r\nab", OK + b"\r\nabc"]


@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("phase", PHASES)
def test_abort_in_any_phase_resets_and_is_the_end_of_it(side: Side, phase: bytes, paused: bool) -> None:
    receiver = side.send()
    if phase:
        side.receive(phase)
    if paused:
        side.connection.pause()
    heard = (receiver.head, list(receiver.reads))
    side.connection.abort()
    assert side.aborted
    side.receive(b"more")
    side.fin()
    side.connection.abort()
    assert (receiver.head, receiver.reads, receiver.ended, receiver.failed) == (*heard, False, None)
    assert side.lost == 1 and side.freed == []


def test_abort_when_the_head_comes_keeps_the_body_of_that_read_back(side: Side) -> None:
    receiver = side.send()
    receiver.on_start = side.connection.abort
    side.receive(OK + b"Content-Length: 3\r\n\r\nabc")
    assert receiver.head is not None
    assert receiver.reads == [] and not receiver.ended


@pytest.mark.parametrize("rest", [b"0\r\n\r\n", b"zz\r\n", b""])
def test_abort_when_the_body_comes_keeps_the_end_back(side: Side, rest: bytes) -> None:
    receiver = side.send()
    receiver.on_body = side.connection.abort
    side.receive(CHUNKED + b"1\r\na\r\n" + rest)
    assert receiver.reads == [b"a"]
    assert not receiver.ended and receiver.failed is None
    assert side.aborted and side.freed == []


def test_the_next_request_may_be_sent_from_the_end_of_the_last(side: Side) -> None:
    later: list[RecordingReceiver] = []
    receiver = side.send()
    receiver.on_end = lambda: later.append(side.send())
    side.receive(EMPTY)
    side.receive(EMPTY)
    assert later[0].ended


# Uploads.


def test_a_large_body_waits_for_the_socket() -> None:
    transport = NarrowTransport()
    side = Side(transport)
    body = bytes(range(256)) * (5 * SLICE // 256) + b"tail"
    receiver = side.send(body)
    assert len(transport.value()) < 3 * SLICE
    for _ in range(3):
        assert transport.producer is not None
        transport.drain()
    assert transport.value() == HEAD + body
    assert transport.producer is None
    side.receive(EMPTY)
    assert receiver.ended and side.freed == [True]


def test_an_early_answer_is_heard_and_ends_the_upload() -> None:
    transport = NarrowTransport()
    side = Side(transport)
    receiver = side.send(b"x" * 10 * SLICE)
    side.receive(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno")
    assert receiver.head is not None and receiver.head.status == 413
    transport.drain()
    side.receive(b"!")
    assert receiver.ended and receiver.body == b"no!"
    # What is left of the upload would be taken for the next request.
    assert side.aborted and side.freed == []


def test_abort_ends_an_upload() -> None:
    transport = NarrowTransport()
    side = Side(transport)
    receiver = side.send(b"x" * 10 * SLICE)
    side.connection.abort()
    assert transport.producer is not None
    transport.producer.stopProducing()  # as transports do when they are lost
    side.reset()
    assert receiver.silent


def test_death_while_uploading_is_told() -> None:
    transport = NarrowTransport()
    side = Side(transport)
    receiver = side.send(b"x" * 10 * SLICE)
    assert transport.producer is not None
    transport.producer.stopProducing()
    side.reset()
    assert receiver.fault is Fault.RESET
