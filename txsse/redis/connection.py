"""Keeping one connection to a Redis up: connect, log in, see whether it answers, and again from the beginning when it is lost."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from txsse.redis.errors import RedisError, Unavailable, words_of
from txsse.redis.url import RedisURL
from txsse.upstream.endpoints import ConnectFailed, Target, connect

LONGEST_LOGIN: Final = 2.0
"""Seconds for all of it: name, TCP, TLS, user, database, and one write."""

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 2.0
"""Seconds between two attempts; each pause is twice as long as the one before, give or take a quarter."""

REFUSED: Final = "it refused us: "
"""What its own words come after."""

Reply: TypeAlias = "bytes | int | list[Reply] | None"


class Speaker(Protocol):
    """What :mod:`txsse.redis.protocol` offers."""

    transport: Any

    def execute_command(self, *args: bytes | str | int) -> Deferred[Reply]: ...


S = TypeVar("S", bound=Speaker)


class Connection:
    """
    :param build: makes a protocol; its argument is to be called when that is gone.
    :param changed: called with "" when the connection is up, and with the reason when it is lost or could not be made: each reason once
        until it is up again.
    :ivar protocol: that of the connection, while it is up.
    :ivar trouble: why it is not; "" while it is.
    """

    def __init__(
        self, reactor: Any, target: Target, url: RedisURL, build: Callable[[Callable[[], None]], Speaker], changed: Callable[[str], None]
    ) -> None:
        self.protocol: Speaker | None = None
        self.trouble = "not yet connected"
        self._reactor = reactor
        self._target = target
        self._url = url
        self._build = build
        self._changed = changed
        self._attempt: Deferred[Speaker] | None = None
        self._pause: IDelayedCall | None = None
        self._pauses = 0  # since it was last of use
        self._told: set[str] = set()  # why it is not up; each reason once
        self._current: Speaker | None = None  # up or logging in
        self._why = ""  # it was dropped
        self._stopped: Deferred[None] | None = None

    def start(self) -> None:
        self._pause = None
        self._attempt = Deferred.fromCoroutine(self._log_in())
        self._attempt.addTimeout(LONGEST_LOGIN, self._reactor, _too_slow).addCallbacks(self._up, self._failed)

    def useful(self) -> None:
        """It has done what it is for: the next pause is a short one."""
        self._pauses = 0

    def drop(self, why: str = "") -> None:
        """It is no good: have done with it, and make another one after a pause."""
        if self.protocol is not None:
            self._why = self._why or why
            self.protocol.transport.abortConnection()

    def stop(self) -> Deferred[None]:
        """Fires when the connection is closed. Idempotent."""
        if self._stopped is None:
            self._stopped = Deferred()
            if self._pause is not None:
                self._pause.cancel()
            if self._attempt is not None:
                self._attempt.cancel()
            elif self._current is not None:
                self._current.transport.loseConnection()
            self._closed()
        stopped: Deferred[None] = Deferred()
        self._stopped.addCallback(lambda _: stopped.callback(None))
        return stopped

    async def _log_in(self) -> Speaker:
        speaker: Speaker = await connect(self._reactor, self._target, lambda: self._build(self._lost), LONGEST_LOGIN)  # type: ignore[type-var]  # txredisapi's protocol is an IProtocol that does not say so
        self._current = speaker
        try:
            if self._url.password or self._url.username:
                name = [self._url.username] if self._url.username else []
                await speaker.execute_command("AUTH", *name, self._url.password.reveal())
            if self._url.database:
                await speaker.execute_command("SELECT", self._url.database)
            await speaker.execute_command("UNLINK", "txsse:hello")  # a server that cannot be written to is of no use
        except BaseException:
            speaker.transport.abortConnection()
            raise
        return speaker

    def _up(self, speaker: Speaker) -> None:
        self._attempt = None
        self.protocol = speaker
        self.trouble = ""
        self._told.clear()
        self._changed("")

    def _failed(self, failure: Failure) -> None:
        self._attempt = None
        if self._stopped is None:
            self._tell(_reason(failure))
            self._again()
        self._closed()

    def _lost(self) -> None:
        self._current = None
        if self.protocol is not None:  # else the attempt fails, and says so
            why, self._why = self._why or "connection lost", ""
            self.protocol = None
            if self._stopped is None:
                self._tell(why)
                self._again()
        self._closed()

    def _again(self) -> None:
        pause = min(FIRST_PAUSE * 2**self._pauses, LONGEST_PAUSE) * random.uniform(0.75, 1.25)
        self._pauses = min(self._pauses + 1, 16)
        self._pause = self._reactor.callLater(pause, self.start)

    def _tell(self, reason: str) -> None:
        self.trouble = reason
        if reason not in self._told:
            self._told.add(reason)
            self._changed(reason)

    def _closed(self) -> None:
        if self._stopped is not None and self._attempt is None and self._current is None and not self._stopped.called:
            self._stopped.callback(None)


def _too_slow(_: object, seconds: float) -> Failure:
    return Failure(Unavailable(f"no answer within {seconds:g} s"))


def _reason(failure: Failure) -> str:
    """Why there is no connection, in a line without addresses or secrets."""
    if failure.check(CancelledError):
        return "stopped"
    if failure.check(ConnectFailed, RedisError):
        return failure.getErrorMessage()
    return REFUSED + words_of(failure.value)
