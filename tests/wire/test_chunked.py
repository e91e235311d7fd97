"""The chunked decoder: h11 says what a body is, and everything that two readers could understand differently is refused."""

from __future__ import annotations

import time

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse.wire.chunked import LAST_CHUNK, MAX_EXTENSIONS, MAX_SIZE_LINE, MAX_TRAILERS, BadChunk, ChunkedDecoder


def decode(stream: bytes, size: int = 0) -> tuple[bytes, bool, bytes]:
    decoder = ChunkedDecoder()
    step = size or max(1, len(stream))
    body = b"".join(decoder.feed(stream[at : at + step]) for at in range(0, len(stream), step))
    return body, decoder.done, decoder.unused


def h11_decode(stream: bytes) -> tuple[bytes, bool, bytes]:
    """What h11 makes of it; ``h11.RemoteProtocolError`` when nothing."""
    server = h11.Connection(h11.SERVER)
    server.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + stream)
    body = b""
    while True:
        event = server.next_event()
        if isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return body, True, server.trailing_data[0]
        elif event is h11.NEED_DATA:
            return body, False, b""


@pytest.mark.parametrize("size", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"0\r\n\r\n", (b"", True, b"")),
        (b"5\r\nhello\r\n0\r\n\r\n", (b"hello", True, b"")),
        (b"A\r\n0123456789\r\n00\r\n\r\nGET /", (b"0123456789", True, b"GET /")),
        (b'3;a=b;c="d;e"\r\nabc\r\n0;x\r\nX-Sum: 1\r\nY:\r\n\r\nnext', (b"abc", True, b"next")),
        (b"5\r\nhel", (b"hel", False, b"")),
        (b"2\r\n\r\n\r\n0\r\n\r\n", (b"\r\n", True, b"")),
    ],
)
def test_chunks_are_joined_however_they_are_cut(stream: bytes, expected: tuple[bytes, bool, bytes], size: int) -> None:
    assert decode(stream, size) == expected
    assert h11_decode(stream) == expected


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize(
    "stream",
    [
        b"\r\n",
        b"\n",
        b"x\r\n",
        b"-1\r\n",
        b"+1\r\na\r\n",
        b"0x1\r\na\r\n",
        b" 1\r\na\r\n",
        b"1 \r\na\r\n",
        b"1_0\r\n",
        b"1\na\r\n",
        b"1\r\na\n",
        b"1\r\naX\r\n",
        b"1\r\nab\r\n0\r\n\r\n",
        b"1;a\rb\r\na\r\n",
        b"1;\x00\r\na\r\n",
        b"fffffffffffffffff\r\n",
        b"\xd9\xa1\r\n",
        b"0\r\n: x\r\n\r\n",
        b"0\r\nA : x\r\n\r\n",
        b"0\r\nA: x\r\n y\r\n\r\n",
        b"0\r\nA: \x00\r\n\r\n",
        b"0\r\nGET / HTTP/1.1\r\n\r\n",
        b"1" + b";" * MAX_SIZE_LINE,
        b"1;" + b"x" * (MAX_SIZE_LINE - 2) + b"\r\na\r\n",
        (b"1;" + b"x" * 1000 + b"\r\na\r\n") * (MAX_EXTENSIONS // 1000 + 1),
        b"0\r\n" + (b"A: " + b"x" * 1000 + b"\r\n") * (MAX_TRAILERS // 1000 + 1),
    ],
)
def test_anything_doubtful_is_refused(stream: bytes, size: int) -> None:
    with pytest.raises(BadChunk):
        decode(stream, size)


PIECES = st.sampled_from([b"0", b"1", b"a", b"\r\n", b"\r", b"\n", b";x", b"hello", b"5\r\nhello\r\n", LAST_CHUNK, b"A: b\r\n", b" "])


@given(st.lists(PIECES, max_size=12).map(b"".join), st.data())
def test_what_is_accepted_reads_as_h11_reads_it_and_no_cut_changes_it(stream: bytes, draw: st.DataObject) -> None:
    try:
        whole = decode(stream)
    except BadChunk:
        with pytest.raises(BadChunk):
            decode(stream, 1)
        return
    assert decode(stream, draw.draw(st.integers(1, 4))) == whole
    if whole[1]:
        assert h11_decode(stream) == whole
    else:
        assert whole[2] == b""


@given(st.lists(st.binary(min_size=1, max_size=300)), st.binary(max_size=9), st.integers(1, 50))
def test_chunks_of_any_bytes_are_taken_out(parts: list[bytes], rest: bytes, size: int) -> None:
    stream = b"".join([b"%x\r\n%b\r\n" % (len(part), part) for part in parts]) + LAST_CHUNK + rest
    assert decode(stream, size) == (b"".join(parts), True, rest)


def test_feeding_after_the_end_collects_the_next_request() -> None:
    decoder = ChunkedDecoder()
    decoder.feed(LAST_CHUNK + b"GET")
    assert decoder.feed(b" /") == b""
    assert decoder.unused == b"GET /"


def test_a_million_tiny_chunks_in_one_piece_cost_linear_time() -> None:
    stream = b"1\r\nx\r\n" * 300_000 + LAST_CHUNK
    began = time.process_time()
    assert len(decode(stream)[0]) == 300_000
    assert time.process_time() - began < 6
