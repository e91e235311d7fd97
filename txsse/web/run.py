"""A handler at work: what it yields becomes the output of a prediction."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse.logs import shown
from txsse.web.prediction import Prediction
from txsse.web.pump import Room, Source, pump


class Run:
    """Takes one chunk after the other from a handler, and ends the prediction when there is none, it fails, or it was cancelled.

    :param room: asked after each chunk when there is room for the next; without it always.
    """

    _log = Logger()

    def __init__(self, prediction: Prediction, room: Callable[[], Room] = lambda: None) -> None:
        self.prediction = prediction
        self._room = room
        self._work: Deferred[None] | None = None
        self._cancelled = False
        self._waiting: list[Deferred[None]] = []

    def begin(self, chunks: Source[object]) -> None:
        """Go to work."""
        self._work = Deferred.fromCoroutine(pump(chunks, self._take)).addCallbacks(self._complete, self._failed)
        if self._cancelled:
            self._work.cancel()

    def cancel(self) -> None:
        """End it as ``canceled``. An async generator sees ``CancelledError`` where it awaits (``GeneratorExit`` where it yields), and may
        await in its ``finally``; the run is over after that. Idempotent, and legal after the end."""
        self._cancelled = True
        if self._work is not None:
            self._work.cancel()

    def finished(self) -> Deferred[None]:
        """Fires when the run is over, however it ended; each call makes one. To cancel it does not cancel the run."""
        waiting: Deferred[None] = Deferred()
        if self.prediction.over:
            waiting.callback(None)
        else:
            self._waiting.append(waiting)
        return waiting

    def _take(self, chunk: object) -> Room:
        if self._cancelled:
            raise CancelledError  # the handler was told, and goes on
        self.prediction.output(chunk)
        return self._room()

    def _complete(self, _: None) -> None:
        self.prediction.end("canceled" if self._cancelled else "succeeded")
        self._tell()

    def _failed(self, failure: Failure) -> None:
        told = self._cancelled and failure.check(CancelledError) is not None
        if not told:
            self._log.failure("run {id} failed", failure, id=shown(self.prediction.id))
        if self._cancelled:
            self.prediction.end("canceled")
        else:
            self.prediction.end("failed", str(failure.value) or type(failure.value).__name__)
        self._tell()

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)
