"""What happens to an exchange, as the machine hears it."""

from __future__ import annotations

import enum
from typing import Final

import attrs

from txsse.errors import ProxyError
from txsse.interfaces import Failed
from txsse.wire.http1 import ResponseHead


class Timer(enum.IntEnum):
    """Every clock of an exchange."""

    KEEPALIVE = 0  # since the last byte written to the client
    IDLE = 1  # since the last byte read from upstream
    COMMIT = 2
    HOLD = 3
    TOTAL = 4
    FIRST_BYTE = 5
    HEARTBEAT = 6
    LINGER = 7  # between an error frame leaving our buffer and the cut
    TRAIL = 8  # between the terminal event and upstream's own end

    @property
    def option(self) -> str:
        """What it is set by."""
        return _OPTIONS[self]


_OPTIONS: Final = {
    Timer.KEEPALIVE: "keepalive.interval",
    Timer.IDLE: "timeouts.idle",
    Timer.COMMIT: "commit_after",
    Timer.HOLD: "hold.timeout",
    Timer.TOTAL: "timeouts.total",
    Timer.FIRST_BYTE: "timeouts.first_byte",
    Timer.HEARTBEAT: "keepalive.heartbeat",
    Timer.LINGER: "linger",
    Timer.TRAIL: "trail",
}


@attrs.define
class Begin:
    """The request is complete and peeked. ``ready``: the upstream is known to be ready now."""

    ready: bool


@attrs.define
class UpstreamReady:
    """The wait is over. ``cold``: it was a real wait, not just a first probe that succeeded."""

    cold: bool


@attrs.define
class UpstreamFailed:
    """The upstream will not become ready: a failed wake, a full waiting room. Or whoever asked it in this exchange's place has failed."""

    error: ProxyError


@attrs.define
class HeadCame:
    """Upstream's complete final response head. ``has_body``: by method, status and framing a body may follow."""

    head: ResponseHead
    has_body: bool


@attrs.define
class Switched:
    """Upstream's 101 to a request for a WebSocket."""

    head: ResponseHead


@attrs.define
class HalfClosed:
    """One side of a tunnel has ended; the other one may still send."""


@attrs.define
class BodyCollected:
    """What :class:`~txsse.exchange.actions.Collect` asked for: up to its limit, or all there was (``complete``)."""

    body: bytes
    complete: bool


@attrs.define
class FirstByte:
    """The relay is about to let the first upstream bytes through."""


@attrs.define
class FirstEvent:
    """The relay is about to let the first upstream event through (comments are none)."""


@attrs.define
class TerminalEvent:
    """The relay is about to let the event through that ends the dialect's stream."""


@attrs.define
class BodyEnded:
    """Upstream's body is complete. Or both sides of a tunnel have ended."""


@attrs.define
class DispatchFailed:
    """The dispatch under way came to no complete response."""

    failed: Failed


@attrs.define
class Elapsed:
    """A timer rang. KEEPALIVE and HEARTBEAT ring only while the client has taken everything that was written.

    :param silent: seconds since upstream's last byte.
    """

    timer: Timer
    silent: float = 0.0


@attrs.define
class ClientPaused:
    """The client reads more slowly than upstream writes."""


@attrs.define
class ClientResumed:
    """The client took everything that was written."""


@attrs.define
class ClientDrained:
    """Everything written so far has left our buffer (answer to ``AwaitDrain``)."""


@attrs.define
class ClientGone:
    """The client left: FIN, half-close or reset."""


@attrs.define
class ClientStalled:
    """The client's socket accepted no byte for ``stream.stall_timeout``."""


@attrs.define
class Shutdown:
    """The drain is over: this exchange has to end now."""


Event = (
    Begin
    | UpstreamReady
    | UpstreamFailed
    | HeadCame
    | Switched
    | HalfClosed
    | BodyCollected
    | FirstByte
    | FirstEvent
    | TerminalEvent
    | BodyEnded
    | DispatchFailed
    | Elapsed
    | ClientPaused
    | ClientResumed
    | ClientDrained
    | ClientGone
    | ClientStalled
    | Shutdown
)
