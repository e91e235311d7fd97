"""The web in memory: a reactor whose names and connections the test answers."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import IHostnameResolver, IReactorPluggableNameResolver, IResolutionReceiver
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from txsse.client.policy import Backoff
from txsse.clock import Alarms
from txsse.config.model import Webhooks
from txsse.testing import MessageReader, ReceivedRequest, answer
from txsse.webhooks import Sender

HTTP = "http://hooks.test/x"
EPOCH = 1_700_000_000


@implementer(IReactorPluggableNameResolver, IHostnameResolver)
class Net(MemoryReactorClock):
    """:ivar names: what the resolver says, for each look-up the next list, the last one for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.nameResolver = self
        self.names: dict[str, list[list[str]]] = {"hooks.test": [["203.0.114.5"]]}
        self.look_ups: list[str] = []
        self.silent = False  # the resolver never answers
        self.unanswered: list[IResolutionReceiver] = []

    def resolveHostName(
        self, receiver: IResolutionReceiver, hostName: str, portNumber: int = 0, addressTypes: Any = None, transportSemantics: str = "TCP"
    ) -> Any:
        self.look_ups.append(hostName)
        if self.silent:
            self.unanswered.append(receiver)
            return None
        answers = self.names.get(hostName, [[]])
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        receiver.resolutionBegan(None)  # type: ignore[arg-type]  # nobody looks at it
        for host in found:
            receiver.addressResolved((IPv6Address if ":" in host else IPv4Address)("TCP", host, portNumber))
        receiver.resolutionComplete()
        return None

    @property
    def dialled(self) -> list[tuple[str, int]]:
        return [(host, port) for host, port, *_ in self.tcpClients]

    def accept(self, number: int = -1) -> Delivery:
        """Let the connection that was asked for come about."""
        factory = self.tcpClients[number][2]
        protocol = factory.buildProtocol(None)
        return Delivery(protocol)

    def refuse(self, number: int = -1) -> None:
        factory = self.tcpClients[number][2]
        factory.clientConnectionFailed(self.connectors[number], Failure(ConnectionRefusedError()))

    def wait(self, seconds: float) -> None:
        """Let time pass in steps that leave nobody's alarm out."""
        self.pump([0.05] * round(seconds / 0.05))


class Delivery:
    """One connection, seen from the receiver."""

    def __init__(self, protocol: Any) -> None:
        self.transport = StringTransport()
        self._protocol = protocol
        protocol.makeConnection(self.transport)

    @property
    def request(self) -> ReceivedRequest:
        reader = MessageReader(ReceivedRequest, until_close=False)
        reader.feed(self.transport.value())
        (message,) = reader.messages
        assert message.complete and not reader.broken
        return message

    @property
    def document(self) -> Any:
        return json.loads(self.request.body)

    @property
    def cut(self) -> bool:
        return bool(self.transport.disconnected)

    def header(self, name: str) -> str:
        value = self.request.header(name)
        assert value is not None
        return value.decode()

    def answer(self, status: str = "200 OK", *headers: str, body: bytes = b"ok") -> None:
        self.send(answer(body, status, headers))

    def send(self, data: bytes) -> None:
        self._protocol.dataReceived(data)

    def close(self) -> None:
        self._protocol.connectionLost(Failure(ConnectionDone()))


class Post:
    """A sender, its network, and its time."""

    def __init__(self, **config: Any) -> None:
        config.setdefault("allow", ("http://hooks.test/",))
        self.net = Net()
        self.alarms = Alarms(self.net)
        self.sender = Sender(
            Webhooks(**config), self.net, self.alarms, wall=lambda: EPOCH + self.net.seconds(), backoff=Backoff(longest=60, jitter=0)
        )
        self.taken = 0

    def next(self) -> Delivery:
        """The next connection that the sender asks for."""
        assert self.taken < len(self.net.tcpClients), "nothing was sent"
        self.taken += 1
        return self.net.accept(self.taken - 1)

    @property
    def quiet(self) -> bool:
        """Nothing was sent that the test has not seen."""
        return self.taken == len(self.net.tcpClients)
