"""The example service does what it says: in memory, and once over sockets."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock
from twisted.web.server import Site

from tests.web.bench import Client, Service
from txsse.testing import RecordingClient, eventually
from txsse.web.stream import alarms_of

PATH = Path(__file__).parents[2] / "examples" / "embed_streaming.py"
BODY = b'{"input":{"prompt":"spring"}}'
EVENTS = "Accept: text/event-stream"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("txsse_example_embed_streaming", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Example:
    """The example's site in memory."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.runs = module.Runs()
        self.service = Service(self._make)

    def _make(self, clock: MemoryReactorClock) -> Any:
        site: Site = self.module.make_site(clock, self.runs)
        return site.resource

    def predict(self, *fields: str) -> Client:
        return self.service.ask("POST", "/predictions", *fields, body=BODY)


def test_the_clock_ticks_until_its_reader_leaves(example: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Example(example)
    client = bench.service.ask("GET", "/clock", EVENTS)
    bench.service.pass_time(2.5)
    assert client.told == [("tick", {"seconds": n}) for n in (0, 1, 2)]
    client.leave()
    assert capsys.readouterr().out == "a clock stops\n"
    bench.service.assert_nothing_ticks()


def test_a_poem_in_three_forms(example: ModuleType) -> None:
    bench = Example(example)
    document, stream, later = bench.predict(), bench.predict(EVENTS), bench.predict("Prefer: respond-async")
    bench.service.pass_time(5)
    words = example.POEM.split()
    assert document.document["output"] == words
    assert [data["chunk"] for name, data in stream.told if name == "output"] == words
    assert later.answer.status == 202 and later.document["output"] == []
    location = later.answer.header("location")
    assert location is not None
    state = bench.service.ask("GET", location.decode()).document
    assert (state["status"], state["output"], state["metrics"]["words"]) == ("succeeded", words, len(words))


def test_what_goes_on_can_be_canceled_and_is_not_kept_for_ever(example: ModuleType) -> None:
    bench = Example(example)
    first, *_ = [bench.predict("Prefer: respond-async") for _ in range(example.KEPT)]
    path = f"/predictions/{first.document['id']}"
    assert bench.service.ask("POST", f"{path}/cancel").document["status"] == "canceled"
    bench.predict("Prefer: respond-async")
    assert bench.service.ask("GET", path).answer.status == 404
    bench.runs.stop()
    bench.service.assert_nothing_ticks()


def test_its_page_follows_the_clock_and_is_no_stream(example: ModuleType) -> None:
    bench = Example(example)
    assert b'EventSource("/clock")' in bench.service.ask("GET", "/").body
    assert bench.service.ask("GET", "/", EVENTS).answer.status == 406


async def test_over_sockets(example: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    from twisted.internet import reactor

    any_reactor: Any = reactor
    port = any_reactor.listenTCP(0, example.make_site(reactor, example.Runs(), pace=0.001), interface="127.0.0.1")
    try:
        client = await RecordingClient.connect(reactor, port.getHost().port)
        client.request("POST", "/predictions", BODY, [EVENTS])
        await client.complete()
        assert json.loads(client.events[-1].data)["status"] == "succeeded"
        client.request("GET", "/clock", headers=[EVENTS])
        await client.contains(b"event: tick")
        client.close()
        await eventually(reactor, lambda: capsys.readouterr().out == "a clock stops\n")
    finally:
        await port.stopListening()
        alarms_of(any_reactor).stop()
