"""A prediction of another machine: its document and its events, from what its machine writes to Redis."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

import attrs
from twisted.internet.defer import Deferred

from txsse.config.model import Resume
from txsse.errors import CODES, ProxyError
from txsse.predictions.job import Name
from txsse.predictions.reading import tell_gap
from txsse.predictions.retold import COMPLETED, Retold, completed, failure, lost_document
from txsse.proxy.shared import unreachable
from txsse.recordings.numbering import number
from txsse.redis.errors import RedisError
from txsse.redis.records import GONE, OWNER_LOST, UNSHARED, Batch, Head, Snapshot, Terminal
from txsse.web.events import Encoded

if TYPE_CHECKING:
    from txsse.redis.followed import Follow
    from txsse.redis.journal import Found, Journal

MOST_BATCHES: Final = 16
"""That are read at a time, for a document."""

_TEXTS: Final = {
    GONE.code: "This prediction is not in the shared store any more. Make it again.",
    OWNER_LOST.code: "The server that made this prediction has stopped. Make another one, with an id of its own.",
    UNSHARED.code: "This prediction outran the shared store: it can be had from the server alone that makes it.",
}
_ENDINGS: Final = frozenset(("", "failed", "canceled"))
"""Codes of a prediction that has ended, and whose last event says how."""


def ending(status: str) -> Terminal:
    """How a prediction of this status ended."""
    return Terminal("" if status == "succeeded" else status)


def error_of(terminal: Terminal) -> ProxyError:
    """Why nothing more can be had of a prediction that did not end, as far as one can see from here."""
    code = terminal.code if terminal.code in CODES else "upstream_error"
    return ProxyError(code, _TEXTS.get(code, terminal.message), status=terminal.status)


@attrs.define(eq=False)
class FarJob:
    """Implements :class:`~txsse.predictions.elsewhere.AnyJob`.

    :param readers: how many each prediction of another machine has here, by *sid*.
    """

    name: Name
    sid: str
    resume: Resume
    _found: Found
    _journal: Journal
    _readers: Counter[str]

    @property
    def over(self) -> bool:
        return self._found.terminal is not None

    @property
    def first(self) -> int:
        return self._found.first

    @property
    def last(self) -> int:
        return self._found.last

    @property
    def state(self) -> str:
        terminal = self._found.terminal
        return "live" if terminal is None else "error" if terminal.code else "done"

    def let_run(self) -> None:
        """Whether it goes on without followers is for those to say who began it."""

    def place(self, after: int) -> tuple[int, int] | None:
        found, terminal = self._found, self._found.terminal
        if terminal is not None and terminal.code in _ENDINGS and after >= found.last:
            return None
        if self._readers[self.sid] >= self.resume.max_readers:
            raise ProxyError("too_many_readers", f"This prediction has {self.resume.max_readers} readers already. Try again later.")
        gap = max(found.first - 1 - after, 0)
        return after + gap, gap  # a reader may be ahead of what has been written

    def read(self, after: int, *, gap: int = 0) -> FarReading:
        return FarReading(self, self._journal, after, gap, self._readers)

    async def document(self) -> bytes:
        found = self._found
        ended = found.terminal is not None and found.terminal.code in _ENDINGS
        after = found.last - 1 if ended else 0
        retold = Retold(self.name.id, self.resume.max_bytes)
        while True:
            now = await self._look(after)
            for batch in now.batches:
                if batch.first > after + 1:
                    retold.miss()
                for event in batch.after(after).pieces():
                    retold.take(event)
                after = batch.last
            if not now.batches or after >= now.last:
                break
        terminal = now.terminal
        if terminal is None or terminal.code in _ENDINGS:
            return retold.document()
        if terminal.code == OWNER_LOST.code:
            return retold.failed(error_of(terminal))
        raise error_of(terminal)

    async def _look(self, after: int) -> Snapshot:
        try:
            found = await self._journal.read(self.sid, after, MOST_BATCHES)
        except (RedisError, ValueError):
            raise unreachable() from None
        if found is None:
            raise error_of(GONE)
        return found

    async def outcome(self) -> bytes:
        if self.over:
            return await self.document()
        reading = self.read(self.last)
        try:
            async for _ in reading:
                pass
        finally:
            await reading.aclose()
        return await self.document()

    async def end(self) -> None:
        try:
            await self._journal.cancel(self.sid)
        except RedisError:
            raise unreachable() from None


class FarReading(AsyncIterator[Encoded]):
    """One reader's way through its events, as :class:`txsse.predictions.reading.Reading`; a :class:`txsse.redis.followed.Follower`.

    Its machine's end is the prediction's: it is told as the last event, with what is known of the output.
    """

    def __init__(self, job: FarJob, journal: Journal, after: int, gap: int, readers: Counter[str]) -> None:
        self._job = job
        self._after = after
        self._told: deque[bytes] = deque()
        self._over = False
        self._lost = False
        self._news: Deferred[None] | None = None
        self._readers = readers
        readers[job.sid] += 1
        self._counted = True
        self._follow: Follow | None = None
        if gap:
            self._tell_gap(gap)
        if not self._over:
            self._follow = journal.follow(job.sid, after, self)

    async def __anext__(self) -> Encoded:
        while not self._told:
            if self._lost:
                self._lost = False
                return Encoded(completed(await self._last_words()))
            if self._over:
                raise StopAsyncIteration
            news = self._news = Deferred()
            if self._follow is not None:
                self._follow.resume()
            await news
        return Encoded(self._told.popleft())

    async def aclose(self) -> None:
        self._over = True
        self._stop()
        if self._counted:
            self._counted = False
            readers, sid = self._readers, self._job.sid
            readers[sid] -= 1
            if not readers[sid]:
                del readers[sid]

    async def _last_words(self) -> bytes:
        try:
            return await self._job.document()
        except ProxyError:  # the store has nothing of it either
            return lost_document(self._job.name.id, error_of(OWNER_LOST))

    # -- from the journal

    def began(self, head: Head | None) -> None:
        """It is the same for all."""

    def pieces(self, batch: Batch) -> None:
        events = batch.pieces()
        self._after = batch.last
        if events[-1].startswith(COMPLETED):
            self._over = True
            self._stop()
        self._tell(number(self._job.sid.encode("ascii"), batch.first, events))

    def gap(self, count: int) -> None:
        self._after += count
        self._tell_gap(count)

    def _tell_gap(self, count: int) -> None:
        job = self._job
        if job.resume.on_gap == "error":
            self._over = True
            self._stop()
        self._tell(tell_gap(job.resume, job.sid, count, self._after))

    def ended(self, terminal: Terminal) -> None:
        self._follow = None
        self._over = True
        if terminal.code == OWNER_LOST.code:
            self._lost = True
        elif terminal.code not in _ENDINGS:
            self._told.append(failure(error_of(terminal)))
        self._wake()

    def _tell(self, data: bytes) -> None:
        self._told.append(data)
        if self._follow is not None:
            self._follow.pause()  # until this is taken
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, None
        if news is not None:
            news.callback(None)

    def _stop(self) -> None:
        follow, self._follow = self._follow, None
        if follow is not None:
            follow.stop()
