"""The few things only real sockets show."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted  # type: ignore[import-untyped]  # has no types
from OpenSSL import SSL
from twisted.internet import reactor as _reactor
from twisted.internet.ssl import Certificate, DefaultOpenSSLContextFactory, PrivateCertificate
from twisted.internet.protocol import Protocol

from tests.upstream.certificates import Authority, names
from tests.upstream.recording import RecordingReceiver
from txsse.clock import Alarms
from txsse.interfaces import Dispatch, Failed, Fault
from txsse.testing import CLOSE, REQUEST, RESET, STREAM_HEAD, Script, ScriptedUpstream, chunk, eventually, free_port, sleep, steps
from txsse.upstream.connection import UpstreamConnection
from txsse.upstream.endpoints import KEEPALIVE_IDLE, Target, connect
from txsse.upstream.pool import ConnectionPool

reactor: Any = _reactor

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class Link:
    """A scripted backend and a pool towards it."""

    def __init__(self, upstream: ScriptedUpstream, alarms: Alarms, target: Target) -> None:
        self.upstream = upstream
        self.pool = ConnectionPool(reactor, alarms, target, connect_timeout=2)

    def send(self, head: bytes = HEAD, body: bytes = b"", *, fresh: bool = False) -> tuple[Dispatch, RecordingReceiver]:
        receiver = RecordingReceiver()
        return self.pool.dispatch(head, body, head.split(b" ")[0], receiver, fresh=fresh), receiver

    async def fetch(self) -> RecordingReceiver:
        _, receiver = self.send()
        await receiver.over.addTimeout(5, reactor)
        return receiver

    async def all_closed(self) -> None:
        await eventually(reactor, lambda: not self.pool.open and not self.upstream.open_connections, what="everything closed")


Links = Callable[..., Link]


@pytest_twisted.async_yield_fixture()  # type: ignore[untyped-decorator]  # pytest-twisted has no types
async def links() -> AsyncGenerator[Links, None]:
    alarms = Alarms(reactor)
    made: list[Link] = []

    def make(script: Script | None = None, *, tls: Any = None, path: str = "", url: str = "", **options: str) -> Link:
        upstream = ScriptedUpstream(reactor, script, tls=tls, path=path)
        pytest_twisted.blockon  # noqa: B018
        made.append(Link(upstream, alarms, Target.parse(url or upstream.url, **options)))
        return made[-1]

    yield make
    for link in made:
        link.pool.close()
        await link.upstream.stop()
    alarms.stop()
