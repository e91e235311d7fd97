"""What can happen to a request: how the route is set, what the upstream does, and what a client has to make of it."""

from __future__ import annotations

import enum
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs

from tests.clients.speech import Speech
from txsse.testing import LAST_CHUNK, UpstreamConnection, chunk, sleep
from txsse.testing.http import head
from txsse.testing.waiting import Reactor

SILENCE: Final = 2.5
"""Seconds; drivers set their clients' read timeouts to 1.5 s, so that only keepalives get them over it."""
GAP: Final = 0.5
RETRY_AFTER: Final = 1
MESSAGE: Final = "Waking up"
PROGRESS: Final = "."
CRASHED: Final = "the model crashed"
TOO_LONG: Final = "the prompt is too long"
BUSY: Final = "too many requests"
NOT_READY: Final = "not ready"


class Kind(enum.Enum):
    """What a client has to make of a scenario."""

    READS = "the text, after a message if it is to be shown as text, from one request"
    RAISES = "an exception"
    RETRIES = "the text from a second request that waited as long as it was told, or an exception"


class Turn:
    """The upstream's side of one request, for a scenario to play."""

    def __init__(self, reactor: Reactor, connection: UpstreamConnection, speech: Speech, number: int) -> None:
        self.speech = speech
        self.number = number
        """How many requests of the same client in the same scenario came before."""
        self._reactor = reactor
        self._connection = connection

    async def pause(self, seconds: float) -> None:
        await sleep(self._reactor, seconds)

    def open(self) -> None:
        """Send the head of a stream."""
        fields = [f"Content-Type: {self.speech.content_type}", "Transfer-Encoding: chunked", "Access-Control-Allow-Origin: *"]
        self._connection.send(head("HTTP/1.1 200 OK", fields))

    def say(self, *events: bytes) -> None:
        for event in events:
            self._connection.send(chunk(event))

    def end(self) -> None:
        self._connection.send(LAST_CHUNK)

    def fail(self, status: str, message: str, kind: str, *fields: str) -> None:
        """Answer with an error in the dialect's own form."""
        body = json.dumps(self.speech.error(message, kind)).encode()
        more = ["Content-Type: application/json", f"Content-Length: {len(body)}", "Access-Control-Allow-Origin: *", *fields]
        self._connection.send(head(f"HTTP/1.1 {status}", more) + body)

    def die(self) -> None:
        self._connection.reset()


async def answers(turn: Turn) -> None:
    turn.open()
    turn.say(*turn.speech.events())
    turn.end()


async def thinks_first(turn: Turn) -> None:
    """Silence before the head, before the first event and between two."""
    first, *others = turn.speech.events()
    await turn.pause(SILENCE)
    turn.open()
    await turn.pause(GAP)
    turn.say(first)
    await turn.pause(GAP)
    turn.say(*others)
    turn.end()


async def stalls(turn: Turn) -> None:
    """The middle of an event is the middle of a character too."""
    stream = b"".join(turn.speech.events())
    middle = stream.index("🎉".encode()) + 2
    turn.open()
    turn.say(stream[:middle])
    await turn.pause(SILENCE)
    turn.say(stream[middle:])
    turn.end()


async def numbers_its_events(turn: Turn) -> None:
    turn.open()
    for number, event in enumerate(turn.speech.events()):
        turn.say(b"id: %d\n" % number + event)
        if number % 3 == 1:
            await turn.pause(GAP)
    turn.end()


async def refuses(turn: Turn) -> None:
    turn.fail("400 Bad Request", TOO_LONG, "invalid_request_error")


async def crashes_late(turn: Turn) -> None:
    await turn.pause(1)
    turn.fail("500 Internal Server Error", CRASHED, "server_error")


async def dies(turn: Turn) -> None:
    stream = b"".join(turn.speech.events())
    turn.open()
    turn.say(stream[: stream.index("🎉".encode()) + 2])
    await turn.pause(GAP)
    turn.die()


async def _is_busy(turn: Turn, status: str, kind: str) -> None:
    if turn.number:
        await answers(turn)
    else:
        turn.fail(status, BUSY, kind, f"Retry-After: {RETRY_AFTER}")


async def is_over_its_limit(turn: Turn) -> None:
    await _is_busy(turn, "429 Too Many Requests", "rate_limit_error")


async def is_unavailable(turn: Turn) -> None:
    await _is_busy(turn, "503 Service Unavailable", "overloaded_error")


@attrs.frozen
class Scenario:
    """One thing that can happen.

    :param name: its segment in paths.
    :param title: its column in the documentation.
    :param options: the route's, besides those of all routes here.
    :param cold: seconds that an upstream sleeps which is only for this client and scenario; ``None``: it is always up.
    :param says: what an exception has to say to be of use.
    :param needs_ids: it is about ``id:`` lines.
    """

    name: str
    title: str
    kind: Kind
    upstream: Callable[[Turn], Awaitable[None]]
    options: dict[str, Any] = attrs.field(factory=dict)
    cold: float | None = None
    says: str = ""
    needs_ids: bool = False

    def applies_to(self, speech: Speech) -> bool:
        return speech.ids or not self.needs_ids

    @property
    def requests(self) -> int:
        """Those that the upstream gets of a client that does not retry."""
        return 0 if self.cold == NEVER else 1


NEVER: Final = float("inf")
_PATIENT: Final = {"hold.commit_after": "10s", "keepalive.commit_after": "10s"}
_MESSAGE: Final = {"hold.message": MESSAGE, "hold.progress": PROGRESS}

SCENARIOS: Final = {
    each.name: each
    for each in (
        Scenario("cold", "cold start", Kind.READS, answers, cold=SILENCE),
        Scenario("thinking", "message as thinking", Kind.READS, answers, _MESSAGE | {"hold.channel": "reasoning"}, cold=SILENCE),
        Scenario("message", "message as text", Kind.READS, answers, _MESSAGE | {"hold.channel": "content"}, cold=SILENCE),
        Scenario("prefill", "long prefill", Kind.READS, thinks_first),
        Scenario("stall", "stall inside an event", Kind.READS, stalls),
        Scenario("ids", "events with ids", Kind.READS, numbers_its_events, needs_ids=True),
        Scenario("refused", "400 before the commit", Kind.RAISES, refuses, _PATIENT, says=TOO_LONG),
        Scenario("busy", "429 with ``Retry-After``", Kind.RETRIES, is_over_its_limit, _PATIENT, says=BUSY),
        Scenario("unavailable", "503 with ``Retry-After``", Kind.RETRIES, is_unavailable, _PATIENT, says=BUSY),
        Scenario("turned-away", "503 of the proxy", Kind.RAISES, answers, _PATIENT | {"hold.timeout": "50ms"}, cold=NEVER, says=NOT_READY),
        Scenario("crash", "500 after the commit", Kind.RAISES, crashes_late, says=CRASHED),
        Scenario("crash-done", "500 after the commit and ``done``", Kind.RAISES, crashes_late, {"stream.error_end": "done"}, says=CRASHED),
        Scenario("never", "never ready", Kind.RAISES, answers, {"hold.timeout": "1s"}, cold=NEVER, says=NOT_READY),
        Scenario("death", "upstream dies", Kind.RAISES, dies, says="disconnected"),
    )
}
