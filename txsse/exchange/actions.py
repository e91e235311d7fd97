"""What an exchange wants done, as the machine says it. The conductor translates each into one call."""

from __future__ import annotations

import attrs

from txsse.errors import Outcome, ProxyError
from txsse.exchange.events import Timer
from txsse.exchange.relay import Relay
from txsse.wire.http1 import ResponseHead


@attrs.frozen
class AwaitReady:
    """Wait at the upstream's gate; answer with ``UpstreamReady`` or ``UpstreamFailed``."""


@attrs.frozen
class StopWaiting:
    """Leave the gate; nobody is to hear of it again."""


@attrs.frozen
class Dispatch:
    """Send the request upstream. ``fresh``: not on a pooled connection."""

    fresh: bool = False


@attrs.frozen
class MarkDown:
    """Tell the gate that the upstream is not reachable after all."""

    detail: str


@attrs.frozen
class MarkLoading:
    """Tell the gate that the upstream answers, but is still loading."""

    detail: str


@attrs.frozen
class Refuse:
    """Answer with an error response of our own: nothing was sent before, nothing follows."""

    error: ProxyError


@attrs.frozen
class Commit:
    """Send our own streaming head, with ``data`` in the same write; ``phase`` as in :class:`Send`."""

    data: bytes
    phase: str = ""


@attrs.frozen
class RelayHead:
    """Send upstream's head."""

    head: ResponseHead
    has_body: bool


@attrs.frozen
class Collect:
    """Gather upstream's body up to ``limit`` bytes instead of relaying it; answer with ``BodyCollected``. Said again while it is being
    gathered, only the limit changes."""

    limit: int


@attrs.frozen
class OpenRelay:
    """From now on every upstream byte goes through ``relay``."""

    relay: Relay


@attrs.frozen
class Send:
    """Write bytes of our own. ``phase`` counts them as a keepalive: hold, first_byte or gap."""

    data: bytes
    phase: str = ""


@attrs.frozen
class PassOn:
    """Write upstream's bytes that were collected, after its head."""

    data: bytes


@attrs.frozen
class SetTimer:
    """(Re)start a timer. KEEPALIVE and IDLE count from the last byte written or read; the others from now."""

    timer: Timer
    delay: float


@attrs.frozen
class CancelTimer:
    """Stop one timer, if it runs."""

    timer: Timer


@attrs.frozen
class CancelTimers:
    """Stop every timer of the exchange."""


@attrs.frozen
class PauseUpstream:
    """Stop reading from upstream."""


@attrs.frozen
class ResumeUpstream:
    """Read from upstream again."""


@attrs.frozen
class AbortUpstream:
    """Drop the dispatch; its connection is reset."""


@attrs.frozen
class AwaitDrain:
    """Answer with ``ClientDrained`` when everything written has left our buffer."""


@attrs.frozen
class Finish:
    """End the response cleanly."""


@attrs.frozen
class Cut:
    """End the response so that it cannot be taken for complete."""


@attrs.frozen
class AbortClient:
    """Reset the client's connection."""


@attrs.frozen
class Done:
    """The exchange is over; ``outcome`` and ``code`` are what the log and the metrics say of it."""

    outcome: Outcome
    code: str = ""
    unterminated: bool = False


Action = (
    AwaitReady
    | StopWaiting
    | Dispatch
    | MarkDown
    | MarkLoading
    | Refuse
    | Commit
    | RelayHead
    | Collect
    | OpenRelay
    | Send
    | PassOn
    | SetTimer
    | CancelTimer
    | CancelTimers
    | PauseUpstream
    | ResumeUpstream
    | AbortUpstream
    | AwaitDrain
    | Finish
    | Cut
    | AbortClient
    | Done
)
