"""What happens to an exchange, as the machine hears it."""

from __future__ import annotations

import enum

import attrs

from txsse.errors import ProxyError
from txsse.interfaces import Failed
from txsse.wire.http1 import ResponseHead


class Timer(enum.Enum):
    """Every clock of an exchange, by the name its option has."""

    COMMIT = "commit_after"
    HOLD = "hold.timeout"
    TOTAL = "timeouts.total"
    FIRST_BYTE = "timeouts.first_byte"
    IDLE = "timeouts.idle"  # since the last upstream byte
    KEEPALIVE = "keepalive.interval"  # since the last byte written to the client
    HEARTBEAT = "keepalive.heartbeat"
    LINGER = "linger"  # between an error frame leaving our buffer and the cut
    TRAIL = "trail"  # between the terminal event and upstream's own end


@attrs.frozen
class Begin:
    """The request is complete and peeked. ``ready``: the upstream is known to be ready now."""

    ready: bool


@attrs.frozen
class UpstreamReady:
    """The wait is over. ``cold``: it was a real wait, not just a first probe that succeeded."""

    cold: bool


@attrs.frozen
class UpstreamFailed:
    """The upstream will not become ready: a failed wake, a full waiting room."""

    error: ProxyError


@attrs.frozen
class HeadCame:
    """Upstream's complete final response head. ``has_body``: by method, status and framing a body may follow."""

    head: ResponseHead
    has_body: bool


@attrs.frozen
class BodyCollected:
    """What :class:`~txsse.exchange.actions.Collect` asked for: up to its limit, or all there was (``complete``)."""

    body: bytes
    complete: bool


@attrs.frozen
class FirstByte:
    """The relay is about to let the first upstream bytes through."""


@attrs.frozen
class FirstEvent:
    """The relay is about to let the first upstream event through (comments are none)."""


@attrs.frozen
class TerminalEvent:
    """The relay is about to let the event through that ends the dialect's stream."""


@attrs.frozen
class BodyEnded:
    """Upstream's body is complete."""


@attrs.frozen
class DispatchFailed:
    """The dispatch under way came to no complete response."""

    failed: Failed


@attrs.frozen
class Elapsed:
    """A timer rang. KEEPALIVE rings only while the client has taken everything that was written."""

    timer: Timer


@attrs.frozen
class ClientPaused:
    """The client reads more slowly than upstream writes."""


@attrs.frozen
class ClientResumed:
    """The client took everything that was written."""


@attrs.frozen
class ClientDrained:
    """Everything written so far has left our buffer (answer to ``AwaitDrain``)."""


@attrs.frozen
class ClientGone:
    """The client left: FIN, half-close or reset."""


@attrs.frozen
class ClientStalled:
    """The client's socket accepted no byte for ``stream.stall_timeout``."""


@attrs.frozen
class Shutdown:
    """The drain is over: this exchange has to end now."""


Event = (
    Begin
    | UpstreamReady
    | UpstreamFailed
    | HeadCame
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
