"""Delivers webhooks: so many at a time, so many bytes waiting, and the one that tells of the end more than once if it must be."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any, Final
from weakref import WeakValueDictionary

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse.client.policy import Backoff
from txsse.clock import Alarms
from txsse.config.model import Webhooks
from txsse.config.webhooks import signing_keys
from txsse.webhooks.allow import AllowList
from txsse.webhooks.channel import Channel, read_events
from txsse.webhooks.endpoint import TLS
from txsse.webhooks.letter import OVERHEAD, Letter, head_fields
from txsse.webhooks.post import Setback, post

FIRST_PAUSE: Final = 0.5
"""Seconds after the first failure; they double with each."""
LONGEST_PAUSE: Final = 60.0
"""Seconds up to which they do."""
LONGEST_RETRY_AFTER: Final = 600.0
"""Seconds that a server can ask us to stay away."""
LAST_PAUSE: Final = 1.0
"""Seconds between tries while we are about to end."""

_NO_TIME: Final = Setback("there was no more time", again=False)


class Sender:
    """All webhooks of a process.

    :param config: the table ``[webhooks]``.
    :param reactor: provides IReactorTCP, IReactorTime and IReactorPluggableNameResolver.
    :param alarms: shared with everybody else who waits.
    :param wall: seconds since the epoch.
    :raises Refused: of :mod:`txsse.config.errors`: an entry or a secret cannot be read.
    """

    _log = Logger()

    def __init__(
        self,
        config: Webhooks,
        reactor: Any,
        alarms: Alarms,
        *,
        wall: Callable[[], float] = time.time,
        backoff: Backoff | None = None,
    ) -> None:
        self.alarms = alarms
        self.closing = False
        self._reactor = reactor
        self._wall = wall
        self._backoff = backoff or Backoff(longest=LONGEST_PAUSE)
        self._queued = 0  # bytes of letters that were taken and not yet delivered
        self._running: set[Deferred[None]] = set()
        self._pauses: set[Deferred[None]] = set()  # before another try
        self._minor: set[Deferred[Setback | None]] = set()  # tries that nobody waits for at the end
        self._closed = False
        self._idle: Deferred[None] | None = None
        self.configure(config)

    def configure(self, config: Webhooks) -> None:
        """Take a (new) configuration. Channels that are open keep their destination.

        :raises Refused: of :mod:`txsse.config.errors`; nothing has changed then.
        """
        allow, keys, tls = AllowList(config.allow), signing_keys(config.secret.reveal()), TLS(config.ca_file)
        self._allow, self._keys, self._tls, self._config = allow, keys, tls, config
        self._turns = DeferredSemaphore(config.max_concurrency)
        self._turns_at: WeakValueDictionary[str, DeferredSemaphore] = WeakValueDictionary()  # by origin

    # -- for whoever makes predictions

    def check(self, url: object) -> None:
        """Look at the member ``webhook`` of a request before its prediction is made.

        :raises WebhookRefused: it must not be, with the reason for a 422.
        """
        self._allow.find(url)

    def prediction(self, url: object, events: object, ident: str) -> Channel:
        """A channel for one prediction.

        :param url: the member ``webhook`` of the request.
        :param events: the member ``webhook_events_filter``; ``None`` if there is none.
        :param ident: the prediction's id, of which the log shows the beginning.
        :raises WebhookRefused: one of the two cannot be.
        """
        return Channel(self, self._allow.find(url), read_events(events), ident)

    def close(self, deadline: float) -> Deferred[None]:
        """Send what tells of an end, also what comes in meanwhile, and nothing else. Whatever waits for another try is tried at once.

        Fires when all is delivered or given up, or after *deadline* seconds: then it is dropped. Nothing is sent afterwards.
        """
        return Deferred.fromCoroutine(self._close(deadline))

    async def _close(self, deadline: float) -> None:
        self.closing = True
        for pause in [*self._pauses]:
            pause.callback(None)
        for trying in [*self._minor]:
            trying.cancel()
        if self._running:
            idle = self._idle = Deferred()
            await idle.addTimeout(deadline, self._reactor, onTimeoutCancel=lambda result, seconds: None)
            self._idle = None
        self._closed = True
        for running in [*self._running]:
            running.cancel()

    # -- for channels (Office)

    @property
    def interval(self) -> float:
        return self._config.interval

    @property
    def max_body(self) -> int:
        return self._config.max_body

    def take(self, letter: Letter) -> bool:
        if self._closed or (self.closing and not letter.is_last):
            return False
        if self._queued + letter.size + OVERHEAD > self._config.max_queued:
            self._give_up(letter, "too many are waiting")
            return False
        self._queued += letter.size + OVERHEAD
        return True

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        running = Deferred.fromCoroutine(work)
        self._running.add(running)
        running.addErrback(self._failed)
        running.addBoth(self._ended, running)

    def _failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("a webhook failed in a way of its own", failure)

    def _ended(self, _: object, running: Deferred[None]) -> None:
        self._running.discard(running)
        if self._idle is not None and not self._running and not self._idle.called:
            self._idle.callback(None)

    async def deliver(self, letter: Letter) -> None:
        failures = 0
        try:
            while (setback := await self._try(letter)) is not None:
                failures += 1
                if not letter.is_last or not setback.again or failures >= self._config.max_attempts:
                    self._give_up(letter, setback.why, failures)
                    return
                await self._pause(failures, setback.retry_after)
        except CancelledError:
            self._give_up(letter, _NO_TIME.why, failures + 1)
            raise
        finally:
            self._queued -= letter.size + OVERHEAD

    async def _try(self, letter: Letter) -> Setback | None:
        origin, config = letter.destination.origin, self._config
        turns, turns_there = self._turns, self._turns_at.get(origin)
        if turns_there is None:
            turns_there = self._turns_at[origin] = DeferredSemaphore(max(1, config.max_concurrency // 2))
        async with turns_there, turns:
            if self._closed or (self.closing and not letter.is_last):
                return _NO_TIME
            letter.sent = self.alarms.seconds()
            body = letter.content()
            fields = head_fields(letter.id, int(self._wall()), body, self._keys)
            trying = Deferred.fromCoroutine(post(self._reactor, letter.destination, self._tls, fields, body, config.timeout))
            if not letter.is_last:
                self._minor.add(trying)
            try:
                return await trying
            except CancelledError:
                if self._closed or letter.is_last:
                    raise
                return _NO_TIME
            finally:
                self._minor.discard(trying)

    async def _pause(self, failures: int, retry_after: float) -> None:
        seconds = self._backoff.delay(FIRST_PAUSE, failures, min(retry_after, LONGEST_RETRY_AFTER))
        waiting: Deferred[None] = Deferred()
        alarm = self.alarms.set(min(seconds, LAST_PAUSE) if self.closing else seconds, lambda: waiting.callback(None))
        self._pauses.add(waiting)
        try:
            await waiting
        finally:
            alarm.cancel()
            self._pauses.discard(waiting)

    def _give_up(self, letter: Letter, why: str, tries: int = 0) -> None:
        say = self._log.warn if letter.is_last else self._log.info
        say(
            "webhook {event} of prediction {name} to {origin} is lost after {tries} tries: {why}",
            event=letter.event, name=letter.name, origin=letter.destination.origin, tries=tries, why=why,
        )  # fmt: skip
