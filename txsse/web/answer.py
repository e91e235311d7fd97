"""One event stream on its way to a client of twisted.web's."""

from __future__ import annotations

from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request

from txsse.clock import Alarm, Alarms, Bucket
from txsse.front.limits import Budget
from txsse.front.resource import WebResponse
from txsse.front.response import RESET_LOOK
from txsse.front.stall import StallWatch, unacknowledged
from txsse.web.events import KEEPALIVE, encode, failure_event
from txsse.web.pump import Room, Source, pump
from txsse.wire.headers import Headers

LINGER: Final = 0.2
"""Seconds between an error event leaving our buffer and the cut: WHATWG streams drop what is queued when they see the cut."""

_TYPE: Final = (b"Content-Type", b"text/event-stream; charset=utf-8")
_DEFAULTS: Final[Headers] = [(b"Cache-Control", b"no-cache, no-transform"), (b"X-Accel-Buffering", b"no")]


class StreamAnswer:
    """Writes what a source yields as events, with keepalives between them, until it ends, fails, or the client has left.

    It is the :class:`~txsse.interfaces.Exchange` that hears what the client does.

    :ivar patience: seconds without a byte taken by the client; this and *closing* are for the watch that counts them.
    """

    _log = Logger()
    closing = False

    def __init__(self, request: Request, alarms: Alarms, interval: float, retry: int | None, patience: float) -> None:
        self.patience = patience
        self._request = request
        self._alarms = alarms
        self._interval = interval
        self._retry = retry
        self._out = WebResponse(request, alarms, Budget(0))
        self._work: Deferred[None] | None = None
        self._resumed: Deferred[None] | None = None  # while the client is not reading
        self._over = False  # the source has ended
        self._gone = False
        self._written_at: float | None = None
        self._bucket: Bucket | None = None
        self._alarm: Alarm | None = None
        self._watch: StallWatch | None = None

    def begin(self, source: Source[object]) -> None:
        request = self._request
        self._out.stall_timeout = self.patience
        head = [_TYPE, *(field for field in _DEFAULTS if not request.responseHeaders.hasHeader(field[0]))]
        self._out.start(200, b"OK", head, has_body=request.method != b"HEAD")
        self._out.attend(self)
        self._work = Deferred.fromCoroutine(pump(source, self._take)).addCallbacks(self._complete, self._failed)
        if self._gone:
            self._work.cancel()
        elif not self._over:
            self._keep_alive()

    def _keep_alive(self) -> None:
        if self._written_at is None:
            self._write(KEEPALIVE)  # many that buffer between here and the client pass on no head without a byte of the body
        self._bucket = self._alarms.enter(self, self._interval)

    def _take(self, item: object) -> Room:
        if self._gone:
            raise CancelledError  # the source was told, and goes on
        data = encode(item, self._retry)
        self._retry = None
        self._write(data)
        return self._resumed

    def _write(self, data: bytes) -> None:
        self._written_at = self._alarms.seconds()
        if self._watch is None:
            self._out.write(data)
        else:
            before = self._out.pending()
            self._out.write(data)
            self._watch.wrote(self._out.pending() - before)  # with its framing, which len(data) lacks

    # The end of the source

    def _complete(self, _: None) -> None:
        self._over = True
        if not self._gone:
            self._stop()
            self._out.finish()

    def _failed(self, failure: Failure) -> None:
        self._over = True
        if self._gone:
            if not failure.check(CancelledError):
                self._log.failure("the source of an event stream failed when it was closed", failure)
            return
        self._log.failure("the source of an event stream failed", failure)
        self._stop()
        self._write(encode(failure_event(type(failure.value).__name__)))
        self._look_after()
        self._part()

    def _part(self) -> None:
        """Cut the connection when the client can have read all."""
        if self._out.pending():
            self._alarm = self._alarms.set(RESET_LOOK, self._part)
        else:
            self._alarm = self._alarms.set(LINGER, self._cut)

    def _cut(self) -> None:
        self._stop()
        self._out.cut()

    def _stop(self) -> None:
        """Nothing ticks any more."""
        if self._bucket is not None:
            self._bucket.pop(self, None)
            self._bucket = None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    # Silence

    def wake(self) -> None:
        """Called by the alarms: say something if nothing was said for so long. The alarm is not moved with every event."""
        now = self._alarms.seconds()
        assert self._written_at is not None
        if self._out.pending():
            self._look_after()
        elif self._resumed is None and now - self._written_at >= self._interval:
            self._write(KEEPALIVE)
        left = self._written_at + self._interval - now
        self._bucket = self._alarms.enter(self, left if left > 0 else self._interval)

    # The client: the response calls

    def client_paused(self) -> None:
        self._resumed = Deferred()
        self._look_after()

    def client_resumed(self) -> None:
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.callback(None)

    def client_gone(self) -> None:
        self._gone = True
        self._stop()
        if self._work is not None:
            self._work.cancel()

    # The client's patience: the watch calls

    def client_stalled(self) -> None:
        self._out.abort()
        self.client_gone()

    stalled = client_stalled

    def _look_after(self) -> None:
        if self._watch is None:
            self._watch = StallWatch(self._alarms, self)

    def settled(self) -> None:
        self._watch = None

    def unaccepted(self) -> int:
        # Not every transport tells how much it holds; that it is full all of them do.
        return self._out.pending() or int(self._resumed is not None)

    def unacknowledged(self) -> int:
        return unacknowledged(getattr(self._request.channel, "transport", None))
