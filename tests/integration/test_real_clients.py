"""The clients people really use, in front of the demo backend and of scripted ones: openai, httpx-sse, curl."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from httpx_sse import connect_sse
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.integration.bench import CHAT, DONE, Bench, ch
from tests.integration.conftest import Start
from tests.integration.process import CALM, Process, Proxy, route, server, upstream
from txsse.testing import HANG, LAST_CHUNK, REQUEST, STREAM_HEAD, Gate, Script, answer, chunk, eventually, sleep, steps, stream

TIMES = """
[route.hold]
timeout = "60s"
commit_after = "50ms"
[route.keepalive]
commit_after = "50ms"
interval = "50ms"
heartbeat = "150ms"
"""
CONFIG = (
    server()
    + upstream()
    + upstream("never", port="nowhere")
    + upstream("demo", 'probe = { preset = "llamacpp", interval = "50ms" }', port="demo")
    + route("demo", "demo", TIMES)
    + route("demo-calm", "demo", CALM)
    + route("never", "never", TIMES.replace('timeout = "60s"', 'timeout = "200ms"'))
    + route("event", more=TIMES + 'form = "event"\n')
    + route(more=TIMES)
)
MESSAGES: Any = [{"role": "user", "content": "Hi"}]
TEXT = "one two three four"


@pytest.fixture(scope="module")
def demo(running_proxies: Start, tmp_path_factory: pytest.TempPathFactory) -> Generator[Proxy]:
    """A proxy whose route ``demo`` leads to a fake model that sleeps, wakes in half a second and has a pace."""
    proxy = running_proxies(CONFIG)
    options = ["--port", str(proxy.ports["demo"]), "--wake", "0.5", "--pace", "0.02", "--text", TEXT]
    backend = Process([sys.executable, "-m", "txsse.demo", *options], tmp_path_factory.mktemp("demo"), "demo")
    backend.wait_until_open(proxy.ports["demo"])
    yield proxy
    backend.stop()
    assert "Traceback" not in backend.log, backend.log


def client(proxy: Proxy, case: str) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"http://127.0.0.1:{proxy.port}/v1", api_key="k", max_retries=0, timeout=60, default_headers={"X-Case": case}
    )


def say(proxy: Proxy, case: str, **extra: str) -> str:
    """What openai's client reads as the answer."""
    with client(proxy, case) as api, api.chat.completions.create(model="m", messages=MESSAGES, stream=True, extra_headers=extra) as chunks:
        return "".join(each.choices[0].delta.content or "" for each in chunks)


def test_openai_reads_a_cold_start(demo: Proxy) -> None:
    assert say(demo, "demo").strip() == TEXT


def test_openai_async_reads_over_every_silence(demo: Proxy) -> None:
    base = f"http://127.0.0.1:{demo.port}/v1"

    async def read(api: openai.AsyncOpenAI, silence: str) -> str:
        chunks = await api.chat.completions.create(model="m", messages=MESSAGES, stream=True, extra_headers={f"X-Demo-{silence}": "0.3"})
        return "".join([each.choices[0].delta.content or "" async for each in chunks])

    async def read_all() -> list[str]:
        async with openai.AsyncOpenAI(base_url=base, api_key="k", max_retries=0, timeout=60, default_headers={"X-Case": "demo"}) as api:
            return await asyncio.gather(*[read(api, silence) for silence in ("Prefill", "First", "Gap", "Stall")])

    assert [each.strip() for each in asyncio.run(read_all())] == [TEXT] * 4


def test_openai_gets_a_plain_answer(demo: Proxy) -> None:
    with client(demo, "demo") as api:
        answered = api.chat.completions.create(model="m", messages=MESSAGES, extra_headers={"X-Demo-Prefill": "0.2"})
    assert (answered.choices[0].message.content or "").strip() == TEXT


@pytest.mark.parametrize("prefill", ["0", "0.2"])
@pytest.mark.parametrize("fail", ["reset", "status=429", "html=502", "die-in-event", "die-between-events"])
def test_openai_never_takes_a_failure_for_a_success(demo: Proxy, fail: str, prefill: str) -> None:
    with pytest.raises(openai.APIError) as raised:
        say(demo, "demo" if prefill == "0.2" else "demo-calm", **{"X-Demo-Fail": fail, "X-Demo-Prefill": prefill})
    assert not isinstance(raised.value, openai.APITimeoutError)
    if fail == "status=429" and prefill == "0":
        assert isinstance(raised.value, openai.RateLimitError), "inside the grace the status is the true one"


def test_openai_never_takes_json_for_a_stream_after_the_commit(demo: Proxy) -> None:
    with pytest.raises(openai.APIError):
        say(demo, "demo", **{"X-Demo-Fail": "json200", "X-Demo-Prefill": "1"})


def test_openai_raises_our_message_when_nothing_becomes_ready(demo: Proxy) -> None:
    with pytest.raises(openai.APIError) as raised:
        say(demo, "never")
    assert raised.value.code == "readiness_timeout"
    assert raised.value.type == "server_error"
    assert raised.value.message
    with client(demo, "never") as api, pytest.raises(openai.InternalServerError) as plain:
        api.chat.completions.create(model="m", messages=MESSAGES)
    assert plain.value.status_code == 503
    assert 1 <= int(plain.value.response.headers["retry-after"]) <= 60


async def in_thread(bench: Bench, script: Script, read: Callable[[], Any]) -> Any:
    await bench.play(script)
    return await deferToThread(read)


@pytest.mark.parametrize("case", ["", "event"])
async def test_openai_survives_ids_and_comments(bench: Bench, case: str) -> None:
    body = STREAM_HEAD + chunk(b": OPENROUTER PROCESSING\n\nid: 1\n" + ch("a"))
    script = steps(REQUEST, 0.2, body, 0.2, chunk(b"id: 2\n" + ch("b") + DONE) + LAST_CHUNK)
    assert await in_thread(bench, script, lambda: say(bench.proxy, case)) == "ab"


def read_events(proxy: Proxy) -> list[tuple[str, str, str]]:
    with (
        httpx.Client(timeout=60) as http,
        connect_sse(http, "GET", f"http://127.0.0.1:{proxy.port}/events") as source,
    ):
        return [(each.event, each.id, each.data) for each in source.iter_sse()]


async def test_httpx_sse_reads_ids_gaps_and_stalls(bench: Bench) -> None:
    script = steps(
        REQUEST,
        0.12,
        STREAM_HEAD + chunk(b"id: 1\ndata: a\n\nda"),
        0.2,
        chunk(b"ta: b\n\n"),
        0.12,
        chunk(b"event: e\ndata: c\n\n") + LAST_CHUNK,
    )
    events = await in_thread(bench, script, lambda: read_events(bench.proxy))
    assert events == [("message", "1", "a"), ("message", "1", "b"), ("e", "1", "c")]


async def test_httpx_sse_sees_the_cut(bench: Bench) -> None:
    script = steps(REQUEST, STREAM_HEAD + chunk(b"data: a\n\ndata: {"), 0.02, HANG)
    await bench.play(script)
    reading = deferToThread(read_events, bench.proxy)
    await bench.upstream.until(lambda: bench.upstream.requests)
    await sleep(reactor, 0.05)
    next(each for each in bench.upstream.connections if each.requests).reset()
    with pytest.raises(httpx.RemoteProtocolError):
        await reading


async def test_httpx_that_leaves_ends_the_backends_work(bench: Bench) -> None:
    def leave() -> None:
        url = f"http://127.0.0.1:{bench.proxy.port}{CHAT}"
        with httpx.Client() as http, http.stream("POST", url, json={"stream": True}) as response:
            next(response.iter_raw())

    await in_thread(bench, steps(REQUEST, HANG), leave)
    await eventually(reactor, lambda: not bench.upstream.open_connections, what="the end at the backend")


async def curl(*options: str) -> subprocess.CompletedProcess[bytes]:
    program = shutil.which("curl")
    assert program is not None
    command = [program, "-sS", "-m", "60", *options]
    result: subprocess.CompletedProcess[bytes] = await deferToThread(
        subprocess.run, command, capture_output=True, check=False, stdin=subprocess.DEVNULL
    )
    return result


async def committed(bench: Bench, gate: Gate, *options: str) -> subprocess.CompletedProcess[bytes]:
    """Curl, with a gate that is opened once it was told something."""
    before = await bench.metric("txsse_keepalives_total")
    running = Deferred.fromCoroutine(curl(*options))
    while await bench.metric("txsse_keepalives_total") == before:
        await sleep(reactor, 0.01)
    gate.open()
    return await running


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@needs_curl
async def test_curl_reads_a_stream_and_ends_well(bench: Bench, tmp_path: Path) -> None:
    gate = Gate()
    await bench.play(steps(REQUEST, gate, stream(ch("a"), DONE)))
    result = await committed(
        bench, gate, "-N", "-d", '{"stream":true}', "-D", str(tmp_path / "head"), f"http://127.0.0.1:{bench.proxy.port}{CHAT}"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == b": txsse\n" * result.stdout.count(b": txsse\n") + ch("a") + DONE
    assert b"text/event-stream; charset=utf-8" in (tmp_path / "head").read_bytes()


@needs_curl
async def test_curl_calls_a_cut_an_error(bench: Bench) -> None:
    gate = Gate()
    await bench.play(steps(REQUEST, gate, answer(b'{"error":{"message":"no"}}', "500 Oops")))
    result = await committed(bench, gate, "-N", "-d", '{"stream":true}', f"http://127.0.0.1:{bench.proxy.port}{CHAT}")
    assert result.returncode == 18, "transfer closed with outstanding read data remaining"
    assert b'"message":"no"' in result.stdout


@needs_curl
async def test_curl_uploads_with_expect_and_over_http_1_0(bench: Bench) -> None:
    await bench.play(steps(REQUEST, answer(b"ok"), repeat=True))
    for options in (["-H", "Expect: 100-continue"], ["-0"], ["-H", "Transfer-Encoding: chunked"]):
        result = await curl(*options, "--data-binary", "x" * 100_000, f"http://127.0.0.1:{bench.proxy.port}/upload")
        assert (result.returncode, result.stdout) == (0, b"ok"), options
    assert [len(each.body) for each in bench.upstream.requests] == [100_000] * 3
