"""One connection to a Redis, spoken by txredisapi and parsed by hiredis. Only :mod:`txsse.redis.link` imports this, when it is needed.

Of txredisapi only the protocol is used. Its pool waits for a connection without an end, takes any certificate for good, and its
subscribers do not subscribe again after a loss; what keeps a connection up is :mod:`txsse.redis.connection`.
"""

from __future__ import annotations

from collections.abc import Callable

import hiredis  # without it txredisapi makes a reactor call for each string in a reply: 75 ms instead of 4 ms for 2,000 stream entries
import txredisapi
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

assert txredisapi.hiredis is hiredis


class CommandProtocol(txredisapi.RedisProtocol):  # type: ignore[misc]  # txredisapi has no types
    """Replies are bytes as they came, numbers, ``None`` and lists of these.

    :param lost: called once when the connection is gone.
    """

    def __init__(self, lost: Callable[[], None]) -> None:
        super().__init__(charset=None, convertNumbers=False)
        self._lost = lost

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        try:
            super().dataReceived(data)
        except txredisapi.InvalidData:  # it is no Redis
            self.transport.abortConnection()

    def connectionLost(self, why: Failure = connectionDone) -> None:
        self._lost()  # first: what fails now must not be tried again here
        super().connectionLost(why)


class SubscriberProtocol(CommandProtocol):
    """The same for a connection that subscribes: every command has one reply, and messages come in between.

    :param heard: called with the channel and the message.
    """

    def __init__(self, lost: Callable[[], None], heard: Callable[[bytes, bytes], None]) -> None:
        super().__init__(lost)
        self._heard = heard

    def replyReceived(self, reply: object) -> None:
        if isinstance(reply, list) and len(reply) == 3 and reply[0] == b"message":
            self._heard(reply[1], reply[2])
        else:
            super().replyReceived(reply)
