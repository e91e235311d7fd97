"""What is worked out once for a head holds for every request that brings it, and for nobody else."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import attrs
import pytest

from tests.fakes import FakeBackend
from tests.proxy.test_handler import Bench
from txsse.config import model
from txsse.interfaces import Request
from txsse.proxy.auth import Keys
from txsse.proxy.forwarded import TrustedProxies
from txsse.proxy.plan import plan_of
from txsse.proxy.routes import BoundRoute, RouteTable
from txsse.upstream.backend import Backend
from txsse.wire.headers import Headers
from txsse.wire.http1 import RequestHead

ALICE = "2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90"  # SHA-256 of "alice"


def bind(**fields: Any) -> BoundRoute:
    return BoundRoute.bind(model.Route(name="llama", **fields), cast(Backend, FakeBackend()), "test", TrustedProxies())


def request(head: RequestHead, peer: str = "192.0.2.1", path: bytes = b"/v1/chat/completions") -> Request:
    return Request(head, b"{}", peer, False, b"x", path, 0.0, 0.0)


def make_head(*headers: tuple[bytes, bytes], path: bytes = b"/v1/chat/completions") -> RequestHead:
    fields: Headers = [(b"Host", b"x"), *headers]
    return RequestHead(b"POST", path, b"HTTP/1.1", fields)


def test_it_is_made_once_and_anew_for_new_routes() -> None:
    head, table = make_head(), RouteTable([bind()])
    plan = plan_of(head, table, "abc")
    assert plan_of(head, table, "abc") is plan
    assert plan.route is table.routes[0]
    other = RouteTable([bind(dialect="sse")])
    again = plan_of(head, other, "abc")
    assert again is not plan
    assert again.dialect is not None
    assert again.dialect.name == "sse"


def test_clients_with_the_same_head_keep_their_own_addresses() -> None:
    head, table = make_head(), RouteTable([bind()])
    plan, route = plan_of(head, table, "abc"), table.routes[0]
    for peer in ("192.0.2.1", "192.0.2.2", "192.0.2.1"):
        sent = plan.outline(request(head, peer), route, writes_stream=True).fill(b"127.0.0.1:1", b"r", 2)
        assert b"\r\nX-Forwarded-For: %b\r\n" % peer.encode() in sent
        assert sent.endswith(b"X-Request-Id: r\r\nContent-Length: 2\r\n\r\n")
    plain = plan.outline(request(head), route, writes_stream=False).fill(b"127.0.0.1:1", b"r", 2)
    assert b"Accept-Encoding: identity" not in plain
    secure = attrs.evolve(request(head), secure=True)
    assert b"X-Forwarded-Proto: https" in plan.outline(secure, route, writes_stream=False).fill(b"127.0.0.1:1", b"r", 2)


def test_a_key_is_taken_out_of_every_request() -> None:
    keys = Keys((("alice", bytes.fromhex(ALICE)),), query=b"k")
    head, table = make_head((b"X-Api-Key", b"alice"), path=b"/v1?k=alice"), RouteTable([bind()])
    for _ in range(2):
        given = request(head, path=head.path)
        plan_of(head, table, "abc").strip(given, keys)
        assert (given.head.headers, given.path) == ([(b"Host", b"x")], b"/v1")
    assert len(head.headers) == 2


def test_when_the_body_matters_whatever_its_words() -> None:
    chat = make_head()
    assert not plan_of(chat, RouteTable([bind()]), "abc").must_look
    assert plan_of(chat, RouteTable([bind(streaming="always")]), "abc").must_look
    assert plan_of(chat, RouteTable([bind(match=model.Match(model="q*")), bind()]), "abc").must_look
    assert plan_of(make_head(path=b"/api/chat"), RouteTable([bind()]), "abc").must_look


READ, TOTAL = b"X-Stainless-Read-Timeout", b"X-Stainless-Timeout"


@pytest.mark.parametrize(
    ("headers", "interval"),
    [
        ([], 15),
        ([(READ, b"600")], 15),
        ([(TOTAL, b"600")], 15),
        ([(READ, b"30")], 10),
        ([(READ, b"30.0")], 10),
        ([(TOTAL, b"12")], 4),
        ([(READ, b"60"), (TOTAL, b"12")], 4),
        ([(READ, b"12"), (TOTAL, b"600")], 4),
        ([(READ, b"3")], 1),
        ([(READ, b"0.5")], 1),
        ([(READ, b"0")], 15),
        ([(READ, b"0"), (TOTAL, b"9")], 3),
        ([(READ, b"None")], 15),
        ([(READ, b"-3")], 15),
        ([(READ, b"1e1")], 15),
        ([(READ, b"")], 15),
        ([(READ, b"9" * 40)], 15),
    ],
)
def test_keepalives_come_thrice_in_the_time_that_a_client_says_it_waits(headers: Headers, interval: float) -> None:
    assert plan_of(make_head(*headers), RouteTable([bind()]), "abc").interval(15) == interval


def test_an_interval_that_is_short_already_stays() -> None:
    plan = plan_of(make_head((READ, b"3")), RouteTable([bind()]), "abc")
    assert (plan.interval(0.25), plan.interval(1), plan.interval(5)) == (0.25, 1, 1)


def test_the_exchange_keeps_to_it() -> None:
    bench = Bench()
    exchange, client = bench.open(headers=[(READ, b"6")], body=b'{"stream":true}')
    bench.connect()
    bench.reactor.pump([0.05] * 20 * 12)
    first, *times = client.times
    assert 5 <= first <= 5.1
    assert len(times) == 3
    assert all(2 <= later - earlier <= 2.2 for earlier, later in pairwise(client.times))
    exchange.client_gone()
