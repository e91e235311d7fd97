"""Streams share the parsers of chunk framing. What one chunked body may be, ``test_response.py`` asks."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import NamedTuple

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse.upstream.chunks import ChunkedBody

MORE_THAN_KEPT = 50


class Stream(NamedTuple):
    """A chunked body with what is to be made of it."""

    wire: bytes
    body: bytes
    error: str
    surplus: bool = False


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    return b"%x%s\r\n%s\r\n" % (len(data), extension, data)


def build(pieces: list[bytes], extension: bytes, ending: tuple[bytes, str, bool]) -> Stream:
    end, error, surplus = ending
    return Stream(b"".join(chunk(piece, extension) for piece in pieces) + end, b"".join(pieces), error, surplus)


# Bodies that look like framing, and ends of every kind.
PIECE = st.one_of(
    st.sampled_from([b"\r\n", b"5\r\n", b"7\r\n7\r\n7", b"\n\r\n", b"0\r\n\r\n", b"data: x\n\n"]), st.binary(min_size=1, max_size=9)
)
ENDING = st.sampled_from(
    [
        (b"0\r\n\r\n", "", False),
        (b"0\r\nT: v\r\n\r\n", "", False),
        (b"0\r\nConnection: close\r\n\r\n", "", False),
        (b"0\r\nTransfer-Encoding: gzip\r\nUpgrade: x\r\n\r\n", "", False),
        (b"000;x\r\n\r\n", "", False),
        (b"0\r\n\r\n\r\n", "", True),
        (b"0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", "", True),
        (b"zz\r\n", "malformed chunk in the response", False),
        (b"1\r\n", "", False),
        (b"5", "", False),
        (b"", "", False),
    ]
)
STREAM = st.builds(build, st.lists(PIECE, max_size=4), st.sampled_from([b"", b";a=b", b';a="b"']), ENDING)


@given(st.lists(STREAM, min_size=1, max_size=4), st.lists(st.tuples(st.integers(0, 3), st.integers(1, 12)), max_size=40))
def test_streams_that_are_read_in_turns_do_not_mix(streams: list[Stream], turns: list[tuple[int, int]]) -> None:
    bodies = [ChunkedBody() for _ in streams]
    read = [0] * len(streams)
    found = [b""] * len(streams)

    def feed(which: int, size: int) -> None:
        data = streams[which].wire[read[which] : read[which] + size]
        read[which] += len(data)
        if data and not bodies[which].done:
            found[which] += bodies[which].feed(data)

    for which, size in turns:
        feed(which % len(streams), size)
    for which, stream in enumerate(streams):
        at_end = bodies[which].done  # what comes after the end in a read of its own is not fed to the body
        feed(which, len(stream.wire))
        assert (found[which], bodies[which].error) == (stream.body, stream.error)
        assert bodies[which].surplus == stream.surplus or at_end
    assert ChunkedBody().feed(chunk(b"clean")) == b"clean"


def parsers() -> int:
    return sum(isinstance(each, httptools.HttpResponseParser) for each in gc.get_objects())


@pytest.mark.parametrize("last", [b"data: x\n\n", b"data: x\r\n\r\n", b"{}", b"5", b"\r\n"])
def test_a_stream_between_two_chunks_holds_no_parser(last: bytes) -> None:
    before = parsers()
    bodies = [ChunkedBody() for _ in range(MORE_THAN_KEPT)]
    for body in bodies:
        assert body.feed(chunk(b"data: 1\n\n") + chunk(last)) == b"data: 1\n\n" + last
    assert parsers() <= before + 1


@pytest.mark.parametrize("part", [b"5", b"5\r\n", b"5\r\ndata:", b"1\r\nx\r", b"0\r\n", b"0\r\nT: v\r\n"])
def test_a_stream_inside_a_chunk_has_one_of_its_own_until_it_comes_out(part: bytes) -> None:
    before = parsers()
    bodies = [ChunkedBody() for _ in range(MORE_THAN_KEPT)]
    for body in bodies:
        body.feed(part)
    assert parsers() >= before + MORE_THAN_KEPT - 8
    rest = {b"5": b"\r\nhello\r\n", b"5\r\n": b"hello\r\n", b"5\r\ndata:": b"\r\n", b"1\r\nx\r": b"\n"}.get(part, b"\r\n")
    for body in bodies:
        body.feed(rest)
        assert body.done is part.startswith(b"0")
    assert parsers() <= before + 8


@pytest.fixture
def collector_off() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("end", [b"", b"0\r\n\r\n", b"0\r\nConnection: close\r\n\r\n", b"0\r\n\r\nx", b"zz\r\n", b"5\r\nab"])
def test_no_end_leaves_garbage(end: bytes, collector_off: None) -> None:
    for _ in range(100):
        ChunkedBody().feed(chunk(b"a") + end)
    assert gc.collect() == 0
