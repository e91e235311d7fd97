"""aiohttp and a loop over lines, as many applications read a chat."""

# Runs in .venv-clients with: aiohttp==3.14.5

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import aiohttp

from tests.clients.drivers.rows import MESSAGES, READ_TIMEOUT, ErrorEvent, main, row


@row("chat", "openai-chat")
async def chat(url: str) -> AsyncIterator[str]:
    ask = {"model": "tiny", "messages": MESSAGES, "stream": True}
    timeout = aiohttp.ClientTimeout(sock_read=READ_TIMEOUT)
    async with (
        aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session,
        session.post(f"{url}/v1/chat/completions", json=ask) as response,
    ):
        async for line in response.content:
            if not line.startswith(b"data: ") or line == b"data: [DONE]\n":
                continue
            chunk = json.loads(line.removeprefix(b"data: "))
            if "error" in chunk:
                raise ErrorEvent(chunk["error"]["message"])
            yield chunk["choices"][0]["delta"].get("content", "")


if __name__ == "__main__":
    main()
