"""What the process has in memory: nothing of TLS, treq or Klein before it is of use; and all of it works when it is."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from twisted.internet import reactor

from tests.integration.bench import PLAIN, Bench
from tests.integration.process import Proxy, route, server, upstream
from tests.upstream.certificates import Authority, ServerContext, names
from txsse.testing import HANG, REQUEST, ScriptedUpstream, answer, eventually, steps

QUIET = """
[route.hold]
commit_after = "10s"
"""


@pytest.fixture
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], Proxy]]:
    started: list[Proxy] = []
    request.node.proxies = started

    def one(configuration: str) -> Proxy:
        started.append(Proxy(configuration, tmp_path, f"proxy{len(started)}"))
        return started[-1]

    yield one
    for proxy in started:
        proxy.stop()
        assert proxy.complaints == []


def has_tls(proxy: Proxy) -> bool:
    """pyOpenSSL stands on cryptography, a shared object."""
    return "/cryptography/" in Path(f"/proc/{proxy.pid}/maps").read_text()


async def test_without_tls_nothing_of_it_is_loaded_not_even_by_probes(start: Callable[[str], Proxy]) -> None:
    proxy = start(server() + upstream(more='probe = { interval = "50ms" }') + route(more=QUIET))
    bench = Bench(reactor, proxy)
    client = await bench.post(PLAIN)
    await eventually(reactor, lambda: "down" in proxy.log)
    await bench.play(steps(REQUEST, answer(b"ok"), repeat=True))
    assert (await client.complete()).body == b"ok"
    assert bench.upstream.requests[0].method == b"GET", "it was asked for a page"
    assert not has_tls(proxy)
    await bench.close()


async def test_an_https_upstream_may_come_with_a_reload(start: Callable[[str], Proxy], tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    _, file = authority.issue("backend", names("127.0.0.1"))
    plain = server() + upstream(more='probe = { preset = "none" }') + route()
    secure = plain.replace("http://", "https://").replace("[[route]]", f'[upstream.tls]\nca_file = "{authority.ca_file}"\n[[route]]')
    proxy = start(plain)
    bench = Bench(reactor, proxy)
    backend = ScriptedUpstream(reactor, steps(REQUEST, answer(b"secret"), HANG), port=proxy.ports["main"], tls=ServerContext(file))
    await backend.open()
    assert not has_tls(proxy)
    proxy.configure(secure)
    proxy.signal(signal.SIGHUP)
    await bench.logged("reloaded: 1 upstreams")
    client = await bench.post(PLAIN)
    assert (await client.complete()).body == b"secret"
    assert has_tls(proxy)
    await bench.close()
    await backend.stop()


async def test_a_reload_to_https_that_the_backend_does_not_deserve_is_told_as_ever(start: Callable[[str], Proxy]) -> None:
    plain = server() + upstream(more='probe = { preset = "none" }') + route()
    proxy = start(plain)
    bench = Bench(reactor, proxy)
    await bench.play(steps(answer(b"plain"), HANG))
    proxy.configure(plain.replace("http://", "https://"))
    proxy.signal(signal.SIGHUP)
    await bench.logged("reloaded: 1 upstreams")
    client = await bench.post(PLAIN)
    response = await client.complete()
    assert response.status == 502
    assert b"TLS: " in response.body
    await bench.close()
