"""One page of an upstream over real sockets: what is sent, what is read, and that nothing stays open."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IOpenSSLContextFactory
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import Request, Site
from zope.interface import implementer

from txsse.testing import CLOSE, HANG, REQUEST, RESET, ScriptedUpstream, answer, eventually, steps
from txsse.upstream.endpoints import ConnectFailed, Target
from txsse.upstream.fetch import BODY_LIMIT, FetchFailed, fetch
from txsse.upstream.presets import Answer
from txsse.wire.headers import Headers

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"


def get(target: Target, path: str = "/health", headers: Headers | None = None) -> Deferred[Answer]:
    return Deferred.fromCoroutine(fetch(reactor, target, path, headers or [], 2.0))


@implementer(IOpenSSLContextFactory)
@attrs.frozen
class ServerContext:
    """What listenSSL takes."""

    context: SSL.Context

    def getContext(self) -> SSL.Context:
        return self.context


@pytest.fixture
def identity(tmp_path: Path) -> tuple[str, ServerContext]:
    """A certificate for 127.0.0.1: its PEM file for the client, the context for the server."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "probe test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "ca.pem"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    context = SSL.Context(SSL.TLS_METHOD)
    context.use_certificate(certificate)
    context.use_privatekey(key)
    return str(file), ServerContext(context)


async def test_it_reads_status_and_body_of_a_real_server() -> None:
    class Health(Resource):
        isLeaf = True

        def render_GET(self, request: Request) -> bytes:
            request.setResponseCode(503)
            return b"%s %s" % (request.uri, request.getHeader(b"host"))

    port: Any = reactor.listenTCP(0, Site(Health()), interface="127.0.0.1")  # type: ignore[arg-type]  # Site's base has no types
    try:
        number = port.getHost().port
        seen = await get(Target.parse(f"http://127.0.0.1:{number}"), "/health?deep=1")
        assert seen == Answer(503, b"/health?deep=1 127.0.0.1:%d" % number)
    finally:
        await port.stopListening()


async def test_the_request_carries_the_upstreams_own_fields_once_and_no_hop_by_hop_ones() -> None:
    upstream = ScriptedUpstream(reactor, steps(REQUEST, answer(), HANG))
    await upstream.open()
    own: Headers = [
        (b"Authorization", b"Bearer s3cret"),
        (b"user-agent", b"ours/1"),
        (b"Content-Length", b"5"),
        (b"Connection", b"X-Hop"),
        (b"X-Hop", b"1"),
        (b"Host", b"models.example"),
    ]
    await get(Target.parse(upstream.url), headers=own)
    (sent,) = upstream.requests
    assert sent.header_all("authorization") == [b"Bearer s3cret"]
    assert sent.header_all("user-agent") == [b"ours/1"]
    assert sent.header_all("host") == [b"models.example"]
    assert sent.header_all("connection") == [b"close"]
    assert sent.header_all("content-length") == sent.header_all("x-hop") == []
    await upstream.stop()


async def test_a_redirect_is_an_answer_and_is_not_followed_and_no_cookie_comes_back() -> None:
    redirect = answer(b"", "302 Found", ("Location: /elsewhere", "Set-Cookie: a=b"))
    upstream = ScriptedUpstream(reactor, steps(REQUEST, redirect, HANG))
    await upstream.open()
    target = Target.parse(upstream.url)
    assert (await get(target)).status == 302
    assert (await get(target)).status == 302
    assert [sent.target for sent in upstream.requests] == [b"/health", b"/health"]
    assert upstream.requests[1].header("cookie") is None
    await upstream.stop()


async def test_the_connection_is_gone_after_the_answer() -> None:
    upstream = ScriptedUpstream(reactor, steps(REQUEST, answer(), HANG))
    await upstream.open()
    await get(Target.parse(upstream.url))
    await (await upstream.connection()).gone()
    assert len(upstream.connections) == 1
    await upstream.stop()


async def test_a_body_without_an_end_is_read_up_to_the_limit_and_dropped() -> None:
    upstream = ScriptedUpstream(reactor, steps(REQUEST, b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (BODY_LIMIT + 5000), HANG))
    await upstream.open()
    seen = await get(Target.parse(upstream.url))
    assert seen.body == b"x" * BODY_LIMIT
    await (await upstream.connection()).gone()
    await upstream.stop()


async def test_a_body_that_ends_with_the_connection_is_complete() -> None:
    upstream = ScriptedUpstream(reactor, steps(REQUEST, b"HTTP/1.1 200 OK\r\n\r\nup", CLOSE))
    await upstream.open()
    assert await get(Target.parse(upstream.url)) == Answer(200, b"up")
    await upstream.stop()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ((REQUEST, CLOSE), "connection closed before the end of the answer"),
        ((REQUEST, RESET), "connection closed before the end of the answer"),
        ((REQUEST, b"HTTP/1.1 200", CLOSE), "connection closed before the end of the answer"),
        ((REQUEST, HEAD + b"half", CLOSE), "connection closed before the end of the answer"),
        ((REQUEST, HEAD + b"half", RESET), "connection closed before the end of the answer"),
        ((REQUEST, b"220 mail.example ESMTP\r\n", HANG), "invalid answer"),
    ],
)
async def test_an_answer_that_is_not_complete_fails_with_the_reason(script: tuple[bytes, ...], message: str) -> None:
    upstream = ScriptedUpstream(reactor, steps(*script))
    await upstream.open()
    with pytest.raises(FetchFailed, match=f"^{message}$"):
        await get(Target.parse(upstream.url))
    await upstream.until(lambda: not upstream.open_connections)
    await upstream.stop()


async def test_a_closed_port_fails_with_the_reason() -> None:
    upstream = ScriptedUpstream(reactor)
    with pytest.raises(ConnectFailed, match=r"^connection refused$"):
        await get(Target.parse(upstream.url))


@pytest.mark.parametrize("reached", ["accepted", "asked", "head", "body"])
@pytest.mark.parametrize("secure", [False, True])
async def test_cancelling_resets_the_connection_in_every_phase(reached: str, secure: bool, identity: tuple[str, ServerContext]) -> None:
    ca_file, context = identity
    upstream = ScriptedUpstream(reactor, tls=context if secure else None)
    await upstream.open()
    running = get(Target.parse(upstream.url, ca_file=ca_file if secure else ""))
    seen: list[BaseException] = []
    running.addErrback(_noted, seen)
    connection = await upstream.connection()
    phases: dict[str, bytes] = {"asked": b"", "head": HEAD, "body": HEAD + b"part"}
    if reached in phases:
        await connection.request()
        connection.send(phases[reached])
        await _arrived(upstream)
    running.cancel()
    await connection.gone()
    # The handshake's end is seen by both sides at different times, so "accepted" may still be in it.
    await eventually(reactor, lambda: seen)
    assert [type(each) for each in seen] == [CancelledError]
    await upstream.stop()


def _noted(failure: Failure, seen: list[BaseException]) -> None:
    assert failure.value is not None
    seen.append(failure.value)


async def _arrived(upstream: ScriptedUpstream) -> None:
    """Some turns of the reactor: what the server wrote has been read by the client, both live in this process."""
    turns = iter(range(20))
    counted: Callable[[], bool] = lambda: next(turns, None) is None  # noqa: E731
    await eventually(reactor, counted)
