"""sseclient-py, with requests below it."""

# Runs in .venv-clients with: sseclient-py==1.9.0 requests==2.34.2

from __future__ import annotations

import json
from collections.abc import Iterator

import requests
from sseclient import SSEClient

from tests.clients.drivers.rows import READ_TIMEOUT, ErrorEvent, main, row


@row("events", "sse")
def events(url: str) -> Iterator[str]:
    response = requests.get(f"{url}/events", headers={"Accept": "text/event-stream"}, stream=True, timeout=READ_TIMEOUT)
    response.raise_for_status()
    for event in SSEClient(response).events():
        if event.event == "error":
            raise ErrorEvent(event.data)
        if event.data != "[DONE]":
            yield json.loads(event.data)["text"]


if __name__ == "__main__":
    main()
