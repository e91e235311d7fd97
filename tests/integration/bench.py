"""One test's view of the world: the real proxy, a scripted backend behind it, raw clients in front."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable

from tests.integration.process import Proxy
from txsse.testing import RecordingClient, Response, Script, ScriptedUpstream, eventually, sleep
from txsse.testing.waiting import TIMEOUT, Reactor

CHAT = "/v1/chat/completions"
ASK = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"Hi"}]}'
PLAIN = b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}'
DONE = b"data: [DONE]\n\n"
SSE = "Accept: text/event-stream"


def ch(text: str) -> bytes:
    """A chat completion chunk."""
    return (
        b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1234567890,"model":"m",'
        b'"choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":null}]}\n\n' % text.encode()
    )


class Bench:
    """Made by the fixture ``bench``; closes what it opened."""

    def __init__(self, reactor: Reactor, proxy: Proxy) -> None:
        self.reactor = reactor
        self.proxy = proxy
        self.upstream = ScriptedUpstream(reactor, port=proxy.ports["main"])  # closed until play() or upstream.open()
        self.clients: list[RecordingClient] = []

    async def play(self, script: Script) -> None:
        """Open the backend's port; *script* is what each connection does."""
        self.upstream.script = script
        await self.upstream.open()

    async def client(self, port: int = 0, *, keep: bool = True, receive_buffer: int = 0) -> RecordingClient:
        client = await RecordingClient.connect(self.reactor, port or self.proxy.port, keep=keep, receive_buffer=receive_buffer)
        self.clients.append(client)
        return client

    async def send(self, data: bytes, port: int = 0) -> RecordingClient:
        """A new client that sends *data* as it is."""
        client = await self.client(port)
        client.send(data)
        return client

    async def post(self, body: bytes = ASK, target: str = CHAT, headers: Iterable[str] = (), case: str = "") -> RecordingClient:
        """A new client that posts *body* as JSON; *case* names the route."""
        client = await self.client()
        client.post(target, body, ["Content-Type: application/json", *headers, *_case(case)])
        return client

    async def get(self, target: str = "/events", headers: Iterable[str] = (SSE,), case: str = "") -> RecordingClient:
        client = await self.client()
        client.request("GET", target, headers=[*headers, *_case(case)])
        return client

    async def admin(self, target: str, headers: Iterable[str] = (), method: str = "GET") -> Response:
        client = await self.client(self.proxy.ports["admin"])
        client.request(method, target, headers=[*headers, "Connection: close"])
        return await client.complete()

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's values with these labels, 0 if there are none."""
        text = bytes((await self.admin("/metrics")).body).decode()
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        lines = [line for line in text.splitlines() if re.match(rf"{name}[{{ ]", line) and all(each in line for each in wanted)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    async def until(self, measure: Callable[[], Awaitable[object]], value: object) -> None:
        """Wait until *measure* gives *value*."""
        end = self.reactor.seconds() + TIMEOUT
        while (seen := await measure()) != value:
            assert self.reactor.seconds() < end, f"{seen!r} and not {value!r} after {TIMEOUT} s"
            await sleep(self.reactor, 0.005)

    async def until_metric(self, value: float, name: str, **labels: str) -> None:
        """Wait until a metric has this value: what a client does is known to the proxy a moment later."""
        await self.until(lambda: self.metric(name, **labels), value)

    async def until_waiting(self, count: int, upstream: str = "main") -> None:
        """Wait until so many requests wait for *upstream*."""
        await self.until_metric(count, "txsse_waiting", upstream=upstream)

    async def logged(self, word: str) -> str:
        """Wait for a line with *word* in the proxy's output and return it."""

        def find() -> list[str]:
            return [line for line in self.proxy.log.splitlines() if word in line]

        await eventually(self.reactor, find, what=f"a log line with {word}")
        return find()[-1]

    async def close(self) -> None:
        for client in self.clients:
            client.resume()
            client.reset()
        for client in self.clients:
            await client.gone()
        await self.upstream.stop()


def _case(name: str) -> list[str]:
    return [f"X-Case: {name}"] if name else []


def error_of(body: bytes | bytearray) -> dict[str, object]:
    """The error object of a JSON body."""
    error = json.loads(bytes(body))["error"]
    assert isinstance(error, dict)
    return error


def last_error(client: RecordingClient) -> dict[str, object]:
    """The error object of the last event, after which nothing may have come."""
    assert client.body.endswith(b"}\n\n"), client.body[-500:]
    return error_of(client.events[-1].data.encode())


async def is_cut(client: RecordingClient) -> None:
    """The connection ends, but the response does not: no last chunk, so no client can take it for a success."""
    await client.gone()
    assert not client.response.complete, client.received[-500:]
    assert not client.received.endswith(b"0\r\n\r\n")
