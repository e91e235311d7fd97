"""HTTP steps: in order, all of what they are made of, and each way to fail by number and kind."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.defer import CancelledError, Deferred

from txsse.config import model
from txsse.config.errors import Refused
from txsse.config.secret import Secret
from txsse.testing import CLOSE, HANG, REQUEST, ScriptedUpstream, answer, eventually, steps
from txsse.testing.http import ReceivedRequest
from txsse.upstream.wake.hook import Hook
from txsse.upstream.wake.parts import WakeFailed

reactor: Any = _reactor


def step(upstream: ScriptedUpstream, target: str = "/wake", **more: Any) -> model.WakeStep:
    return model.WakeStep(url=f"http://127.0.0.1:{upstream.port}{target}", **more)


def run(*steps: model.WakeStep) -> Deferred[None]:
    return Deferred.fromCoroutine(Hook(reactor, steps)())


def lines(requests: list[ReceivedRequest]) -> list[tuple[bytes, bytes, bytes]]:
    return [(each.method, each.target, bytes(each.body)) for each in requests]


async def test_the_steps_are_sent_in_order_each_after_the_answer_to_the_one_before() -> None:
    upstream = ScriptedUpstream(reactor)
    await upstream.open()
    running = run(step(upstream, "/wake_up"), step(upstream, "/collective_rpc?x=1%2F2", body='{"method":"reload"}'))
    first = await upstream.connection()
    await first.request()
    assert lines(upstream.requests) == [(b"POST", b"/wake_up", b"")]
    first.send(answer(b"", "204 No Content"))
    second = await upstream.connection()
    await second.request()
    assert not running.called
    second.send(answer())
    await running
    assert lines(upstream.requests)[1] == (b"POST", b"/collective_rpc?x=1%2F2", b'{"method":"reload"}')
    await upstream.stop()


async def test_a_step_is_sent_as_it_was_written() -> None:
    upstream = ScriptedUpstream(reactor, steps(REQUEST, answer()))
    await upstream.open()
    headers = {"Authorization": Secret("Bearer s3cret"), "Content-Type": Secret("application/json")}
    await run(step(upstream, "", method="PUT", headers=headers, body='{"é":1}'))
    (sent,) = upstream.requests
    assert lines([sent]) == [(b"PUT", b"/", '{"é":1}'.encode())]
    assert sent.header("authorization") == b"Bearer s3cret"
    assert sent.header_all("content-type") == [b"application/json"]
    assert sent.header_all("host") == [f"127.0.0.1:{upstream.port}".encode()]
    assert sent.header("user-agent") == b"txsse-wake"
    assert sent.header_all("content-length") == [b"8"]
    await upstream.stop()


@pytest.mark.parametrize("status", ["200 OK", "202 Accepted", "204 No Content", "299 Odd"])
async def test_any_2xx_is_a_success(status: str) -> None:
    upstream = ScriptedUpstream(reactor, steps(REQUEST, answer(b"", status)))
    await upstream.open()
    await run(step(upstream))
    await upstream.stop()


@pytest.mark.parametrize("status", ["302 Found", "404 Not Found", "500 Internal Server Error", "503 Service Unavailable"])
async def test_any_other_answer_fails_and_the_steps_after_it_are_not_sent(status: str) -> None:
    good, bad = ScriptedUpstream(reactor, steps(REQUEST, answer())), ScriptedUpstream(reactor, steps(REQUEST, answer(b"no", status)))
    await good.open()
    await bad.open()
    with pytest.raises(WakeFailed, match=f"^wake step 2: HTTP {status[:3]}$"):
        await run(step(good), step(bad), step(good))
    assert len(good.requests) == 1
    await good.stop()
    await bad.stop()


@pytest.mark.parametrize(
    ("script", "problem"),
    [((REQUEST, CLOSE), "connection closed before the end of the answer"), ((REQUEST, b"220 smtp\r\n", HANG), "invalid answer")],
)
async def test_no_answer_fails_with_the_kind_of_failure(script: tuple[Any, ...], problem: str) -> None:
    upstream = ScriptedUpstream(reactor, steps(*script))
    await upstream.open()
    with pytest.raises(WakeFailed, match=f"^wake step 1: {problem}$"):
        await run(step(upstream))
    await upstream.stop()


async def test_a_closed_port_fails_without_telling_where_it_is() -> None:
    upstream = ScriptedUpstream(reactor)
    with pytest.raises(WakeFailed, match=r"^wake step 1: connection refused$"):
        await run(step(upstream, "/secret?token=1"))


@pytest.mark.parametrize("script", [(REQUEST, HANG), (REQUEST, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", HANG)])
async def test_a_step_has_its_time_and_no_more(script: tuple[Any, ...]) -> None:
    upstream = ScriptedUpstream(reactor, steps(*script))
    await upstream.open()
    with pytest.raises(WakeFailed, match=r"^wake step 1: timed out$"):
        await run(step(upstream, timeout=0.1))
    await upstream.until(lambda: not upstream.open_connections)
    await upstream.stop()


async def test_cancelling_resets_the_connection_and_sends_nothing_more() -> None:
    upstream = ScriptedUpstream(reactor)
    await upstream.open()
    running = run(step(upstream), step(upstream))
    seen: list[type[BaseException] | None] = []
    running.addErrback(lambda failure: seen.append(failure.type))
    connection = await upstream.connection()
    await connection.request()
    running.cancel()
    await connection.gone()
    await eventually(reactor, lambda: seen)
    assert seen == [CancelledError]
    assert len(upstream.connections) == 1
    await upstream.stop()


@pytest.mark.parametrize("url", ["", "ftp://127.0.0.1/", "http://user:secret@127.0.0.1/", "unix:/run/socket", "http://127.0.0.1/#part"])
def test_a_url_that_cannot_be_used_is_refused_before_it_is_needed(url: str) -> None:
    with pytest.raises(Refused) as refused:
        Hook(reactor, [model.WakeStep(url=url)])
    assert "secret" not in str(refused.value)
