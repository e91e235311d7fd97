"""Starting, reloading, draining and ending: signals and exit statuses of the real process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_twisted  # type: ignore[import-untyped]  # ships no types
from twisted.internet import reactor

from tests.integration.bench import ASK, CHAT, DONE, PLAIN, Bench, ch, is_cut, last_error
from tests.integration.process import TIMES, Process, Proxy, route, server, twistd, upstream
from txsse.testing import (
    HANG,
    LAST_CHUNK,
    REQUEST,
    STREAM_HEAD,
    Gate,
    RecordingClient,
    ScriptedUpstream,
    answer,
    chunk,
    eventually,
    free_port,
    sleep,
    steps,
    stream,
)

LONG = TIMES.replace('timeout = "300ms"', 'timeout = "60s"')
CONFIG = (
    server("drain = '20s'")
    + upstream(more='probe = { preset = "none" }\n')
    + upstream("down", port="nowhere")
    + route("down", "down", LONG)
    + route()
)


@pytest_twisted.async_yield_fixture()  # type: ignore[untyped-decorator]
async def own(own_proxies: Callable[[str], Proxy]) -> AsyncIterator[Bench]:
    made = Bench(reactor, own_proxies(CONFIG))
    yield made
    await made.close()


async def ended(bench: Bench) -> int:
    await eventually(reactor, lambda: bench.proxy.returncode is not None, what="the end of the process")
    assert bench.proxy.returncode is not None
    return bench.proxy.returncode


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_an_idle_proxy_at_once_with_status_0(own: Bench, number: signal.Signals) -> None:
    await own.play(steps(REQUEST, answer(b"ok")))
    client = await own.post(PLAIN)
    await client.complete()
    own.proxy.signal(number)
    assert await client.gone() == "fin", "the idle connection is closed"
    assert await ended(own) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_streams_finish_while_it_drains(own: Bench, number: signal.Signals) -> None:
    gate = Gate()
    await own.play(steps(REQUEST, STREAM_HEAD + chunk(ch("a")), gate, chunk(DONE) + LAST_CHUNK))
    client = await own.post()
    await client.contains(ch("a"))
    idle = await own.client()
    assert (await own.admin("/healthz")).status == 200  # whose connection came after
    own.proxy.signal(number)
    assert await idle.gone() == "fin"
    assert (await own.admin("/readyz")).status == 503
    assert (await own.admin("/healthz")).status == 200
    with pytest.raises(Exception, match="refused"):
        await own.client()
    if number == signal.SIGINT:
        await eventually(reactor, lambda: re.search("1 stream is open", own.proxy.log), what="the line about it")
    gate.open()
    await client.complete()
    assert client.body.replace(b": txsse\n", b"") == ch("a") + DONE
    assert await ended(own) == 0


async def test_the_lame_duck_still_listens(own_proxies: Callable[[str], Proxy]) -> None:
    proxy = own_proxies(CONFIG.replace("drain = '20s'", "drain = '20s'\nlame_duck = '1s'"))
    bench = Bench(reactor, proxy)
    await bench.play(steps(REQUEST, answer(b"ok")))
    assert (await bench.admin("/readyz")).status == 200
    proxy.signal(signal.SIGTERM)
    while (await bench.admin("/readyz")).status != 503:
        pass
    client = await bench.post(PLAIN)
    assert (await client.complete()).status == 200
    assert await ended(bench) == 0
    await bench.close()


async def test_a_second_signal_cuts_streams_and_held_requests_with_an_error(own: Bench) -> None:
    await own.play(steps(REQUEST, STREAM_HEAD + chunk(ch("a")), HANG))
    client = await own.post()
    await client.contains(ch("a"))
    held = await own.post(case="down")
    await held.head()
    silent = await own.post(PLAIN, case="down")
    await own.until_waiting(2, "down")
    own.proxy.signal(signal.SIGTERM)
    await own.logged("draining")
    await sleep(reactor, 0.3)
    assert not client.closed and not held.closed and not silent.closed, "they may go on until the drain is over"
    own.proxy.signal(signal.SIGTERM)
    for each in (client, held):
        await is_cut(each)
        assert last_error(each)["code"] == "shutting_down"
    response = await silent.complete()
    assert response.status == 503
    assert response.header("retry-after")
    assert b'"code":"shutting_down"' in silent.body
    assert await ended(own) == 0


async def test_the_drain_has_an_end(own_proxies: Callable[[str], Proxy]) -> None:
    bench = Bench(reactor, own_proxies(CONFIG.replace("drain = '20s'", "drain = '300ms'")))
    held = await bench.post(case="down")
    await held.head()
    began = reactor.seconds()
    bench.proxy.signal(signal.SIGTERM)
    await is_cut(held)
    assert last_error(held)["code"] == "shutting_down"
    assert held.reads[-1].at - began >= 0.29
    assert await ended(bench) == 0
    await bench.close()


async def test_a_request_on_an_open_connection_is_refused_while_draining(own: Bench) -> None:
    gate = Gate()
    await own.play(steps(REQUEST, gate, answer(b"ok"), HANG))
    client = await own.post(PLAIN)
    await own.upstream.until(lambda: own.upstream.requests)
    own.proxy.signal(signal.SIGTERM)
    await own.logged("draining")
    gate.open()
    response = await client.complete()
    assert response.status == 200
    assert response.header("connection") == b"close", "the client must not send another one here"
    assert await client.gone() == "fin"
    assert await ended(own) == 0


async def test_a_reload_takes_effect_and_leaves_streams_alone(own: Bench) -> None:
    gate = Gate()
    await own.play(steps(REQUEST, STREAM_HEAD + chunk(ch("a")), gate, chunk(DONE) + LAST_CHUNK))
    client = await own.post()
    await client.contains(ch("a"))
    second = free_port()
    own.proxy.ports["second"] = second
    own.proxy.configure(CONFIG.replace("$main", "$second"))
    own.proxy.signal(signal.SIGHUP)
    await own.logged("reloaded")
    refused = await own.post(PLAIN)
    assert (await refused.complete()).status == 502, "nobody listens on the new port"
    gate.open()
    await client.complete()
    assert client.body.endswith(DONE)


async def test_a_bad_file_is_refused_and_the_old_one_kept(own: Bench) -> None:
    await own.play(steps(REQUEST, answer(b"ok"), repeat=True))
    own.proxy.configure(CONFIG.replace("preset", "prest"))
    own.proxy.signal(signal.SIGHUP)
    line = await own.logged("refused")
    await eventually(reactor, lambda: "prest" in own.proxy.log and "preset" in own.proxy.log, what=f"the reason for {line}")
    client = await own.post(PLAIN)
    assert (await client.complete()).status == 200
    assert own.proxy.returncode is None


async def test_a_signal_while_a_held_stream_goes_on_does_not_stop_its_keepalives(own: Bench) -> None:
    held = await own.post(case="down")
    await held.head()
    own.proxy.signal(signal.SIGTERM)
    await own.logged("draining")
    count = len(held.comments)
    await held.until(lambda: len(held.comments) - count >= 3)
    held.close()
    assert await ended(own) == 0


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(twistd(*options), capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)


BAD_OPTIONS = [
    (["--upstrem", "http://127.0.0.1:1"], ["--upstrem", "--upstream"]),
    (["--upstream", "http://127.0.0.1:1/v1"], ["/v1", "remove"]),
    (["--upstream", "http://u:p@127.0.0.1:1"], ["--upstream"]),
    (["--upstream", "ftp://127.0.0.1:1"], ["ftp", "http"]),
    (["--upstream", "http://127.0.0.1:1", "--preset", "vlm"], ["vlm", "vllm"]),
    (["--upstream", "http://127.0.0.1:1", "--interval", "soon"], ["soon"]),
    (["--upstream", "http://127.0.0.1:1", "--workers", "2"], ["workers", "2"]),
    ([], ["--upstream"]),
    (["--config", "/nonexistent.toml"], ["/nonexistent.toml"]),
]


@pytest.mark.parametrize(("options", "words"), BAD_OPTIONS, ids=[" ".join(options[-2:]) or "none" for options, _ in BAD_OPTIONS])
def test_a_bad_option_is_told_in_words_with_status_2(options: list[str], words: list[str]) -> None:
    result = run(*options)
    assert result.returncode == 2, result
    text = result.stdout + result.stderr
    for word in words:
        assert word in text
    assert "Traceback" not in text


def test_a_port_in_use_is_told_in_words(own_proxies: Callable[[str], Proxy]) -> None:
    proxy = own_proxies(CONFIG)
    result = run("--upstream", "http://127.0.0.1:1", "--admin", "none", "--listen", f"tcp:{proxy.port}:interface=127.0.0.1")
    text = result.stdout + result.stderr
    assert result.returncode == 2, text
    assert str(proxy.port) in text
    assert "Traceback" not in text


def test_check_prints_the_whole_configuration_with_secrets_hidden(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(
        '[server]\nadmin_token = "hunter2"\n[[upstream]]\nname = "a"\nurl = "http://127.0.0.1:1"\n'
        'set_headers = { Authorization = { env = "TXSSE_TEST_KEY" } }\n[[route]]\nupstream = "a"\n'
    )
    os.environ["TXSSE_TEST_KEY"] = "Bearer hunter3"
    try:
        result = run("--config", str(file), "--check")
    finally:
        del os.environ["TXSSE_TEST_KEY"]
    assert result.returncode == 0, result
    assert "hunter" not in result.stdout + result.stderr
    assert "***" in result.stdout
    assert "commit_after" in result.stdout


async def test_the_effective_number_of_connections_is_in_the_log(own: Bench) -> None:
    line = await own.logged("connections at most")
    assert "txsse" in line


async def test_options_alone_are_enough(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """The command line of the tutorial."""
    upstream, port = ScriptedUpstream(reactor, steps(REQUEST, stream(ch("a"), DONE), repeat=True)), free_port()
    options = ["--upstream", upstream.url, "--listen", f"tcp:{port}:interface=127.0.0.1", "--admin", "none", "--preset", "tcp"]
    process = Process(twistd(*options), tmp_path, "proxy")
    request.node.proxies = [process]
    await upstream.open()
    await eventually(reactor, lambda: "connections at most" in process.log, 60, "the start")
    client = await RecordingClient.connect(reactor, port)
    client.post(CHAT, ASK)
    await client.complete()
    assert client.body.endswith(ch("a") + DONE)
    process.signal(signal.SIGTERM)
    await client.gone()
    await eventually(reactor, lambda: process.returncode is not None)
    assert process.returncode == 0
    await upstream.stop()
