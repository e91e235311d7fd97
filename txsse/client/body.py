"""Bodies of responses: an event stream that is read no faster than it is consumed, and the beginning of anything else."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss

from txsse._compat import abort_body
from txsse.client.reading import Comment
from txsse.wire.eventstream import Event, EventTooLong

HIGH_WATER: Final = 64 * 1024  # bytes whose events nobody has taken: from there on nothing more is read
EXCERPT: Final = 4096  # bytes of a body that is no event stream


class Reader(Protocol):
    """What turns bytes into events: a decoder, with or without the comments."""

    @property
    def last_event_id(self) -> str: ...

    @property
    def retry(self) -> int | None: ...

    def feed(self, data: bytes) -> Sequence[Event | Comment]: ...


class EventBody(TwistedProtocol):
    """The body of one response, as items that are waiting to be taken.

    At most :data:`HIGH_WATER`, one read and one event are kept. The transport is read again when everything was taken and somebody asks for
    :meth:`more`.

    :ivar heard: there was at least one byte.
    :ivar ended: nothing more comes; what is in ``items`` does still count.
    :ivar reason: why, unless that was the end of the body as its framing says.
    """

    transport: Any  # the web client's proxy of one

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.items: deque[Event | Comment] = deque()
        self.heard = False
        self.ended = False
        self.reason: Exception | None = None
        self._kept = 0  # bytes since the items were all taken
        self._paused = False
        self._waiting: Deferred[None] | None = None

    def take(self) -> Event | Comment:
        """The next item; there has to be one."""
        item = self.items.popleft()
        if not self.items:
            self._kept = 0
        return item

    def more(self) -> Deferred[None]:
        """Fires when anything has come, be it no whole item, and at the end. To be asked when nothing is left, and not after the end."""
        waiting: Deferred[None] = Deferred(self._forget)
        self._waiting = waiting
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()
        return waiting

    def fail(self, reason: Exception | None) -> None:
        """End it for this *reason*: the connection is reset."""
        self.ended, self.reason = True, reason
        abort_body(self.transport)
        self._wake()

    def abort(self) -> None:
        """Reset the connection; nobody is told."""
        self.ended = True
        self._waiting = None  # its coroutine may be the one that calls, at its very end
        abort_body(self.transport)

    def dataReceived(self, data: bytes) -> None:
        if self.ended:  # TLS hands over what it has decrypted
            return
        self.heard = True
        try:
            self.items.extend(self.reader.feed(data))
        except EventTooLong as error:
            self.fail(error)
            return
        self._kept += len(data)
        self._wake()
        if not self.items:
            self._kept = 0
        elif self._kept >= HIGH_WATER and not self._paused and not self.ended:
            self._paused = True
            self.transport.pauseProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        # PotentialDataLoss: a body without a length, which ends with the connection.
        clean = reason.check(ResponseDone, PotentialDataLoss)
        if not self.ended:
            self.ended = True
            self.reason = None if clean or not isinstance(reason.value, Exception) else reason.value
            self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def _forget(self, _: Deferred[None]) -> None:
        self._waiting = None


class Excerpt(TwistedProtocol):
    """The first :data:`EXCERPT` bytes of a body.

    :ivar complete: fires when there are so many, or no more, whatever the reason.
    """

    transport: Any

    def __init__(self) -> None:
        self.complete: Deferred[None] = Deferred()
        self._received = bytearray()

    @property
    def data(self) -> bytes:
        return bytes(self._received[:EXCERPT])

    def abort(self) -> None:
        abort_body(self.transport)

    def dataReceived(self, data: bytes) -> None:
        self._received += data[:EXCERPT]
        if len(self._received) >= EXCERPT:
            self.connectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.complete.called:
            self.complete.callback(None)
