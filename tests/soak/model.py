"""The backend of a soak: a word a second on every stream, whatever becomes of the others."""

from __future__ import annotations

import json
from collections import deque
from typing import Any, Final

from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from tests.integration.bench import DONE
from tests.integration.caching import STOP, says
from txsse.testing import LAST_CHUNK, STREAM_HEAD, MessageReader, ReceivedRequest, chunk

TICKS: Final = 20
"""A second: each stream speaks at one of them."""


class Model:
    """
    :ivar asked: requests so far.
    """

    def __init__(self, reactor: Any, port: int) -> None:
        self.asked = 0
        self._turns: deque[dict[_Answer, None]] = deque({} for _ in range(TICKS))
        factory = Factory.forProtocol(lambda: _Answer(self))
        factory.noisy = False
        self._port = reactor.listenTCP(port, factory, backlog=1024, interface="127.0.0.1")
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = reactor
        self._ticking.start(1 / TICKS)

    def begin(self, answer: _Answer) -> None:
        self.asked += 1
        min(self._turns, key=len)[answer] = None

    def leave(self, answer: _Answer) -> None:
        for turn in self._turns:
            turn.pop(answer, None)

    async def stop(self) -> None:
        self._ticking.stop()
        for turn in self._turns:
            for answer in list(turn):
                answer.transport.abortConnection()
        await self._port.stopListening()

    def _tick(self) -> None:
        self._turns.rotate()
        for answer in list(self._turns[0]):
            answer.speak()


class _Answer(Protocol):
    """A connection to the model."""

    transport: Any

    def __init__(self, model: Model) -> None:
        self._model = model
        self._reader = MessageReader(ReceivedRequest, until_close=False)
        self._answered = 0
        self._words = self._told = 0

    def dataReceived(self, data: bytes) -> None:
        self._reader.feed(data)
        requests = [each for each in self._reader.messages if each.complete]
        if len(requests) > self._answered:
            self._answered += 1
            self._words, self._told = json.loads(bytes(requests[-1].body))["count"], 0
            self.transport.write(STREAM_HEAD)
            self._model.begin(self)

    def speak(self) -> None:
        self._told += 1
        if self._told <= self._words:
            self.transport.write(chunk(says(str(self._told))))
        else:
            self.transport.write(chunk(STOP) + chunk(DONE) + LAST_CHUNK)
            self._model.leave(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._model.leave(self)
