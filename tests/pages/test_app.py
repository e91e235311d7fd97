"""``/-/hold/<token>`` whole: raw requests into a real channel, raw answers out of it, time by a clock."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from txsse.clock import Alarms
from txsse.errors import Outcome, ProxyError
from txsse.exchange.voice import HoldStatus
from txsse.pages.listener import own_pages
from txsse.testing import events
from txsse.wire.headers import Headers, get
from txsse.wire.http1 import RequestHead

TOKEN = "A" * 22
STALL = 30  # seconds, the default of an event stream


@attrs.define(eq=False)
class FakeWait:
    ready: bool = False
    failure: str = ""
    fails: str = ""
    renewed: int = 0
    now: HoldStatus = attrs.field(factory=lambda: HoldStatus("llama", "waking", 12.34, eta=31, position=2))

    def renew(self) -> None:
        self.renewed += 1
        self.failure = self.fails

    def status(self) -> HoldStatus:
        return self.now


class Transport(StringTransport):
    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()


class Bench:
    """A PagesView, and one connection to its pages."""

    def __init__(self, *, locked: bool = False) -> None:
        self.clock = Clock()
        self.alarms = Alarms(self.clock)
        self.wait: FakeWait | None = FakeWait()
        self.asked: list[str] = []
        self.account: list[tuple[bytes, bytes, int, str, Outcome]] = []
        self._locked = locked
        self._pages = own_pages(self, self.clock)
        self.is_ours = self._pages.is_ours
        self.transport = Transport()

    def lets_in(self, headers: Headers, path: bytes) -> bool:
        return not self._locked or get(headers, b"cookie") == b"key=1" or path.endswith(b"?key=1")

    shows_pages = True
    stream_control = None

    def followed(self, token: str) -> FakeWait | None:
        self.asked.append(token)
        return self.wait if token == TOKEN else None

    def page_asked(self, head: RequestHead) -> bytes:
        return head.request_id or b"new"

    def page_answered(
        self, head: RequestHead, ident: bytes, peer: str, status: int, size: int, error: ProxyError | None, outcome: Outcome
    ) -> None:
        self.account.append((head.method, ident, status, error.code if error else "", outcome))

    def get(self, path: str = f"/-/hold/{TOKEN}", *fields: str, method: str = "GET") -> Bench:
        self.protocol: Any = self._pages.welcome(self.transport)._protocol
        self.protocol.makeConnection(self.transport)
        lines = [f"{method} {path} HTTP/1.1", "Host: h..h", "Connection: close", *fields, "", ""]
        self.protocol.dataReceived("\r\n".join(lines).encode())
        return self

    def leave(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))

    def pass_time(self, seconds: float) -> None:
        self.clock.pump([0.05] * round(seconds / 0.05))

    @property
    def head(self) -> list[str]:
        lines: list[str] = self.transport.value().partition(b"\r\n\r\n")[0].decode().split("\r\n")
        return lines

    @property
    def body(self) -> bytes:
        """With its chunks put together."""
        rest: bytes
        rest, body = self.transport.value().partition(b"\r\n\r\n")[2], b""
        if "Transfer-Encoding: chunked" not in self.head:
            return rest
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        return body

    @property
    def told(self) -> list[tuple[str, Any]]:
        return [(each.type, json.loads(each.data)) for each in events(self.body)]

    @property
    def ended(self) -> bool:
        return self.transport.value().endswith(b"\r\n0\r\n\r\n") and self.transport.disconnecting


def test_a_stream_tells_about_each_second_how_it_stands() -> None:
    bench = Bench().get()
    assert bench.head[0] == "HTTP/1.1 200 OK"
    assert {"Content-Type: text/event-stream; charset=utf-8", "Cache-Control: no-store, no-transform", "X-Accel-Buffering: no"} <= set(
        bench.head
    )
    assert not any(line.startswith("Server") for line in bench.head)
    assert bench.told == [("progress", {"state": "waking", "elapsed": 12.3, "eta": 31, "position": 2})]
    assert b"\nretry: 2000\n" in bench.body.partition(b"\n\n")[0]
    bench.pass_time(10)
    assert 10 <= len(bench.told) <= 11
    assert bench.wait is not None and bench.wait.renewed >= 40, "to hold it is to ask for the upstream"
    bench.leave()


def test_who_leaves_is_accounted_for_once() -> None:
    bench = Bench().get(f"/-/hold/{TOKEN}", "X-Request-Id: mine")
    assert "X-Request-Id: mine" in bench.head
    bench.leave()
    assert bench.account == [(b"GET", b"mine", 200, "", "client_closed")]


def test_a_change_is_told_soon() -> None:
    bench = Bench().get()
    assert bench.wait is not None
    bench.pass_time(0.4)
    bench.wait.now = HoldStatus("llama", "loading", 13.0)
    bench.pass_time(0.3)
    assert bench.told[1:] == [("progress", {"state": "loading", "elapsed": 13.0})]
    bench.leave()


def test_its_end_is_told() -> None:
    bench = Bench().get()
    assert bench.wait is not None
    bench.pass_time(1)
    bench.wait.ready = True
    bench.pass_time(0.3)
    assert bench.told[-1] == ("ready", {})
    assert bench.ended
    bench.leave()
    assert_nothing_is_left(bench)


def test_who_comes_when_it_is_over_is_told_at_once() -> None:
    bench = Bench()
    bench.wait = FakeWait(ready=True)
    bench.get()
    assert bench.told == [("ready", {})] and bench.ended and bench.wait.renewed == 0
    bench.leave()


@pytest.mark.parametrize("at_once", [True, False])
def test_so_is_a_failure(at_once: bool) -> None:
    bench = Bench().get()
    assert bench.wait is not None
    bench.wait.fails = "its process exited with status 3"
    if at_once:
        bench.wait.failure = bench.wait.fails
    bench.pass_time(0.5)
    assert bench.told[1:] == [("failed", {"message": "llama did not become ready: its process exited with status 3."})]
    assert bench.ended
    bench.leave()
    assert_nothing_is_left(bench)


def test_what_is_no_longer_there_ends_it_without_a_word() -> None:
    bench = Bench().get()
    bench.wait = None
    bench.pass_time(0.5)
    assert len(bench.told) == 1 and bench.ended
    bench.leave()


def test_who_leaves_asks_for_nothing_any_more() -> None:
    bench = Bench().get()
    bench.pass_time(1)
    bench.leave()
    assert bench.wait is not None
    renewed = bench.wait.renewed
    bench.pass_time(5)
    assert bench.wait.renewed == renewed
    assert_nothing_is_left(bench)


def test_who_does_not_read_is_told_nothing_and_is_not_waited_for() -> None:
    bench = Bench().get()
    bench.pass_time(1)
    assert bench.wait is not None and bench.transport.producer is not None
    bench.transport.producer.pauseProducing()
    bench.transport.producer.pauseProducing()
    bench.pass_time(1)  # what was asked for before may come yet
    told, renewed = len(bench.told), bench.wait.renewed
    bench.pass_time(STALL - 2)
    assert (len(bench.told), bench.wait.renewed, bench.transport.aborted) == (told, renewed, False)
    bench.transport.producer.resumeProducing()
    bench.pass_time(1)
    assert len(bench.told) == told + 1
    bench.transport.producer.pauseProducing()
    bench.pass_time(STALL + 1)
    assert bench.transport.aborted
    bench.leave()
    assert_nothing_is_left(bench)


def test_head_is_a_head() -> None:
    bench = Bench().get(method="HEAD")
    assert bench.head[0] == "HTTP/1.1 200 OK" and bench.body == b""
    bench.leave()
    assert_nothing_is_left(bench)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/-/hold/" + "B" * 22, "404 Not Found", "no_route"),
        ("GET", "/-/hold/", "404 Not Found", "no_route"),
        ("GET", f"/-/hold//{TOKEN}", "404 Not Found", "no_route"),
        ("GET", f"/-/hold/{TOKEN}/x", "404 Not Found", "no_route"),
        ("GET", f"/-/hold/{TOKEN}%2Fx", "404 Not Found", "no_route"),
        ("GET", "/-/hold/%E2%80%A8", "404 Not Found", "no_route"),
        ("POST", f"/-/hold/{TOKEN}", "405 Method Not Allowed", "bad_request"),
    ],
)
def test_what_is_not_there(method: str, path: str, status: str, code: str) -> None:
    bench = Bench().get(path, method=method)
    assert bench.head[0] == f"HTTP/1.1 {status}"
    assert {"Content-Type: application/json", "Cache-Control: no-store"} <= set(bench.head)
    assert json.loads(bench.body)["error"]["code"] == code
    assert ("Allow: GET, HEAD" in bench.head) is (method == "POST")
    bench.leave()


def test_what_is_no_text_is_not_there() -> None:
    bench = Bench().get("/-/hold/%FF")
    assert bench.head[0] == "HTTP/1.1 404 Not Found" and json.loads(bench.body)["error"]["code"] == "no_route"
    bench.leave()
    assert [entry[2:] for entry in bench.account] == [(404, "no_route", "rejected")]


@pytest.mark.parametrize(
    ("path", "fields", "status"), [("", [], 401), ("", ["Cookie: key=1"], 200), ("?key=1", [], 200), ("?key=2", [], 401)]
)
def test_keys_apply_here_too(path: str, fields: list[str], status: int) -> None:
    bench = Bench(locked=True).get(f"/-/hold/{TOKEN}{path}", *fields)
    assert f" {status} " in bench.head[0]
    if status == 401:
        assert json.loads(bench.body)["error"]["code"] == "invalid_api_key"
        assert "WWW-Authenticate: Bearer" in bench.head
        assert bench.asked == [], "whether there is such a token is for those who may know"
    bench.leave()


@pytest.mark.parametrize(
    ("path", "ours"), [(b"/-/hold/x", True), (b"/-/hold/x?y", True), (b"/-/hold", False), (b"/-/holds/x", False), (b"/a/-/hold/x", False)]
)
def test_which_paths_are_ours(path: bytes, ours: bool) -> None:
    assert bool(Bench().is_ours(RequestHead(b"GET", path, b"HTTP/1.1", [(b"Host", b"h")]))) is ours


def assert_nothing_is_left(bench: Bench) -> None:
    bench.pass_time(2)
    assert bench.clock.getDelayedCalls() == []
