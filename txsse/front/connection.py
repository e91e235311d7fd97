"""One client connection of our own front, below HTTP: writing, waiting, noticing who does not read or has left, and closing.

What a connection holds while nothing happens is counted in bytes, for thousands wait: it has slots, one place among the sleepers for the
deadline of its phase, and anything else only as long as it is needed.
"""

from __future__ import annotations

import abc
import enum
import sys
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.interfaces import ISSLTransport

from txsse._compat import pending_bytes
from txsse.front.hangup import LEFT, RESET, HangupWatch
from txsse.front.stall import StallWatch, unacknowledged
from txsse.sockets import adopt, tune
from txsse.sockets.descriptor import Descriptor

if TYPE_CHECKING:
    from txsse.clock import Bucket
    from txsse.front.site import ProxySite

LINGER_TIME: Final = 5.0
"""Seconds for which the rest of a refused request is read and dropped, so that its sender sees the answer and not a reset."""


class Phase(enum.IntEnum):
    """Where a connection is; the order says how much it still does."""

    IDLE = enum.auto()  # between requests
    HEAD = enum.auto()
    BODY = enum.auto()
    RESPONSE = enum.auto()
    TUNNEL = enum.auto()  # no HTTP any more: what comes goes to the exchange as it is
    # From here on what comes is dropped:
    LINGER = enum.auto()  # the answer is out; the rest of the request is read and dropped
    LENT = enum.auto()  # twisted.web answers
    CLOSING = enum.auto()  # until what was written has left
    CLOSED = enum.auto()


IDLE, HEAD, BODY, RESPONSE, TUNNEL, LINGER, LENT, CLOSING, CLOSED = Phase  # looked up for each read


class Connection(abc.ABC):
    """The half of a :class:`~txsse.front.channel.ProxyChannel` that knows the transport and the clock."""

    __slots__ = (
        "__weakref__",
        "_bucket",
        "_frank",
        "_hangup",
        "_input",
        "_paused",
        "_peer",
        "_phase",
        "_secure",
        "_site",
        "_stall",
        "transport",
    )

    transport: Any  # TCP, UNIX or TLS: no interface of Twisted has all the methods these share

    def __init__(self, site: ProxySite) -> None:
        self._site = site
        self._phase = HEAD
        self._input = b""  # what has come and was not taken yet
        self._paused = False  # the transport takes no more for now
        self._secure = False
        self._frank = False  # the transport is one of ours, and says itself what is pending
        self._peer: str | None = None
        self._bucket: Bucket | None = None  # where it sleeps until the deadline of its phase; RESPONSE has none
        self._hangup: HangupWatch | None = None  # while reading is paused
        self._stall: StallWatch | None = None  # while something is unsent, and while closing

    def _take_over(self, transport: Any) -> None:
        """Use *transport* from now on, or a faster one in its place."""
        self._secure = ISSLTransport.providedBy(transport)
        tune(transport)
        self.transport = adopt(transport, self)
        self._frank = isinstance(self.transport, Descriptor)
        self.transport.registerProducer(self, True)

    def _who(self) -> str:
        """The client's address. Asked for late: behind a PROXY-protocol wrapper it is known with the first bytes."""
        if self._peer is None:
            host = getattr(self.transport.getPeer(), "host", "")
            self._peer = sys.intern(host) if isinstance(host, str) else ""  # thousands may come through one balancer
        return self._peer

    # Writing, and who does not read (Watched)

    def send(self, data: bytes) -> None:
        self.transport.write(data)
        if self._stall is not None:
            self._stall.wrote(len(data))
        elif self.transport.pending if self._frank else self.unaccepted():
            self._watch()

    def unsent(self) -> int:
        return pending_bytes(self.transport) or 0

    def unaccepted(self) -> int:
        """As :meth:`unsent`; where there is no telling, everything counts as unsent while the transport is full."""
        pending = pending_bytes(self.transport)
        if pending is None:
            return 1 if self._paused else 0
        return pending

    def unacknowledged(self) -> int:
        return unacknowledged(self.transport)

    def _watch(self) -> None:
        """Give the socket its whole patience, from now on."""
        self.settled()
        self._stall = StallWatch(self._site.alarms, self)

    def settled(self) -> None:
        if self._stall is not None:
            self._stall.stop()
            self._stall = None

    @property
    def closing(self) -> bool:
        return self._phase is CLOSING

    @property
    @abc.abstractmethod
    def patience(self) -> float: ...

    @abc.abstractmethod
    def stalled(self) -> None: ...

    # Reading, and who has left

    def _stop_listening(self) -> None:
        if self._hangup is None:
            self.transport.pauseProducing()
            # A FIN is the end of what a tunnel's client has to say, and that lies before it, still to be read.
            signs = RESET if self._phase is TUNNEL else LEFT
            self._hangup = HangupWatch(self._site.alarms, self.transport, self.drop, signs)
            self._hangup.wake()

    def _listen(self) -> None:
        if self._hangup is not None:
            self._forget_hangup()
            self.transport.resumeProducing()

    def _forget_hangup(self) -> None:
        if self._hangup is not None:
            self._hangup.stop()
            self._hangup = None

    # Time

    def _sleep(self, delay: float) -> None:
        self._sleep_no_more()
        self._bucket = self._site.alarms.enter(self, delay)

    def _sleep_no_more(self) -> None:
        if self._bucket is not None:
            self._bucket.pop(self, None)
            self._bucket = None

    @abc.abstractmethod
    def wake(self) -> None:
        """Called by the alarms: the time of the phase is over."""

    # The end

    def drop(self) -> None:
        """Reset the connection; its exchange hears that the client has gone."""
        if self._phase is not CLOSED:
            self.transport.abortConnection()

    def hang_up(self) -> None:
        """Close, after what was written has left (for which a stuck reader gets its stall timeout)."""
        if self._phase >= CLOSING:
            return
        lingered, self._phase = self._phase is LINGER, CLOSING
        self._input = b""
        self._sleep_no_more()
        self._watch()
        self._listen()  # over TLS closing waits for the client's close_notify
        if not lingered:
            # A paused producer would keep the transport from closing.
            self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _linger(self) -> None:
        """Close a connection of which there may be more to read. Closed at once, the kernel would answer that with a reset, which can
        overtake our answer (RFC 9112 section 9.6)."""
        self._phase = LINGER
        self._input = b""
        self._listen()
        self.transport.unregisterProducer()
        self._sleep(LINGER_TIME)
        if self._secure:
            # Sends close_notify after the answer, and reads on until the client's; a half-close would go to the TCP connection below.
            self.transport.loseConnection()
        elif hasattr(self.transport, "loseWriteConnection"):
            self.transport.loseWriteConnection()

    def _let_go(self) -> None:
        """Nothing is done with the transport any more, and nobody watches it."""
        self._phase = CLOSED
        self._input = b""
        self._sleep_no_more()
        self.settled()
        self._forget_hangup()
