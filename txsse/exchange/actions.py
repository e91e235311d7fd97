"""What an exchange wants done, as the machine says it. The conductor translates each into one call."""

from __future__ import annotations

import attrs

from txsse.errors import Outcome, ProxyError
from txsse.exchange.relay import Relay
from txsse.wire.http1 import ResponseHead


@attrs.define
class AwaitReady:
    """Wait at the upstream's gate; answer with ``UpstreamReady`` or ``UpstreamFailed``."""


@attrs.define
class StopWaiting:
    """Leave the gate; nobody is to hear of it again."""


@attrs.define
class Dispatch:
    """Send the request upstream. ``fresh``: not on a pooled connection."""

    fresh: bool = False


@attrs.define
class FallBack:
    """Turn to the fallback of the upstream, from the next ``Dispatch`` on."""


@attrs.define
class MarkDown:
    """Tell the gate that the upstream is not reachable after all."""

    detail: str


@attrs.define
class MarkLoading:
    """Tell the gate that the upstream answers, but is still loading."""

    detail: str


@attrs.define
class Refuse:
    """Answer with an error response of our own: nothing was sent before, nothing follows.

    Where nobody is answered (``Policy.unheard``) the failure is told to whom it concerns, whatever was relayed before.
    """

    error: ProxyError


@attrs.define
class Commit:
    """Send our own streaming head, with ``data`` in the same write; ``phase`` as in :class:`Send`."""

    data: bytes
    phase: str = ""


@attrs.define
class RelayHead:
    """Send upstream's head."""

    head: ResponseHead
    has_body: bool


@attrs.define
class Collect:
    """Gather upstream's body up to ``limit`` bytes instead of relaying it; answer with ``BodyCollected``. Said again while it is being
    gathered, only the limit changes."""

    limit: int


@attrs.define
class OpenRelay:
    """From now on every upstream byte goes through ``relay``."""

    relay: Relay


@attrs.define
class Send:
    """Write bytes of our own. ``phase`` counts them as a keepalive: hold, first_byte or gap."""

    data: bytes
    phase: str = ""


@attrs.define
class PassOn:
    """Write upstream's bytes that were collected, after its head."""

    data: bytes


@attrs.define
class PauseUpstream:
    """Stop reading from upstream."""


@attrs.define
class ResumeUpstream:
    """Read from upstream again."""


@attrs.define
class AbortUpstream:
    """Drop the dispatch; its connection is reset."""


@attrs.define
class AwaitDrain:
    """Answer with ``ClientDrained`` when everything written has left our buffer."""


@attrs.define
class Finish:
    """End the response cleanly."""


@attrs.define
class Cut:
    """End the response so that it cannot be taken for complete."""


@attrs.define
class AbortClient:
    """Reset the client's connection."""


@attrs.define
class Done:
    """The exchange is over; ``outcome`` and ``code`` are what the log and the metrics say of it."""

    outcome: Outcome
    code: str = ""
    unterminated: bool = False


Action = (
    AwaitReady
    | StopWaiting
    | Dispatch
    | FallBack
    | MarkDown
    | MarkLoading
    | Refuse
    | Commit
    | RelayHead
    | Collect
    | OpenRelay
    | Send
    | PassOn
    | PauseUpstream
    | ResumeUpstream
    | AbortUpstream
    | AwaitDrain
    | Finish
    | Cut
    | AbortClient
    | Done
)
