from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted  # type: ignore[import-untyped]  # ships no types
from twisted.internet import reactor
from twisted.internet.error import ConnectionRefusedError

from txsse.testing import (
    CLOSE,
    HANG,
    LAST_CHUNK,
    REQUEST,
    RESET,
    STREAM_HEAD,
    Event,
    Gate,
    RecordingClient,
    Script,
    ScriptedUpstream,
    UpstreamConnection,
    answer,
    chunk,
    eventually,
    sleep,
    steps,
    stream,
)


@pytest_twisted.async_yield_fixture()  # type: ignore[untyped-decorator]
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    fake = ScriptedUpstream(reactor)
    await fake.open()
    yield fake
    await fake.stop()


async def ask(upstream: ScriptedUpstream, script: Script, method: str = "POST") -> RecordingClient:
    upstream.script = script
    client = await RecordingClient.connect(reactor, upstream.port)
    client.request(method, "/v1/chat/completions", b"{}" if method == "POST" else b"")
    return client


async def test_requests_and_responses_are_recorded(upstream: ScriptedUpstream) -> None:
    client = await ask(upstream, steps(REQUEST, stream(b": hi\n", b"data: 1\n\n"), repeat=True))
    await client.complete()
    client.request("GET", "/again")
    response = await client.complete(2)
    assert [(each.method, each.target) for each in upstream.requests] == [(b"POST", b"/v1/chat/completions"), (b"GET", b"/again")]
    assert len(upstream.connections) == 1
    assert response.header("content-type") == b"text/event-stream"
    assert client.events == [Event("1")]
    assert client.comments == ["hi"]
    assert b"".join(read.data for read in client.reads) == stream(b": hi\n", b"data: 1\n\n") * 2


async def test_a_gate_holds_the_answer_back_and_reads_have_times(upstream: ScriptedUpstream) -> None:
    gate = Gate()
    client = await ask(upstream, steps(REQUEST, STREAM_HEAD, chunk(b"data: a\n\n"), gate, chunk(b"data: b\n\n"), LAST_CHUNK))
    await client.contains(b"data: a\n\n")
    assert not client.response.complete
    await sleep(reactor, 0.03)
    gate.open()
    await client.complete()
    (first, _), (second, data) = client.body_reads
    assert second - first >= 0.03
    assert data == b"data: b\n\n"


@pytest.mark.parametrize(("last", "how"), [(CLOSE, "fin"), (RESET, "reset")])
async def test_the_client_tells_fin_from_reset(upstream: ScriptedUpstream, last: object, how: str) -> None:
    client = await ask(upstream, steps(REQUEST, STREAM_HEAD + chunk(b"data: a\n\n"), 0.02, last))  # type: ignore[arg-type]  # a Step
    assert await client.gone() == how
    assert client.body == b"data: a\n\n"
    assert not client.response.complete


async def test_the_upstream_sees_each_way_of_leaving(upstream: ScriptedUpstream) -> None:
    for leave, how in ((RecordingClient.close, "fin"), (RecordingClient.half_close, "fin"), (RecordingClient.reset, "reset")):
        client = await ask(upstream, steps(REQUEST, HANG))
        connection = await upstream.connection()
        await upstream.until(lambda connection=connection: connection.requests)  # type: ignore[misc]  # mypy infers no lambda default
        leave(client)
        assert await connection.gone() >= connection.opened_at
        assert connection.closed_by == how
        await client.gone()
    assert upstream.open_connections == []


async def test_its_port_is_closed_until_opened_and_after_it_is_shut() -> None:
    upstream = ScriptedUpstream(reactor, steps(REQUEST, answer(b"ok")))
    with pytest.raises(ConnectionRefusedError):
        await RecordingClient.connect(reactor, upstream.port)
    await upstream.open()
    client = await RecordingClient.connect(reactor, upstream.port)
    await upstream.shut()
    client.request("GET", "/")
    assert bytes((await client.complete()).body) == b"ok"
    with pytest.raises(ConnectionRefusedError):
        await RecordingClient.connect(reactor, upstream.port)
    await upstream.stop()
    await client.gone()


async def test_what_a_script_raises_comes_out_at_the_stop() -> None:
    async def wrong(connection: UpstreamConnection) -> None:
        assert (await connection.request()).method == b"GET"

    upstream = ScriptedUpstream(reactor)
    await upstream.open()
    client = await ask(upstream, wrong)
    await upstream.until(lambda: upstream.requests)
    with pytest.raises(AssertionError):
        await upstream.stop()
    await client.gone()


async def test_a_client_that_stops_reading_stops_the_upstream(upstream: ScriptedUpstream) -> None:
    total = 32 * 2**20

    async def flood(connection: UpstreamConnection) -> None:
        await connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        for _ in range(total // 65536):
            await connection.writable()
            connection.send(bytes(65536))

    upstream.script = flood
    client = await RecordingClient.connect(reactor, upstream.port, keep=False, receive_buffer=65536)
    client.pause()
    client.request("GET", "/")
    connection = await upstream.connection()
    await eventually(reactor, lambda: connection.paused)
    assert connection.sent < total / 2
    client.resume()
    await client.complete(timeout=20)
    assert client.response.size == total
    client.close()
    await client.gone()


async def test_it_listens_on_a_unix_socket_too(tmp_path: Path) -> None:
    upstream = ScriptedUpstream(reactor, steps(REQUEST, answer(b"{}")), path=str(tmp_path / "s"))
    await upstream.open()
    client = await RecordingClient.connect(reactor, path=str(tmp_path / "s"))
    client.request("HEAD", "/")
    assert (await client.complete()).status == 200
    assert upstream.url == f"unix:{tmp_path / 's'}"
    await upstream.stop()
    await client.gone()
