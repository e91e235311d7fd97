"""What the connections of our own front share: limits, drain, numbers."""

from __future__ import annotations

import attrs
import pytest

from tests.front.fakes import Bench, Bounds, ScriptedHandler, answer
from txsse.config.model import Server
from txsse.front.connection import LINGER_TIME
from txsse.front.limits import Budget, Limits
from txsse.front.site import MAX_LINGERING

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def test_the_configured_server_has_all_limits() -> None:
    limits: Limits = Server()
    assert limits.max_head == 16 * 1024


def test_connections_over_the_limit_are_told_at_once_and_closed() -> None:
    bench = Bench(ScriptedHandler(answer), Bounds(max_connections=2))
    first, second, third = bench.connect(), bench.connect(), bench.connect()
    assert third.value().startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 1\r\n" in third.value() and b"\r\nConnection: close\r\n" in third.value()
    assert third.half_closed
    assert (bench.site.connections, [each.code for each in bench.handler.refused]) == (2, ["too_many_connections"])
    bench.pass_time(LINGER_TIME + 1, 0.1)
    assert third.gone and not first.gone
    second.client_leaves()
    bench.send(GET)
    assert len(bench.handler.exchanges) == 1


def test_lingering_connections_over_the_limit_are_bounded_too() -> None:
    bench = Bench(bounds=Bounds(max_connections=1))
    refused = [bench.connect() for _ in range(MAX_LINGERING + 3)][1:]
    assert [each.gone for each in refused] == [False] * MAX_LINGERING + [True] * 2
    assert all(each.value() for each in refused)


def test_draining_closes_idle_connections_and_the_others_after_their_answer() -> None:
    bench = Bench()
    fresh, between, inside, answering, late = bench.connect(), bench.send(GET), bench.send(GET[:5]), bench.send(GET), bench.send(GET)
    exchanges = bench.handler.exchanges
    answer(exchanges[0].downstream)
    exchanges[1].downstream.start(200, b"OK", [])
    assert bench.site.connections == 5
    bench.site.drain()
    assert [each.gone for each in (fresh, between, inside, answering, late)] == [True, True, False, False, False]
    exchanges[1].downstream.finish()
    assert answering.gone and b"Connection: close" not in answering.value()
    answer(exchanges[2].downstream)
    assert late.gone and b"\r\nConnection: close\r\n" in late.value()
    bench.send(GET[5:], inside)
    answer(bench.handler.last.downstream)
    assert inside.gone and bench.site.connections == 0


def test_aborting_all_tells_the_exchanges() -> None:
    bench = Bench(bounds=Bounds(max_connections=2))
    transports = [bench.connect(), bench.send(GET), bench.connect()]
    bench.site.abort_all()
    assert all(each.aborted for each in transports)
    assert bench.handler.last.heard == ["gone"]
    assert bench.site.connections == 0


def test_new_limits_hold_from_the_next_request_on() -> None:
    bench = Bench()
    transport = bench.send(GET)
    bench.backing.limits = attrs.evolve(Bounds(), max_head=len(GET) - 1)
    answer(bench.handler.last.downstream)
    bench.send(GET, transport)
    assert [each.http_status for each in bench.handler.refused] == [431]


@pytest.mark.parametrize(("seconds", "shown"), [(0, b"Sun, 09 Sep 2001 01:46:40 GMT"), (61.5, b"Sun, 09 Sep 2001 01:47:41 GMT")])
def test_the_date_is_that_of_the_wall(seconds: float, shown: bytes) -> None:
    bench = Bench()
    assert bench.site.date() == b"Sun, 09 Sep 2001 01:46:40 GMT"
    bench.clock.advance(seconds)
    assert bench.site.date() == shown


def test_a_budget_gives_no_more_than_it_has() -> None:
    budget = Budget(10)
    assert budget.take(6) and not budget.take(5) and budget.take(4)
    assert not budget.fits(1)
    budget.give(10)
    assert budget.used == 0
