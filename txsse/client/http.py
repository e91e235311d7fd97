"""treq, set up for streams: bodies as they are, in one piece with the head, and no connection kept for later."""

from __future__ import annotations

from typing import Any

import attrs
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IConsumer
from twisted.web.client import Agent, RequestGenerationFailed, RequestTransmissionFailed, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

_WRAPPERS = (RequestGenerationFailed, RequestTransmissionFailed, ResponseFailed)


def client_of(agent: IAgent | None, reactor: Any) -> HTTPClient:
    """A treq client with cookies of its own. Without an *agent*, one whose connections are used once and verify TLS as a browser does."""
    return HTTPClient(_Uncompressed(Agent(reactor) if agent is None else agent), data_to_body_producer=Content)


def is_cancelled(error: BaseException) -> bool:
    """Was the request cancelled? The Agent wraps that in an exception of its own where the connection was made already."""
    if isinstance(error, CancelledError):
        return True
    return isinstance(error, _WRAPPERS) and any(reason.check(CancelledError) for reason in error.reasons)


def is_unsent(error: Exception | None) -> bool:
    """Is it certain that the server has seen nothing of the request?"""
    return isinstance(error, (ConnectError, DNSLookupError))


@implementer(IAgent)
@attrs.frozen
class _Uncompressed:
    """Takes back treq's ``Accept-Encoding: gzip``: what compresses keeps events back until it has enough of them."""

    _agent: IAgent

    def request(
        self, method: bytes, uri: bytes, headers: Headers | None = None, bodyProducer: IBodyProducer | None = None
    ) -> Deferred[IResponse]:
        fields = Headers() if headers is None else headers.copy()
        fields.setRawHeaders(b"Accept-Encoding", [b"identity"])
        return self._agent.request(method, uri, fields, bodyProducer)


@implementer(IBodyProducer)
class Content:
    """A request's body, written at once. (treq's own writes in a later turn of the global reactor.)"""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.length = len(content)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._content)
        return succeed(None)

    def pauseProducing(self) -> None:
        pass

    def resumeProducing(self) -> None:
        pass

    def stopProducing(self) -> None:
        pass
