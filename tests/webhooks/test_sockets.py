"""Over real sockets: what only the kernel, a resolver and TLS can show."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_twisted  # type: ignore[import-untyped]  # ships no types
from twisted.internet import reactor

from tests.timing import BUSY
from tests.upstream.certificates import Authority, ServerContext, names
from txsse.client.policy import Backoff
from txsse.clock import Alarms
from txsse.config.model import Webhooks
from txsse.testing import HANG, REQUEST, RESET, ScriptedUpstream, answer, eventually, steps
from txsse.webhooks import Sender
from txsse.webhooks.sender import FIRST_PAUSE


class Posts:
    def __init__(self) -> None:
        self.alarms = Alarms(reactor)

    def sender(self, **config: Any) -> Sender:
        return Sender(Webhooks(**config), reactor, self.alarms, backoff=Backoff(longest=FIRST_PAUSE, jitter=0))


@pytest_twisted.async_yield_fixture()  # type: ignore[untyped-decorator]
async def posts() -> AsyncIterator[Posts]:
    made = Posts()
    yield made
    made.alarms.stop()


async def test_a_receiver_that_resets_and_fails_has_all_of_it_in_the_end(posts: Posts) -> None:
    server = ScriptedUpstream(reactor, steps(REQUEST, RESET))
    await server.open()
    big = "x" * 500_000
    sender = posts.sender(allow=(f"{server.url}/hooks/",))
    channel = sender.prediction(f"{server.url}/hooks/1?a=b", None, "p")
    channel.started(lambda: {"status": "processing"})
    channel.completed(lambda: {"status": "succeeded", "output": [big]})
    await eventually(reactor, lambda: len(server.requests) == 2)
    server.script = steps(REQUEST, answer(b"busy", "503 Service Unavailable"), HANG)
    await eventually(reactor, lambda: len(server.requests) == 3)
    server.script = steps(REQUEST, answer(b"thanks"), HANG)
    await eventually(reactor, lambda: len(server.requests) == 4)
    await eventually(reactor, lambda: not server.open_connections)
    start, *ends = server.requests
    assert json.loads(start.body) == {"status": "processing"}
    assert {each.header("webhook-id") for each in ends} != {start.header("webhook-id")}
    assert len({each.header("webhook-id") for each in ends}) == 1
    assert [len(json.loads(each.body)["output"][0]) for each in ends] == [len(big)] * 3
    assert {each.target for each in server.requests} == {b"/hooks/1?a=b"}
    await server.stop()


async def test_a_wildcard_does_not_reach_this_machine_by_its_name(posts: Posts) -> None:
    server = ScriptedUpstream(reactor, steps(REQUEST, answer(), HANG))
    await server.open()
    port = server.url.rpartition(":")[2]
    by_wildcard = posts.sender(allow=("http://*:*/",))
    by_wildcard.prediction(f"http://localhost:{port}/", None, "p").completed(dict)
    await by_wildcard.close(20)
    assert server.connections == []
    by_name = posts.sender(allow=("http://localhost:*/",))
    by_name.prediction(f"http://localhost:{port}/", None, "p").completed(dict)
    await by_name.close(20)
    assert len(server.requests) == 1
    await server.stop()


async def test_https_is_verified_for_the_name_in_the_url(posts: Posts, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    for host, delivered in (("localhost", 1), ("other.test", 0)):
        server = ScriptedUpstream(reactor, steps(REQUEST, answer(), HANG), tls=ServerContext(authority.issue(host, names(host))[1]))
        await server.open()
        url = f"https://localhost:{server.url.rpartition(':')[2]}/"
        sender = posts.sender(allow=(url,), ca_file=authority.ca_file, max_attempts=1)
        sender.prediction(url, None, "p").completed(lambda: {"status": "succeeded"})
        await sender.close(20)
        assert len(server.requests) == delivered
        await server.stop()


async def test_a_hanging_receiver_holds_nobody_up_at_the_end(posts: Posts) -> None:
    server = ScriptedUpstream(reactor, steps(REQUEST, HANG))
    await server.open()
    sender = posts.sender(allow=(server.url,))
    sender.prediction(server.url, None, "p").completed(dict)
    await eventually(reactor, lambda: len(server.requests) == 1)
    began = reactor.seconds()
    await sender.close(0.2)
    assert reactor.seconds() - began < 0.2 + BUSY
    await eventually(reactor, lambda: not server.open_connections)
    await server.stop()
