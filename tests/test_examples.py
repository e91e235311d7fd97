"""The examples load, can be built, and do what they say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from twisted.application.service import IService
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.web.test.requesthelper import DummyRequest

from txsse import ProxyResource, ProxyService, load
from txsse.config import loads
from txsse.demo import DemoBackend, DemoSettings

EXAMPLES = Path(__file__).parent.parent / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"txsse_example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_a_configuration_is_accepted(path: Path) -> None:
    configuration = load(path)
    assert configuration.upstream and configuration.route


def test_the_minimal_one_has_one_route_for_everything() -> None:
    (route,) = load(EXAMPLES / "minimal.toml").route
    assert (route.name, route.upstream, route.match.path) == ("llama", "llama", "/**")


def test_the_service_stands_beside_others() -> None:
    reactor: Any = MemoryReactorClock()
    service: Any = example("embed_service").make_service(load(EXAMPLES / "minimal.toml"), reactor)
    assert [type(each).__name__ for each in service] == ["ProxyService", "TimerService"]
    assert all(IService.providedBy(each) for each in service)


def test_the_resource_is_found_below_its_path_and_not_elsewhere() -> None:
    embed = example("embed_resource")
    proxy = ProxyService(embed.without_listeners(load(EXAMPLES / "minimal.toml")), reactor=MemoryReactorClock())
    root = embed.plain_site(proxy).resource
    assert isinstance(root.getChildWithDefault(b"v1", DummyRequest([b"v1", b"models"])), ProxyResource)
    assert not isinstance(root.getChildWithDefault(b"", DummyRequest([b""])), ProxyResource)
    assert embed.klein_site(proxy).resource is not None
    proxy.proxy.close()


@pytest.mark.parametrize("kind", ["plain", "klein"])
async def test_a_request_goes_through_a_strangers_site_with_its_whole_path(kind: str) -> None:
    import treq
    from twisted.internet import reactor

    any_reactor: Any = reactor
    backend = DemoBackend(reactor, DemoSettings(wake_seconds=0))
    await backend.listen()
    backend.touched()
    embed = example("embed_resource")
    proxy = ProxyService(
        embed.without_listeners(loads(f'[[upstream]]\nname = "demo"\nurl = "{backend.url}"\n')), reactor=reactor, access_log=lambda _: None
    )
    proxy.startService()
    port = any_reactor.listenTCP(0, getattr(embed, f"{kind}_site")(proxy), interface="127.0.0.1")
    try:
        response = await treq.get(f"http://127.0.0.1:{port.getHost().port}/v1/models", persistent=False)
        body = await response.json()
        home = await treq.get(f"http://127.0.0.1:{port.getHost().port}/", persistent=False)
        text = await home.text()
    finally:
        await port.stopListening()
        await proxy.stopService()
        await backend.stop()
    assert (response.code, body["data"][0]["id"]) == (200, "demo")
    assert text == "The models are under /v1.\n"


async def test_the_reader_prints_the_pieces_of_the_answer() -> None:
    from twisted.internet import reactor
    from twisted.internet.threads import deferToThread

    backend = DemoBackend(reactor, DemoSettings(wake_seconds=0, pace=0, text="Good morning."))
    await backend.listen()
    backend.touched()
    read = example("read_stream_openai").read
    try:
        pieces = await deferToThread(lambda: list(read(f"{backend.url}/v1", "Good morning?")))
    finally:
        await backend.stop()
    assert "".join(piece.text for piece in pieces) == "Good morning."


test_the_scripted_upstream = example("scripted_upstream").test_a_gap_is_filled_and_the_events_are_unchanged


def test_a_report_is_printed_each_minute(capsys: pytest.CaptureFixture[str]) -> None:
    reactor: Any = MemoryReactorClock()
    service: Any = example("embed_service").make_service(load(EXAMPLES / "minimal.toml"), reactor)
    timer = list(service)[1]
    timer.clock = Clock()
    timer.startService()
    timer.clock.advance(60)
    timer.stopService()
    assert capsys.readouterr().out.count("0 streams are open") == 2
