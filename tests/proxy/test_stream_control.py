"""What owners and the operator may know of streams and do to them, here and on other machines."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, cast

import attrs
import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, globalLogPublisher
from twisted.python.failure import Failure

from tests.fakes import bound
from tests.proxy.test_resumable import event
from tests.proxy.test_streams import MINE, YOURS, Kept
from txsse.clock import Alarms
from txsse.config import model
from txsse.errors import ProxyError
from txsse.proxy.peers import Peers
from txsse.proxy.resumption import Resumption
from txsse.proxy.routes import BoundRoute
from txsse.proxy.shared import Shared
from txsse.proxy.stream_control import LOOK, LOOKS, StreamControl
from txsse.proxy.streams import new_sid
from txsse.redis.journal import Found
from txsse.redis.records import DONE, Meta, Terminal
from txsse.wire.headers import Headers
from txsse.wire.http1 import RequestHead

CANCELLED = Terminal("cancelled", "By request.", 502)


def now(waited: Coroutine[Deferred[Any], Any, Any]) -> Any:
    """What does not have to be waited for."""
    results: list[Any] = []
    failures: list[Failure] = []
    Deferred.fromCoroutine(waited).addCallbacks(results.append, failures.append)
    for failure in failures:
        failure.raiseException()
    return results[0]


@attrs.define(eq=False)
class FakeRedis:
    """One stream of another machine, mine; its answers in turn, the last one again and again."""

    route: BoundRoute
    answers: list[Terminal | None] = attrs.field(factory=lambda: [None])
    cancelled: int = 0
    asked: int = 0
    broken: bool = False

    def open(self, sid: str) -> Deferred[Found | ProxyError]:
        self.asked += 1
        if self.broken:
            return succeed(ProxyError("upstream_unavailable", "No store."))
        terminal = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        meta = Meta("llama", "openai-chat", MINE, b"text/event-stream", 200, [], 5.0, 300.0)
        return succeed(Found(meta, 7, terminal, first=3))

    def own(self, found: Found | ProxyError, scopes: Any) -> tuple[Found, BoundRoute]:
        if isinstance(found, ProxyError):
            raise found
        if scopes("credential") != found.meta.scope:
            raise ProxyError("stream_not_found", "No.")
        return found, self.route

    def cancel(self, sid: str) -> Deferred[None]:
        self.cancelled += 1
        return succeed(None)


class FakePeers:
    def keeper(self, sid: str) -> object | None:
        return object() if sid.startswith("other~") else None


def scope(headers: Headers, path: bytes, setting: str) -> bytes:
    return dict(headers).get(b"Me", YOURS)


ME: Headers = [(b"Me", MINE)]


def control(kept: Kept, shared: FakeRedis | None = None, peers: FakePeers | None = None, clock: Clock | None = None) -> StreamControl:
    resumption = Resumption(kept.streams, kept._count)
    alarms = Alarms(clock or kept.clock)
    return StreamControl(
        resumption, cast("Peers | None", peers), cast("Shared | None", shared), alarms, lambda: 12.5, lambda: [kept.route], scope
    )


# -- for owners


def test_its_owner_sees_how_it_stands_and_ends_it() -> None:
    kept = Kept()
    seat = kept.streaming(event(1))
    found = now(control(kept).find(kept.run.sid, ME, b""))
    assert found.state()["state"] == "live"
    assert (b"X-Stream-State", b"live") in found.notes and (b"X-Txsse-Stream", kept.run.sid.encode()) in found.notes
    told: list[Any] = []
    observe = cast(ILogObserver, told.append)
    globalLogPublisher.addObserver(observe)
    try:
        again = now(now(found.end()).end())
    finally:
        globalLogPublisher.removeObserver(observe)
    assert again.state()["error"]["code"] == "cancelled"
    kept.wait(0.5)
    assert seat.code == "cancelled"
    (line,) = [each for each in told if "is ended by" in each.get("log_format", "")]
    assert line["stream"] == f"{kept.run.sid[:8]}.."


@pytest.mark.parametrize(("sid", "headers"), [("", ME), ("x", ME), ("é", ME), (new_sid(), ME), (None, [])])
def test_nobody_else_does(sid: str | None, headers: Headers) -> None:
    kept = Kept()
    with pytest.raises(ProxyError) as caught:
        now(control(kept).find(kept.run.sid if sid is None else sid, headers, b""))
    assert caught.value.code == "stream_not_found"


@pytest.mark.parametrize("mode", ["off", "auto"])
def test_whose_scripts_may_come_back(mode: str) -> None:
    kept = Kept()
    kept.route = bound(model.Route(name="llama", cors_origins=("https://a.example",), resume=model.Resume(mode=mode)), kept.backend)
    assert control(kept).origins == ({"https://a.example"} if mode == "auto" else set())


@pytest.mark.parametrize(
    ("sid", "headers", "passed"), [("other~x", [], True), ("other~x", [(b"X-Txsse-Hop", b"a")], False), ("x", [], False)]
)
def test_what_a_peer_keeps_it_is_asked(sid: str, headers: Headers, passed: bool) -> None:
    head = RequestHead(b"DELETE", b"/", b"HTTP/1.1", [(b"Host", b"h"), *headers])
    assert control(Kept(), peers=FakePeers()).passes_on(head, sid) is passed
    assert not control(Kept()).passes_on(head, sid)


# -- on other machines


def test_one_of_another_machine_is_seen() -> None:
    kept = Kept()
    redis = FakeRedis(kept.route)
    sid = new_sid()
    found = now(control(kept, redis).find(sid, ME, b""))
    assert found.state() == {"id": sid, "state": "live", "created": 5.0, "first": 3, "last": 7}
    assert dict(found.notes)[b"X-Stream-First"] == b"3"
    redis.answers = [CANCELLED]
    found = now(control(kept, redis).find(sid, ME, b""))
    assert (found.state()["state"], found.state()["error"]["code"]) == ("error", "cancelled")
    redis.answers = [DONE]
    assert now(control(kept, redis).find(sid, ME, b"")).state()["state"] == "done"
    asked = redis.asked
    assert now(control(kept, redis).find(kept.run.sid, ME, b"")).state()["id"] == kept.run.sid
    assert redis.asked == asked, "what is here is not looked for elsewhere"


@pytest.mark.parametrize("broken", [False, True])
def test_by_its_owner_only_and_only_if_the_store_can_be_asked(broken: bool) -> None:
    kept = Kept()
    with pytest.raises(ProxyError) as caught:
        now(control(kept, FakeRedis(kept.route, broken=broken)).find(new_sid(), ME if broken else [], b""))
    assert caught.value.code == ("upstream_unavailable" if broken else "stream_not_found")


@pytest.mark.parametrize(("after", "state"), [(3, "error"), (LOOKS + 5, "live")])
def test_its_end_is_asked_for_and_awaited_for_a_moment(after: int, state: str) -> None:
    kept, clock = Kept(), Clock()
    redis = FakeRedis(kept.route, [None] * after + [CANCELLED])
    found = now(control(kept, redis, clock=clock).find(new_sid(), ME, b""))
    told: list[Any] = []
    Deferred.fromCoroutine(found.end()).addCallback(told.append)
    assert told == []
    clock.pump([LOOK / 5] * 10 * LOOKS)
    assert (told[0].state()["state"], redis.cancelled) == (state, 1)


def test_what_is_over_is_not_asked_to_end() -> None:
    kept = Kept()
    redis = FakeRedis(kept.route, [DONE])
    found = now(control(kept, redis).find(new_sid(), ME, b""))
    assert now(found.end()).state()["state"] == "done"
    assert redis.cancelled == 0


# -- for the operator


def test_the_operator_sees_the_newest_first_without_their_ids() -> None:
    first = Kept(sid="A" * 22)
    second = Kept(first.streams, ready=False, sid="node~" + "B" * 22)
    second.join(asked=True)
    first.over(event(1))
    view = control(first)
    assert (view.kept, view.live) == (2, 1)
    assert view.size == first.run.recording.size + second.run.recording.size
    newest, oldest = view.glimpses()
    assert (newest.sid, newest.state, newest.last, newest.readers, newest.age) == ("node~BBBBBBBB..", "waiting", 0, 1, 12.5)
    assert (oldest.sid, oldest.route, oldest.state, oldest.first, oldest.last) == ("AAAAAAAA..", "llama", "done", 1, 1)


def test_the_operator_ends_one_by_the_beginning_of_its_id() -> None:
    first = Kept(sid="A" * 8 + "1" * 14)
    second = Kept(first.streams, sid="A" * 8 + "2" * 14)
    for kept in (first, second):
        kept.streaming(event(1))
    view = control(first)
    assert [each.state for each in view.end("A" * 8)] == ["live", "live"]
    assert view.end("B" * 8) == []
    (ended,) = view.end("A" * 8 + "2")
    assert (ended.state, second.run.over, first.run.over) == ("error", True, False)
    assert second.run.error is not None and second.run.error.code == "cancelled"
