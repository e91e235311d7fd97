from __future__ import annotations

import re
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from txsse.cli.demo import Plan, demo
from txsse.cli.errors import CommandError
from txsse.cli.terminal import Terminal
from txsse.config import Configuration
from txsse.demo.bodies import DONE, chat_events, compact
from txsse.demo.settings import TEXT
from txsse.testing import (
    CLOSE,
    HANG,
    LAST_CHUNK,
    REQUEST,
    STREAM_HEAD,
    Script,
    ScriptedUpstream,
    answer,
    chunk,
    eventually,
    free_port,
    steps,
)

QUICK = Plan(wake=0.1, prefill=0.05, pace=0.001, interval=0.03)


def ours(text: str) -> bytes:
    """A chunk as the proxy makes it while it holds the request."""
    body = {"id": "chatcmpl-txsse-1", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
    return chunk(b"data: " + compact(body) + b"\n\n")


HELD = ours("The model is waking up.") + ours(".") + chunk(b": txsse\n") + ours("") + ours("\n\n---\n\n")
WORDS = b"".join(chunk(event) for event in chat_events(1, 0, "demo", ["Good", "morning."]))
GOOD = steps(REQUEST, STREAM_HEAD, 0.02, HELD, 0.05, WORDS + chunk(DONE) + LAST_CHUNK, CLOSE)


class Proxies:
    """Starts a scripted server in the proxy's place, and remembers it."""

    def __init__(self, script: Script) -> None:
        self.upstream = ScriptedUpstream(reactor, script)
        self.configuration = Configuration()

    async def start(self, given: Any, configuration: Configuration) -> tuple[int, Callable[[], Any]]:
        self.configuration = configuration
        await self.upstream.open()
        return self.upstream.port, self.upstream.stop


async def test_it_shows_what_comes_and_sums_it_up() -> None:
    proxies, out = Proxies(GOOD), StringIO()
    assert await demo(reactor, Terminal(out), QUICK, proxies.start) == 0
    text = out.getvalue()
    shown = [line[10:] for line in text.splitlines() if re.match(r" *\d+\.\d{3}  ", line)]
    assert shown == [
        "POST /v1/chat/completions",
        "200 OK, text/event-stream",
        "message: The model is waking up.",
        ".",
        ".  txsse",
        ".  heartbeat",
        "separator: ---",
        "Good morning.",
        "[DONE]",
    ]
    assert re.search(r"first byte after 0\.\d s, 3 keepalives, 2 words, longest silence 0\.\d s, complete after 0\.\d s", text)
    assert "straight to the model, at 0 s: 503 " in text
    assert "Loading model" in text
    assert "\x1b" not in text


async def test_the_proxy_is_told_of_the_backend_and_the_interval() -> None:
    proxies = Proxies(GOOD)
    await demo(reactor, Terminal(StringIO()), QUICK, proxies.start)
    (upstream,), (route,) = proxies.configuration.upstream, proxies.configuration.route
    assert upstream.url.startswith("http://127.0.0.1:")
    assert (route.keepalive.interval, route.hold.message, route.hold.channel) == (0.03, "The model is waking up.", "content")
    assert proxies.configuration.server.admin == "none"


async def test_an_error_in_the_stream_is_shown_and_is_the_status() -> None:
    frame = b'data: {"error":{"message":"the model died","type":"server_error","param":null,"code":"x"}}\n\n'
    out = StringIO()
    assert await demo(reactor, Terminal(out), QUICK, Proxies(steps(REQUEST, STREAM_HEAD + chunk(frame) + LAST_CHUNK, CLOSE)).start) == 1
    assert "error: the model died" in out.getvalue()
    assert "not complete" in out.getvalue()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (steps(REQUEST, answer(b"no", "502 Bad Gateway"), CLOSE), "502: no"),
        (steps(REQUEST, STREAM_HEAD + WORDS, CLOSE), "broke"),
        (steps(REQUEST, CLOSE), "no answer"),
    ],
)
async def test_a_proxy_that_fails_is_told_without_a_traceback(script: Script, message: str) -> None:
    with pytest.raises(CommandError, match=message):
        await demo(reactor, Terminal(StringIO()), QUICK, Proxies(script).start)


async def test_what_was_started_is_stopped_when_the_proxy_does_not_start() -> None:
    async def fail(given: Any, configuration: Configuration) -> tuple[int, Callable[[], Any]]:
        raise CommandError(f"port {free_port()} is in use")

    with pytest.raises(CommandError, match="in use"):
        await demo(reactor, Terminal(StringIO()), QUICK, fail)


async def test_cancelled_it_stops_what_it_started_and_shows_no_more() -> None:
    proxies, out = Proxies(steps(REQUEST, STREAM_HEAD + HELD, HANG)), StringIO()
    showing = Deferred.fromCoroutine(demo(reactor, Terminal(out), QUICK, proxies.start))
    await eventually(reactor, lambda: "separator" in out.getvalue())
    showing.cancel()
    with pytest.raises(CancelledError):
        await showing
    assert proxies.upstream.open_connections == []
    assert out.getvalue().splitlines()[-1].endswith("separator: ---")


async def test_before_the_real_proxy_it_shows_a_whole_cold_start() -> None:
    out = StringIO()
    assert await demo(reactor, Terminal(out), Plan(wake=1.2, prefill=0.3, pace=0.001, interval=0.1)) == 0
    text = out.getvalue()
    assert "message: The model is waking up." in text
    assert "separator: ---" in text
    assert f"{len(TEXT.split())} words" in text
    assert text.index("waking up.") < text.index("separator") < text.index("Good morning.") < text.index("[DONE]")
