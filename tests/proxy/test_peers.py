"""A stream that another proxy keeps: what it says is passed on, and that it is gone is told at once and once."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.fakes import FakeBackend, FakeOwner, RecordingDownstream, a_request, bound
from txsse.config import model
from txsse.dialects import DIALECTS
from txsse.dialects.base import Speaker
from txsse.errors import ProxyError
from txsse.interfaces import Failed, Fault
from txsse.proxy.forwarded import TrustedProxies
from txsse.proxy.peers import TIMEOUTS, PeerForwarder, Peers
from txsse.wire.http1 import ResponseHead

EVENT = b'id: a~x.1\ndata: {"choices":[]}\n\n'
CUT = Failed(Fault.TRUNCATED, "connection closed inside the response")


class World:
    def __init__(self) -> None:
        self.clock = Clock()
        self.owner = FakeOwner(self.clock)
        self.backend = FakeBackend()
        self.downstream = RecordingDownstream(self.clock)
        forwarder = PeerForwarder(
            self.owner,
            bound(model.Route(name="peer-a"), self.backend),
            a_request(self.clock, method=b"GET", body=b""),
            self.downstream,
            DIALECTS["sse"],
            streaming=True,
            commits=True,
            interval=15.0,
            members={},
            show_text=False,
            request_id=b"r",
        )
        forwarder.begin()

    def answer(self, dialect: bytes = b"openai-chat") -> None:
        fields = [(b"Content-Type", b"text/event-stream"), (b"X-Txsse-Dialect", dialect)]
        self.receiver.response_started(ResponseHead(200, b"OK", b"HTTP/1.1", fields))

    @property
    def receiver(self) -> Any:
        return self.backend.last.receiver

    @property
    def code(self) -> str:
        for _ in range(100):
            self.clock.advance(0.01)
        (done,) = self.owner.ended
        return done.code


@pytest.mark.parametrize("fault", [Fault.UNREACHABLE, Fault.RESET, Fault.INVALID])
def test_a_proxy_that_does_not_answer_is_lost(fault: Fault) -> None:
    world = World()
    world.receiver.dispatch_failed(Failed(fault, "connection refused"))
    (error,) = world.owner.refused
    assert (error.code, error.http_status) == ("owner_lost", 502)
    assert len(world.backend.dispatches) == 1


def test_a_connection_that_died_unused_tells_nothing_of_it() -> None:
    world = World()
    world.receiver.dispatch_failed(Failed(Fault.STALE, "closed"))
    assert [each.fresh for each in world.backend.dispatches] == [False, True]
    world.answer()
    world.receiver.body_received(EVENT)
    world.receiver.response_ended()
    assert world.downstream.body == EVENT
    assert world.code == ""


def test_one_that_dies_in_the_stream_is_told_of_in_its_dialect() -> None:
    world = World()
    world.answer()
    assert world.downstream.header(b"x-txsse-dialect") is None
    world.receiver.body_received(EVENT)
    world.receiver.dispatch_failed(CUT)
    assert world.downstream.body.startswith(EVENT + b'data: {"error":{')
    assert b'"code":"owner_lost"' in world.downstream.body
    assert (world.code, world.downstream.end) == ("owner_lost", "cut")


@pytest.mark.parametrize(
    "told", [b"5", b"null", b'"x"', b"[1]", b"[" * 100_000, b"{", b'{"error":{"code":["cancelled"]}}', b'{"error":"x"}']
)
def test_it_may_have_told_any_json_before_it_dies(told: bytes) -> None:
    world = World()
    world.answer()
    world.receiver.body_received(b"id: a~x.1\ndata: " + told + b"\n\n")
    world.receiver.dispatch_failed(CUT)
    assert world.code in ("owner_lost", "upstream_error")
    assert world.downstream.end == "cut"


@pytest.mark.parametrize("dialect", ["openai-chat", "openai-completions", "openai-responses", "anthropic", "sse"])
def test_an_error_that_it_told_itself_is_not_told_twice(dialect: str) -> None:
    world = World()
    world.answer(dialect.encode())
    error = ProxyError("cancelled", "The stream was ended by request.")
    frame = b"id: a~x.2\n" + DIALECTS[dialect].error_frame(error, Speaker("t", 0, "m"), None)
    world.receiver.body_received(EVENT)
    world.receiver.body_received(frame)
    world.receiver.dispatch_failed(CUT)
    # In the Responses API a failure is an end of the stream like any other; Anthropic's errors have no codes.
    expected = {"openai-responses": ("", "finish"), "anthropic": ("upstream_error", "cut")}.get(dialect, ("cancelled", "cut"))
    assert (world.code, world.downstream.end) == expected
    assert world.downstream.body == EVENT + frame


def test_it_keeps_the_streams_whose_ids_begin_with_its_name() -> None:
    made: list[model.Upstream] = []

    def backend(upstream: model.Upstream) -> Any:
        made.append(upstream)
        return FakeBackend()

    peers = Peers("b", {"a": "http://10.0.0.1:80", "b": "http://10.0.0.2:80"}, backend, "b", TrustedProxies())
    (upstream,) = made
    assert (upstream.url, upstream.timeouts) == ("http://10.0.0.1:80", TIMEOUTS)
    keeper = peers.keeper("a~" + "x" * 22)
    assert keeper is not None and keeper.name == "peer-a"
    assert [peers.keeper(sid) for sid in ("b~" + "x" * 22, "c~" + "x" * 22, "x" * 22, "a")] == [None] * 4
