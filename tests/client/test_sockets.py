"""Over real sockets: what only the kernel and TLS can show."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted  # type: ignore[import-untyped]  # ships no types
from cryptography import x509
from OpenSSL import SSL
from twisted.internet import reactor, ssl
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.web.client import Agent
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from tests.upstream.certificates import Authority, ServerContext, names
from txsse import EventSource
from txsse.client import State, StreamLost
from txsse.testing import (
    CLOSE,
    HANG,
    LAST_CHUNK,
    REQUEST,
    STREAM_HEAD,
    ScriptedUpstream,
    UpstreamConnection,
    chunk,
    eventually,
    steps,
)
from txsse.testing.http import head

NAMED = head(
    "HTTP/1.1 200 OK", ["Content-Type: text/event-stream", "Transfer-Encoding: chunked", "Location: /-/streams/S", "X-Txsse-Stream: S"]
)


@pytest_twisted.async_yield_fixture()  # type: ignore[untyped-decorator]
async def server() -> AsyncIterator[ScriptedUpstream]:
    fake = ScriptedUpstream(reactor)
    await fake.open()
    yield fake
    await fake.stop()


async def test_a_post_that_breaks_again_and_again_loses_and_doubles_nothing(server: ScriptedUpstream) -> None:
    total = 200

    async def script(connection: UpstreamConnection) -> None:
        request = await connection.request()
        begin = int((request.header("last-event-id") or b"S.0").rpartition(b".")[2]) + 1
        connection.send(NAMED if request.method == b"POST" else STREAM_HEAD)
        for number in range(begin, min(begin + 37, total + 1)):
            connection.send(chunk(b"id: S.%d\nretry: 1\ndata: %d\n\n" % (number, number)))
        if begin + 37 > total:
            connection.send(LAST_CHUNK)
            return
        connection.send(chunk(b"id: S.%d\ndata: ha" % (begin + 37)))
        connection.close()

    server.script = script
    async with EventSource(server.url + "/v1/chat/completions", json={"stream": True}) as source:
        numbers = [int(event.data) async for event in source]
    assert numbers == list(range(1, total + 1))
    assert [each.method for each in server.requests].count(b"POST") == 1
    assert {each.target for each in server.requests[1:]} == {b"/-/streams/S"}


async def test_a_server_that_is_away_for_a_while_is_found_again(server: ScriptedUpstream) -> None:
    server.script = steps(REQUEST, STREAM_HEAD + chunk(b"retry: 10\nid: 1\ndata: a\n\n"), CLOSE)
    source = EventSource(server.url, reactor=reactor)
    assert (await anext(source)).data == "a"
    await server.shut()
    following = Deferred.fromCoroutine(source.__anext__())
    await eventually(reactor, lambda: source.failure is not None and "refused" in str(source.failure))
    server.script = steps(REQUEST, STREAM_HEAD + chunk(b"data: b\n\n"), HANG)
    await server.open()
    assert (await following).data == "b"
    assert server.requests[-1].header("last-event-id") == b"1"
    source.close()
    await server.connections[-1].gone()


async def test_a_lost_post_is_told(server: ScriptedUpstream) -> None:
    server.script = steps(REQUEST, STREAM_HEAD + chunk(b"data: a\n\n"), CLOSE)
    with pytest.raises(StreamLost):
        async for event in EventSource(server.url, json={}):
            assert event.data == "a"
    assert len(server.requests) == 1


async def test_cancelling_closes_the_connection(server: ScriptedUpstream) -> None:
    server.script = steps(REQUEST, STREAM_HEAD, HANG)
    source = EventSource(server.url)
    waiting = Deferred.fromCoroutine(source.__anext__())
    await eventually(reactor, lambda: source.state is State.OPEN)
    waiting.cancel()
    with pytest.raises(CancelledError):
        await waiting
    await server.connections[0].gone()


@implementer(IPolicyForHTTPS)
class Trusting:
    """Trusts one authority."""

    def __init__(self, authority: Authority) -> None:
        self._root = ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(Path(authority.ca_file).read_bytes())])

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        creator: IOpenSSLClientConnectionCreator = ssl.optionsForClientTLS(hostname.decode(), trustRoot=self._root)
        return creator


@pytest_twisted.async_yield_fixture()  # type: ignore[untyped-decorator]
async def secure(tmp_path: Path) -> AsyncIterator[tuple[ScriptedUpstream, Agent]]:
    authority = Authority(tmp_path)
    _, file = authority.issue("server", names("127.0.0.1"))
    fake = ScriptedUpstream(reactor, tls=ServerContext(file))
    await fake.open()
    yield fake, Agent(reactor, Trusting(authority))
    await fake.stop()


async def test_https(secure: tuple[ScriptedUpstream, Agent]) -> None:
    server, agent = secure
    server.script = steps(REQUEST, STREAM_HEAD + chunk(b"data: a\n\n") + LAST_CHUNK, CLOSE)
    assert [event.data async for event in EventSource(server.url, agent=agent, stop_at_end=True)] == ["a"]


async def test_a_certificate_that_cannot_be_verified_is_a_failure(secure: tuple[ScriptedUpstream, Agent]) -> None:
    server, _ = secure
    server.script = steps(HANG)
    with pytest.raises(StreamLost) as lost:
        await anext(EventSource(server.url, max_retries=0))
    reasons: Any = lost.value.reason
    assert reasons.reasons[0].check(SSL.Error)


async def test_closing_a_tls_stream_that_is_not_read_reaches_the_server(secure: tuple[ScriptedUpstream, Agent]) -> None:
    server, agent = secure

    async def flood(connection: UpstreamConnection) -> None:
        await connection.request()
        connection.send(STREAM_HEAD)
        while not connection.closed:
            await connection.writable()
            connection.send(chunk(b"data: " + b"x" * 8000 + b"\n\n") * 8)

    server.script = flood
    source = EventSource(server.url, agent=agent)
    await anext(source)
    connection = server.connections[0]
    await eventually(reactor, lambda: connection.paused)
    sent = connection.sent
    await source.aclose()
    await connection.gone()
    assert sent < 16 * 2**20


async def test_names_are_checked(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    _, file = authority.issue("server", x509.SubjectAlternativeName([x509.DNSName("other.test")]))
    server = ScriptedUpstream(reactor, steps(HANG), tls=ServerContext(file))
    await server.open()
    try:
        with pytest.raises(StreamLost):
            await anext(EventSource(server.url, agent=Agent(reactor, Trusting(authority)), max_retries=0))
    finally:
        await server.stop()
