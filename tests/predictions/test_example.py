"""``examples/embed_predictions.py`` does what it says."""

from __future__ import annotations

from twisted.internet.testing import MemoryReactorClock

from tests.predictions.bench import ASYNC, EVENTS, JSON
from tests.test_examples import example
from tests.web.bench import Service


def test_the_service() -> None:
    module = example("embed_predictions")
    service = Service(lambda clock: module.make_site(clock, 0.1).resource)
    assert isinstance(service.clock, MemoryReactorClock)
    body = b'{"input": {"prompt": "spring"}}'
    first = service.ask("PUT", "/predictions/one", JSON, EVENTS, ASYNC, body=body)
    service.pass_time(0.5)
    first.leave()
    service.pass_time(3)
    again = service.ask("PUT", "/predictions/one", JSON, EVENTS, body=body)
    document = again.told[-1][1]
    assert document["status"] == "succeeded"
    assert " ".join(document["output"]) == module.POEM
    assert document["metrics"]["words"] == len(module.POEM.split())
    assert document["logs"] == "a poem about spring\n"
