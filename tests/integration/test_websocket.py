"""WebSockets through the real process, over all the transports there are."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted  # type: ignore[import-untyped]  # ships no types
from twisted.internet import reactor as _reactor
from twisted.internet.endpoints import SSL4ClientEndpoint, TCP4ClientEndpoint
from twisted.internet.ssl import CertificateOptions

from tests.integration.bench import Bench
from tests.integration.conftest import Start
from tests.integration.process import Proxy, route, server, upstream
from tests.integration.tunnelling import Backend, Peer, tunnel
from tests.upstream.certificates import Authority, ServerContext, names
from txsse.testing import eventually, sleep

reactor: Any = _reactor
MIB = 2**20
NONE = 'probe = { preset = "none" }\n'


class Files:
    def __init__(self, folder: Path) -> None:
        authority = Authority(folder)
        self.ca = authority.ca_file
        _, self.pem = authority.issue("localhost", names("localhost", "127.0.0.1"))
        self.socket = str(folder / "backend")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("websocket"))


@pytest.fixture(scope="module")
def shared_proxy(running_proxies: Start, files: Files) -> Proxy:
    tls = f"ssl:$tls:privateKey={files.pem}:certKey={files.pem}:interface=127.0.0.1"
    return running_proxies(
        server().replace("listen = [", f'listen = ["{tls}", ')
        + upstream("main", NONE)
        + f'[[upstream]]\nname = "unix"\nurl = "unix:{files.socket}"\n{NONE}'
        + f'[[upstream]]\nname = "secure"\nurl = "https://localhost:$secure"\n{NONE}tls = {{ ca_file = "{files.ca}" }}\n'
        + route("unix", "unix", "")
        + route("secure", "secure", "")
        + route(more="")
    )


@pytest_twisted.async_yield_fixture()  # type: ignore[untyped-decorator]
async def backend(bench: Bench, files: Files) -> AsyncIterator[Backend]:
    made, ports = Backend(reactor), bench.proxy.ports
    made.listens(reactor.listenTCP(ports["main"], made.factory, interface="127.0.0.1"))
    made.listens(reactor.listenSSL(ports["secure"], made.factory, ServerContext(files.pem), interface="127.0.0.1"))
    made.listens(reactor.listenUNIX(files.socket, made.factory))
    yield made
    await made.stop()


async def connect(bench: Bench, backend: Backend, way: str = "main") -> tuple[Peer, Peer]:
    """*way*: of upstream, or ``tls``: of the client's listener."""
    endpoint: Any = TCP4ClientEndpoint(reactor, "127.0.0.1", bench.proxy.port)
    if way == "tls":
        endpoint = SSL4ClientEndpoint(reactor, "127.0.0.1", bench.proxy.ports["tls"], CertificateOptions())
    return await tunnel(reactor, backend, endpoint, way)


WAYS = pytest.mark.parametrize("way", ["main", "unix", "secure", "tls"])


@WAYS
async def test_much_in_both_directions_at_once(bench: Bench, backend: Backend, way: str) -> None:
    client, far = await connect(bench, backend, way)
    data = os.urandom(MIB)
    for _ in range(8):
        client.send(data)
        far.send(data)
    for peer in (client, far):
        await peer.has_read(8 * MIB)
        assert peer.digest.digest() == hashlib.sha256(data * 8).digest()
    far.close()
    assert await client.gone() == "fin"
    client.close()
    line = await bench.logged(f"bytes_in={8 * MIB} bytes_out={8 * MIB}")
    assert " status=101 " in line
    await eventually(reactor, lambda: far.ended)


@pytest.mark.parametrize("way", ["main", "unix"])
async def test_each_direction_ends_by_itself(bench: Bench, backend: Backend, way: str) -> None:
    for first in (0, 1):
        ends = await connect(bench, backend, way)
        ending, staying = ends[first], ends[1 - first]
        ending.send(b"my last words")
        ending.half_close()
        assert await staying.gone() == "fin"
        assert staying.last == b"my last words"
        staying.send(b"x" * MIB + b"but I go on")
        await ending.reads(b"but I go on")
        assert not ending.ended
        staying.half_close()
        assert await ending.gone() == "fin"
        ending.close()
        staying.close()
    await bench.until_metric(0, "txsse_in_flight")


@WAYS
@pytest.mark.parametrize("first", [0, 1], ids=["client", "upstream"])
async def test_a_reset_is_a_reset_of_both(bench: Bench, backend: Backend, way: str, first: int) -> None:
    ends = await connect(bench, backend, way)
    ends[first].reset()
    assert await ends[1 - first].gone() == ("fin" if way == "unix" else "reset")  # UNIX sockets have none: it looks like an end
    ends[1 - first].reset()
    await bench.until_metric(0, "txsse_in_flight")


@pytest.mark.parametrize(("way", "first"), [("main", 0), ("unix", 1), ("secure", 1), ("tls", 0)])
async def test_who_does_not_read_is_not_sent_more(bench: Bench, backend: Backend, way: str, first: int) -> None:
    ends = await connect(bench, backend, way)
    slow, fast = ends[first], ends[1 - first]
    before = bench.proxy.memory()
    slow.transport.pauseProducing()
    total = 48 * MIB
    fast.send(b"x" * total)
    await sleep(reactor, 0.3)
    assert bench.proxy.memory() - before < total / 4
    slow.send(b"I can still speak")
    await fast.reads(b"I can still speak")
    slow.transport.resumeProducing()
    await slow.has_read(total)
    for peer in ends:
        peer.reset()
    await bench.until_metric(0, "txsse_in_flight")


async def test_a_client_that_is_reset_while_upstream_does_not_read_is_noticed(bench: Bench, backend: Backend) -> None:
    client, far = await connect(bench, backend)
    far.transport.pauseProducing()
    client.send(b"x" * 32 * MIB)
    await sleep(reactor, 0.2)
    client.reset()
    await bench.until_metric(0, "txsse_in_flight")


async def test_it_is_left_alone_by_a_drain_and_cut_by_the_second_signal(own_proxies: Callable[[str], Proxy]) -> None:
    bench = Bench(reactor, own_proxies(server("drain = '60s'") + upstream(more=NONE) + route(more="")))
    backend = Backend(reactor)
    backend.listens(reactor.listenTCP(bench.proxy.ports["main"], backend.factory, interface="127.0.0.1"))
    client, far = await connect(bench, backend)
    bench.proxy.signal(signal.SIGTERM)
    await bench.logged("draining: 1 open")
    client.send(b"still here")
    await far.reads(b"still here")
    bench.proxy.signal(signal.SIGTERM)
    await client.gone()
    await eventually(reactor, lambda: bench.proxy.returncode == 0)
    assert "outcome=shutdown" in bench.proxy.log
    await backend.stop()
    await bench.close()
