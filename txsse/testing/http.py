"""HTTP/1.1 messages for tests: a lenient incremental reader that says what came and whether it was complete, and byte builders.

It shares no code with the proxy's own parsers, so that a test is a second opinion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import attrs

from txsse.wire.headers import Headers, get, get_all, tokens

LAST_CHUNK = b"0\r\n\r\n"


@attrs.define(eq=False)
class Message:
    """A message as far as it has come."""

    start: bytes  # the start line without its line end
    headers: Headers
    body: bytearray = attrs.field(factory=bytearray)  # framing taken off
    size: int = 0  # bytes of body so far, also when they are not kept
    trailers: Headers = attrs.field(factory=list)
    complete: bool = False  # ended as its framing says

    def header(self, name: str) -> bytes | None:
        """The first value of the field *name*, in any case."""
        return get(self.headers, name.lower().encode())

    def header_all(self, name: str) -> list[bytes]:
        return get_all(self.headers, name.lower().encode())

    @property
    def chunked(self) -> bool:
        return b"chunked" in tokens(self.headers, b"transfer-encoding")

    @property
    def _has_body(self) -> bool:
        return True


@attrs.define(eq=False)
class Response(Message):
    """A response; interim ones (1xx) count as messages of their own."""

    to_head: bool = False  # answers a HEAD request

    @property
    def status(self) -> int:
        return int(self.start.split(b" ", 2)[1])

    @property
    def reason(self) -> bytes:
        return self.start.split(b" ", 1)[1].partition(b" ")[2]

    @property
    def _has_body(self) -> bool:
        return not self.to_head and self.status >= 200 and self.status not in (204, 304)


@attrs.define(eq=False)
class ReceivedRequest(Message):
    """A request as the upstream got it."""

    at: float = 0.0  # reactor seconds when it was complete

    @property
    def method(self) -> bytes:
        return self.start.split(b" ")[0]

    @property
    def target(self) -> bytes:
        return self.start.split(b" ")[1]


M = TypeVar("M", bound=Message)


class MessageReader(Generic[M]):
    """Cuts a byte stream into messages. Malformed input is not raised but noted in :attr:`broken`, and reading stops there."""

    def __init__(self, make: Callable[[bytes, Headers], M], *, until_close: bool, keep: bool = True) -> None:
        self.messages: list[M] = []
        self.broken = ""
        self._make = make
        self._until_close = until_close  # without framing fields the body lasts until the connection ends (responses)
        self._keep = keep
        self._buffer = bytearray()
        self._step: Callable[[], bool] = self._head
        self._left = 0
        self._gained = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Take bytes; returns the body bytes among them."""
        self._buffer += data
        self._gained = bytearray()
        try:
            while not self.broken and self._buffer and self._step():
                pass
        except ValueError as error:
            self.broken = str(error)
        return bytes(self._gained)

    def close(self, clean: bool) -> None:
        """The connection has ended: a close-delimited body is complete if that was by FIN."""
        if self._step == self._rest and clean:
            self.messages[-1].complete = True

    def _line(self) -> bytes | None:
        line, end, _ = self._buffer.partition(b"\r\n")
        if not end:
            return None
        del self._buffer[: len(line) + 2]
        return bytes(line)

    def _head(self) -> bool:
        head, end, _ = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return False
        del self._buffer[: len(head) + 4]
        start, *lines = bytes(head).split(b"\r\n")
        message = self._make(start, _fields(lines))
        self.messages.append(message)
        length = message.header("content-length")
        if not message._has_body:
            return self._end()
        if message.chunked:
            self._step = self._chunk_size
        elif length is not None:
            self._left = int(length)
            self._step = self._counted
            return bool(self._left) or self._end()
        elif self._until_close:
            self._step = self._rest
        else:
            return self._end()
        return True

    def _chunk_size(self) -> bool:
        line = self._line()
        if line is None:
            return False
        self._left = int(line.partition(b";")[0], 16)
        self._step = self._chunk_data if self._left else self._trailer
        return True

    def _chunk_data(self) -> bool:
        self._take()
        if not self._left:
            self._step = self._chunk_end
        return True

    def _chunk_end(self) -> bool:
        if len(self._buffer) < 2:
            return False
        if self._buffer[:2] != b"\r\n":
            raise ValueError(f"a chunk ends in {bytes(self._buffer[:2])!r}")
        del self._buffer[:2]
        self._step = self._chunk_size
        return True

    def _trailer(self) -> bool:
        line = self._line()
        if line is None:
            return False
        if not line:
            return self._end()
        self.messages[-1].trailers += _fields([line])
        return True

    def _counted(self) -> bool:
        self._take()
        return self._end() if not self._left else True

    def _rest(self) -> bool:
        self._left = len(self._buffer)
        self._take()
        return False

    def _take(self) -> None:
        data = self._buffer[: self._left]
        del self._buffer[: self._left]
        self._left -= len(data)
        self._gained += data
        self.messages[-1].size += len(data)
        if self._keep:
            self.messages[-1].body += data

    def _end(self) -> bool:
        self.messages[-1].complete = True
        self._step = self._head
        return True


def _fields(lines: Iterable[bytes]) -> Headers:
    fields: Headers = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon:
            raise ValueError(f"no colon in the field {line!r}")
        fields.append((name, value.strip()))
    return fields


def chunk(data: bytes) -> bytes:
    """*data* as one HTTP chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def head(start: str, headers: Iterable[str] = ()) -> bytes:
    """A message head from its start line and ``Name: value`` lines."""
    return "\r\n".join([start, *headers, "", ""]).encode("latin-1")


def answer(body: bytes = b"{}", status: str = "200 OK", headers: Iterable[str] = ("Content-Type: application/json",)) -> bytes:
    """A whole response delimited by Content-Length."""
    return head(f"HTTP/1.1 {status}", [*headers, f"Content-Length: {len(body)}"]) + body


STREAM_HEAD = head("HTTP/1.1 200 OK", ["Content-Type: text/event-stream", "Transfer-Encoding: chunked"])


def stream(*events: bytes) -> bytes:
    """A whole chunked event stream, each piece a chunk of its own."""
    return STREAM_HEAD + b"".join(chunk(event) for event in events) + LAST_CHUNK


def request(method: str, target: str, body: bytes = b"", headers: Iterable[str] = (), host: str = "test.example") -> bytes:
    """A whole request; Content-Length is added where there is a body (or the method is POST)."""
    length = [f"Content-Length: {len(body)}"] if body or method == "POST" else []
    return head(f"{method} {target} HTTP/1.1", [f"Host: {host}", *headers, *length]) + body
