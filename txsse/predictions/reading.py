"""One reader's way through the events of a prediction: what is written down first, then what comes, then the last one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred

from txsse.recordings.numbering import number
from txsse.web.events import Encoded, ServerSentEvent, encode
from txsse.wire.eventstream import comment

if TYPE_CHECKING:
    from txsse.config.model import Resume
    from txsse.predictions.job import Job

MOST_AT_ONCE: Final = 16 * 1024
"""Bytes of events that a reader who is behind is handed at a time."""


class Reading(AsyncIterator[Encoded]):
    """Made by :meth:`txsse.predictions.job.Job.read`. Who iterates closes it.

    :param after: the number of the last event that the reader has, and *gap*: of how many before that it is to be told that they are gone.
    :ivar waits: it has all that there is.
    """

    def __init__(self, job: Job, after: int, gap: int) -> None:
        self.waits = False
        self._job = job
        self._after = after
        self._gap = gap
        self._over = False
        self._news: Deferred[Encoded | None] | None = None

    async def __anext__(self) -> Encoded:
        while (events := self._next()) is None:
            if self._over:
                raise StopAsyncIteration
            news = self._news = Deferred()
            self.waits = True
            self._job.moved()
            told = await news
            if told is not None:
                return told
        return events

    async def aclose(self) -> None:
        self._over = True
        self._job.close(self)

    def tell(self, seq: int, event: Encoded | None) -> None:
        """What is new is handed to who waits, for it may not be written down; *event* is number *seq*, ``None``: look for yourself."""
        news, self._news = self._news, None
        if news is not None:
            self.waits = False
            self._after = seq if event is not None else self._after
            news.callback(event)

    def _next(self) -> Encoded | None:
        """What is to be sent next; ``None``: nothing yet, or (``_over``) any more."""
        job, sid = self._job, self._job.sid.encode("ascii")
        if self._over:
            return None
        if self._gap:
            return self._tell_gap()
        try:
            pieces = job.recording.pieces(self._after, MOST_AT_ONCE)
        except LookupError:
            first = job.recording.first
            self._gap, self._after = first - 1 - self._after, first - 1
            return self._tell_gap()
        if pieces:
            begin, self._after = self._after + 1, self._after + len(pieces)
            return Encoded(number(sid, begin, pieces))
        if not job.over:
            return None
        self._over = True
        return Encoded(number(sid, job.last, [job.completed()]))

    def _tell_gap(self) -> Encoded:
        gap, self._gap = self._gap, 0
        job = self._job
        self._over = job.resume.on_gap == "error"
        return Encoded(tell_gap(job.resume, job.sid, gap, self._after))


def tell_gap(resume: Resume, sid: str, gap: int, after: int) -> bytes:
    """That so many events up to number *after* are gone. With ``on_gap = "error"`` it is the last that a reader is told."""
    if resume.on_gap == "skip":
        return comment(f'txsse {{"gap":{gap}}}')
    text = "SSE stream replay truncated; events were dropped"  # as replicate/cog says it
    return encode(ServerSentEvent({"error": text, "code": "replay_truncated", "skipped": gap, "first": f"{sid}.{after + 1}"}, "error"))
