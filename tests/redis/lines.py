"""A line to a Redis that is made up."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred

from txsse.redis.connection import Reply
from txsse.redis.link import DEADLINE, Argument, Listener, Script


class FakeLine:
    """Notes which scripts are run, and answers as the test says."""

    def __init__(self) -> None:
        self.available = True
        self.channels: list[bytes] = []
        self.asked: list[tuple[Script, Sequence[Argument], Deferred[Reply]]] = []

    def run(self, script: Script, keys: Sequence[Argument], args: Sequence[Argument], deadline: float = DEADLINE) -> Deferred[Reply]:
        reply: Deferred[Reply] = Deferred()
        self.asked.append((script, args, reply))
        return reply

    def answer(self, script: Script, reply: Reply | Exception = b"ok") -> Sequence[Argument]:
        """The only question there is, which is of this kind; its arguments."""
        ((asked, args, waiting),) = self.asked
        self.asked.clear()
        assert asked is script
        if isinstance(reply, Exception):
            waiting.errback(reply)
        else:
            waiting.callback(reply)
        return args

    def subscribe(self, channel: bytes, listener: Listener) -> None:
        self.channels.append(channel)

    def unsubscribe(self, channel: bytes) -> None:
        self.channels.remove(channel)
