"""One try to deliver a webhook: a connection of its own, no redirects, no cookies, a bounded time, an exact abort."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import attrs
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.error import DNSLookupError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, RequestTransmissionFailed, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from txsse import __version__
from txsse.client.http import Content, is_cancelled
from txsse.client.policy import retry_after
from txsse.upstream.endpoints import ConnectFailed
from txsse.webhooks.allow import Destination
from txsse.webhooks.endpoint import TLS, AddressRefused, CheckedEndpoint

BODY_LIMIT: Final = 64 * 1024
"""Bytes of an answer's body that are read, and forgotten: many servers complain about a client that leaves in the middle of it."""
BODY_PATIENCE: Final = 1.0
"""Seconds for that; the webhook is delivered already."""


@attrs.frozen
class Setback:
    """A try that failed.

    :param why: for the log: no address, nothing of the peer's own words.
    :param again: it may go better another time.
    :param retry_after: seconds, if the server named them.
    """

    why: str
    again: bool = True
    retry_after: float = 0.0


async def post(
    reactor: Any, destination: Destination, tls: TLS, fields: Iterable[tuple[str, str]], body: bytes, timeout: float
) -> Setback | None:
    """POST *body*, JSON. ``None``: it is delivered, that is, answered with a 2xx. When this ends, the connection is gone.

    :param fields: besides what any such request has.
    :param timeout: seconds until the head of the answer has come.
    """
    endpoint = CheckedEndpoint(reactor, destination, tls, timeout)
    # The plain Agent: what treq adds (cookies, redirects, gzip) would have to be taken away again.
    asking: Deferred[IResponse] = Agent.usingEndpointFactory(reactor, endpoint).request(
        b"POST", destination.url.encode("ascii"), _head(fields), Content(body)
    )
    try:
        response = await asking.addTimeout(timeout, reactor, onTimeoutCancel=_late)
        setback = judge(response)
        await _read_rest(response, reactor)
        return setback
    except TimeoutError:
        return Setback("no answer in time")
    except AddressRefused:
        return Setback("its host has no address that is allowed", again=False)
    except DNSLookupError:
        return Setback("host name not found")
    except (ConnectFailed, ResponseFailed, RequestTransmissionFailed) as failed:
        if is_cancelled(failed):
            raise CancelledError from None
        return Setback(str(failed) if isinstance(failed, ConnectFailed) else "connection closed without a usable answer")
    finally:
        endpoint.cut()


def judge(response: IResponse) -> Setback | None:
    """What became of it, by the head of the answer: only 429 and 5xx are worth another try."""
    status = response.code
    if 200 <= status < 300:
        return None
    wait = retry_after(response.headers) or 0.0
    return Setback(f"HTTP {status}", again=status == 429 or status >= 500, retry_after=wait)


def _late(result: object, seconds: float) -> Failure:
    return Failure(TimeoutError())


def _head(fields: Iterable[tuple[str, str]]) -> Headers:
    head = Headers({"User-Agent": [f"txsse/{__version__}"], "Content-Type": ["application/json"], "Accept-Encoding": ["identity"]})
    for name, value in fields:
        head.addRawHeader(name, value)
    return head


async def _read_rest(response: IResponse, reactor: Any) -> None:
    rest = _Rest()
    response.deliverBody(rest)
    await rest.over.addTimeout(BODY_PATIENCE, reactor, onTimeoutCancel=lambda result, seconds: None)


class _Rest(Protocol):
    """Counts a body's bytes up to the limit."""

    def __init__(self) -> None:
        self.over: Deferred[None] = Deferred()
        self._count = 0

    def dataReceived(self, data: bytes) -> None:
        self._count += len(data)
        if self._count >= BODY_LIMIT:
            self._end()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end()

    def _end(self) -> None:
        if not self.over.called:
            self.over.callback(None)
