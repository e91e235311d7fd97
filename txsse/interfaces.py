"""The joints of the proxy: who calls whom, and with what.

A request travels ``front -> conductor -> upstream`` and its answer comes back the same way. The front owns the client's socket,
the upstream package owns the backend's, the conductor owns one exchange between them and drives the sans-I/O core.
Each side knows the others only by the protocols below, so that a second front or a second upstream transport is a new class
and no change anywhere else.
"""

from __future__ import annotations

import enum
from typing import Any, Protocol, runtime_checkable

import attrs

from txsse.errors import ProxyError
from txsse.wire.headers import NO_FIELDS, Headers, Prepared
from txsse.wire.http1 import RequestHead, ResponseHead


@attrs.define(eq=False)
class Request:
    """A complete request as a front hands it over: the head, the whole (bounded) body, and where it came from."""

    head: RequestHead
    body: bytes
    peer: str  # the client's IP address, "" on a UNIX socket
    secure: bool  # it came over TLS
    host: bytes  # authority: the Host field, or that of an absolute-form target
    path: bytes  # the target's path and query in origin form, byte for byte
    began: float  # reactor seconds when the first byte of the head came
    received: float  # reactor seconds when the last byte of the body came


class Downstream(Protocol):
    """The client's side of one exchange: where the answer is written. Offered by a front, called by the conductor.

    Order of calls: ``start`` once, ``write`` any number of times, then exactly one of ``finish``, ``cut``, ``abort``.
    After the client has gone every call is a no-op.
    """

    stall_timeout: float
    """Seconds without a byte accepted by the client's socket after which the exchange hears ``client_stalled``; the conductor sets it."""

    def start(self, status: int, reason: bytes, headers: Headers, *, common: Prepared = NO_FIELDS, has_body: bool = True) -> None:
        """Send a response head: *common* fields, then *headers*. There is no hop-by-hop field among them; the front adds its own framing
        and connection fields.

        If they hold a Content-Length the body is delimited by it, else by chunks (HTTP/1.1) or by closing (HTTP/1.0).
        ``has_body=False`` (HEAD, 204, 304): nothing follows, whatever the headers say.
        """

    def write(self, data: bytes) -> None:
        """Queue body bytes (never empty); the front adds chunk framing."""

    def cork(self) -> None:
        """What is written from here on gathers, to leave in one piece with :meth:`uncork`, :meth:`finish` or :meth:`cut`. Idempotent."""

    def uncork(self) -> None:
        """Send what has gathered. Idempotent, and legal after the end."""

    def finish(self) -> None:
        """End the response cleanly; the connection may serve another request."""

    def cut(self) -> None:
        """End so that the client can tell it is truncated: what was written leaves, then the connection closes without the
        end mark. Where closing would look like a clean end (HTTP/1.0, close-delimited) the connection is reset."""

    def abort(self) -> None:
        """Drop the connection at once (RST), whatever is queued."""

    def pending(self) -> int:
        """Bytes written here that the socket has not yet accepted."""

    def forget_body(self) -> None:
        """The request's body is needed no more: it leaves the front's account of buffered bytes. Idempotent."""

    def hold_little(self) -> None:
        """What is written here is kept elsewhere: tell early that the client's socket takes no more. Idempotent."""


class Exchange(Protocol):
    """The conductor's side of one exchange, as a front sees it. Every call is legal at any time and idempotent."""

    def client_paused(self) -> None:
        """The client's socket takes no more for now (the front's buffer is over its mark)."""

    def client_resumed(self) -> None:
        """The front's buffer is empty again."""

    def client_gone(self) -> None:
        """FIN, half-close or reset: nobody reads any more."""

    def client_stalled(self) -> None:
        """The client's socket accepted no byte for ``stream.stall_timeout``."""


class Handler(Protocol):
    """What a front asks of the proxy behind it. Implemented by :class:`txsse.proxy.handler.Proxy`."""

    def screen(self, head: RequestHead, host: bytes, path: bytes, peer: str) -> ProxyError | None:
        """Look at a head before its body is read: a refusal (bad target, wrong key, no route, ..), or ``None``."""

    def open(self, request: Request, downstream: Downstream) -> Exchange:
        """Start the exchange of a complete request."""

    def refuse(self, error: ProxyError, head: RequestHead | None, path: bytes, peer: str, downstream: Downstream) -> None:
        """Answer *error* on *downstream* in the dialect's own shape; counts and logs it. *head* is ``None`` if it was unreadable."""


class Fault(enum.Enum):
    """How a dispatch can fail, by what the upstream's socket did."""

    UNREACHABLE = "unreachable"  # refused, no route, name unknown, connect timeout: not one byte of the request was sent
    STALE = "stale"  # a reused pooled connection died without a response byte
    RESET = "reset"  # a fresh connection died before the first response byte
    INVALID = "invalid"  # bad head or chunk, TLS failure, oversize head, died inside the head
    TRUNCATED = "truncated"  # died inside the body


@attrs.frozen
class Failed:
    """A dispatch's failure: its kind, and a short text without addresses, fit for a client ("connection refused")."""

    fault: Fault
    detail: str


class Receiver(Protocol):
    """What hears of one dispatch: called by the upstream connection, implemented by the conductor.

    Order: ``response_started`` at most once; ``body_received`` any number of times after it; then exactly one of
    ``response_ended`` and ``dispatch_failed``; nothing at all after ``Dispatch.abort``, but for the ``uncork`` of a read that was
    being told. A read with nothing but body bytes in it is one ``body_received``; one with a head or an end in it comes between
    ``cork`` and ``uncork``, so that what follows from it leaves in one write.
    """

    def cork(self) -> None:
        """A read begins of which more than one thing is to be told."""

    def uncork(self) -> None:
        """All of it has been told."""

    def response_started(self, head: ResponseHead) -> None:
        """The final response's complete head came (1xx are swallowed)."""

    def body_received(self, data: bytes) -> None:
        """Body bytes with their framing taken off: all of one read together, never empty."""

    def response_ended(self) -> None:
        """The body is complete as its framing says (or by FIN where it is delimited by close)."""

    def dispatch_failed(self, failed: Failed) -> None:
        """It did not come to a complete response."""


class Dispatch(Protocol):
    """One request under way upstream. Every call is legal at any time and idempotent."""

    def abort(self) -> None:
        """Stop now, in whatever phase: connecting, sending, waiting, receiving. The connection is reset, the receiver hears no more."""

    def pause(self) -> None:
        """Read no more from the upstream's socket."""

    def resume(self) -> None:
        """Read on."""


class NearEnd(Protocol):
    """The client's connection once it has a 101, as far as reading goes. What is written to it goes through its Downstream, as ever."""

    def open(self, tunnel: Tunnel) -> None:
        """From now on *tunnel* hears what the client sends; of what has come already, before this returns."""

    def pause(self) -> None:
        """Read no more from the client's socket. Idempotent."""

    def resume(self) -> None:
        """Read on. Idempotent."""

    def half_close(self) -> bool:
        """Send a FIN after what was written, and read on. Whether that can be done: not over TLS, where nothing has happened."""


class FarEnd(Protocol):
    """The upstream's connection after its 101. What it sends is told as the body of a response; pausing it stays with the Dispatch."""

    def open(self, producer: Any) -> None:
        """*producer* (an ``IPushProducer``) is paused from now on while the upstream's socket takes no more."""

    def write(self, data: bytes) -> None:
        """Queue bytes for the upstream."""

    def half_close(self) -> bool:
        """As :meth:`NearEnd.half_close`."""

    def finish(self) -> None:
        """Close after what was written has left; nothing more is told."""


@runtime_checkable
class Upgradable(Downstream, Protocol):
    """A client's side that can become one end of a tunnel."""

    def switch(self, reason: bytes, headers: Headers, common: Prepared) -> NearEnd | None:
        """In place of ``start``: send a 101 with these fields and those that say what it is switched to, a WebSocket. Bytes written
        afterwards go out as they are; ``finish`` closes, ``cut`` resets. ``None``: the client has left."""


class Tunnel(Exchange, Receiver, Protocol):
    """An exchange that may become a tunnel, as its two ends see it."""

    def switched(self, head: ResponseHead, far: FarEnd) -> None:
        """In place of ``response_started``: upstream's 101, which is sane."""

    def upstream_ended(self) -> None:
        """Upstream has sent a FIN, and reads on. May be told more than once."""

    def client_sent(self, data: bytes) -> None:
        """Bytes from the client, never empty."""

    def client_ended(self, *, reads: bool) -> None:
        """The client sends no more, and *reads* on (a FIN) or does not (its connection was closed). May be told more than once."""
