from __future__ import annotations

import gc
import itertools
import re
from typing import NamedTuple

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from txsse.upstream.response import MAX_FIELDS, MAX_HEAD, MAX_INTERIM, MAX_KNOWN, MAX_KNOWN_SIZE, OPEN, TUNNEL, Body, HeadReader
from txsse.wire.http1 import ResponseHead

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


class Reading:
    """A response as a connection reads it: the head, then the body. What comes after the end is surplus."""

    def __init__(self, method: bytes = b"GET") -> None:
        self.reader = HeadReader(method)
        self.body: Body | None = None
        self.late = False

    def feed(self, data: bytes) -> bytes:
        if self.done:
            self.late = not self.error
            return b""
        if self.body is None:
            data = self.reader.feed(data)
            if self.reader.found is None:
                return b""
            self.body = self.reader.body()
        return self.body.feed(data) if data else b""

    @property
    def head(self) -> ResponseHead | None:
        return None if self.reader.found is None else self.reader.found.head

    @property
    def done(self) -> bool:
        return bool(self.error) or (self.body is not None and self.body.done)

    @property
    def error(self) -> str:
        return self.reader.error if self.body is None else self.body.error

    @property
    def surplus(self) -> bool:
        return self.late or (self.body is not None and self.body.surplus)

    @property
    def until_close(self) -> bool:
        return self.body is OPEN

    @property
    def reusable(self) -> bool:
        found = self.reader.found
        return found is not None and found.keep_alive and self.done and not self.error and not self.surplus


class Outcome(NamedTuple):
    head: ResponseHead | None
    body: bytes
    done: bool
    failed: bool
    surplus: bool
    until_close: bool
    reusable: bool


def outcome(reading: Reading, *pieces: bytes) -> Outcome:
    body = b"".join(reading.feed(piece) for piece in pieces if piece)
    return Outcome(reading.head, body, reading.done, bool(reading.error), reading.surplus, reading.until_close, reading.reusable)


def parse(*pieces: bytes, method: bytes = b"GET") -> Outcome:
    return outcome(Reading(method), *pieces)


def error(data: bytes) -> str:
    reading = Reading()
    reading.feed(data)
    return reading.error


def bytewise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def test_fields_keep_their_order_case_and_repetitions() -> None:
    head = parse(
        b"HTTP/1.1 418 I'm a teapot\r\nX-b: 1\r\nx-A:  two words \t\r\nX-B:\r\nSet-Cookie: a\xe9\r\nContent-Length: 0\r\n\r\n"
    ).head
    assert head == ResponseHead(
        418,
        b"I'm a teapot",
        b"HTTP/1.1",
        [(b"X-b", b"1"), (b"x-A", b"two words"), (b"X-B", b""), (b"Set-Cookie", b"a\xe9"), (b"Content-Length", b"0")],
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [(b"HTTP/1.1 200", b""), (b"HTTP/1.1 200 ", b""), (b"HTTP/1.0 200 OK", b"OK"), (b"HTTP/1.1 200 \xc3\x96 ok", b"\xc3\x96 ok")],
)
def test_the_reason_may_be_anything_or_missing(line: bytes, reason: bytes) -> None:
    head = parse(line + b"\r\n\r\n").head
    assert head is not None and head.reason == reason


def test_a_body_by_length_ends_by_itself() -> None:
    found = parse(OK + b"Content-Length: 5\r\n\r\nhel", b"lo")
    assert (found.body, found.done, found.reusable) == (b"hello", True, True)


def test_a_chunked_body_comes_joined_and_without_its_framing() -> None:
    reading = Reading()
    assert reading.feed(CHUNKED + b'3\r\nabc\r\n3;x=y;z="q"\r\ndef\r\n') == b"abcdef"
    assert not reading.done
    assert reading.feed(b"4\r\nghij\r\n0\r\n\r\n") == b"ghij"
    assert reading.done and reading.reusable


def test_trailers_are_swallowed() -> None:
    found = parse(CHUNKED + b"1\r\na\r\n0\r\nX-Checksum: 1\r\nX-Other:\r\n\r\n")
    assert (found.body, found.done, found.failed, found.surplus) == (b"a", True, False, False)


def test_endless_trailers_are_refused() -> None:
    reading = Reading()
    reading.feed(CHUNKED + b"0\r\n")
    for _ in range(100):
        reading.feed(b"X-Trailer: %s\r\n" % (b"x" * 1000))
    assert reading.error == "too much chunk overhead in the response"


def test_without_length_or_chunks_the_body_goes_on_until_the_connection_closes() -> None:
    found = parse(OK + b"\r\n", b"abc", b"def")
    assert (found.body, found.done, found.until_close, found.reusable) == (b"abcdef", False, True, False)


@pytest.mark.parametrize("fields", [b"Content-Length: 10\r\n", b"Transfer-Encoding: chunked\r\n", b""])
@pytest.mark.parametrize(
    ("method", "line"), [(b"HEAD", OK), (b"GET", b"HTTP/1.1 204 No Content\r\n"), (b"GET", b"HTTP/1.1 304 Not Modified\r\n")]
)
def test_some_responses_have_no_body_whatever_their_fields_say(method: bytes, line: bytes, fields: bytes) -> None:
    found = parse(line + fields + b"\r\n", method=method)
    assert (found.done, found.body) == (True, b"")
    assert found.reusable == (not fields or b"204" not in line)
    assert parse(line + fields + b"\r\nx", method=method).surplus


def test_a_204_that_announces_no_bytes_is_like_any_other() -> None:
    assert parse(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n").reusable


def test_interim_responses_are_swallowed() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\n" + b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    found = parse(interim + OK + b"Content-Length: 1\r\n\r\na")
    assert found.head is not None and found.head.status == 200
    assert found.body == b"a"


def test_a_flood_of_interim_responses_is_refused() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    assert error(interim * MAX_INTERIM) == ""
    assert error(interim * (MAX_INTERIM + 1)) == "too many 1xx responses"


def test_a_101_nobody_asked_for_is_refused() -> None:
    assert error(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n") == "unexpected 101 response"


@pytest.mark.parametrize(("upgrade", "agrees"), [(b"WebSocket", True), (b"x, websocket", True), (b"h2c", False), (b"", False)])
def test_a_101_that_was_asked_for_names_a_websocket(upgrade: bytes, agrees: bool) -> None:
    answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: " + upgrade + b"\r\nConnection: upgrade\r\n\r\n"
    for _ in range(2):  # it is not remembered for those who have not asked
        reader = HeadReader(b"GET", upgrades=True)
        rest = reader.feed(b"HTTP/1.1 103 Early Hints\r\n\r\n" + answer + b"bytes")
        assert (reader.found is not None) is agrees
        assert (rest, reader.error) == ((b"bytes", "") if agrees else (b"", "unexpected 101 response"))
        assert not agrees or reader.body() is TUNNEL
        assert error(answer) == "unexpected 101 response"


@pytest.mark.parametrize(
    ("head", "reusable"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x-hop, close\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: Keep-Alive\r\n\r\n", True),
    ],
)
def test_the_connection_field_decides_about_reuse(head: bytes, reusable: bool) -> None:
    assert parse(head).reusable is reusable


@pytest.mark.parametrize(
    "end", [OK + b"Content-Length: 1\r\n\r\na", CHUNKED + b"1\r\na\r\n0\r\n\r\n", CHUNKED + b"1\r\na\r\n0\r\nT: v\r\n\r\n"]
)
@pytest.mark.parametrize(
    "more", [b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"x", b"\r\nx\r\n\r\n", OK + b"Content-Length: 4\r\n\r\nevil", OK + b"\r\n"]
)
def test_bytes_after_the_end_are_flagged_and_not_mixed_in(end: bytes, more: bytes) -> None:
    expected = parse(end)
    assert not expected.surplus
    for pieces in ([end + more], [end, more], bytewise(end + more), [end[:-2], end[-2:] + more], [end[:-5], end[-5:] + more]):
        found = parse(*pieces)
        assert found == expected._replace(surplus=True, reusable=False)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"http/1.1 200 OK\r\n\r\n",
        b"\r\n" + OK + b"\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x01\x00\x02\x02\x16",
        b"HTTP/1.1 200 OK\nA: b\n",
        OK + b"A: b\nB: c\r\n\r\n",
        OK + b"A: b\rB: c\r\n\r\n",
        OK + b"A: b\x00\r\n\r\n",
        OK + b"A: b\x0bc\r\n\r\n",
        OK + b"A: b\x7f\r\n\r\n",
        OK + b"A: b\r\n folded\r\n\r\n",
        OK + b" A: b\r\n\r\n",
        OK + b"A : b\r\n\r\n",
        OK + b": b\r\n\r\n",
        OK + b"no colon\r\n\r\n",
        OK + b"A(: b\r\n\r\n",
        OK + b"\xc3\x84: b\r\n\r\n",
    ],
)
def test_a_malformed_head_is_refused(head: bytes) -> None:
    assert error(head) == "malformed response head"
    assert parse(*bytewise(head)).failed


@pytest.mark.parametrize("value", [b"", b"-1", b"+1", b"1 1", b"1, 1", b"0x1", b"1e3", b"\xb2", b"9" * 30])
def test_a_bad_length_is_refused(value: bytes) -> None:
    assert error(OK + b"Content-Length: " + value + b"\r\n\r\n") == "bad Content-Length in the response"


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 1\r\nContent-Length: 1\r\n",
        b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        b"content-length: 1\r\nCONTENT-LENGTH: 2\r\n",
    ],
)
def test_a_second_opinion_about_the_length_is_refused(fields: bytes) -> None:
    assert error(OK + fields + b"\r\n") == "bad Content-Length in the response"


@pytest.mark.parametrize(
    "head",
    [
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"Transfer-Encoding: identity\r\n\r\n",
        OK + b"Transfer-Encoding: xchunked\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_any_transfer_coding_but_chunked_is_refused(head: bytes) -> None:
    assert error(head) == "bad Transfer-Encoding in the response"


@pytest.mark.parametrize(
    "chunks",
    [
        b"3\nabc\r\n",
        b"3\r\nabcd\r\n",
        b"3\r\nabc\n0\r\n\r\n",
        b"3 \r\nabc\r\n",
        b"0x3\r\nabc\r\n",
        b"-3\r\nabc\r\n",
        b"\r\n3\r\nabc\r\n",
        b"g\r\n",
        b"F" * 17 + b"\r\n",
        b"3;a\x00b\r\nabc\r\n",
        b"0\r\nTrailer\r\n\r\n",
        b"0\r\n\n",
    ],
)
def test_a_malformed_chunk_is_refused_after_the_good_ones(chunks: bytes) -> None:
    reading = Reading()
    body = reading.feed(CHUNKED + b"2\r\nok\r\n" + chunks)
    assert body.startswith(b"ok")
    assert reading.done and reading.error == "malformed chunk in the response"


@pytest.mark.parametrize("pieces", [1, 4096])
def test_an_oversize_head_is_refused(pieces: int) -> None:
    head = OK + b"A: " + b"x" * MAX_HEAD + b"\r\n\r\n"
    reading = Reading()
    for at in range(0, len(head), len(head) // pieces + 1):
        reading.feed(head[at : at + len(head) // pieces + 1])
    assert reading.error == "response head too large"


def test_too_many_fields_are_refused() -> None:
    assert error(OK + b"A: b\r\n" * MAX_FIELDS + b"\r\n") == ""
    assert error(OK + b"A: b\r\n" * (MAX_FIELDS + 1) + b"\r\n") == "too many fields in the response head"


def test_a_reader_tells_whether_a_byte_came() -> None:
    for data in (b"H", b"HTTP/1.1 100 Continue\r\n\r\n", OK + b"\r\n", b"x"):
        reader = HeadReader(b"GET")
        assert not reader.touched
        reader.feed(data)
        assert reader.touched


@pytest.mark.parametrize("rest", [b"", b"1\r\na\r\n", b"0\r\n\r\n", b"zz"])
def test_a_reading_leaves_no_garbage(rest: bytes) -> None:
    gc.collect()
    gc.disable()
    try:
        parse(CHUNKED + rest)
        assert gc.collect() == 0
    finally:
        gc.enable()


# Heads that come again.


def head_of(data: bytes, method: bytes = b"GET") -> ResponseHead:
    head = parse(data, method=method).head
    assert head is not None
    return head


def test_a_head_that_comes_again_is_the_same_object() -> None:
    first = head_of(CHUNKED)
    first.plan = "worked out once"
    assert head_of(CHUNKED + b"1\r\na\r\n") is first
    assert head_of(b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED) is first
    assert parse(*bytewise(CHUNKED)).head is first
    other = head_of(OK + b"transfer-encoding: chunked\r\n\r\n")
    assert other is not first and other.plan is None
    assert first == ResponseHead(200, b"OK", b"HTTP/1.1", [(b"Transfer-Encoding", b"chunked")])


def test_a_head_known_from_a_get_has_no_body_for_a_head_request() -> None:
    sized = OK + b"Content-Length: 1\r\n\r\n"
    assert head_of(sized) is head_of(sized, b"HEAD")
    assert parse(sized, method=b"HEAD").done and not parse(sized).done


def test_only_so_many_heads_are_remembered_and_no_long_ones() -> None:
    first = head_of(OK + b"X: first\r\n\r\n")
    for number in range(MAX_KNOWN):
        head_of(OK + b"X: %d\r\n\r\n" % number)
    again = head_of(OK + b"X: first\r\n\r\n")
    assert again is not first and again == first
    long = OK + b"X: %s\r\n\r\n" % (b"x" * MAX_KNOWN_SIZE)
    assert head_of(long) is not head_of(long)


def test_a_head_that_was_refused_is_refused_again() -> None:
    for _ in range(2):
        assert error(OK + b"Content-Length: x\r\n\r\n") == "bad Content-Length in the response"


# Any cut of the input, any input.

FIELD = st.sampled_from(
    [
        b"A: b\r\n",
        b"Content-Type: text/event-stream\r\n",
        b"Empty:\r\n",
        b"Content-Length: 3\r\n",
        b"Content-Length: 0\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"Connection: upgrade\r\nUpgrade: h2c\r\n",
        b"bad line\r\n",
        b"X: a\n",
        b" folded\r\n",
    ]
)
LINE = st.sampled_from(
    [OK, OK, OK, b"HTTP/1.1 100 Continue\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 204 \r\n", b"HTTP/1.1 101 X\r\n", b"FTP\r\n"]
)
CHUNK = st.binary(min_size=1, max_size=20).map(lambda data: b"%x\r\n%s\r\n" % (len(data), data))
PART = st.one_of(
    st.builds(lambda line, fields: line + b"".join(fields) + b"\r\n", LINE, st.lists(FIELD, max_size=4)),
    st.lists(CHUNK, max_size=4).map(b"".join),
    st.sampled_from([b"0\r\n\r\n", b"0\r\nT: v\r\n\r\n", b"\r\n", b"3;x\r\nabc\r\n", b"zz\r\n"]),
    st.binary(max_size=8),
)
RESPONSE = st.one_of(
    st.lists(PART, min_size=1, max_size=5).map(b"".join),
    st.builds(
        lambda chunks, end, more: CHUNKED + b"".join(chunks) + end + more,
        st.lists(CHUNK, max_size=5),
        st.sampled_from([b"0\r\n\r\n", b"0\r\nT: v\r\n\r\n", b"0;a=b\r\n\r\n", b""]),
        st.sampled_from([b"", b"", b"\r\n", b"\n\r\n", OK + b"\r\n", b"H"]),
    ),
)
METHOD = st.sampled_from([b"GET", b"POST", b"HEAD"])


@given(RESPONSE, METHOD, st.lists(st.integers(0, 400), max_size=6))
def test_however_the_input_is_cut_the_outcome_is_the_same(data: bytes, method: bytes, cuts: list[int]) -> None:
    whole = parse(data, method=method)
    assert parse(*bytewise(data), method=method) == whole
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    assert parse(*(data[a:b] for a, b in itertools.pairwise(places)), method=method) == whole


def oracle(data: bytes, method: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes, bool] | None:
    """What h11 makes of it: status, fields, body, complete; ``None`` if it refuses, or wants more for the head."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    connection.send(h11.EndOfMessage())
    status, fields, body = 0, [], b""
    connection.receive_data(data)
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return None
        if isinstance(event, h11.Response):
            status, fields = event.status_code, list(event.headers)
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif not isinstance(event, h11.InformationalResponse):
            break
    return (status, fields, body, isinstance(event, h11.EndOfMessage)) if status else None


INTERIM = re.compile(rb"(?s)\A(?:HTTP/1\.1 1.*?\r\n\r\n)*")


@given(RESPONSE, METHOD)
@example(b"HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + OK + b"\r\n", b"GET")
def test_what_we_accept_h11_understands_the_same_way(data: bytes, method: bytes) -> None:
    reading = Reading(method)
    body = reading.feed(data)
    if reading.head is None or reading.error:
        return
    fields = [(name.lower(), value) for name, value in reading.head.headers]
    # In a 1xx, where they mean nothing, h11 refuses repeated framing fields.
    understood = oracle(data, method) or oracle(INTERIM.sub(b"", data), method)
    assert understood == (reading.head.status, fields, body, reading.done)
