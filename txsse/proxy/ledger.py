"""What is kept of every request: one line in the access log and its share of the metrics, written once, at its end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import attrs

from txsse.dialects.usage import Usage
from txsse.errors import CODES, Outcome, ProxyError
from txsse.exchange import actions as act
from txsse.logs import AccessLog, Entry
from txsse.metrics import Metrics
from txsse.wire.http1 import RequestHead

if TYPE_CHECKING:
    from txsse.proxy.conductor import Conductor

CLIENT_CLOSED: Final = 499
"""The status that log and metrics show for a client that left before it was sent one (nginx's number)."""


@attrs.define(eq=False)
class Tally:
    """What an exchange notes of itself as it goes. Times in reactor seconds, ``None`` for what never happened."""

    bytes_in: int
    status: int = 0
    refused: bool = False
    bytes_out: int = 0  # body bytes written to the client, our own among them
    relayed: int = 0  # those of them that are upstream's
    keepalives: int = 0
    hold: float = 0.0
    was_held: bool = False
    dispatched: float = 0.0
    first_byte: float | None = None
    usage: Usage | None = None
    model: str = ""


class Ledger:
    """Keeps account for one proxy.

    :param access_log: ``None`` writes no lines.
    """

    def __init__(self, metrics: Metrics, access_log: AccessLog | None) -> None:
        self.metrics = metrics
        self._access_log = access_log

    def answered(
        self,
        head: RequestHead | None,
        path: bytes,
        peer: str,
        ident: bytes,
        route: str,
        status: int,
        *,
        error: ProxyError | None = None,
        outcome: Outcome = "ok",
        bytes_out: int = 0,
    ) -> None:
        """A request that was answered at once, without an exchange. *head* is ``None`` if it could not be read."""
        self.metrics.requests[route, status, outcome] += 1
        if self._access_log is None:
            return
        self._access_log.add(
            Entry(
                time=time.time(),
                peer=peer,
                method=head.method if head is not None else b"-",
                path=path,
                version=head.version if head is not None else b"-",
                status=status,
                route=route,
                code=error.code if error is not None else "",
                outcome=outcome,
                bytes_out=bytes_out,
                request_id=ident,
            )
        )

    def began(self, conductor: Conductor) -> None:
        """An exchange is in flight."""
        self.metrics.in_flight[conductor.route.name] += 1
        if conductor.reads:
            self.metrics.reading[conductor.route.name] += 1

    def kept_alive(self, phase: str) -> None:
        """One more keepalive was written."""
        self.metrics.keepalives[phase] += 1  # type: ignore[index]  # the machine's words are the label's values

    def ended(self, conductor: Conductor, done: act.Done, now: float) -> None:
        """An exchange is over."""
        tally, route, request, metrics = conductor.tally, conductor.route, conductor.request, self.metrics
        status = tally.status or CLIENT_CLOSED
        first_byte = None if tally.first_byte is None else tally.first_byte - tally.dispatched
        metrics.in_flight[route.name] -= 1
        if conductor.reads:
            metrics.reading[route.name] -= 1
        metrics.requests[route.name, status, done.outcome] += 1
        metrics.relayed_bytes[route.name] += tally.relayed
        if tally.was_held:
            metrics.hold_seconds[conductor.home.backend.name].observe(tally.hold)
        if first_byte is not None:
            metrics.first_byte_seconds[route.name].observe(first_byte)
        if done.unterminated:
            metrics.unterminated[route.name] += 1
        if tally.usage is not None and status == 200:
            metrics.count_tokens(route.name, tally.model or conductor.model, tally.usage, cached=not conductor.charged())
        if done.code in CODES and not tally.refused:
            metrics.stream_errors[done.code] += 1
        if self._access_log is None:
            return
        self._access_log.add(
            Entry(
                time=time.time(),
                peer=request.peer,
                method=request.head.method,
                path=request.path,
                version=request.head.version,
                status=status,
                route=route.name,
                upstream=route.backend.name,
                code=done.code,
                outcome=done.outcome,
                bytes_in=tally.bytes_in,
                bytes_out=tally.bytes_out,
                hold=tally.hold if tally.was_held else None,
                first_byte=first_byte,
                total=now - request.began,
                keepalives=tally.keepalives,
                cold=conductor.cold,
                streaming=conductor.streaming,
                cache=conductor.cache,
                usage=tally.usage,
                model=tally.model,
                request_id=conductor.request_id,
            )
        )

    def close(self) -> None:
        """Write out what is still in memory."""
        if self._access_log is not None:
            self._access_log.stop()
