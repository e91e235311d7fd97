"""Streams that several machines share through Redis: ours are written there as they run, and those of others are read from there.

Whoever reads a stream on the machine that asked for it does not notice: what goes wrong with Redis ends the sharing, not the stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from txsse.dialects import DIALECTS
from txsse.errors import CODES, ProxyError
from txsse.exchange.voice import HoldStatus
from txsse.proxy.resumable import ResumableRun
from txsse.proxy.run import Follower
from txsse.recordings.heads import told_again
from txsse.recordings.numbering import number, own_id
from txsse.redis.journal import Found, Journal
from txsse.redis.records import DONE, Meta, Terminal
from txsse.wire.headers import Headers
from txsse.wire.http1 import ResponseHead

if TYPE_CHECKING:
    from txsse.dialects.usage import Usage
    from txsse.redis.followed import Follow
    from txsse.redis.outbox import Loss
    from txsse.redis.records import Batch

CANCELLED = ProxyError("cancelled", "The stream was ended by one of those who read it.")


class Shared:
    """Of one proxy."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def share(self, run: ResumableRun) -> None:
        """Write *run* to Redis from its first event on. It has no head yet: a stream is what it asks for."""
        content_type = run.dialect.content_type
        headers: Headers = [(b"Content-Type", content_type)]
        meta = Meta(run.home.name, run.dialect.name, run.scope, content_type, 200, headers, run.created, run.resume.ttl)
        run.sharing = Sharing(run, self.journal, meta)

    def read(self, sid: str, found: Found) -> Elsewhere:
        return Elsewhere(sid, found, self.journal)

    def open(self, sid: str) -> Deferred[Found | ProxyError | None]:
        """Look for another machine's stream; an error if nobody can say whether there is one."""
        return self.journal.open(sid).addErrback(lambda _: _unknown())


def _unknown() -> ProxyError:
    return ProxyError("owner_lost", "The store that streams are shared through cannot be reached now. Try again in a moment.", status=503)


class Sharing:
    """One stream of ours, on its way to Redis (:class:`txsse.redis.shares.Owner`)."""

    def __init__(self, run: ResumableRun, journal: Journal, meta: Meta) -> None:
        self._run = run
        self._share = journal.create(run.sid, meta, self)

    def append(self, event: bytes) -> None:
        self._share.append(event)

    def finish(self) -> None:
        """The run has ended."""
        error, head = self._run.error, self._run.head
        if error is not None:
            terminal = Terminal(error.code, error.message, error.http_status)
        elif head is not None and (head.status != 200 or not self._run.streamed):
            terminal = Terminal("upstream_error", f"The upstream answered {head.status}, and no stream.", max(head.status, 400))
        else:
            terminal = DONE
        self._share.finish(terminal)

    def cancel_asked(self) -> None:
        self._run.cancel(CANCELLED)

    def unshared(self, why: Loss) -> None:
        """Those who read it here do not notice."""

    def readers_changed(self, count: int) -> None:
        self._run.read_elsewhere(count)


class Elsewhere:
    """A stream of another machine, as a :class:`~txsse.proxy.reader.Source`."""

    held = False

    def __init__(self, sid: str, found: Found, journal: Journal) -> None:
        self.sid = sid
        self.found = found
        self.last = found.last
        self._journal = journal

    def join(self, follower: Follower) -> None: ...

    def leave(self, follower: Follower) -> None: ...

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

    def before_error(self) -> bytes:
        return b"id: %b.%d\n" % (self.sid.encode("ascii"), self.last + 1)


class PlaceElsewhere:
    """A reader's place in a stream of another machine: the :class:`~txsse.interfaces.Dispatch` that its conductor has, and the
    :class:`txsse.redis.followed.Follower` that the journal tells."""

    def __init__(self, source: Elsewhere, follower: Follower, journal: Journal) -> None:
        self._source = source
        self._follower: Follower | None = follower
        self._journal = journal
        self._follow: Follow | None = None
        self._paused = False
        self._by_lines = DIALECTS[source.found.meta.dialect].by_lines
        self._numbers = follower.numbers and not self._by_lines

    def start(self) -> None:
        follower, source = self._follower, self._source
        if follower is None:
            return
        meta = source.found.meta
        follower.response_started(ResponseHead(meta.status, b"OK", b"HTTP/1.1", told_again(meta.headers)))
        if self._follower is not None:
            self._follow = self._journal.follow(source.sid, follower.after, self)
            if self._paused:
                self._follow.pause()

    # -- from the journal

    def pieces(self, batch: Batch) -> None:
        self._source.last = max(self._source.last, batch.last)
        self._tell(self._numbered(batch) if self._numbers else batch.data)

    def _numbered(self, batch: Batch) -> bytes:
        sid, begin, out = self._source.sid.encode("ascii"), 0, []
        for seq, end in enumerate(batch.ends, batch.first):
            event = batch.data[begin:end]
            begin = end
            out.append(event if own_id(event) is not None else number(sid, seq, [event]))
        return b"".join(out)

    def gap(self, count: int) -> None:
        if not self._by_lines:
            self._tell(b': txsse {"gap":%d}\n' % count)

    def _tell(self, data: bytes) -> None:
        if self._follower is not None:
            self._follower.body_received(data)

    def ended(self, terminal: Terminal) -> None:
        self._follow = None
        follower, self._follower = self._follower, None
        if follower is None:
            return
        if not terminal.code:
            follower.response_ended()
            return
        code = terminal.code if terminal.code in CODES else "upstream_error"
        follower.given_up(ProxyError(code, terminal.message, status=terminal.status))

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


def open_shared(link: Any, reactor: Any, node: str) -> Shared:
    """What is shared through *link*, which has been started."""
    journal = Journal(link, reactor, node or "txsse")
    journal.start()
    return Shared(journal)
