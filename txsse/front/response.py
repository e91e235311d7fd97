"""One answer on a connection of ours: heads and bodies put on the wire as HTTP/1.1 frames them."""

from __future__ import annotations

import enum
from typing import Final, Protocol

from txsse.wire import chunked
from txsse.wire.headers import Headers, get
from txsse.wire.http1 import RequestHead, wants_close

DEFAULT_STALL_TIMEOUT: Final = 30.0

RESET_LOOK: Final = 0.05
"""Seconds between two looks whether everything has left, before a connection is reset."""


class Channel(Protocol):
    """What an answer asks of the connection it is sent on."""

    def send(self, data: bytes) -> None: ...

    def unsent(self) -> int:
        """Bytes sent that the socket has not accepted."""

    def date(self) -> bytes:
        """Now, as the value of a Date field."""

    def must_close(self) -> bool:
        """No further request is served on this connection."""

    def forget_body(self) -> None: ...

    def finished(self, close: bool) -> None:
        """The answer is complete; with *close* the connection is used no more."""

    def cut(self, reset: bool) -> None:
        """The answer is truncated: close, or reset, after what was sent has left."""

    def abort(self) -> None: ...


class Framing(enum.Enum):
    """How the client can tell where the answer ends."""

    UNSENT = enum.auto()  # there is no head yet
    NONE = enum.auto()  # the head is all
    LENGTH = enum.auto()
    CHUNKED = enum.auto()
    CLOSE = enum.auto()


class Response:
    """The :class:`~txsse.interfaces.Downstream` of our own front.

    :ivar stall_timeout: seconds without a byte accepted by the socket after which the exchange hears ``client_stalled``.
        The conductor sets it, from ``stream.stall_timeout`` of the route.
    """

    __slots__ = ("_bodiless", "_channel", "_chunks", "_close", "_framing", "_left", "stall_timeout")

    def __init__(self, channel: Channel, head: RequestHead | None, *, close: bool = False) -> None:
        self._channel: Channel | None = channel
        self._framing = Framing.UNSENT
        self._bodiless = head is not None and head.method == b"HEAD"
        self._chunks = head is None or head.version == b"HTTP/1.1"
        # Keep-alive is not offered to HTTP/1.0: its extension is ill-defined across proxies (RFC 9112 appendix C.2.2).
        self._close = close or not self._chunks or (head is not None and wants_close(head))
        self._left = 0
        self.stall_timeout = DEFAULT_STALL_TIMEOUT

    def detach(self) -> None:
        """The connection is done with this answer, or lost: from here on every call is a no-op."""
        self._channel = None

    def start(self, status: int, reason: bytes, headers: Headers, *, has_body: bool = True) -> None:
        channel = self._channel
        if channel is None:
            return
        self._framing = self._choose(status, headers, has_body)
        self._close = self._close or channel.must_close() or self._framing is Framing.CLOSE
        lines = [b"HTTP/1.1 %d %b\r\n" % (status, reason)]
        lines.extend([b"%b: %b\r\n" % field for field in headers])
        if get(headers, b"date") is None:
            lines.append(b"Date: %b\r\n" % channel.date())
        if self._framing is Framing.CHUNKED:
            lines.append(b"Transfer-Encoding: chunked\r\n")
        if self._close:
            lines.append(b"Connection: close\r\n")
        lines.append(b"\r\n")
        channel.send(b"".join(lines))

    def _choose(self, status: int, headers: Headers, has_body: bool) -> Framing:
        if not has_body or self._bodiless or status in (204, 304):
            return Framing.NONE
        length = get(headers, b"content-length")
        if length is not None:
            self._left = int(length)
            return Framing.LENGTH
        return Framing.CHUNKED if self._chunks else Framing.CLOSE

    def write(self, data: bytes) -> None:
        channel = self._channel
        if channel is None or not data:  # an empty chunk would end the body
            return
        if self._framing is Framing.CHUNKED:
            channel.send(chunked.encode(data))
        elif self._framing is not Framing.NONE:
            self._left -= len(data)
            channel.send(data)

    def finish(self) -> None:
        channel = self._channel
        if channel is None:
            return
        if self._framing is Framing.CHUNKED:
            channel.send(chunked.LAST_CHUNK)
        # Not as many bytes as announced: the client must see that, and what follows would be taken for the rest.
        broken = self._framing is Framing.UNSENT or (self._framing is Framing.LENGTH and self._left != 0)
        channel.finished(self._close or broken)

    def cut(self) -> None:
        if self._channel is not None:
            self._channel.cut(self._framing is Framing.CLOSE)

    def abort(self) -> None:
        if self._channel is not None:
            self._channel.abort()

    def pending(self) -> int:
        return 0 if self._channel is None else self._channel.unsent()

    def forget_body(self) -> None:
        """The request's body is needed no more: its bytes leave the budget."""
        if self._channel is not None:
            self._channel.forget_body()
