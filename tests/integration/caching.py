"""What the tests of recordings share: routes that record, requests nobody has made before, a backend that answers in turn."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable
from typing import Any

from tests.integration.bench import CHAT, DONE, Bench
from txsse.testing import RecordingClient, Response, Script, UpstreamConnection, head

READY = 'probe = { preset = "none" }\n'
KEY = "Authorization: Bearer one"
_COMMENTS = re.compile(rb": txsse[^\n]*\n\n?")
_numbers = itertools.count(1)


def cache(more: str = "", mode: str = "all") -> str:
    """A ``[route.cache]`` table."""
    return f'[route.cache]\nmode = "{mode}"\n{more}\n'


def question(**members: Any) -> bytes:
    """A chat request that is no other test's; a streaming one unless *members* say otherwise."""
    asked = {"model": "m", "stream": True, "messages": [{"role": "user", "content": f"question {next(_numbers)}"}]}
    return json.dumps({**asked, **members}).encode()


def plain() -> bytes:
    """One that does not stream."""
    return question(stream=False)


def also(body: bytes, **members: Any) -> bytes:
    """The request *body* with other members."""
    return json.dumps({**json.loads(body), **members}).encode()


def says(content: str = "", finish: str | None = None, index: int = 0) -> bytes:
    """A chat completion chunk."""
    delta = {"content": content} if content else {}
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice]})


def event(value: object) -> bytes:
    return b"data: %b\n\n" % json.dumps(value, separators=(",", ":")).encode()


STOP = says(finish="stop")
HI = says("hi") + STOP + DONE
"""A whole answer."""


def told(text: str) -> bytes:
    """A whole answer of one word."""
    return says(text) + STOP + DONE


def document(content: str = "hi", **members: Any) -> bytes:
    """A whole answer that does not stream."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    return json.dumps(
        {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], **members}
    ).encode()


def turns(*answers: bytes | Script) -> Script:
    """A backend that gives these answers in turn, over whatever connections it is asked; the last one again and again."""
    asked = itertools.count()

    async def play(connection: UpstreamConnection) -> None:
        while not connection.closed:
            await connection.request()
            answer = answers[min(next(asked), len(answers) - 1)]
            if isinstance(answer, bytes):
                connection.send(answer)
            else:
                await answer(connection)

    return play


async def begin(bench: Bench, body: bytes, *headers: str, case: str = "", target: str = CHAT, key: str = KEY) -> RecordingClient:
    """Ask, with a credential."""
    return await bench.post(body, target, [key, *headers] if key else headers, case)


async def ask(bench: Bench, body: bytes, *headers: str, case: str = "", target: str = CHAT, key: str = KEY) -> RecordingClient:
    """Ask, and wait for the whole answer."""
    client = await begin(bench, body, *headers, case=case, target=target, key=key)
    await client.complete()
    return client


def verdict(client: RecordingClient) -> str:
    """What the cache said of the request; "" if nothing."""
    return (client.response.header("x-txsse-cache") or b"").decode()


def unspoken(client: RecordingClient) -> bytes:
    """The body without what the proxy says while it waits."""
    return _COMMENTS.sub(b"", client.body)


async def operate(bench: Bench, target: str, method: str = "GET") -> Response:
    """The answer of a page of the admin listener that is not for strangers."""
    data = head(f"{method} {target} HTTP/1.1", ["Host: localhost", "Connection: close", "Content-Length: 0"])
    client = await bench.send(data, bench.proxy.ports["admin"])
    return await client.complete()


async def until_in_flight(bench: Bench, count: int, route: str) -> None:
    """Wait until so many requests of *route* are being answered."""
    await bench.until_metric(count, "txsse_in_flight", route=route)


def bodies(clients: Iterable[RecordingClient]) -> set[bytes]:
    return {client.body for client in clients}
