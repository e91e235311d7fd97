"""What is told of one prediction, and when: in order, each state once, and no more often than somebody wants to read it."""

from __future__ import annotations

from collections import deque
from collections.abc import Coroutine, Iterable
from typing import Any, Final, Protocol, cast

from txsse.clock import Alarm, Alarms
from txsse.webhooks.allow import Destination, WebhookRefused
from txsse.webhooks.letter import EVENTS, Document, Event, Letter, body_of

_NAME: Final = 8  # characters of a prediction's id that stand in a log: whoever knows all of them may read it


class Office(Protocol):
    """Where a channel hands in its letters. Implemented by :class:`txsse.webhooks.sender.Sender`."""

    alarms: Alarms

    @property
    def interval(self) -> float:
        """Seconds between two updates."""

    @property
    def max_body(self) -> int:
        """Bytes of one body."""

    @property
    def closing(self) -> bool:
        """Only what tells of the end is still sent."""

    def take(self, letter: Letter) -> bool:
        """Whether there is room for it; if so, :meth:`deliver` must follow."""

    async def deliver(self, letter: Letter) -> None:
        """Returns when it is delivered, or given up."""

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Start it, and look after it."""


class Channel:
    """Tells one URL of one prediction. A webhook leaves when the one before it was delivered or given up, so none overtakes another.

    Whoever runs the prediction calls the methods below when something has happened, as often as it does, with a function that makes the
    document (:meth:`txsse.web.prediction.Prediction.document`). Made by :meth:`txsse.webhooks.sender.Sender.prediction`.
    """

    def __init__(self, office: Office, destination: Destination, events: frozenset[Event], ident: str) -> None:
        self._office = office
        self._destination = destination
        self._events = events
        self._name = ident[:_NAME] + ("…" if len(ident) > _NAME else "")
        self._letters: deque[Letter] = deque()  # start and completed: these are sent whatever happens
        self._update: tuple[Event, Document] | None = None  # what waits for its time; a newer one takes its place
        self._earliest = 0.0  # reactor seconds from which on an update may be sent
        self._alarm: Alarm | None = None
        self._busy = False
        self._over = False

    def started(self, document: Document) -> None:
        """The prediction has begun. *document* is called at once.

        :raises TypeError, ValueError: JSON has no form for it.
        """
        self._write("start", document)

    def output(self, document: Document) -> None:
        """There is more output. *document* is called when the webhook leaves, which may be later and once for many calls."""
        self._note("output", document)

    def logs(self, document: Document) -> None:
        """There is more of the log. As :meth:`output`, and together with it: the document has both."""
        self._note("logs", document)

    def completed(self, document: Document) -> None:
        """The prediction is over, and nothing is told of it after this. *document* is called at once, and no update waits any more.

        :raises TypeError, ValueError: JSON has no form for it.
        """
        if "completed" in self._events:
            self._update = None
        self._write("completed", document)
        self._over = True

    def _write(self, event: Event, document: Document) -> None:
        if self._over or event not in self._events:
            return
        body = body_of(document(), self._office.max_body)
        letter = Letter(self._destination, event, self._name, lambda: body, len(body))
        if self._office.take(letter):
            self._letters.append(letter)
            self._go()

    def _note(self, event: Event, document: Document) -> None:
        if not self._over and event in self._events:
            self._update = (event, document)
            if self._alarm is None:
                self._go()

    def _go(self) -> None:
        if not self._busy:
            self._busy = True
            self._office.run(self._send())

    async def _send(self) -> None:
        try:
            while (letter := self._next()) is not None:
                await self._office.deliver(letter)
                self._earliest = letter.sent + self._office.interval
        finally:
            self._busy = False

    def _next(self) -> Letter | None:
        """What is to be sent now. For an update that must wait, the alarm is set."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._letters:
            return self._letters.popleft()
        if self._update is None or self._office.closing:
            return None
        wait = self._earliest - self._office.alarms.seconds()
        if wait > 0:
            self._alarm = self._office.alarms.set(wait, self._ring)
            return None
        (event, document), self._update = self._update, None
        letter = Letter(self._destination, event, self._name, lambda: body_of(document(), self._office.max_body))
        return letter if self._office.take(letter) else None

    def _ring(self) -> None:
        self._alarm = None
        self._go()


def read_events(value: object) -> frozenset[Event]:
    """The member ``webhook_events_filter`` of a request; without one (``None``) all events.

    :raises WebhookRefused: it is not a list of their names.
    """
    if value is None:
        return frozenset(EVENTS)
    if not isinstance(value, list) or not all(isinstance(each, str) and each in EVENTS for each in value):
        raise WebhookRefused(f"webhook_events_filter is not a list of some of: {', '.join(EVENTS)}.")
    return frozenset(cast(Iterable[Event], value))
