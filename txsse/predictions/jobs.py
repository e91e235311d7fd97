"""The predictions of a process: by name for those who ask again, until they are forgotten.

One is kept while it runs and for ``resume.ttl`` afterwards. Of one that is forgotten only its name is remembered for a while, so that
"it is gone" can be told from "there never was one".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from txsse.clock import Alarm, Alarms
from txsse.config.model import Resume
from txsse.errors import ProxyError
from txsse.predictions.job import Job, Name
from txsse.recordings.recording import Space

if TYPE_CHECKING:
    from txsse.predictions.elsewhere import Elsewhere

PER_JOB: Final = 4096
"""Bytes that one takes besides its events and its document, as its memory is reckoned."""
REMEMBERED: Final = 600.0
"""Seconds for which the name of a forgotten one is remembered."""
MOST_REMEMBERED: Final = 10_000


class Jobs:
    """
    :param elsewhere: knows of those of other processes.
    :ivar bytes_used: by those that are over: what can be given back.
    """

    def __init__(self, alarms: Alarms, space: Space, elsewhere: Elsewhere | None = None) -> None:
        self.bytes_used = 0
        self.alarms = alarms
        self.elsewhere = elsewhere
        self._space = space
        self._jobs: dict[Name, Job] = {}
        self._by_sid: dict[str, Job] = {}
        self._over: dict[Name, tuple[int, Alarm]] = {}  # the first one to end first: bytes, and when it is forgotten
        self._gone: dict[Name | str, float] = {}  # names and sids

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs.values())

    def find(self, name: Name) -> Job | None:
        return self._jobs.get(name)

    def get(self, name: Name) -> Job:
        """
        :raises ProxyError: there is none for this caller, or it is gone.
        """
        return self._jobs.get(name) or self.missing(name)

    def of_sid(self, sid: str, model: str, scope: bytes) -> Job | None:
        """The one whose events have ids that begin with *sid*, if it belongs to this caller."""
        job = self._by_sid.get(sid)
        return job if job is not None and (job.name.model, job.name.scope) == (model, scope) else None

    def missing(self, name: Name | str) -> Job:
        """Of a prediction, or of events whose ids begin so.

        :raises ProxyError: there is none, or it is gone: it is never made anew.
        """
        if self._gone.get(name, 0.0) > self.alarms.seconds():
            raise ProxyError("stream_gone", "This prediction is not kept any more. To make it again, send its input without a cursor.")
        raise ProxyError("stream_not_found", "Prediction not found")

    def make(self, name: Name, resume: Resume, sid: str) -> Job:
        """A new one.

        :param sid: what the ids of its events are to begin with.
        :raises ProxyError: there is no memory for it.
        """
        if not self._space.take(PER_JOB):
            raise ProxyError("at_capacity", "At capacity - no memory for another prediction. Try again later.")
        job = Job(name, sid, resume, self.alarms, self._space, self._ended)
        self._jobs[name] = self._by_sid[job.sid] = job
        return job

    def drop(self, job: Job) -> None:
        """It was never begun."""
        if job.name in self._over:
            self.forget(job.name)
        else:
            self._remove(job)
        self._gone.pop(job.name, None)

    def _ended(self, job: Job) -> None:
        size = job.size + PER_JOB
        self.bytes_used += size
        self._over[job.name] = (size, self._forget_later(job))

    def _forget_later(self, job: Job) -> Alarm:
        return self.alarms.set(job.resume.ttl, lambda: self._expire(job))

    def _expire(self, job: Job) -> None:
        """Its time is up; but who is in the middle of it may read it to its end."""
        if job.followers:
            self._over[job.name] = (self._over[job.name][0], self._forget_later(job))
        else:
            self.forget(job.name)

    def forget(self, name: Name) -> None:
        """Keep its name only. Its readers keep what they have of it."""
        size, alarm = self._over.pop(name)
        alarm.cancel()
        self.bytes_used -= size
        job = self._jobs[name]
        self._remove(job)
        while len(self._gone) >= MOST_REMEMBERED:
            del self._gone[next(iter(self._gone))]
        self._gone[name] = self._gone[job.sid] = self.alarms.seconds() + REMEMBERED

    def _remove(self, job: Job) -> None:
        del self._jobs[job.name], self._by_sid[job.sid]
        job.forget()
        self._space.give(PER_JOB)

    def evict(self) -> None:
        """Give memory back: that of the one that has been over longest, of those that nobody reads now if there are any."""
        unread = (name for name in self._over if not self._jobs[name].followers)
        self.forget(next(unread, None) or next(iter(self._over)))
