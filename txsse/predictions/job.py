"""One prediction: its state, its events written down for whoever follows it, and what becomes of it when nobody does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs
from twisted.internet.defer import Deferred

from txsse.clock import Alarm, Alarms
from txsse.config.model import Resume
from txsse.errors import ProxyError
from txsse.predictions.reading import Reading
from txsse.recordings.numbering import number
from txsse.recordings.recording import Recording, Space
from txsse.web.events import Encoded, ServerSentEvent, encode
from txsse.web.prediction import Prediction
from txsse.webhooks.channel import Channel


@attrs.frozen
class Name:
    """What tells predictions apart: two callers may give theirs the same id.

    :param model: the name of who makes it.
    :param scope: hash of the credential that it belongs to.
    """

    model: str
    scope: bytes
    id: str


class Work(Protocol):
    """What makes the prediction. Each call is legal at any time."""

    def cancel(self) -> None:
        """Stop. The prediction then ends as ``canceled``, at once or as soon as the work lets it."""

    def pause(self) -> None:
        """Make no more for now: nobody reads."""

    def resume(self) -> None: ...


class Sharing(Protocol):
    """Tells other machines of a prediction. Nobody waits for it."""

    def append(self, event: bytes) -> None:
        """The next event, but for the last."""

    def finish(self) -> None:
        """It is over."""


class Job:
    """A prediction and its recording, of which every event but the last is a piece; the last is the prediction's document.

    :param sid: 128 random bits; the ids of its events begin with it.
    :param ended: told of its end.
    :ivar created: on the clock of *alarms*.
    :ivar background: it goes on without followers.
    :ivar sharing: set before its first event, if other machines are to know of it.
    :ivar followers: who reads its events or waits for its end.
    """

    def __init__(self, name: Name, sid: str, resume: Resume, alarms: Alarms, space: Space, ended: Callable[[Job], None]) -> None:
        self.name = name
        self.sid = sid
        self.resume = resume
        self.created = alarms.seconds()
        self.background = False
        self.followers = 0
        self.sharing: Sharing | None = None
        self.prediction = Prediction(name.id, alarms.seconds, self._tell, self._room)
        self.recording = Recording(resume.max_bytes, space)
        self._alarms = alarms
        self._space = space
        self._ended = ended
        self._work: Work | None = None
        self._webhook: Channel | None = None
        self._readings: set[Reading] = set()
        self._outcomes: set[Deferred[None]] = set()
        self._orphan: Alarm | None = None
        self._elsewhere = 0
        self._document_size = 0
        self._paused = False

    @property
    def over(self) -> bool:
        return self.prediction.over

    @property
    def first(self) -> int:
        """The number of the first event that is kept."""
        return self.recording.first

    @property
    def last(self) -> int:
        """The number of the last event that there is."""
        return self.recording.last + self.over

    @property
    def size(self) -> int:
        """Bytes of the shared memory that it takes."""
        return self.recording.size + self._document_size

    async def document(self) -> bytes:
        """As it is now."""
        return self.prediction.to_json()

    @property
    def state(self) -> str:
        """As in ``X-Stream-State``."""
        if not self.over:
            return "live"
        return "done" if self.prediction.status == "succeeded" else "error"

    # -- the work

    def works(self, work: Work) -> None:
        """*work* has begun. It may be over already."""
        self._work = work
        self._mind_the_gap()

    def let_run(self) -> None:
        """It goes on without followers, as long as it may."""
        self.background = True
        self._look_for_followers()

    def notify(self, webhook: Channel, began: dict[str, object]) -> None:
        """Tell *webhook* of what was and of what comes.

        :param began: the document before the work began.
        """
        webhook.started(lambda: began)
        if self.over:
            webhook.completed(self.prediction.document)
        else:
            self._webhook = webhook

    def cancel(self) -> None:
        """End it. Idempotent."""
        if self._work is not None and not self.over:
            self._work.cancel()

    async def end(self) -> None:
        """As :meth:`cancel`."""
        self.cancel()

    # -- followers

    def read(self, after: int, *, gap: int = 0) -> Reading:
        """Its events after that number, for one reader, who follows it until the reading is closed.

        :param gap: so many before that are gone, which is to be told instead.
        """
        reading = Reading(self, after, gap)
        self._readings.add(reading)
        self._joined()
        return reading

    async def outcome(self) -> bytes:
        """Wait for its end, for the document as it is then. Who is cancelled while waiting has left."""
        if self.over:
            return self.prediction.to_json()
        waiting: Deferred[None] = Deferred()
        self._outcomes.add(waiting)
        self._joined()
        try:
            await waiting
        finally:
            self._outcomes.discard(waiting)
            self._left()
        return self.prediction.to_json()

    def close(self, reading: Reading) -> None:
        """*reading* takes no more. Idempotent."""
        if reading in self._readings:
            self._readings.discard(reading)
            self._left()
            self._mind_the_gap()  # what was cancelled is not to go on first

    def moved(self) -> None:
        """A reading has come to the end of what there is, or has fallen behind."""
        self._mind_the_gap()

    def read_elsewhere(self, count: int) -> None:
        """So many other machines have followers of it."""
        self._elsewhere = count
        if count:
            self._not_orphaned()
        else:
            self._look_for_followers()

    def _joined(self) -> None:
        self.followers += 1
        self._not_orphaned()

    def _left(self) -> None:
        self.followers -= 1
        self._look_for_followers()

    def _look_for_followers(self) -> None:
        if not self.followers and not self._elsewhere and not self.over:
            self._abandoned()

    def _abandoned(self) -> None:
        how = "continue" if self.background else self.resume.on_disconnect
        if how == "cancel":
            self.cancel()
        else:
            self._not_orphaned()
            self._orphan = self._alarms.set(self.resume.grace if how == "grace" else self.resume.max_orphan, self.cancel)

    def _not_orphaned(self) -> None:
        orphan, self._orphan = self._orphan, None
        if orphan is not None:
            orphan.cancel()

    # -- its events

    def completed(self) -> bytes:
        """The last event."""
        return encode(ServerSentEvent(self.prediction.to_json(), "completed"))

    def place(self, after: int) -> tuple[int, int] | None:
        """After which event a new reader goes on, and how many are missing before that; ``None``: it has all, and there will be no more.

        :raises ProxyError: it has too many readers.
        """
        if self.over and after >= self.last:
            return None
        if len(self._readings) >= self.resume.max_readers:
            raise ProxyError("too_many_readers", f"This prediction has {self.resume.max_readers} readers already. Try again later.")
        gap = max(self.recording.first - 1 - after, 0)
        return min(after + gap, self.recording.last), gap

    def forget(self) -> None:
        """Give its memory back."""
        self.recording.close()
        self._space.give(self._document_size)
        self._document_size = 0

    def _tell(self, event: ServerSentEvent) -> None:
        if event.event == "completed":
            self._completed()
            return
        recording, data = self.recording, encode(event)
        if self.sharing is not None:
            self.sharing.append(data)
        live = [reading for reading in self._readings if reading.waits]
        recording.append(data, self._alarms.seconds(), needed=not live and bool(self._readings))
        if live:
            seq = recording.last
            told = Encoded(number(self.sid.encode("ascii"), seq, [data]))
            for reading in live:
                reading.tell(seq, told)
        self._mind_the_gap()
        webhook = self._webhook
        if webhook is not None and event.event == "output":
            webhook.output(self.prediction.document)
        elif webhook is not None and event.event == "log":
            webhook.logs(self.prediction.document)

    def _completed(self) -> None:
        self._not_orphaned()
        webhook, self._webhook = self._webhook, None
        if webhook is not None:
            webhook.completed(self.prediction.document)
        if self.sharing is not None:
            self.sharing.finish()
        self._ended(self)
        for reading in list(self._readings):
            reading.tell(0, None)
        for waiting in list(self._outcomes):
            waiting.callback(None)

    def _room(self, count: int) -> bool:
        if self._document_size + count > self.resume.max_bytes or not self._space.take(count):
            return False
        self._document_size += count
        return True

    def _mind_the_gap(self) -> None:
        """With nobody at its end the work has to wait, once there is enough for those who are behind."""
        work = self._work
        if work is None or self.over:
            return
        behind = bool(self._readings) and not any(reading.waits for reading in self._readings)
        enough = behind and self.recording.half_full
        if enough != self._paused:
            self._paused = enough
            (work.pause if enough else work.resume)()
