"""Processes shared by the tests that want the same configuration, their output shown when a test fails, and watched for tracebacks."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted  # type: ignore[import-untyped]  # ships no types
from twisted.internet import reactor

from tests.integration.bench import Bench
from tests.integration.nodes import Nodes, World
from tests.integration.process import Proxy
from tests.redis.server import PROGRAM, RedisServer

Start = Callable[[str], Proxy]


@pytest.fixture(scope="session")
def running_proxies(tmp_path_factory: pytest.TempPathFactory) -> Generator[Start]:
    """Starts a proxy for a configuration, or gives the one that is running with it already."""
    proxies: dict[str, Proxy] = {}

    def start(configuration: str) -> Proxy:
        if configuration not in proxies:
            proxies[configuration] = Proxy(configuration, tmp_path_factory.mktemp("proxy"))
        return proxies[configuration]

    yield start
    for proxy in proxies.values():
        proxy.ask_to_stop()
    ends = [(proxy.stop(), proxy) for proxy in proxies.values()]
    for status, proxy in ends:
        assert status == 0, proxy.log
        assert proxy.complaints == [], proxy.log


@pytest.fixture
def own_proxies(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Callable[[str], Proxy]]:
    """Starts proxies that belong to one test alone, which may end them."""
    started: list[Proxy] = []
    request.node.proxies = started

    def start(configuration: str) -> Proxy:
        started.append(Proxy(configuration, tmp_path, f"proxy{len(started)}"))
        return started[-1]

    yield start
    for proxy in started:
        proxy.stop()
    for proxy in started:
        assert proxy.complaints == []


@pytest.fixture(scope="module")
def shared_proxy(request: pytest.FixtureRequest, running_proxies: Start) -> Proxy:
    """The proxy of the module's ``CONFIG``."""
    return running_proxies(request.module.CONFIG)


@pytest.fixture
def proxy(request: pytest.FixtureRequest, shared_proxy: Proxy) -> Generator[Proxy]:
    request.node.proxies = [shared_proxy]
    seen = len(shared_proxy.complaints)
    yield shared_proxy
    assert shared_proxy.returncode is None, shared_proxy.log
    assert shared_proxy.complaints[seen:] == []


@pytest.fixture(scope="module")
def start_redis(tmp_path_factory: pytest.TempPathFactory) -> Generator[Callable[[], RedisServer]]:
    if PROGRAM is None:
        assert not os.environ.get("CI"), "redis-server is not installed: apt-get install redis-server"
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    started: list[RedisServer] = []

    def start(*options: str) -> RedisServer:
        started.append(RedisServer(tmp_path_factory.mktemp("redis"), *options))
        return started[-1]

    yield start
    for each in started:
        each.stop()


@pytest_twisted.async_yield_fixture()  # type: ignore[untyped-decorator]
async def bench(proxy: Proxy) -> AsyncIterator[Bench]:
    made = Bench(reactor, proxy)
    yield made
    await made.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    report = yield
    if report.failed:
        for proxy in getattr(item, "proxies", []):
            report.sections.append((f"output of {proxy.path.name}", proxy.log[-6000:]))
    return report


@pytest_twisted.async_yield_fixture()  # type: ignore[untyped-decorator]
async def world(request: pytest.FixtureRequest, nodes: Nodes) -> AsyncIterator[World]:
    """One test's view of its module's *nodes*."""
    request.node.proxies = nodes
    made = World(reactor, nodes)
    await made.upstream.open()
    yield made
    await made.close()
