"""httpx-sse, with httpx below it."""

# Runs in .venv-clients with: httpx-sse==0.4.3 httpx==0.28.1

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator

import httpx
from httpx_sse import ServerSentEvent, aconnect_sse, connect_sse

from tests.clients.drivers.rows import HTTPX, ErrorEvent, main, row


def read(event: ServerSentEvent) -> str:
    if event.event == "error":
        raise ErrorEvent(event.data)
    return "" if event.data == "[DONE]" else str(json.loads(event.data)["text"])


@row("events", "sse")
def events(url: str) -> Iterator[str]:
    with httpx.Client(**HTTPX) as http, connect_sse(http, "GET", f"{url}/events") as source:
        source.response.raise_for_status()
        yield from map(read, source.iter_sse())


@row("events-async", "sse")
async def events_async(url: str) -> AsyncIterator[str]:
    async with httpx.AsyncClient(**HTTPX) as http, aconnect_sse(http, "GET", f"{url}/events") as source:
        source.response.raise_for_status()
        async for event in source.aiter_sse():
            yield read(event)


if __name__ == "__main__":
    main()
