"""A head that is known is as good as parsed: the memo says what the strict parser says, whatever came before."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from txsse.wire.http1 import CHUNKED, BadHead, RequestHead, parse_request_head
from txsse.wire.memo import MAX_BLOCK, MAX_FIELDS, MAX_HEADS, MAX_SHARED, HeadMemo

POST = b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\nX: y\r\n\r\n"
NUMBERED = b"POST /p HTTP/1.1\r\nHost: h\r\nX-request-id: %b\r\nContent-Length: %d\r\nX: y\r\n\r\n"

SPELLINGS = st.sampled_from([b"Content-Length: ", b"content-length:", b"CONTENT-LENGTH:\t ", b"Content-Length : ", b"XContent-Length: "])
LENGTHS = st.sampled_from([b"0", b"7", b"12", b"0012", b"9" * 15, b"1" * 16, b"", b"-1", b"+1", b"1,1", b"0x1", b"7 ", b"1 2", b"\xb2"])
NAMES = st.sampled_from([b"X-Request-Id: ", b"x-request-id:", b"X-REQUEST-ID:\t", b"X-Request-Id : ", b"X-Request-Ids: "])
IDS = st.sampled_from([b"0", b"abc", b"a-b.c_d:e", b"x" * 128, b"x" * 129, b"", b"a b", b"a;b", b"Content-Length:", b"\x01", b"id "])
LINES = st.one_of(
    st.tuples(SPELLINGS, LENGTHS).map(b"".join),
    st.tuples(NAMES, IDS).map(b"".join),
    st.sampled_from([b"Host: h", b"Host: g", b"Transfer-Encoding: chunked", b"Expect: 100-continue", b"Connection: close", b"X: y", b" z"]),
)
STARTS = st.sampled_from(
    [
        b"POST /p HTTP/1.1",
        b"POST /p HTTP/1.0",
        b"GET http://g/%7e HTTP/1.1",
        b"\r\nGET / HTTP/1.1",
        b"GET /../ HTTP/1.1",
        b"Content-Length: 5",
    ]
)
BREAKS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r"])


@st.composite
def blocks(draw: st.DrawFn) -> bytes:
    lines = [draw(STARTS), *draw(st.lists(LINES, max_size=4))]
    return b"".join(line + draw(BREAKS) for line in lines) + b"\r\n"


def outcome(parse: Callable[[bytes], tuple[RequestHead, int]], block: bytes) -> object:
    """Everything that is said of a head, or why it is refused."""
    try:
        head, length = parse(block)
    except BadHead as bad:
        return str(bad)
    return length, {each.name: getattr(head, each.name) for each in attrs.fields(RequestHead) if each.name != "_shape"}


@given(st.lists(blocks(), min_size=1, max_size=6), st.data())
@settings(max_examples=300)
def test_it_says_what_the_strict_parser_says_in_any_order(heads: list[bytes], data: st.DataObject) -> None:
    memo = HeadMemo()
    for block in data.draw(st.lists(st.sampled_from(heads), min_size=len(heads), max_size=3 * len(heads))):
        assert outcome(memo.parse, block) == outcome(parse_request_head, block)


@given(st.lists(st.tuples(st.integers(0, len(NUMBERED)), st.binary(max_size=2)), max_size=3), st.integers(0, 99))
@settings(max_examples=300)
def test_a_known_head_does_not_let_a_spoilt_one_pass(spoils: list[tuple[int, bytes]], length: int) -> None:
    memo = HeadMemo()
    memo.parse(POST % 0)
    memo.parse(NUMBERED % (b"0", 0))
    block = NUMBERED % (b"abc", length) if length % 2 else POST % length
    for at, piece in spoils:
        block = block[:at] + piece + block[at + 1 :]
    for _ in range(2):
        assert outcome(memo.parse, block) == outcome(parse_request_head, block)


def test_heads_that_differ_in_their_length_are_one_object() -> None:
    memo = HeadMemo()
    (first, five), (second, twelve) = memo.parse(POST % 5), memo.parse(POST % 12)
    assert first is second
    assert (five, twelve) == (5, 12)


def test_heads_that_differ_in_their_request_id_have_one_shape() -> None:
    memo = HeadMemo()
    (first, five), (second, twelve) = memo.parse(NUMBERED % (b"a", 5)), memo.parse(NUMBERED % (b"b", 12))
    assert (first.request_id, five, second.request_id, twelve) == (b"a", 5, b"b", 12)
    assert first.headers == [(b"Host", b"h"), (b"X-request-id", b"a"), (b"X", b"y")]
    assert first.shape is second.shape is not first
    assert (first.shape.headers, first.shape.request_id) == ([(b"Host", b"h"), (b"X", b"y")], None)
    assert first.shape == memo.parse(POST % 0)[0]  # though not the same object
    assert first.shape.shape is first.shape
    first.plan = "mine"
    assert second.plan is None


@pytest.mark.parametrize(
    "ids", [b"X-Request-Id: bad id\r\n", b"X-Request-Id: a\r\nX-Request-Id: b\r\n", b"X-Request-Id:\r\nx-request-id: b\r\n"]
)
def test_a_head_whose_request_id_is_doubtful_is_its_own_shape(ids: bytes) -> None:
    memo = HeadMemo()
    for _ in range(2):
        head, _length = memo.parse(b"GET / HTTP/1.1\r\nHost: h\r\n" + ids + b"\r\n")
        assert head.shape is head
        assert head.request_id == (b"a" if b": a" in ids else None)


@pytest.mark.parametrize(("line", "length"), [(b"", 0), (b"Transfer-Encoding: chunked\r\n", CHUNKED)])
def test_a_known_head_without_a_length_says_how_its_body_ends(line: bytes, length: int) -> None:
    memo = HeadMemo()
    block = b"POST / HTTP/1.1\r\nHost: h\r\n" + line + b"\r\n"
    assert [memo.parse(block)[1] for _ in range(2)] == [length, length]


def test_a_length_that_is_none_is_not_taken_for_a_known_one() -> None:
    memo = HeadMemo()
    memo.parse(POST % 0)
    for bad in (b"", b"00000000000000000", b"0, 0"):
        with pytest.raises(BadHead):
            memo.parse(POST.replace(b"%d", bad))


def test_it_remembers_a_bounded_number_of_heads() -> None:
    memo = HeadMemo()
    known = [memo.parse(b"GET /%d HTTP/1.1\r\nHost: h\r\nA: %d\r\n\r\n" % (number, number))[0] for number in range(2 * MAX_SHARED)]
    assert len(memo._heads) == MAX_HEADS
    assert len(memo._fields) <= MAX_SHARED + MAX_FIELDS
    for number in range(2 * MAX_HEADS):
        memo.parse(b"GET /%d HTTP/1.1\r\nHost: h\r\nX-Request-Id: %d\r\n\r\n" % (number, number))
    assert len(memo._heads) == len(memo._shapes) == MAX_HEADS
    last = len(known) - 1
    assert memo.parse(b"GET /%d HTTP/1.1\r\nHost: h\r\nA: %d\r\n\r\n" % (last, last))[0] is known[-1]
    assert memo.parse(b"GET /0 HTTP/1.1\r\nHost: h\r\nA: 0\r\n\r\n")[0] is not known[0]


@pytest.mark.parametrize("fields", [b"X: " + b"x" * MAX_BLOCK + b"\r\n", b"X: y\r\n" * MAX_FIELDS])
def test_large_heads_are_not_remembered(fields: bytes) -> None:
    memo = HeadMemo()
    block = b"GET / HTTP/1.1\r\nHost: h\r\n" + fields + b"\r\n"
    assert memo.parse(block)[0] is not memo.parse(block)[0]


def test_heads_share_the_fields_they_have_in_common() -> None:
    memo = HeadMemo()
    one, two = (memo.parse(b"GET / HTTP/1.1\r\nHost: h\r\nA: b\r\nTrace: %d\r\n\r\n" % number)[0] for number in range(2))
    assert [a is b for a, b in zip(one.headers, two.headers, strict=True)] == [True, True, False]
