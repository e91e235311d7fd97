"""The streams that can be resumed: by their ids, for those who made them, until they are forgotten.

A stream is kept while it runs and for ``resume.ttl`` afterwards; of one that is forgotten only its id is remembered for a while, so that
"it is gone" can be told from "there never was one".
"""

from __future__ import annotations

import base64
import hmac
import secrets
from collections.abc import Callable, Iterator
from typing import Final

import attrs

from txsse.clock import Alarm, Alarms
from txsse.errors import ProxyError
from txsse.proxy.resumable import ResumableRun
from txsse.proxy.run import Run

REMEMBERED: Final = 600.0
"""Seconds for which the id of a forgotten stream is remembered."""
MOST_REMEMBERED: Final = 10_000


@attrs.frozen
class Claim:
    """Who may repeat a request under a key of its own, and with which body."""

    route: str
    scope: bytes
    key: bytes


def new_sid(node: str = "") -> str:
    """128 random bits in 22 characters, after the name of the node where there are several."""
    text = base64.urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode("ascii")
    return f"{node}~{text}" if node else text


class Streams:
    """Of one proxy.

    :ivar bytes_used: by streams that are over: what can be given back.
    """

    def __init__(self, alarms: Alarms, count: Callable[[str], None]) -> None:
        self.bytes_used = 0
        self._alarms = alarms
        self._count = count
        self._runs: dict[str, ResumableRun] = {}
        self._over: dict[str, tuple[int, Alarm]] = {}  # the first one to end first: bytes, and when it is forgotten
        self._gone: dict[str, float] = {}
        self._claims: dict[Claim, tuple[ResumableRun, bytes]] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[ResumableRun]:
        return iter(self._runs.values())

    def add(self, run: ResumableRun, claim: Claim | None = None, body: bytes = b"") -> None:
        """*run* can be found from now on; *claim* leads to it for whoever sends the same *body* (a hash)."""
        self._runs[run.sid] = run
        if claim is not None:
            self._claims[claim] = (run, body)

    def knows(self, sid: str) -> bool:
        """It is kept here, or was."""
        return sid in self._runs or sid in self._gone

    def find(self, sid: str, scope: bytes | None) -> ResumableRun:
        """The stream of this id, if *scope* made it (``None``: the operator asks).

        :raises ProxyError: there is none for this caller, or it is gone.
        """
        run = self._runs.get(sid)
        if run is not None and (scope is None or hmac.compare_digest(run.scope, scope)):
            return run
        if run is None and sid in self._gone and self._alarms.seconds() < self._gone[sid]:
            self._count("gone")
            raise ProxyError("stream_gone", "This stream is not kept any more. Send the request anew, without a cursor.")
        self._count("not_found")
        raise ProxyError("stream_not_found", "There is no stream of this id that this key may read.")

    def claimed(self, claim: Claim, body: bytes) -> ResumableRun | None:
        """The stream that an earlier request with the same key made.

        :raises ProxyError: that had another body.
        """
        found = self._claims.get(claim)
        if found is None:
            return None
        run, earlier = found
        if earlier != body:
            self._count("conflict")
            raise ProxyError("idempotency_conflict", "This Idempotency-Key was used with another body. Use a new key for a new request.")
        return run

    def ended(self, run: Run) -> None:
        """*run* is over: it is kept for its ttl, unless there is nothing to come back to."""
        if not isinstance(run, ResumableRun) or run.sid not in self._runs:
            return
        if run.head is None or run.head.status >= 400:
            # Nothing was begun: who tries again wants another try.
            self._claims = {claim: found for claim, found in self._claims.items() if found[0] is not run}
        size = run.recording.size
        self.bytes_used += size
        sid = run.sid
        self._over[sid] = (size, self._alarms.set(run.resume.ttl, lambda: self.forget(sid)))

    def forget(self, sid: str) -> None:
        """Keep its id only. Its readers keep what they have of it."""
        size, alarm = self._over.pop(sid)
        alarm.cancel()
        run = self._runs.pop(sid)
        self._claims = {claim: found for claim, found in self._claims.items() if found[0] is not run}
        self.bytes_used -= size
        run.recording.close()
        while len(self._gone) >= MOST_REMEMBERED:
            del self._gone[next(iter(self._gone))]
        self._gone[sid] = self._alarms.seconds() + REMEMBERED

    def evict(self) -> None:
        """Give memory back: that of the stream that has been over longest."""
        self.forget(next(iter(self._over)))

    def close(self) -> None:
        for _, alarm in self._over.values():
            alarm.cancel()
