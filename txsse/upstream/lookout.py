"""Looks at an upstream again and again, for as long as anybody is interested in what it finds out.

At any time at most one thing is under way: a probe, or the wait for what comes next (the following probe, the end of ``ready_after``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, TypeAlias

import attrs
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse.config import model
from txsse.upstream.state import Event

BACK_OFF: Final = 1.5
PATIENCE: Final = 600.0  # seconds of waiting after which a far upstream is asked more rarely still
PATIENT_INTERVAL: Final = 5.0

_log = Logger()


@attrs.frozen
class Verdict:
    """What one probe found out.

    :param loading: it answers, but says that it is not ready yet.
    :param hopeless: waiting does not mend it: it is there, and its certificate is not to be trusted.
    :param detail: why it is not ready: a name and a class only, fit for a client ("connection refused", "HTTP 503").
    """

    ready: bool
    loading: bool = False
    detail: str = ""
    hopeless: bool = False

    @property
    def event(self) -> Event:
        if self.ready:
            return Event.PROBE_PASSED
        return Event.PROBE_LOADING if self.loading else Event.PROBE_FAILED


Ask: TypeAlias = Callable[[], Deferred[Verdict]]


def look(probe: Ask, timeout: float, clock: IReactorTime) -> Deferred[Verdict]:
    """One look, of *timeout* seconds at most. The verdict always comes; of a look that was cancelled it says nothing."""
    looking = maybeDeferred(probe)
    looking.addTimeout(timeout, clock)
    looking.addErrback(_as_verdict)
    return looking


def _as_verdict(failure: Failure) -> Verdict:
    if failure.check(TimeoutError):
        return Verdict(False, detail="timed out")
    # A cancelled probe's verdict is heard by nobody. Anything else is a mistake in the probe, which must not end the waiting.
    if not failure.check(CancelledError):
        _log.failure("a probe failed in a way of its own", failure)
    return Verdict(False, detail=type(failure.value).__name__)


class Lookout:
    """Probes one upstream, at a pace.

    :param probe: starts one look; cancelling its Deferred must stop it at once.
    :param config: ``interval`` (from start to start), ``max_interval``, ``timeout`` and ``ready_after``, in seconds.
    :param loopback: the upstream is on this machine: it is asked each ``interval``, however long that goes on.
    :param heard: told of each verdict; one that says ready comes ``ready_after`` late, and is the last. After any other it calls
        :meth:`go_on`, or nothing more comes.
    """

    def __init__(self, clock: IReactorTime, probe: Ask, config: model.Probe, loopback: bool, heard: Callable[[Verdict], None]) -> None:
        self._clock = clock
        self._probe = probe
        self._config = config
        self._loopback = loopback
        self._tell = heard
        self._probing: Deferred[Verdict] | None = None
        self._next: IDelayedCall | None = None
        self._asked = -math.inf  # when the last probe started, or a loading answer came in its stead
        self._pace = config.interval
        self._round_began = 0.0

    def begin_round(self) -> None:
        """The pace is quick again: somebody has begun to wait, or what was ready no longer is."""
        self._pace = self._config.interval
        self._round_began = self._clock.seconds()

    def answered(self) -> None:
        """An answer that came another way was as good as a probe's."""
        self._asked = self._clock.seconds()

    def go_on(self) -> None:
        """Have the next probe come, if nothing is under way."""
        if self._probing is None and self._next is None:
            # Never two probes within the interval, also when clients come and go quickly or dispatches are refused in turn.
            due = self._asked + self._pace
            self._next = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._look)

    def stop(self) -> None:
        """Nobody is interested any more. What a probe under way finds out is not heard. Idempotent."""
        upcoming, self._next = self._next, None
        if upcoming is not None:
            upcoming.cancel()
        probing, self._probing = self._probing, None
        if probing is not None:
            probing.cancel()

    def _look(self) -> None:
        self._next = None
        self._asked = self._clock.seconds()
        self._probing = probing = look(self._probe, self._config.timeout, self._clock)
        probing.addCallback(self._heard, probing)

    def _heard(self, verdict: Verdict, probing: Deferred[Verdict]) -> None:
        if probing is not self._probing:
            return
        self._probing = None
        if verdict.ready and self._config.ready_after:
            self._next = self._clock.callLater(self._config.ready_after, self._lasted, verdict)
        else:
            self._tell(verdict)
            self._slow_down()

    def _lasted(self, verdict: Verdict) -> None:
        self._next = None
        self._tell(verdict)

    def _slow_down(self) -> None:
        """A far upstream is asked more and more rarely; the probe already due keeps its time."""
        if self._loopback:
            return
        longest = self._config.max_interval
        if self._clock.seconds() - self._round_began >= PATIENCE:
            self._pace = longest = max(longest, PATIENT_INTERVAL)
        self._pace = max(self._config.interval, min(self._pace * BACK_OFF, longest))
