"""Who of the others has a prediction: the first that says so; and what is known where none does."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.fakes import FakeBackend, a_request, bound
from txsse.clock import Alarms
from txsse.config import model
from txsse.interfaces import Failed, Fault
from txsse.predictions.survey import PATIENCE, Found, Survey
from txsse.predictions.upstream import UpstreamModel
from txsse.proxy.routes import BoundRoute
from txsse.wire.http1 import ResponseHead


class World:
    def __init__(self) -> None:
        self.clock = Clock()
        self.backends = [FakeBackend(), FakeBackend()]
        self.routes = [bound(model.Route(name=f"peer-{name}"), backend) for name, backend in zip("ab", self.backends, strict=True)]
        request = a_request(self.clock, method=b"PUT", headers=[(b"Authorization", b"Bearer a"), (b"Prefer", b"respond-async")])
        asks = UpstreamModel(self.routes[0], "predictions", b"", [], None, request, b"r-1")  # type: ignore[arg-type]  # asks nothing of it
        self.survey = Survey(self.routes, asks, "one", Alarms(self.clock))
        self.told: list[Found] = []
        self.survey.result.addCallback(self.told.append)

    def answer(self, which: int, status: int) -> None:
        receiver: Any = self.backends[which].last.receiver
        if status:
            receiver.response_started(ResponseHead(status, b"", b"HTTP/1.1", []))
        else:
            receiver.dispatch_failed(Failed(Fault.UNREACHABLE, "connection refused"))

    def found(self) -> tuple[BoundRoute | None, bool, bool]:
        (told,) = self.told
        return told.at, told.gone, told.silent


def test_all_are_asked_at_once_by_whom_it_belongs_to() -> None:
    world = World()
    for backend in world.backends:
        asked = backend.last
        assert asked.head.startswith(b"HEAD /predictions/one HTTP/1.1\r\n") and asked.head.endswith(b"\r\n\r\n")
        assert b"\r\nAuthorization: Bearer a\r\n" in asked.head and b"Prefer" not in asked.head
        assert asked.fresh and not asked.body


def test_the_first_that_has_it_is_enough() -> None:
    world = World()
    world.answer(1, 200)
    assert world.found() == (world.routes[1], False, False)
    assert world.backends[0].last.aborted
    world.clock.advance(2 * PATIENCE)
    assert not world.clock.getDelayedCalls()


@pytest.mark.parametrize(("statuses", "gone", "silent"), [((404, 404), False, False), ((410, 404), True, False), ((0, 410), True, True)])
def test_none_has_it(statuses: tuple[int, int], gone: bool, silent: bool) -> None:
    world = World()
    for which, status in enumerate(statuses):
        world.answer(which, status)
    assert world.found() == (None, gone, silent)


def test_who_does_not_answer_is_not_waited_for() -> None:
    world = World()
    world.answer(0, 404)
    assert not world.told
    for _ in range(4):
        world.clock.advance(PATIENCE / 2)
    assert world.found() == (None, False, True)
    assert world.backends[1].last.aborted


def test_who_asked_leaves() -> None:
    world = World()
    world.survey.result.addErrback(lambda failure: None)
    world.survey.result.cancel()
    assert all(backend.last.aborted for backend in world.backends)
