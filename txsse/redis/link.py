"""Our line to a Redis: commands, each with a deadline, and channels to listen to.

The line is a circuit breaker. While there is no connection that answers, commands fail at once. Several deadlines missed in a row, or a
server that cannot be written to, end the connection; the next one is in use once something could be written, and the pauses between
attempts grow until a command succeeds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import sha1
from typing import TYPE_CHECKING, Any, Final, Protocol

from twisted.internet.defer import Deferred, fail, gatherResults
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse._without_tls import show_tls
from txsse.clock import Alarms
from txsse.config.errors import Refused
from txsse.redis.connection import REFUSED, Connection, Reply
from txsse.redis.errors import UNUSABLE, CommandRefused, Unavailable, code_of, words_of
from txsse.redis.url import read_redis_url
from txsse.upstream.endpoints import Target

if TYPE_CHECKING:
    from types import ModuleType

DEADLINE: Final = 1.0
"""Seconds for a command."""

MOST_MISSED: Final = 3
"""Deadlines missed in a row, with no reply in between and within :data:`DEADLINE`, after which the connection is given up."""

COMPLAINT_INTERVAL: Final = 60.0
"""Seconds between two lines in the log about what Redis refuses."""

PING_INTERVAL: Final = 3.0
"""Seconds between questions on the connection that only listens; it must answer one before the next."""

_UNKNOWN_SCRIPT: Final = "NOSCRIPT"

MISSING: Final = "a store of kind redis needs txredisapi and hiredis: pip install 'txsse[redis]'"

Argument = bytes | str | int


class Listener(Protocol):
    """Who listens to a channel."""

    def subscribed(self) -> None:
        """From now on everything is heard. Called again after every loss: what was said before was not heard."""

    def heard(self, message: bytes) -> None:
        """A message. Some may be lost, without a sign of it."""


class Script:
    """A Lua script, which Redis runs in one go."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = sha1(text.encode(), usedforsecurity=False).hexdigest()


class RedisLink:
    """
    :param url: of the Redis (:func:`txsse.redis.url.read_redis_url`).
    :param reactor: as :func:`txsse.upstream.endpoints.connect` wants it.
    :param ca_file: PEM file of the authorities that may certify a ``rediss://`` host; "" means the system's. Its name is always checked.
    :param changed: called when the line comes up, with "", and when it breaks, with the reason.
    :raises Refused: the URL or the file is wrong, or the extra is not installed.
    :ivar timeouts: commands that missed their deadline so far.
    :ivar refusals: how many Redis has refused so far, by :func:`~txsse.redis.errors.code_of` what it said.
    """

    _log = Logger()

    def __init__(self, url: str, reactor: Any, *, ca_file: str = "", changed: Callable[[str], None] = lambda why: None) -> None:
        where = read_redis_url(url)
        target = Target.parse(where.endpoint, ca_file=ca_file)
        protocol = _load_protocol()
        self.timeouts = 0
        self.refusals: Counter[str] = Counter()
        self._changed = [changed]
        self._reactor = reactor
        self._alarms = Alarms(reactor)
        self._listeners: dict[bytes, Listener] = {}
        self._missed = 0
        self._pending = 0  # commands on the connection that have no reply
        self._alive = 0.0  # when it had none, or a reply came
        self._complaint = -math.inf  # when the last one was
        self._commands = Connection(reactor, target, where, protocol.CommandProtocol, self._commands_changed)
        self._channels = Connection(
            reactor, target, where, lambda lost: protocol.SubscriberProtocol(lost, self._heard), self._channels_changed
        )
        self._pinging = LoopingCall(self._ping)
        self._pinging.clock = reactor
        self._pinged: Deferred[object] | None = None

    def start(self) -> None:
        self._commands.start()
        self._channels.start()
        self._pinging.start(PING_INTERVAL, now=False).addErrback(lambda failure: self._log.failure("the ping failed", failure))

    def close(self) -> Deferred[None]:
        """Fires when both connections are closed; what is under way fails. Idempotent."""
        if self._pinging.running:
            self._pinging.stop()
        self._listeners.clear()
        closed = gatherResults([self._commands.stop(), self._channels.stop()])
        return closed.addCallback(lambda _: self._alarms.stop())

    @property
    def available(self) -> bool:
        """There is a connection that answers, as far as we know."""
        return self._commands.protocol is not None

    @property
    def trouble(self) -> str:
        """Why it cannot be used; "" while it can."""
        return self._commands.trouble

    def watch(self, changed: Callable[[str], None]) -> None:
        """Tell one more of every change; see *changed* above."""
        self._changed.append(changed)

    def command(self, *args: Argument, deadline: float = DEADLINE) -> Deferred[Reply]:
        """The reply to a command; text is sent as UTF-8. Commands are answered in the order in which they were sent.

        May be cancelled: the reply is ignored.

        :param deadline: seconds.
        :raises Unavailable: through the Deferred.
        :raises CommandRefused: through the Deferred.
        """
        speaker = self._commands.protocol
        if speaker is None:
            return fail(Unavailable("there is no connection to Redis"))
        result: Deferred[Reply] = Deferred()

        def late() -> None:
            # If it was us who stood still the reply is there and not yet read: that is done before the next call.
            self._reactor.callLater(0, too_late)

        def too_late() -> None:
            if result.called:
                return
            self.timeouts += 1
            result.errback(Unavailable(f"Redis did not answer within {deadline:g} s"))
            if speaker is self._commands.protocol:
                self._missed += 1
                if self._missed >= MOST_MISSED and self._reactor.seconds() - self._alive >= DEADLINE:
                    self._commands.drop()

        def answered(reply: Reply) -> None:
            self._sign_of_life()
            self._commands.useful()
            alarm.cancel()
            if not result.called:
                result.callback(reply)

        def failed(failure: Failure) -> None:
            refused = _refusal(failure)
            if refused is not None:
                self._sign_of_life()
                self._refused(str(refused))
            alarm.cancel()
            if not result.called:
                result.errback(refused or Unavailable("the connection to Redis was lost"))

        alarm = self._alarms.set(deadline, late)
        if not self._pending:
            self._alive = self._reactor.seconds()
        self._pending += 1
        speaker.execute_command(*args).addCallbacks(answered, failed)
        return result

    def _sign_of_life(self) -> None:
        self._missed = 0
        self._pending -= 1
        self._alive = self._reactor.seconds()

    def _refused(self, words: str) -> None:
        if words.startswith(_UNKNOWN_SCRIPT):
            return
        code = code_of(words)
        self.refusals[code] += 1
        if code in UNUSABLE:
            for connection in (self._commands, self._channels):
                connection.drop(REFUSED + words)
        elif self._reactor.seconds() - self._complaint >= COMPLAINT_INTERVAL:
            self._complaint = self._reactor.seconds()
            self._log.warn("Redis refuses what it is sent ({words})", words=words)

    def run(self, script: Script, keys: Sequence[Argument], args: Sequence[Argument], deadline: float = DEADLINE) -> Deferred[Reply]:
        """As :meth:`command`, for a script; only the first time its text is sent."""
        running = self.command("EVALSHA", script.digest, len(keys), *keys, *args, deadline=deadline)

        def unknown(failure: Failure) -> Deferred[Reply]:
            if failure.check(CommandRefused) and failure.getErrorMessage().startswith(_UNKNOWN_SCRIPT):
                return self.command("EVAL", script.text, len(keys), *keys, *args, deadline=deadline)
            return fail(failure)

        return running.addErrback(unknown)

    def subscribe(self, channel: bytes, listener: Listener) -> None:
        """One listener a channel."""
        self._listeners[channel] = listener
        self._tell("SUBSCRIBE", channel, listener)

    def unsubscribe(self, channel: bytes) -> None:
        """Idempotent."""
        if self._listeners.pop(channel, None) is not None and self._channels.protocol is not None:
            self._channels.protocol.execute_command("UNSUBSCRIBE", channel).addErrback(_ignore)

    def _tell(self, command: str, channel: bytes, listener: Listener) -> None:
        def confirmed(_: Reply) -> None:
            if self._listeners.get(channel) is listener:
                listener.subscribed()

        if self._channels.protocol is not None:
            self._channels.protocol.execute_command(command, channel).addCallbacks(confirmed, self._unheard)

    def _unheard(self, failure: Failure) -> None:
        if (refused := _refusal(failure)) is not None:
            self._refused(str(refused))

    def _heard(self, channel: bytes, message: bytes) -> None:
        listener = self._listeners.get(channel)
        if listener is not None:
            listener.heard(message)

    def _commands_changed(self, reason: str) -> None:
        self._missed = self._pending = 0
        if reason:
            self._log.warn("Redis cannot be used ({reason}): this process goes on by itself", reason=reason)
        else:
            self._log.info("Redis is there")
        for each in self._changed:
            each(reason)

    def _channels_changed(self, reason: str) -> None:
        self._pinged = None
        if not reason:
            self._channels.useful()
            for channel, listener in list(self._listeners.items()):
                self._tell("SUBSCRIBE", channel, listener)

    def _ping(self) -> None:
        speaker = self._channels.protocol
        if speaker is None:
            return
        if self._pinged is not None and not self._pinged.called:
            self._channels.drop()
            return
        self._pinged = speaker.execute_command("PING").addErrback(_ignore)


def _load_protocol() -> ModuleType:
    show_tls()  # txredisapi imports it, whatever the URL says
    try:
        from txsse.redis import protocol
    except ImportError as error:
        if error.name not in ("txredisapi", "hiredis"):
            raise
        raise Refused(MISSING) from None
    return protocol


def _refusal(failure: Failure) -> CommandRefused | None:
    """What Redis itself said; ``None``: the connection is lost."""
    error = failure.value
    return CommandRefused(words_of(error)) if type(error).__name__ == "ResponseError" else None


def _ignore(failure: Failure) -> None:
    """The connection is lost; whoever was to be told is told of the next one."""
