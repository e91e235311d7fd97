"""Whether another proxy knows a request: asked of all at once, and not waited for."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from twisted.internet.task import Clock

from tests.fakes import FakeBackend, FakeDispatch, a_request
from txsse.clock import Alarms
from txsse.config import model
from txsse.interfaces import Failed, Fault
from txsse.proxy.forwarded import TrustedProxies
from txsse.proxy.inquiry import DEADLINE, Found, question, route_in
from txsse.proxy.peers import PAUSE, Peers
from txsse.wire.http1 import RequestHead, ResponseHead

KEY = (b"Idempotency-Key", b"once")


class World:
    def __init__(self, *others: str) -> None:
        self.clock = Clock()
        self.alarms = Alarms(self.clock)
        self.backends: dict[str, FakeBackend] = {}
        urls = {name: f"http://{name}" for name in ("us", *others)}
        self.peers = Peers("us", urls, self._make, "us", TrustedProxies())

    def _make(self, upstream: model.Upstream) -> Any:
        backend = FakeBackend()
        backend.config = upstream
        backend.set_headers = [(b"X-Txsse-Hop", b"us")]
        self.backends[upstream.name.removeprefix("peer-")] = backend
        return backend

    def ask(self) -> list[str | None]:
        """What comes of it, once that is known."""
        head = RequestHead(
            b"POST", b"/v1/chat/completions?key=k", b"HTTP/1.1", [KEY, (b"Authorization", b"me"), (b"Accept", b"application/json")]
        )
        request = attrs.evolve(a_request(self.clock), head=head, path=head.path)
        told: list[str | None] = []
        asking = self.peers.who_knows(request, "chat", b"id", self.alarms)
        asking.addCallback(lambda way: told.append(None if way is None else way.name))
        return told

    def asked(self, name: str) -> FakeDispatch:
        return self.backends[name].last


def answer(dispatch: FakeDispatch, status: int = 204, *, known: bool = True) -> None:
    dispatch.receiver.response_started(ResponseHead(status, b"", b"HTTP/1.1", [(b"X-Txsse-Known", b"1")] if known else []))
    dispatch.receiver.response_ended()


def test_the_first_who_knows_it_has_it() -> None:
    world = World("a", "b", "c")
    told = world.ask()
    answer(world.asked("a"), known=False)
    assert not told
    answer(world.asked("b"))
    assert told == ["peer-b"]
    assert world.asked("c").aborted and not world.asked("b").aborted
    world.clock.advance(2 * DEADLINE)
    assert told == ["peer-b"]


def test_it_is_asked_with_what_the_client_showed() -> None:
    world = World("a")
    world.ask()
    head = world.asked("a").head
    assert head.startswith(b"GET /-/streams/?claim=chat&key=k HTTP/1.1\r\n")
    for field in (b"Idempotency-Key: once", b"Authorization: me", b"X-Txsse-Hop: us"):
        assert b"\r\n" + field + b"\r\n" in head
    assert b"Accept:" not in head and b"Content-" not in head
    assert world.asked("a").body == b""


@pytest.mark.parametrize(("status", "known"), [(204, False), (404, False), (401, False), (200, True)])
def test_any_other_answer_is_a_no(status: int, known: bool) -> None:
    world = World("a")
    told = world.ask()
    answer(world.asked("a"), status, known=known)
    assert told == [None]


def test_so_is_none() -> None:
    world = World("a", "b")
    told = world.ask()
    world.asked("a").receiver.dispatch_failed(Failed(Fault.UNREACHABLE, "connection refused"))
    world.asked("b").receiver.dispatch_failed(Failed(Fault.STALE, "closed"))
    assert not told and world.asked("b").fresh
    world.asked("b").receiver.dispatch_failed(Failed(Fault.RESET, "reset"))
    assert told == [None]


def test_who_does_not_answer_is_not_waited_for_and_not_asked_again_for_a_while() -> None:
    world = World("a", "b")
    told = world.ask()
    answer(world.asked("a"), known=False)
    for _ in range(6):
        world.clock.advance(DEADLINE / 5)
    assert told == [None] and world.asked("b").aborted
    again = world.ask()
    answer(world.asked("a"))
    assert again == ["peer-a"] and len(world.backends["b"].dispatches) == 1
    world.clock.advance(PAUSE)
    world.ask()
    assert len(world.backends["b"].dispatches) == 2


def test_a_proxy_without_others_knows_at_once() -> None:
    assert World().ask() == [None]


def test_a_question_is_one_by_its_path() -> None:
    clock = Clock()
    request = a_request(clock)
    assert route_in(question(request, "my_route-1").path) == "my_route-1"
    assert [route_in(path) for path in (b"/-/streams/x", b"/-/streams/?other=1", b"/")] == [None] * 3


def test_whether_all_have_answered() -> None:
    def inquire(world: World) -> list[Found]:
        head = RequestHead(b"HEAD", b"/predictions/one", b"HTTP/1.1", [])
        request = attrs.evolve(a_request(world.clock, body=b""), head=head, path=head.path)
        told: list[Found] = []
        world.peers.inquire(request, lambda head: head.status == 200, b"id", world.alarms).addCallback(told.append)
        return told

    world = World("a", "b")
    told = inquire(world)
    assert world.asked("a").head.startswith(b"HEAD /predictions/one HTTP/1.1\r\n") and b"Content-Length" not in world.asked("a").head
    answer(world.asked("a"), 404)
    answer(world.asked("b"), 404)
    assert told == [Found(None, complete=True)]
    told = inquire(world)
    answer(world.asked("a"), 404)
    world.asked("b").receiver.dispatch_failed(Failed(Fault.UNREACHABLE, "connection refused"))
    assert told == [Found(None, complete=False)]
    told = inquire(world)
    answer(world.asked("a"), 404)
    world.clock.pump([DEADLINE / 5] * 6)
    assert told == [Found(None, complete=False)]
    told = inquire(world)
    answer(world.asked("a"), 404)
    assert told == [Found(None, complete=False)], "one was left out that had no answer a moment ago"


def test_who_asked_leaves() -> None:
    world = World("a")
    asking = world.peers.who_knows(a_request(world.clock), "chat", b"id", world.alarms)
    asking.addErrback(lambda failure: None)
    asking.cancel()
    assert world.asked("a").aborted
