"""What is counted: an event, a burst, a short stream, a small JSON request, a held stream's keepalive; the memory of a waiting stream."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final
from unittest.mock import patch

import attrs

from tests.budget.bench import CACHING, HELD, READY, RESUMING, Bench, Wire
from tests.budget.counting import Count, count

WARM_UP: Final = 20
OPERATIONS: Final = 100
TRIES: Final = 6
STREAMS: Final = 200  # whose memory is measured
HELD_SECONDS: Final = 15  # three keepalives of each

EVENT: Final = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":0,"model":"bench",'
    b'"choices":[{"index":0,"delta":{"content":"%05d"},"finish_reason":null}]}\n\n'
)
STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ndate: Sun, 09 Sep 2001 01:46:40 GMT\r\nserver: uvicorn\r\ncache-control: no-cache\r\n"
    b"content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)
JSON_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ndate: Sun, 09 Sep 2001 01:46:40 GMT\r\nserver: uvicorn\r\n%s"
    b"content-length: %d\r\ncontent-type: application/json\r\n\r\n"
)
ANSWER: Final = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"%05d"},"finish_reason":"stop"}]}'
LAST: Final = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def request(number: int, *, stream: bool, unique: bool = False, size: int = 0) -> bytes:
    """A chat request. *unique*: its head is like no other's. *size*: bytes in all, at least."""
    field = b"X-Request-Id: %032x\r\n" % number if unique else b""
    pad = b"x" * (number % 90 if unique else 0)
    body = b'{"model":"bench","stream":%s,"messages":[{"role":"user","content":"%05d%s"}]}' % (b"true" if stream else b"false", number, pad)
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:8787\r\nContent-Type: application/json\r\nAccept: */*\r\n%s"
        b"Authorization: Bearer sk-bench\r\nContent-Length: %d\r\n\r\n"
    )
    whole = head % (field, len(body)) + body
    short = size - len(whole)
    return whole if short <= 0 else head % (field, len(body) + short) + body[:-4] + b"x" * short + body[-4:]


class Talk:
    """One client and one connection to the backend, both kept alive."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.client = bench.client()
        self.backend: Wire | None = None

    def ask(self, whole: bytes) -> Wire:
        self.client.receive(whole)
        if self.backend is None:
            self.backend = self.bench.backend()
        assert self.backend.last.endswith(b'"}]}'), "the request is under way"
        return self.backend

    def expect(self, end: bytes) -> None:
        assert self.client.last.endswith(end), self.client.last


def begin_stream(talk: Talk) -> Wire:
    backend = talk.ask(request(0, stream=True))
    backend.receive(STREAM_HEAD + chunk(EVENT % 0))
    return backend


def events(talk: Talk, numbers: range) -> None:
    """Events of an open stream, each in a read of its own."""
    assert talk.backend is not None
    for number in numbers:
        talk.backend.receive(chunk(EVENT % number))
        talk.expect(chunk(EVENT % number))


def bursts(talk: Talk, numbers: range) -> None:
    """64 events in a read."""
    assert talk.backend is not None
    for number in numbers:
        data = b"".join(EVENT % (number * 64 + each) for each in range(64))
        talk.backend.receive(chunk(data))
        talk.expect(data + b"\r\n")


def short_streams(talk: Talk, numbers: range, *, unique: bool = False) -> None:
    """A request and ten events: the first with the head, the last with the end, the others each in a read of its own."""
    for number in numbers:
        backend = talk.ask(request(number, stream=True, unique=unique))
        backend.receive(STREAM_HEAD + chunk(EVENT % 0))
        for each in range(1, 9):
            backend.receive(chunk(EVENT % each))
        backend.receive(chunk(EVENT % 9) + chunk(b"data: [DONE]\n\n") + LAST)
        talk.expect(LAST)
    _write_log(talk, len(numbers))


def json_requests(talk: Talk, numbers: range, *, unique: bool = False) -> None:
    """A small answer, of a length that is known."""
    for number in numbers:
        backend = talk.ask(request(number, stream=False, unique=unique))
        body = ANSWER % number
        field = b"openai-processing-ms: %d\r\n" % number if unique else b""
        backend.receive(JSON_HEAD % (field, len(body)) + body)
        talk.expect(body)
    _write_log(talk, len(numbers))


def _write_log(talk: Talk, lines: int) -> None:
    before = talk.bench.lines
    talk.bench.wait(1, 0.25)
    assert talk.bench.lines - before == lines, "every request has its access line"


Work = Callable[[Talk, range], None]


@contextmanager
def _running(configuration: str) -> Iterator[Bench]:
    # The time of day stands still, for it is written down anew each second. This function is one of C's, as the one that it stands for.
    with patch("time.time", (1e9).conjugate):
        bench = Bench(configuration)
        try:
            yield bench
        finally:
            bench.close()


def _count_of(work: Work, *, in_stream: bool = False, configuration: str = READY) -> Count:
    # The least of some, and not of the first: what the process remembers of heads is not full by then.
    _count_once(work, in_stream, configuration)
    return min((_count_once(work, in_stream, configuration) for _ in range(TRIES)), key=attrs.astuple).per(OPERATIONS)


def _count_once(work: Work, in_stream: bool, configuration: str) -> Count:
    with _running(configuration) as bench:
        talk = Talk(bench)
        if in_stream:
            begin_stream(talk)
        work(talk, range(WARM_UP))
        return count(lambda: work(talk, range(WARM_UP, WARM_UP + OPERATIONS)))


def _held(bench: Bench, streams: int) -> list[Wire]:
    """Streams that wait: their heads and first comments are sent."""
    wires = [Wire() for _ in range(streams)]
    for number, wire in enumerate(wires):
        bench.client(wire).receive(request(number, stream=True, size=512))
    bench.wait(2)
    assert all(wire.writes for wire in wires)
    return wires


def _count_keepalives(streams: int) -> tuple[Count, int]:
    with _running(HELD) as bench:
        wires = _held(bench, streams)
        before = sum(wire.writes for wire in wires)
        spent = count(lambda: bench.wait(HELD_SECONDS))
        return spent, sum(wire.writes for wire in wires) - before


def keepalive() -> Count:
    """One keepalive of one held stream: of two runs with different numbers of streams, the difference."""
    few, many = _count_keepalives(50), _count_keepalives(150)
    assert many[1] - few[1] == 100 * HELD_SECONDS / 5, "a keepalive each 5 s"
    return (many[0] - few[0]).per(many[1] - few[1])


COUNTS: Final[dict[str, Callable[[], Count]]] = {
    "event": lambda: _count_of(events, in_stream=True),
    "event that is recorded": lambda: _count_of(events, in_stream=True, configuration=CACHING),
    "event that can be come back to": lambda: _count_of(events, in_stream=True, configuration=RESUMING),
    "read of 64 events": lambda: _count_of(bursts, in_stream=True),
    "stream of 10 events": lambda: _count_of(short_streams),
    "stream of 10 events, unique head": lambda: _count_of(lambda talk, numbers: short_streams(talk, numbers, unique=True)),
    "JSON request": lambda: _count_of(json_requests),
    "JSON request, unique head": lambda: _count_of(lambda talk, numbers: json_requests(talk, numbers, unique=True)),
    "keepalive of a held stream": keepalive,
}


@attrs.frozen
class Memory:
    """Of one stream, without its sockets. *blocks*: of up to 512 bytes each, as Python's own allocator counts them."""

    bytes: float
    blocks: float


def _grown(make: Callable[[], object]) -> Memory:
    gc.collect()
    blocks = sys.getallocatedblocks()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = make()
        gc.collect()
        traced = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    blocks = sys.getallocatedblocks() - blocks
    assert kept is not None
    return Memory(round(traced / STREAMS), round(blocks / STREAMS, 1))


def idle_stream() -> Memory:
    """A stream whose backend has said its first event and nothing more; with the connection to that backend."""
    with _running(READY) as bench:
        pairs = [(Wire(), Wire()) for _ in range(STREAMS + 1)]

        def open_one(client: Wire, backend: Wire) -> None:
            bench.client(client).receive(request(0, stream=True))
            bench.backend(backend).receive(STREAM_HEAD + chunk(EVENT % 0))
            client.last = backend.last = b""

        def open_all() -> object:
            for client, backend in pairs[1:]:
                open_one(client, backend)
            return pairs

        open_one(*pairs[0])
        return _grown(open_all)


def held_stream() -> Memory:
    """A stream that waits for its backend, with a request of 512 bytes."""
    with _running(HELD) as bench:
        _held(bench, 1)

        def hold() -> object:
            wires = _held(bench, STREAMS)
            for wire in wires:
                wire.last = b""
            return wires

        return _grown(hold)


MEMORY: Final[dict[str, Callable[[], Memory]]] = {"idle stream": idle_stream, "held stream": held_stream}
