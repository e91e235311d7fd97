"""Ask for one page: a connection of its own, no cookies, no redirects, a bounded body, an exact abort. For probes and wake steps.

Imports treq and the web client, which is half of the proxy's import time: imported itself only when the first probe asks a page.
"""

from __future__ import annotations

from typing import Any, Final

import attrs
from treq.client import HTTPClient
from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, RequestTransmissionFailed, ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers as WebHeaders
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from txsse.interfaces import Failed, Fault
from txsse.upstream.endpoints import ConnectFailed, Target, connect
from txsse.upstream.presets import Answer
from txsse.upstream.tls_errors import tls_reason
from txsse.wire.headers import Headers, end_to_end, get, without

BODY_LIMIT: Final = 64 * 1024  # bytes of an answer that are read; the rest is not waited for


class FetchFailed(Exception):
    """There was a connection, and no usable answer on it; the text says why without addresses or the peer's own words."""


async def fetch(
    reactor: Any, target: Target, path: str, headers: Headers, timeout: float, method: str = "GET", content: bytes = b""
) -> Answer:
    """Ask for *path*; when this returns, fails or is cancelled, the connection is gone.

    :param headers: sent besides our own; a Host among them replaces the target's.
    :param timeout: seconds to connect. There is no limit for the rest: the caller cancels.
    :param content: the request's body.
    :raises ConnectFailed: it did not come to a connection, or TLS failed on it: a server may refuse us as late as that.
    :raises FetchFailed: it did not come to a complete answer.
    """
    leash = _Leash(reactor, target, timeout)
    client = HTTPClient(Agent.usingEndpointFactory(reactor, leash))
    body = _Body()
    try:
        response = await client.request(
            method,
            f"http://localhost{path}",  # the leash knows where to connect, and the Host field is ours
            headers=_request_fields(target.authority, headers),
            data=content or None,
            allow_redirects=False,
            unbuffered=True,
            reactor=reactor,
        )
        response.deliverBody(body)
        return Answer(response.code, await body.complete)
    except (ResponseFailed, RequestTransmissionFailed) as failed:
        reasons = [each.value for each in failed.reasons]
        if any(isinstance(each, CancelledError) for each in reasons):
            raise CancelledError from None  # so the Agent wraps the cancelling of a request without a response head
        for each in reasons:
            if (why := tls_reason(each)) is not None:
                raise ConnectFailed(Failed(Fault.INVALID, "TLS: " + why)) from failed
        raise FetchFailed(_explain(reasons)) from failed
    finally:
        # The Agent leaves a cancelled body's connection open (twisted#8227), and one over TLS waits for its peer's goodbye.
        leash.cut()


def _explain(reasons: list[BaseException]) -> str:
    closed = any(isinstance(each, error.ConnectionClosed) for each in reasons)
    return "connection closed before the end of the answer" if closed else "invalid answer"


def _request_fields(authority: bytes, own: Headers) -> WebHeaders:
    # The Agent writes what it is given next to its own framing fields.
    own = without(end_to_end(own), (b"content-length",))
    fields = WebHeaders({b"User-Agent": [b"txsse-probe"], b"Accept": [b"*/*"]})
    if get(own, b"host") is None:
        fields.addRawHeader(b"Host", authority)
    for name, _ in own:
        fields.removeHeader(name)
    for name, value in own:
        fields.addRawHeader(name, value)
    return fields


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
@attrs.define(eq=False)
class _Leash:
    """An endpoint that remembers whom it connected, so that the connection can be reset whatever the Agent does with it."""

    _reactor: Any
    _target: Target
    _timeout: float
    _protocol: Any = None

    def endpointForURI(self, uri: object) -> _Leash:
        return self

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        connecting: Deferred[Any] = connect(self._reactor, self._target, lambda: protocolFactory.buildProtocol(None), self._timeout)
        return connecting.addCallback(self._hold)

    def _hold(self, protocol: Any) -> Any:
        self._protocol = protocol
        return protocol

    def cut(self) -> None:
        """Reset the connection, if there is one and it is still open."""
        if self._protocol is not None:
            self._protocol.transport.abortConnection()


class _Body(Protocol):
    """Collects a body up to the limit."""

    def __init__(self) -> None:
        self.complete: Deferred[bytes] = Deferred()
        self._received = bytearray()

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        if len(self._received) >= BODY_LIMIT:
            self._finish()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if reason.check(ResponseDone, PotentialDataLoss):
            self._finish()
        elif not self.complete.called:
            self.complete.errback(reason)

    def _finish(self) -> None:
        if not self.complete.called:
            self.complete.callback(bytes(self._received[:BODY_LIMIT]))
