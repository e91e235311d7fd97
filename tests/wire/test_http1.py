"""The request-head parser: what it reads, and what it refuses before two readers can disagree about it."""

from __future__ import annotations

import time

import attrs
import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse.wire.http1 import (
    CHUNKED,
    BadHead,
    RequestHead,
    decoded_path,
    parse_request_head,
)


def read(*lines: bytes, start: bytes = b"GET / HTTP/1.1") -> tuple[RequestHead, int]:
    return parse_request_head(b"\r\n".join((start, *lines, b"", b"")))


def parse(*lines: bytes, start: bytes = b"GET / HTTP/1.1") -> RequestHead:
    return read(*lines, start=start)[0]


def where(head: RequestHead) -> tuple[bytes, bytes]:
    return head.host, head.path


HOST = b"Host: a.example:8080"


def test_a_head_is_read_byte_for_byte() -> None:
    head = parse(
        b"hOsT: [::1]:80",
        b"X-Empty:",
        b"X-Blank: \t ",
        b"X-Padded: \t a  b\t ",
        b"x-dup: 1",
        b"X-Dup: 2",
        b"!#$%&'*+-.^_`|~0Az: \x85\xff",
        start=b"PO-ST /a%2fb/?q=%5c%00|{}..#".removesuffix(b"#") + b" HTTP/1.1",
    )
    assert head == RequestHead(
        b"PO-ST",
        b"/a%2fb/?q=%5c%00|{}..",
        b"HTTP/1.1",
        [
            (b"hOsT", b"[::1]:80"),
            (b"X-Empty", b""),
            (b"X-Blank", b""),
            (b"X-Padded", b"a  b"),
            (b"x-dup", b"1"),
            (b"X-Dup", b"2"),
            (b"!#$%&'*+-.^_`|~0Az", b"\x85\xff"),
        ],
    )


def test_an_http10_head_needs_no_field_at_all() -> None:
    assert parse(start=b"GET / HTTP/1.0") == RequestHead(b"GET", b"/", b"HTTP/1.0", [])


def test_one_empty_line_may_stand_before_the_request() -> None:
    assert parse_request_head(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")[0].method == b"GET"
    with pytest.raises(BadHead):
        parse_request_head(b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"GET",
        b"GET /",
        b"GET / HTTP/0.9",
        b"GET / HTTP/1.2",
        b"GET / HTTP/2.0",
        b"GET / HTTP/1.1 ",
        b"GET / http/1.1",
        b"GET / HTTP/1.10",
        b"GET  / HTTP/1.1",
        b" GET / HTTP/1.1",
        b"GET\t/ HTTP/1.1",
        b"G\x00T / HTTP/1.1",
        b"G(T / HTTP/1.1",
        b"GET /a b HTTP/1.1",
        b"GET /\x7f HTTP/1.1",
        b"GET /\x00 HTTP/1.1",
        b"GET /\x80 HTTP/1.1",
        b"GET /\xc3\xa9 HTTP/1.1",
        b"GET /#x HTTP/1.1",
        b"GET a HTTP/1.1",
        b"GET * HTTP/1.1",
        b"GET a.example:443 HTTP/1.1",
        b"GET ftp://a/ HTTP/1.1",
        b"GET http:///x HTTP/1.1",
        b"GET http://:80/x HTTP/1.1",
        b"GET http://u@a/x HTTP/1.1",
        b"GET http://a\\b/x HTTP/1.1",
        b"GET http://a/../x HTTP/1.1",
        b"GET http://a/x#y HTTP/1.1",
        b"GET /.. HTTP/1.1",
        b"GET /. HTTP/1.1",
        b"GET /a/../b HTTP/1.1",
        b"GET /a/./b HTTP/1.1",
        b"GET /a/.. HTTP/1.1",
        b"GET /a/..?x HTTP/1.1",
        b"GET /%2e%2E/b HTTP/1.1",
        b"GET /a/.%2e/b HTTP/1.1",
        b"GET /a%2f..%2Fb HTTP/1.1",
        b"GET /a\\b HTTP/1.1",
        b"GET /a%5cb HTTP/1.1",
        b"GET /a%5Cb HTTP/1.1",
        b"GET /a%00b HTTP/1.1",
        b"GET /a%b HTTP/1.1",
        b"GET /a% HTTP/1.1",
        b"GET /a%zz HTTP/1.1",
    ],
)
def test_a_doubtful_request_line_is_refused(start: bytes) -> None:
    with pytest.raises(BadHead) as refusal:
        parse(HOST, start=start)
    assert str(refusal.value).isascii()


@pytest.mark.parametrize(
    "target",
    [b"/a/..b/", b"/...", b"/a.b", b"/.well-known/x", b"/a%2fb", b"//a//", b"/?..", b"/?a=/../b", b"/a?%zz%00%5c\\", b"/%252e%252e/"],
)
def test_a_target_that_only_looks_like_dot_segments_passes(target: bytes) -> None:
    assert parse(HOST, start=b"GET " + target + b" HTTP/1.1").target == target


@pytest.mark.parametrize(
    "lines",
    [
        (b"X: a\rb",),
        (b"X: a\nb",),
        (b"X: a\nY: b",),
        (b"X: a\n\nb",),
        (b"X: a", b" folded"),
        (b"X: a", b"\tfolded"),
        (b" X: a",),
        (b"X : a",),
        (b"X\t: a",),
        (b": a",),
        (b"",),
        (b"", b"body"),
        (b"no colon",),
        (b"X(: a",),
        (b"X\xff: a",),
        *((b"X: a" + bytes((byte,)) + b"b",) for byte in (*range(9), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F)),
    ],
)
def test_a_malformed_field_is_refused(lines: tuple[bytes, ...]) -> None:
    with pytest.raises(BadHead):
        parse(HOST, *lines)
    with pytest.raises(BadHead):
        parse(*lines, HOST)


def test_an_unfinished_head_is_refused() -> None:
    for block in (b"GET / HTTP/1.1\r\nHost: a\r\n", b"GET / HTTP/1.1\r\nHost: a", b"GET / HTTP/1.1\r\n", b""):
        with pytest.raises(BadHead):
            parse_request_head(block)


@pytest.mark.parametrize(
    "value", [b"a b", b"a/b", b"u@a", b"a:b", b"a:123456", b"[::1", b"[a z]", b"a,b", b"a%zz", b"\xe4", b'"a"', b"a:80:80"]
)
def test_a_host_that_is_none_is_refused(value: bytes) -> None:
    with pytest.raises(BadHead, match="Host"):
        parse(b"Host: " + value)


@pytest.mark.parametrize("value", [b"a", b"A-b.c_d~:8080", b"127.0.0.1", b"[fe80::1]:1", b"a:", b"", b"a%20b"])
def test_a_host_with_or_without_port_passes(value: bytes) -> None:
    assert where(parse(b"Host: " + value)) == (value, b"/")


def test_exactly_one_host_in_http11_and_never_two() -> None:
    old = b"GET / HTTP/1.0"
    assert where(parse(start=old))[0] == b""
    assert where(parse(HOST, start=old))[0] == b"a.example:8080"
    for refused in ((), (HOST, HOST), (HOST, b"host: b")):
        with pytest.raises(BadHead, match="exactly one Host"):
            parse(*refused)
    with pytest.raises(BadHead, match="exactly one Host"):
        parse(HOST, HOST, start=old)


@pytest.mark.parametrize(
    "value", [b"", b"-1", b"+5", b"5,5", b"5, 5", b"0x5", b"5 5", b"5;", b"1" * 16, b"1" * 5000, b"1_0", b"\xd9\xa1", b"chunked"]
)
def test_a_length_that_is_no_plain_number_is_refused(value: bytes) -> None:
    with pytest.raises(BadHead, match="Content-Length"):
        parse(HOST, b"Content-Length: " + value)


@pytest.mark.parametrize(
    "value", [b"", b"gzip", b"gzip, chunked", b"chunked, chunked", b"chunked,", b"identity", b"chunked;a=b", b"\x0bchunked"]
)
def test_a_coding_other_than_chunked_is_refused(value: bytes) -> None:
    with pytest.raises(BadHead):
        parse(HOST, b"Transfer-Encoding: " + value)


@pytest.mark.parametrize(
    ("start", "lines"),
    [
        (b"POST / HTTP/1.1", (b"Content-Length: 5", b"Transfer-Encoding: chunked")),
        (b"POST / HTTP/1.1", (b"transfer-encoding: chunked", b"content-length: 5")),
        (b"POST / HTTP/1.1", (b"Content-Length: 5", b"Content-Length: 5")),
        (b"POST / HTTP/1.1", (b"Content-Length: 5", b"content-length: 6")),
        (b"POST / HTTP/1.1", (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked")),
        (b"POST / HTTP/1.0", (b"Transfer-Encoding: chunked",)),
    ],
)
def test_a_body_with_two_readings_is_refused(start: bytes, lines: tuple[bytes, ...]) -> None:
    with pytest.raises(BadHead):
        parse(HOST, *lines, start=start)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [((), 0), ((b"Content-Length: 0",), 0), ((b"content-length:  0012 ",), 12), ((b"Transfer-Encoding: Chunked",), CHUNKED)],
)
def test_the_framing_says_where_the_body_ends(lines: tuple[bytes, ...], expected: int) -> None:
    head, length = read(HOST, *lines)
    assert length == expected
    assert (head.sized, head.chunked) == (bool(lines) and length != CHUNKED, length == CHUNKED)


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (b"GET /a%2fb?c=%20 HTTP/1.1", (b"a.example:8080", b"/a%2fb?c=%20")),
        (b"GET http://B.example:1/x?y HTTP/1.1", (b"B.example:1", b"/x?y")),
        (b"GET HTTPS://b HTTP/1.1", (b"b", b"/")),
        (b"GET http://b?x=/y HTTP/1.1", (b"b", b"/?x=/y")),
        (b"OPTIONS * HTTP/1.1", (b"a.example:8080", b"*")),
        (b"CONNECT b:443 HTTP/1.1", (b"b:443", b"")),
    ],
)
def test_an_absolute_target_replaces_the_host(start: bytes, expected: tuple[bytes, bytes]) -> None:
    assert where(parse(HOST, start=start)) == expected


def test_a_head_says_nothing_of_the_length_of_one_body() -> None:
    head, length = read(HOST, b"Content-Length: 12", b"A: b")
    other, more = read(HOST, b"Content-Length: 13", b"A: b")
    assert head == other and head.headers == [(b"Host", b"a.example:8080"), (b"A", b"b")]
    assert (length, more) == (12, 13)


def test_a_head_made_of_its_parts_knows_what_follows_from_them() -> None:
    head = RequestHead(b"POST", b"http://b/%61?c", b"HTTP/1.0", [(b"Host", b"a"), (b"content-length", b"5")])
    assert (head.host, head.path, head.decoded_path) == (b"b", b"/%61?c", "/a")
    assert (head.sized, head.chunked, head.wants_close, head.plan) == (True, False, True, None)
    assert head != attrs.evolve(head, method=b"GET")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/v1/chat", "/v1/chat"),
        (b"/v1/ch%61t?x=%61", "/v1/chat"),
        (b"/a%2fb/%2F", "/a%2Fb/%2F"),
        (b"/a%252fb", "/a%2fb"),
        (b"/%e2%82%ac", "/\u20ac"),
        (b"/%ff", "/\ufffd"),
        (b"*", "*"),
        (b"", ""),
    ],
)
def test_routes_see_the_decoded_path_without_query_and_with_its_escaped_slashes(path: bytes, expected: str) -> None:
    assert decoded_path(path) == expected


@pytest.mark.parametrize(
    ("version", "lines", "expected"),
    [
        (b"1.1", (), False),
        (b"1.1", (b"Connection: keep-alive, Close",), True),
        (b"1.1", (b"Connection: a", b"connection: close"), True),
        (b"1.1", (b"Connection: closed",), False),
        (b"1.0", (), True),
        (b"1.0", (b"Connection: Keep-Alive",), False),
        (b"1.0", (b"Connection: keep-alive, close",), True),
    ],
)
def test_the_version_and_the_connection_field_say_whether_the_connection_stays(
    version: bytes, lines: tuple[bytes, ...], expected: bool
) -> None:
    assert parse(HOST, *lines, start=b"GET / HTTP/" + version).wants_close is expected


@pytest.mark.parametrize(
    ("version", "lines", "waits", "unknown"),
    [
        (b"1.1", (), False, False),
        (b"1.1", (b"Expect: 100-Continue",), True, False),
        (b"1.0", (b"Expect: 100-continue",), False, False),
        (b"1.1", (b"Expect: 200-ok",), False, True),
        (b"1.1", (b"Expect: 100-continue, x",), True, True),
        (b"1.1", (b"Expect: 100-continue", b"Expect: x"), True, True),
    ],
)
def test_an_expectation_is_known_or_not(version: bytes, lines: tuple[bytes, ...], waits: bool, unknown: bool) -> None:
    head = parse(HOST, *lines, start=b"POST / HTTP/" + version)
    assert (head.expects_continue, head.expects_unknown) == (waits, unknown)


PIECES = st.sampled_from(
    [
        b"Host: a",
        b"\r\n",
        b"\r\n",
        b"\r",
        b"\n",
        b" ",
        b"\t",
        b":",
        b"X",
        b"X: y",
        b"Content-Length: 1",
        b"Transfer-Encoding: chunked",
        b"\x00",
        b"\x85",
    ]
)


@given(st.lists(PIECES, max_size=12).map(b"".join))
def test_what_is_accepted_reads_as_h11_reads_it(fields: bytes) -> None:
    block = b"POST /x HTTP/1.1\r\n" + fields + b"\r\n\r\n"
    block = block[: block.index(b"\r\n\r\n") + 4]
    try:
        head, length = parse_request_head(block)
    except BadHead:
        return
    server = h11.Connection(h11.SERVER)
    server.receive_data(block)
    request = server.next_event()
    assert isinstance(request, h11.Request)
    sized = [(b"content-length", b"%d" % length)] if head.sized else []
    assert sorted([*((name.lower(), value) for name, value in head.headers), *sized]) == sorted(request.headers)


@given(st.binary(max_size=60))
def test_no_bytes_do_more_than_be_refused(junk: bytes) -> None:
    for block in (junk, junk + b"\r\n\r\n", b"GET / HTTP/1.0\r\n" + junk + b"\r\n\r\n", b"GET /" + junk + b" HTTP/1.0\r\n\r\n"):
        try:
            head, _ = parse_request_head(block)
        except BadHead:
            continue
        assert b"\n" not in b"".join(name + value for name, value in head.headers)


@pytest.mark.parametrize("value", [b" " * 60_000, b" " * 30_000 + b"a" + b" " * 30_000, b"a " * 30_000, b"\t:" * 30_000])
def test_no_field_value_takes_more_than_linear_time(value: bytes) -> None:
    began = time.process_time()
    parse(HOST, b"X:" + value)
    parse(HOST, b"Connection:" + value)
    assert time.process_time() - began < 1
