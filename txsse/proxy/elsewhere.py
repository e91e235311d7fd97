"""Streams of other machines, as those read them who go on with them here."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs
from twisted.internet.defer import Deferred

from txsse.dialects import DIALECTS, Dialect
from txsse.errors import CODES, ProxyError
from txsse.exchange.voice import HoldStatus
from txsse.proxy.answers import reason_of
from txsse.proxy.lasting import RETRY
from txsse.proxy.resumption import id_notes
from txsse.proxy.subscription import LITTLE_AT_ONCE, Follower
from txsse.recordings.numbering import Ids, number, own_id
from txsse.redis.records import GONE, OWNER_LOST, UNSHARED, Head
from txsse.wire.http1 import ResponseHead

if TYPE_CHECKING:
    from txsse.dialects.usage import Usage
    from txsse.proxy.routes import BoundRoute
    from txsse.redis.followed import Follow
    from txsse.redis.journal import Found, Journal
    from txsse.redis.records import Batch, Terminal
    from txsse.wire.headers import Headers

Scopes = Callable[[str], bytes]
"""Whom a request comes from, in terms of ``cache.scope``."""

_NOT_ITS_OWN: Final = frozenset((OWNER_LOST.code, UNSHARED.code, GONE.code))


def is_own(terminal: Terminal) -> bool:
    """Is that how the stream itself ended? Else it ended for those who read it elsewhere, and may go on where it is."""
    return terminal.code not in _NOT_ITS_OWN


def is_mute(found: Found, route: BoundRoute) -> bool:
    """No error can be told after upstream's head."""
    return not DIALECTS[found.meta.dialect].error_after_their_head and not route.policy.error_event


def last_of(found: Found, route: BoundRoute) -> int:
    """The number of the last event there is. An error that is told in the stream is one, too."""
    terminal = found.terminal
    return found.last + (terminal is not None and bool(terminal.code) and is_own(terminal) and not is_mute(found, route))


def state_of(found: Found) -> str:
    return "live" if found.terminal is None else "error" if found.terminal.code else "done"


def error_of(terminal: Terminal) -> ProxyError:
    """For those who read a stream that did not end well."""
    code = terminal.code if terminal.code in CODES else "upstream_error"
    return ProxyError(code, terminal.message, status=terminal.status)


@attrs.frozen
class Spot:
    """A reader's place in a stream of another machine.

    :param after: the number of the event after which it goes on; ``None``: it has all, and the stream is over.
    :param gap: events before that which it wants, and which are gone.
    """

    sid: str
    found: Found
    route: BoundRoute
    after: int | None
    gap: int = 0

    @property
    def dialect(self) -> Dialect:
        return DIALECTS[self.found.meta.dialect]

    @property
    def notes(self) -> Headers:
        found = self.found
        notes = [
            *id_notes(self.sid),
            (b"X-Stream-State", state_of(found).encode()),
            (b"X-Stream-First", b"%d" % found.first),
            (b"X-Stream-Last", b"%d" % last_of(found, self.route)),
        ]
        return [*notes, (b"X-Stream-Gap", b"%d" % self.gap)] if self.gap else notes


class Search:
    """Reads a stream for the sake of one id that upstream gave to an event.

    :param last: the number of the last event that matters.
    :ivar result: the number of the event; ``None``: there is none.
    """

    def __init__(self, wanted: bytes, last: int) -> None:
        self.result: Deferred[int | None] = Deferred()
        self.follow: Follow | None = None
        self._wanted = wanted
        self._last = last

    def began(self, head: Head | None) -> None:
        """It may be any."""

    def pieces(self, batch: Batch) -> None:
        for seq, event in enumerate(batch.pieces(), batch.first):
            if own_id(event) == self._wanted:
                self._tell(seq)
                return
        if batch.last >= self._last:
            self._tell(None)

    def gap(self, count: int) -> None:
        """What is gone it was not."""

    def ended(self, terminal: Terminal) -> None:
        self.result.callback(None)

    def _tell(self, seq: int | None) -> None:
        if self.follow is not None:
            self.follow.stop()
        self.result.callback(seq)


class Elsewhere:
    """A stream of another machine, as one reader's :class:`~txsse.proxy.reader.Source`.

    :param readers: how many each stream has here.
    :ivar last: the number of the last event that the reader was told.
    :ivar ended: how it ended.
    """

    held = False
    resumable = True
    most_at_once = LITTLE_AT_ONCE

    def __init__(self, spot: Spot, journal: Journal, readers: Counter[str]) -> None:
        self.spot = spot
        self.last = spot.after or 0
        self.ended: Terminal | None = None
        self._journal = journal
        self._readers = readers
        self._joined = False

    def join(self, follower: Follower) -> None:
        self._joined = True
        self._readers[self.spot.sid] += 1

    def leave(self, follower: Follower) -> None:
        if self._joined:
            self._joined = False
            readers, sid = self._readers, self.spot.sid
            readers[sid] -= 1
            if not readers[sid]:
                del readers[sid]

    def wait(self, follower: Follower) -> None:
        follower.go_on(cold=False)

    def stop_waiting(self, follower: Follower) -> None: ...

    def subscribe(self, follower: Follower) -> PlaceElsewhere:
        return PlaceElsewhere(self, follower, self._journal)

    def hold_status(self) -> HoldStatus:
        return HoldStatus("", "shared", 0)

    def usage(self) -> tuple[Usage | None, str]:
        return None, ""

    def charge(self) -> bool:
        return False

    def before_error(self, error: ProxyError | None, ids: Ids) -> bytes:
        """The stream's own error is its last event. Any other is none of its events: who comes back goes on after the last it has."""
        if self.ended is not None and is_own(self.ended):
            return b"id: %b.%d\n" % (self.spot.sid.encode("ascii"), self.last + 1)
        return b"retry: %d\n" % random.randint(*RETRY)


class PlaceElsewhere:
    """A reader's place in a stream of another machine: the :class:`~txsse.interfaces.Dispatch` that its conductor has, and the
    :class:`txsse.redis.followed.Follower` that the journal tells."""

    def __init__(self, source: Elsewhere, follower: Follower, journal: Journal) -> None:
        self._source = source
        self._follower: Follower | None = follower
        self._journal = journal
        self._follow: Follow | None = None
        self._paused = False
        self._by_lines = source.spot.dialect.by_lines
        self._numbers = follower.numbers

    def start(self) -> None:
        if self._follower is not None:
            self._follow = self._journal.follow(self._source.spot.sid, self._source.last, self)
            if self._paused:
                self._follow.pause()

    # -- from the journal

    def began(self, head: Head | None) -> None:
        if self._follower is None:
            return
        if head is None:
            spot = self._source.spot
            meta = spot.found.meta
            head = Head(meta.status, [*meta.headers, (b"Cache-Control", spot.route.style.cache_control), (b"X-Accel-Buffering", b"no")])
        self._follower.response_started(ResponseHead(head.status, reason_of(head.status), b"HTTP/1.1", head.headers))

    def pieces(self, batch: Batch) -> None:
        self._source.last = batch.last
        self._tell(self._numbered(batch) if self._numbers else batch.data)

    def _numbered(self, batch: Batch) -> bytes:
        data = batch.data
        own = b"\nid" in data or b"\rid" in data or data.startswith(b"id")
        return number(self._source.spot.sid.encode("ascii"), batch.first, batch.pieces(), own=own)

    def gap(self, count: int) -> None:
        source = self._source
        source.last += count
        if source.spot.route.config.resume.on_gap == "skip" and not self._by_lines:  # lines of JSON have no comments to tell of it
            self._tell(b': txsse {"gap":%d}\n' % count)
            return
        text = f"This stream was read too slowly: {count} events are gone. Read on from the first that is there, or ask anew."
        members = {"message": text, "skipped": count, "first": f"{source.spot.sid}.{source.last + 1}"}
        follower = self._follower
        self.abort()
        if follower is not None:
            follower.given_up(ProxyError("replay_truncated", text, members=members))

    def _tell(self, data: bytes) -> None:
        if self._follower is not None:
            self._follower.body_received(data)

    def ended(self, terminal: Terminal) -> None:
        self._follow = None
        self._source.ended = terminal
        follower, self._follower = self._follower, None
        if follower is None:
            return
        if not terminal.code:
            follower.response_ended()
        else:
            follower.given_up(error_of(terminal))

    # -- Dispatch

    def abort(self) -> None:
        self._follower = None
        follow, self._follow = self._follow, None
        if follow is not None:
            follow.stop()

    def pause(self) -> None:
        self._paused = True
        if self._follow is not None:
            self._follow.pause()

    def resume(self) -> None:
        self._paused = False
        if self._follow is not None:
            self._follow.resume()
