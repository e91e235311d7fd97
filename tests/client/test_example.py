"""The example reads an answer whose connection is cut in the middle."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_twisted  # type: ignore[import-untyped]  # ships no types
from twisted.internet import reactor

from tests.test_examples import example
from txsse.client import StreamRefused
from txsse.testing import LAST_CHUNK, ScriptedUpstream, UpstreamConnection, answer, chunk
from txsse.testing.http import head

HEAD = head("HTTP/1.1 200 OK", ["Content-Type: text/event-stream", "Transfer-Encoding: chunked", "Location: /-/streams/S"])


def word(number: int, text: str) -> bytes:
    data = json.dumps({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]})
    return chunk(f"id: S.{number}\ndata: {data}\n\n".encode())


@pytest_twisted.async_yield_fixture()  # type: ignore[untyped-decorator]
async def server() -> AsyncIterator[ScriptedUpstream]:
    fake = ScriptedUpstream(reactor)
    await fake.open()
    yield fake
    await fake.stop()


async def test_it_goes_on_after_the_cut(server: ScriptedUpstream) -> None:
    async def script(connection: UpstreamConnection) -> None:
        request = await connection.request()
        if request.method == b"POST":
            connection.send(HEAD + chunk(b"retry: 10\n\n") + word(1, "Good ") + word(2, "morning.")[:-20])
            connection.close()
        else:
            assert (request.target, request.header("last-event-id")) == (b"/-/streams/S", b"S.1")
            connection.send(HEAD + word(2, "morning.") + chunk(b"id: S.3\ndata: [DONE]\n\n") + LAST_CHUNK)

    server.script = script
    shown: list[str] = []
    told: list[str] = []
    await example("read_stream_event_source").read(reactor, f"{server.url}/v1", "Good morning?", shown.append, told.append)
    assert "".join(shown) == "Good morning."
    assert len(told) == 1 and "again in 0.0 s" in told[0]


async def test_an_error_in_the_stream_is_raised(server: ScriptedUpstream) -> None:
    async def script(connection: UpstreamConnection) -> None:
        await connection.request()
        connection.send(HEAD + chunk(b'data: {"error":{"message":"It did not wake up."}}\n\n'))
        connection.close()

    server.script = script
    module = example("read_stream_event_source")
    with pytest.raises(module.AnswerFailed, match="wake up"):
        await module.read(reactor, f"{server.url}/v1", "?", lambda _: None, lambda _: None)


async def test_the_script_ends_with_what_went_wrong(server: ScriptedUpstream) -> None:
    async def script(connection: UpstreamConnection) -> None:
        await connection.request()
        connection.send(answer(b'{"error":{}}', "404 Not Found"))

    server.script = script
    with pytest.raises(SystemExit, match="failed: 404 Not Found: ") as ended:
        await example("read_stream_event_source").main(reactor, f"{server.url}/v1")
    assert isinstance(ended.value.__context__, StreamRefused)
