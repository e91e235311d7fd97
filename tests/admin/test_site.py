"""The admin listener whole: raw requests into a real channel, raw answers out of it."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from typing import Any

import attrs
import pytest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.web.http import _GenericHTTPChannelProtocol

from tests.admin.fakes import FakeCache, FakeStreams
from txsse.admin.listener import AdminFactory
from txsse.admin.view import Asked, Demand, Status
from txsse.metrics import Metrics
from txsse.testing import pump


@attrs.define
class FakeProxy:
    """An AdminView with one upstream and one route."""

    draining: bool = False
    metrics: Metrics = attrs.field(factory=Metrics)
    broken: bool = False
    waiting: int = 2
    orders: list[str] = attrs.field(factory=list)
    cache: FakeCache | None = None
    streams: FakeStreams | None = None

    def wake(self, upstream: str) -> Asked:
        return self._ask("wake", upstream)

    def stop(self, upstream: str) -> Asked:
        return self._ask("stop", upstream)

    def _ask(self, order: str, upstream: str) -> Asked:
        self.orders.append(f"{order} {upstream}")
        return "done" if upstream == "llama" else "not startable" if upstream == "cloud" else "unknown"

    def status(self) -> Status:
        if self.broken:
            raise ValueError("s3cret detail")
        return {
            "version": "1.2.3",
            "uptime": 12.5,
            "draining": self.draining,
            "upstreams": {
                "llama": {
                    "state": "waking",
                    "since": 3.0,
                    "elapsed": 3.0,
                    "eta": 28.4,
                    "slots": {"number": 4, "taken": 1},
                    "waiting": self.waiting,
                    "in_flight": 0,
                    "last_error": "<script>alert(1)</script> & refused",
                    "output": "loading <b>weights</b>",
                    "pool": {"idle": 1, "open": 4},
                    "servers": [{"url": "http://gpu1:8080", "state": "down", "in_flight": 0, "failed": 3}],
                }
            },
            "routes": {"default": {"in_flight": 2}},
            "connections": 7,
        }

    def queue(self) -> dict[str, Demand]:
        return {"default": {"pending": 2, "active": 1, "demand": 3}}


@attrs.frozen
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    closed: bool

    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)


def ask(
    target: str,
    *,
    method: str = "GET",
    proxy: FakeProxy | None = None,
    token: str = "",
    body: bytes = b"",
    host: str = "localhost",
    **fields: str,
) -> Answer:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}"] + [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return exchange("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body, proxy=proxy, token=token)


def exchange(raw: bytes, *, proxy: FakeProxy | None = None, token: str = "") -> Answer:
    channel = AdminFactory(proxy or FakeProxy(), Clock(), token=token).buildProtocol(None)
    assert channel is not None
    transport = StringTransport()
    channel.makeConnection(transport)
    channel.dataReceived(raw)
    head, _, rest = transport.value().partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return Answer(int(first.split()[1]), headers, rest, transport.disconnecting)


def test_healthz_says_ok() -> None:
    answer = ask("/healthz")
    assert (answer.status, answer.body) == (200, b"ok\n")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_readyz_follows_draining() -> None:
    proxy = FakeProxy()
    assert ask("/readyz", proxy=proxy).status == 200
    proxy.draining = True
    assert ask("/readyz", proxy=proxy).status == 503
    assert ask("/healthz", proxy=proxy).status == 200


def test_metrics_are_prometheus_text_and_read_anew_each_time() -> None:
    proxy = FakeProxy()
    proxy.metrics.rejections["no_route"] += 1
    answer = ask("/metrics", proxy=proxy)
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b'txsse_rejections_total{reason="no_route"} 1.0\n' in answer.body


def test_queue_is_json_for_a_scaler() -> None:
    assert ask("/queue").json() == {"default": {"pending": 2, "active": 1, "demand": 3}}


def test_status_is_json() -> None:
    status = ask("/status").json()
    assert status["upstreams"]["llama"]["pool"] == {"idle": 1, "open": 4}
    assert status["connections"] == 7
    assert (status["upstreams"]["llama"]["eta"], status["upstreams"]["llama"]["slots"]) == (28.4, {"number": 4, "taken": 1})


def test_events_tell_the_status_when_it_changes_and_now_and_then() -> None:
    proxy, clock, transport = FakeProxy(), Clock(), StringTransport()
    channel = AdminFactory(proxy, clock).buildProtocol(None)
    assert channel is not None
    channel.makeConnection(transport)
    channel.dataReceived(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"Content-Type: text/event-stream" in transport.value() and b"\r\nServer:" not in transport.value()

    def told() -> list[Any]:
        return [json.loads(data) for data in re.findall(rb"event: status\ndata: (.*)\n\n", transport.value())]

    assert told() == [proxy.status()]
    pump(clock, 2)
    assert len(told()) == 1, "nothing has changed but the time"
    proxy.waiting = 3
    pump(clock, 1)
    assert [each["upstreams"]["llama"]["waiting"] for each in told()] == [2, 3]
    pump(clock, 6)
    assert len(told()) == 3
    proxy.draining = True
    pump(clock, 1)
    assert told()[-1]["draining"] and transport.value().endswith(b"0\r\n\r\n")
    pump(clock, 10)
    assert len(told()) == 4


def test_events_are_for_whom_the_status_is_for() -> None:
    assert ask("/events", token="t").status == 401
    assert ask("/events", host="evil.example").status == 403


@pytest.mark.parametrize("order", ["wake", "stop"])
def test_an_upstream_is_started_and_stopped_by_post(order: str) -> None:
    proxy = FakeProxy()
    answer = ask(f"/upstreams/llama/{order}", method="POST", proxy=proxy, Content_Length="0")
    assert (answer.status, answer.json()["state"]) == (202, "waking")
    assert proxy.orders == [f"{order} llama"]


@pytest.mark.parametrize(
    ("target", "method", "status", "code"),
    [
        ("/upstreams/llama/wake", "GET", 405, "method_not_allowed"),
        ("/upstreams/llama/stop", "DELETE", 405, "method_not_allowed"),
        ("/upstreams/qwen/wake", "POST", 404, "not_found"),
        ("/upstreams/cloud/wake", "POST", 409, "not_startable"),
        ("/upstreams/llama/restart", "POST", 404, "not_found"),
        ("/upstreams//wake", "POST", 404, "not_found"),
    ],
)
def test_other_orders_are_refused(target: str, method: str, status: int, code: str) -> None:
    answer = ask(target, method=method, Content_Length="0")
    assert (answer.status, answer.json()["error"]["code"]) == (status, code)


def test_nobody_is_woken_by_a_page_of_a_stranger_or_without_the_token() -> None:
    proxy = FakeProxy()
    target, method = "/upstreams/llama/wake", "POST"
    assert ask(target, method=method, proxy=proxy, Content_Length="0", Origin="http://evil.example").status == 403
    assert ask(target, method=method, proxy=proxy, Content_Length="0", Sec_Fetch_Site="cross-site").status == 403
    assert ask(target, method=method, proxy=proxy, Content_Length="0", token="s3cret").status == 401
    assert proxy.orders == []


def test_the_page_shows_the_status_escaped_and_loads_nothing() -> None:
    answer = ask("/")
    page = answer.body.decode("utf-8")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert page.startswith("<!DOCTYPE html>\n<html")
    assert "llama" in page
    assert "4 (1 idle)" in page
    assert "http://gpu1:8080" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; refused" in page
    assert not {"src=", "href="} & set(page.split())
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    (script,) = re.findall("<script>(.*?)</script>", page, re.DOTALL)
    assert f"script-src 'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" in policy, "its own, as it was written"


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics", "/queue", "/status"])
def test_head_answers_the_same_without_a_body(path: str) -> None:
    answer = ask(path, method="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) > 0


@pytest.mark.parametrize("path", ["/", "/healthz", "/queue", "/nothing", "/status"])
def test_every_answer_has_a_length_and_no_server_name(path: str) -> None:
    headers = ask(path).headers
    assert int(headers["content-length"]) > 0
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert not {"server", "transfer-encoding"} & set(headers)


@pytest.mark.parametrize("path", ["/nothing", "/healthz/", "/status//", "/status/%2e", "/..", "/healthz%00", "/%c3%a9"])
def test_anything_else_is_404_as_json(path: str) -> None:
    answer = ask(path)
    assert answer.status == 404
    assert answer.json()["error"]["code"] == "not_found"


@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS", "BREW"])
def test_other_methods_are_405_with_allow(method: str) -> None:
    answer = ask("/status", method=method)
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD"
    assert answer.json()["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize("raw", [b"GET /%ff HTTP/1.1\r\nHost: localhost\r\n\r\n", b"G-T / HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_what_is_not_text_is_refused_and_not_logged(raw: bytes) -> None:
    assert exchange(raw).status == 400


@pytest.mark.parametrize("host", ["a b", "]", "\xe9", "x" * 300, ":::"])
def test_a_malformed_host_does_not_harm_the_open_paths(host: str) -> None:
    assert ask("/healthz", host=host).status == 200
    assert ask("/status", host=host).status == 403


def test_the_guard_stands_before_everything() -> None:
    assert ask("/status", host="evil.example").status == 403
    assert ask("/nothing", host="evil.example").json()["error"]["code"] == "host_refused"
    assert ask("/", Sec_Fetch_Site="cross-site").status == 403


def test_without_the_token_the_client_is_told_how_to_send_it() -> None:
    answer = ask("/status", token="s3cret")
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert ask("/status", token="s3cret", Authorization="Bearer s3cret").status == 200
    assert ask("/healthz", token="s3cret").status == 200


@pytest.mark.parametrize("path", ["/status", "/"])
def test_a_failure_shows_no_traceback(path: str, expected_errors: Any) -> None:
    answer = ask(path, proxy=FakeProxy(broken=True))
    assert answer.status == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert b"s3cret" not in answer.body
    assert len(expected_errors.flush(ValueError)) == 1


@pytest.mark.parametrize(
    "fields", [{"Content-Length": "65537"}, {"Transfer-Encoding": "chunked"}, {"Content-Length": "9" * 12, "Expect": "100-continue"}]
)
def test_a_large_or_endless_body_is_refused_at_the_head(fields: dict[str, str]) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    answer = exchange(f"POST /status HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n5\r\nabcde\r\n0\r\n\r\n".encode("ascii"))
    assert answer.status == 413
    assert answer.body == b""
    assert answer.closed


def test_nothing_ticks_while_nobody_asks() -> None:
    clock = Clock()
    factory = AdminFactory(FakeProxy(), clock)
    factory.doStart()
    assert factory.buildProtocol(None) is not None
    factory.doStop()
    assert clock.getDelayedCalls() == []


def test_all_connections_share_one_application() -> None:
    factory = AdminFactory(FakeProxy(), Clock())
    one, other = factory.buildProtocol(None), factory.buildProtocol(None)
    assert isinstance(one, _GenericHTTPChannelProtocol)
    assert isinstance(other, _GenericHTTPChannelProtocol)
    assert one.factory is other.factory
