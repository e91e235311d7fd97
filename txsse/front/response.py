"""One answer on a connection of ours: heads and bodies put on the wire as HTTP/1.1 frames them."""

from __future__ import annotations

import enum
from typing import Final, Protocol

from txsse.interfaces import NearEnd
from txsse.wire.chunked import LAST_CHUNK
from txsse.wire.headers import NO_FIELDS, Headers, Prepared, get
from txsse.wire.http1 import RequestHead

DEFAULT_STALL_TIMEOUT: Final = 30.0

RESET_LOOK: Final = 0.05
"""Seconds between two looks whether everything has left, before a connection is reset."""


class Channel(NearEnd, Protocol):
    """What an answer asks of the connection it is sent on."""

    def send(self, data: bytes) -> None: ...

    def unsent(self) -> int:
        """Bytes sent that the socket has not accepted."""

    def date(self) -> bytes:
        """Now, as the value of a Date field."""

    def must_close(self) -> bool:
        """No further request is served on this connection."""

    def forget_body(self) -> None: ...

    def hold_little(self) -> None: ...

    def finished(self, close: bool) -> None:
        """The answer is complete; with *close* the connection is used no more."""

    def cut(self, reset: bool) -> None:
        """The answer is truncated: close, or reset, after what was sent has left."""

    def abort(self) -> None: ...


class Framing(enum.IntEnum):
    """How the client can tell where the answer ends."""

    UNSENT = enum.auto()  # there is no head yet
    NONE = enum.auto()  # the head is all
    LENGTH = enum.auto()
    CHUNKED = enum.auto()
    CLOSE = enum.auto()


UNSENT, NONE, LENGTH, CHUNKED, CLOSE = Framing  # looked up for each write


class Response:
    """The :class:`~txsse.interfaces.Downstream` of our own front.

    :ivar stall_timeout: seconds without a byte accepted by the socket after which the exchange hears ``client_stalled``.
        The conductor sets it, from ``stream.stall_timeout`` of the route.
    """

    __slots__ = ("_bodiless", "_channel", "_chunks", "_close", "_framing", "_gathered", "_left", "stall_timeout")

    def __init__(self, channel: Channel, head: RequestHead | None, *, close: bool = False) -> None:
        self._channel: Channel | None = channel
        self._framing = UNSENT
        self._left = 0
        self._gathered: list[bytes] | None = None  # while corked
        self.stall_timeout = DEFAULT_STALL_TIMEOUT
        if head is None:
            self._bodiless, self._chunks, self._close = False, True, close
        else:
            self._bodiless = head.method == b"HEAD"
            self._chunks = head.version == b"HTTP/1.1"
            # Keep-alive is not offered to HTTP/1.0: its extension is ill-defined across proxies (RFC 9112 appendix C.2.2).
            self._close = close or head.wants_close or not self._chunks

    def detach(self) -> None:
        """The connection is done with this answer, or lost: from here on every call is a no-op."""
        self._channel = None

    def start(self, status: int, reason: bytes, headers: Headers, *, common: Prepared = NO_FIELDS, has_body: bool = True) -> None:
        channel = self._channel
        if channel is None:
            return
        given = get(headers, b"content-length") if common.length is None else None
        length = common.length if given is None else int(given)
        framing = self._framing = self._choose(status, length, has_body)
        self._close = self._close or channel.must_close() or framing is CLOSE
        lines = [b"HTTP/1.1 %d %b\r\n" % (status, reason), common.lines]
        lines += [b"%b: %b\r\n" % field for field in headers]
        if not common.dated and get(headers, b"date") is None:
            lines.append(b"Date: %b\r\n" % channel.date())
        if framing is CHUNKED:
            lines.append(b"Transfer-Encoding: chunked\r\n")
        lines.append(b"Connection: close\r\n\r\n" if self._close else b"\r\n")
        self._send(b"".join(lines))

    def switch(self, reason: bytes, headers: Headers, common: Prepared) -> NearEnd | None:
        channel = self._channel
        if channel is None:
            return None
        self._framing, self._close = CLOSE, True
        lines = [b"HTTP/1.1 101 %b\r\n" % reason, common.lines, *[b"%b: %b\r\n" % field for field in headers]]
        self._send(b"".join([*lines, b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"]))
        return channel

    def _choose(self, status: int, length: int | None, has_body: bool) -> Framing:
        if not has_body or self._bodiless or status in (204, 304):
            return NONE
        if length is not None:
            self._left = length
            return LENGTH
        return CHUNKED if self._chunks else CLOSE

    def write(self, data: bytes) -> None:
        if not data:  # an empty chunk would end the body
            return
        if self._framing is CHUNKED:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        elif self._framing is NONE:
            return
        else:
            self._left -= len(data)
        # As _send does, without the call: this is what each event of a stream goes through.
        if self._gathered is not None:
            self._gathered.append(data)
        elif self._channel is not None:
            self._channel.send(data)

    def _send(self, data: bytes) -> None:
        if self._gathered is not None:
            self._gathered.append(data)
        elif self._channel is not None:
            self._channel.send(data)

    def cork(self) -> None:
        if self._gathered is None:
            self._gathered = []

    def uncork(self) -> None:
        gathered, self._gathered = self._gathered, None
        if gathered and self._channel is not None:
            self._channel.send(b"".join(gathered))

    def finish(self) -> None:
        if self._framing is CHUNKED:
            self._send(LAST_CHUNK)
        self.uncork()
        if self._channel is not None:
            # Not as many bytes as announced: the client must see that, and what follows would be taken for the rest.
            broken = self._framing is UNSENT or (self._framing is LENGTH and self._left != 0)
            self._channel.finished(self._close or broken)

    def cut(self) -> None:
        self.uncork()
        if self._channel is not None:
            self._channel.cut(self._framing is CLOSE)

    def abort(self) -> None:
        if self._channel is not None:
            self._channel.abort()

    def pending(self) -> int:
        if self._channel is None:
            return 0
        return self._channel.unsent() + (sum(map(len, self._gathered)) if self._gathered else 0)

    def forget_body(self) -> None:
        """The request's body is needed no more: its bytes leave the budget."""
        if self._channel is not None:
            self._channel.forget_body()

    def hold_little(self) -> None:
        """The client may be slow, for it reads what is kept anyway."""
        if self._channel is not None:
            self._channel.hold_little()
