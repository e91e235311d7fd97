"""Requests for our own pages on a listener of the proxy: read by our front, answered by twisted.web.

The complete request is written out once more for a connection of twisted.web's own, which takes over the transport and closes it
after its answer. The bounds and deadlines of our front hold until then; flow control and the client's leaving are twisted.web's after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.internet.main import CONNECTION_DONE
from twisted.python.failure import Failure

from txsse.interfaces import Request
from txsse.wire.headers import end_to_end, without
from txsse.wire.http1 import RequestHead


class Pages:
    """Whose requests are not the proxy's: told by their head, before their body is read.

    Whether a client may see a page is for the page to say: the proxy is not asked.

    :param factory: a ``twisted.web.server.Site``, such as ``Site(app.resource())`` of a Klein application.
    :param is_ours: true of the head of a request for a page.
    :param under: what all their paths begin with; of other requests *is_ours* is not asked.
    """

    def __init__(self, factory: IProtocolFactory, is_ours: Callable[[RequestHead], object], *, under: bytes = b"") -> None:
        self._factory = factory
        self.is_ours = is_ours
        self.under = under

    def welcome(self, transport: Any) -> Guest:
        """Somebody on *transport* asks for a page. From here on *transport* is used by nobody else."""
        protocol = self._factory.buildProtocol(transport.getPeer())
        assert protocol is not None  # a Site takes everybody
        return Guest(protocol, transport)


class Guest:
    """One connection of twisted.web's behind one of ours, to which it is an :class:`~txsse.interfaces.Exchange`."""

    __slots__ = ("_protocol", "_transport")

    def __init__(self, protocol: IProtocol, transport: Any) -> None:
        self._protocol = protocol
        self._transport = transport

    def answer(self, request: Request) -> None:
        self._protocol.makeConnection(self._transport)
        self._protocol.dataReceived(written_out(request))

    def client_gone(self) -> None:
        self._protocol.connectionLost(Failure(CONNECTION_DONE))

    def client_paused(self) -> None:
        """Told by the transport itself, as the two below would be."""

    def client_resumed(self) -> None: ...

    def client_stalled(self) -> None: ...


def written_out(request: Request) -> bytes:
    """A request in bytes, as the last one of its connection: in origin form, with a body of known length and nothing left to expect."""
    head = request.head
    lines = [b"%b %b %b" % (head.method, request.path, head.version), b"Connection: close"]
    if request.host:
        lines.append(b"Host: " + request.host)
    lines += [b"%b: %b" % field for field in without(end_to_end(head.headers), (b"host", b"expect"))]
    if head.sized or head.chunked:
        lines.append(b"Content-Length: %d" % len(request.body))
    return b"\r\n".join((*lines, b"", request.body))
