from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse.testing import LAST_CHUNK, STREAM_HEAD, MessageReader, ReceivedRequest, Response, answer, chunk, request, stream

CONVERSATION = (
    b"HTTP/1.1 100 Continue\r\n\r\n"
    + answer(b'{"ok":true}', "202 Accepted")
    + STREAM_HEAD
    + b"5;x=y\r\nhello\r\n"
    + chunk(b" world")
    + b"0\r\nX-Sum: 11\r\n\r\n"
    + b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"
    + b"HTTP/1.0 200 OK\r\n\r\nto the end"
)


def read(*pieces: bytes) -> MessageReader[Response]:
    reader = MessageReader(Response, until_close=True)
    for piece in pieces:
        reader.feed(piece)
    return reader


@given(st.lists(st.integers(0, len(CONVERSATION)), max_size=12))
def test_any_cutting_of_the_bytes_reads_the_same_responses(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(CONVERSATION)]
    reader = read(*(CONVERSATION[start:end] for start, end in itertools.pairwise(edges)))
    reader.close(clean=True)
    assert [(each.status, bytes(each.body), each.complete) for each in reader.messages] == [
        (100, b"", True),
        (202, b'{"ok":true}', True),
        (200, b"hello world", True),
        (204, b"", True),
        (200, b"to the end", True),
    ]
    assert reader.messages[1].reason == b"Accepted"
    assert reader.messages[2].trailers == [(b"X-Sum", b"11")]


@pytest.mark.parametrize("cut", [1, len(LAST_CHUNK)])
def test_a_chunked_body_without_its_last_chunk_is_not_complete(cut: int) -> None:
    reader = read(stream(b"data: 1\n\n")[:-cut])
    reader.close(clean=True)
    assert bytes(reader.messages[0].body) == b"data: 1\n\n"
    assert not reader.messages[0].complete


def test_a_close_delimited_body_is_complete_by_fin_and_not_by_reset() -> None:
    for clean in (True, False):
        reader = read(b"HTTP/1.0 200 OK\r\n\r\nbody")
        reader.close(clean)
        assert reader.messages[0].complete is clean


def test_bytes_that_are_no_http_are_noted_and_not_raised() -> None:
    assert "chunk" in read(STREAM_HEAD + b"2\r\nabcd").broken
    assert "colon" in read(b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n").broken
    assert read(STREAM_HEAD + b"zz\r\n").broken


def test_pipelined_requests_are_told_apart() -> None:
    reader = MessageReader(ReceivedRequest, until_close=False)
    reader.feed(request("POST", "/a?b", b"one") + request("GET", "/c"))
    assert [(each.method, each.target, bytes(each.body)) for each in reader.messages] == [(b"POST", b"/a?b", b"one"), (b"GET", b"/c", b"")]
    assert reader.messages[0].header("HOST") == b"test.example"


def test_a_reader_that_keeps_nothing_still_counts() -> None:
    reader = MessageReader(Response, until_close=True, keep=False)
    assert reader.feed(stream(b"abc", b"de")) == b"abcde"
    assert (reader.messages[0].size, bytes(reader.messages[0].body)) == (5, b"")
