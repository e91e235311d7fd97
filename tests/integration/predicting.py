"""Predictions on several nodes: what the tests with Redis and those with peers share."""

from __future__ import annotations

import json
from typing import Any

from tests.integration.bench import SSE
from tests.integration.caching import KEY
from tests.integration.nodes import World
from txsse.testing import RecordingClient, sleep

ROUTE = """
[[route]]
kind = "predictions"
name = "predictions"
upstream = "main"
match.path = "/v1/chat/completions"
[route.keepalive]
interval = "200ms"
[route.resume]
on_disconnect = "grace"
grace = "400ms"
"""
ASYNC = "Prefer: respond-async"
CONTENT = "Content-Type: application/json"


def given(count: int, pause: float = 0.02, *, halt: int = 0, **more: object) -> dict[str, Any]:
    """The body of a request for a prediction whose output are the numbers from 1 to *count*; after *halt* of them the gate, if any."""
    return {"input": {"count": count, "pause": pause, "halt": halt or count}, **more}


def output(count: int) -> list[str]:
    return [str(number) for number in range(1, count + 1)]


async def ask(world: World, node: str, method: str, path: str, *headers: str, body: object = None, key: str = KEY) -> RecordingClient:
    client = await world.client(node)
    data = b"" if body is None else json.dumps(body).encode()
    client.request(method, f"/predictions{path}", data, headers=[CONTENT, key, *headers])
    return client


async def begin(world: World, node: str, id: str, body: object, events: int = 2) -> RecordingClient:
    """A prediction that goes on without its client, of which so many events have come."""
    client = await ask(world, node, "PUT", f"/{id}", SSE, ASYNC, body=body)
    await seen(client, events)
    return client


async def seen(client: RecordingClient, events: int = 1) -> None:
    """Wait until so many events have come."""
    await client.until(lambda: client.responses and len(client.events) >= events)


async def document(world: World, node: str, id: str, key: str = KEY) -> Any:
    """What the node says of a prediction."""
    client = await ask(world, node, "GET", f"/{id}", key=key)
    return json.loads(bytes((await client.complete()).body))


async def until_status(world: World, node: str, id: str, *statuses: str) -> Any:
    """The document when it says so."""
    while (found := await document(world, node, id)).get("status") not in statuses:
        await sleep(world.reactor, 0.02)
    return found


def told(client: RecordingClient) -> list[Any]:
    """The data of its events."""
    return [json.loads(each.data) for each in client.events]


def numbers(client: RecordingClient) -> list[int]:
    """Those of its events that have an id, in their order; each chunk is the one that goes with it: the first event is the start."""
    found: list[int] = []
    for each in client.events:
        number = int(each.id.rpartition(".")[2] or 0)
        if number not in found[-1:]:  # an event without an id has that of the one before
            found.append(number)
            if each.type == "output":
                assert json.loads(each.data) == {"chunk": str(found[-1] - 1), "index": found[-1] - 2}
    return found


def is_whole(client: RecordingClient, first: int, count: int) -> bool:
    """Every event from this number on came once and in order, to the document after the last of so many chunks."""
    last = client.events[-1]
    whole = numbers(client) == list(range(first, count + 3)) and client.response.complete
    return whole and last.type == "completed" and json.loads(last.data)["output"] == output(count)
