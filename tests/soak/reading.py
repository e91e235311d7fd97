"""A client that reads one stream to its end over as many connections as it takes, and checks every event."""

from __future__ import annotations

import json
import random
import re
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from tests.integration.bench import CHAT
from tests.integration.caching import KEY
from tests.integration.nodes import NUMBERED, STREAM, words
from txsse.testing import MessageReader, Response
from txsse.testing.http import request

if TYPE_CHECKING:
    from tests.soak.schedule import Schedule

PAUSE: Final = 0.2
"""Seconds after which a client comes back."""
LATER: Final = frozenset((503, 429))
"""Statuses after which it comes back: a node that has not found its Redis yet."""

_ID: Final = re.compile(rb"id: \S+\.(\d+)\n")
_COMMENTS: Final = re.compile(rb"\A(?::[^\n]*\n?|retry:[^\n]*\n)+")
_WORD: Final = re.compile(rb'"content":"(\d+)"')


class Stream:
    """
    :param count: of its words; events are two more.
    :param owner: the node that asks for it, and which of its lives that is.
    :ivar lost_at: when its owner was killed, in reactor seconds.
    """

    def __init__(self, number: int, count: int, owner: tuple[str, int]) -> None:
        self.number = number
        self.last = count + 2
        self.body = words(count, 1, number=number)
        self.owner = owner
        self.sid = ""
        self.lost_at: float | None = None
        self.readers: list[Reader] = []


class Reader:
    """
    :ivar last: the number of the last event that came.
    :ivar wrong: what must not have happened.
    :ivar end: "done", an error code, or "" while it reads.
    :ivar ended_at: in reactor seconds.
    """

    def __init__(self, schedule: Schedule, stream: Stream) -> None:
        self.schedule = schedule
        self.stream = stream
        self.last = 0
        self.wrong: list[str] = []
        self.end = ""
        self.ended_at = 0.0
        self.connections = 0
        self.node = ""

    def read(self, node: str, *, asks: bool = False) -> None:
        """On a new connection to that node."""
        self.node = node
        self.connections += 1
        headers = [KEY, NUMBERED]
        if asks:
            data = request("POST", CHAT, self.stream.body, ["Content-Type: application/json", *headers])
        else:
            cursor = [f"Last-Event-ID: {self.stream.sid}.{self.last}"] if self.last else []
            data = request("GET", STREAM + self.stream.sid, headers=[*headers, *cursor])
        endpoint = TCP4ClientEndpoint(self.schedule.reactor, "127.0.0.1", self.schedule.port_of(node), timeout=2)
        connecting: Any = connectProtocol(endpoint, _Connection(self, data))
        connecting.addErrback(lambda failure: self.dropped())

    def began(self, response: Response) -> None:
        if response.status == 200 and not self.stream.sid:
            self.stream.sid = (response.header("x-txsse-stream") or b"").decode()
            self.schedule.begun(self.stream)

    def event(self, block: bytes) -> None:
        if b'"error":' in block:
            self._over(json.loads(block.partition(b"data: ")[2])["error"]["code"])
            return
        match = _ID.match(block)
        number = int(match[1]) if match else -1
        if number != self.last + 1:
            self.wrong.append(f"event {number} after {self.last}")
        word = _WORD.search(block)
        if word and int(word[1]) != number:
            self.wrong.append(f"word {word[1]!r} in event {number}")
        self.last = max(self.last, number)
        if b"[DONE]" in block:
            self._over("done")

    def answered(self, response: Response) -> None:
        """A whole answer has come."""
        if self.end:
            return
        if response.status == 204:
            self.wrong.append(f"told that it has all at {self.last} of {self.stream.last}")
            self._over("204")
        elif response.status in LATER:
            self.dropped()
        elif response.status != 200:
            self._over(json.loads(bytes(response.body))["error"]["code"])
        else:
            self.wrong.append(f"a clean end at {self.last} of {self.stream.last}")
            self._over("clean")

    def dropped(self) -> None:
        """The connection is lost, or could not be made."""
        if not self.end:
            self.schedule.later(PAUSE * random.uniform(0.5, 1.5), self._again)

    def _again(self) -> None:
        if not self.end and self.schedule.running:
            if self.stream.sid:
                self.read(self.schedule.any_node())
            else:
                self._over("never begun")

    def _over(self, how: str) -> None:
        if self.end:
            self.wrong.append(f"two ends: {self.end}, {how}")
            return
        self.end = how
        self.ended_at = self.schedule.reactor.seconds()
        self.schedule.read_to_its_end(self)


class _Connection(Protocol):
    transport: Any

    def __init__(self, reader: Reader, data: bytes) -> None:
        self._reader = reader
        self._data = data
        self._messages = MessageReader(Response, until_close=True)
        self._rest = b""
        self._began = False
        self._answered = False

    def connectionMade(self) -> None:
        self.transport.write(self._data)

    def dataReceived(self, data: bytes) -> None:
        body = self._messages.feed(data)
        if not self._messages.messages:
            return
        response = self._messages.messages[-1]
        if not self._began:
            self._began = True
            self._reader.began(response)
        if response.status == 200:
            response.body.clear()
            *blocks, self._rest = (self._rest + body).split(b"\n\n")
            for block in blocks:
                if event := _COMMENTS.sub(b"", block):
                    self._reader.event(event)
        if response.complete:
            self._answered = True
            self._reader.answered(response)
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self._answered:
            self._reader.dropped()
