"""Many streams on three nodes behind one Redis, while the nodes are killed in turn: who loses what?"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThread

from tests.integration.nodes import Nodes
from tests.soak.reading import Reader, Stream

LIVES: Final = (5, 30)
"""Words of a stream: seconds that it takes."""
READERS: Final = 3
LEASE: Final = 10.0
GRACE: Final = 60.0
"""Seconds that streams have to end after the last node was killed."""


class Schedule:
    """
    :param streams: at a time.
    :param seconds: for which nodes are killed, one every *interval*.
    """

    def __init__(self, reactor: Any, nodes: Nodes, names: str, streams: int, seconds: float, interval: float) -> None:
        self.reactor = reactor
        self.running = True
        self.kills = 0
        self.over: list[Stream] = []
        self._nodes = nodes
        self._names = names
        self._wanted = streams
        self._seconds = seconds
        self._interval = interval
        self._lives = Counter(dict.fromkeys(names, 1))
        self._up = set(names)
        self._streams: dict[int, Stream] = {}
        self._number = 0
        self._filling = True

    # -- for readers

    def port_of(self, node: str) -> int:
        return self._nodes.port_of(node)

    def any_node(self) -> str:
        return random.choice(sorted(self._up))

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        self.reactor.callLater(seconds, call)

    def begun(self, stream: Stream) -> None:
        """It has an id: the others may read it."""
        for reader in stream.readers[1:]:
            self.later(random.uniform(0, 2), lambda reader=reader: reader.read(self.any_node()))  # type: ignore[misc]

    def read_to_its_end(self, reader: Reader) -> None:
        stream = reader.stream
        if all(each.end for each in stream.readers) or not stream.sid:
            self._streams.pop(stream.number, None)
            if stream.sid:
                self.over.append(stream)

    # -- the schedule

    async def run(self) -> None:
        filling = LoopingCall(self._fill)
        filling.clock = self.reactor
        filling.start(0.05)
        await self._pause(5 + self._wanted / 400)
        end = self.reactor.seconds() + self._seconds
        while self.reactor.seconds() < end:
            began = self.reactor.seconds()
            await self._kill(random.choice(self._names))
            await self._pause(max(0.0, began + self._interval - self.reactor.seconds()))
        filling.stop()
        self._filling = False
        end = self.reactor.seconds() + GRACE
        while self._streams and self.reactor.seconds() < end:
            await self._pause(0.1)
        self.running = False
        self.over += self._streams.values()

    def _fill(self) -> None:
        """Up to the wanted number, not all in one moment."""
        for _ in range(min(self._wanted - len(self._streams), 1 + self._wanted // 80)):
            owner = self.any_node()
            self._number += 1
            stream = Stream(self._number, random.randint(*LIVES), (owner, self._lives[owner]))
            stream.readers = [Reader(self, stream) for _ in range(READERS)]
            self._streams[self._number] = stream
            stream.readers[0].read(owner, asks=True)

    async def _kill(self, name: str) -> None:
        self._up.discard(name)
        await self._nodes.kill(name)
        self.kills += 1
        now = self.reactor.seconds()
        for stream in self._streams.values():
            if stream.owner == (name, self._lives[name]):
                stream.lost_at = now
        self._lives[name] += 1
        await deferToThread(self._nodes.start, name)
        self._up.add(name)

    def _pause(self, seconds: float) -> Deferred[None]:
        return deferLater(self.reactor, seconds, lambda: None)
