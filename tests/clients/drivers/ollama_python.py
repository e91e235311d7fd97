"""Ollama's own client for Python."""

# Runs in .venv-clients with: ollama==0.6.3

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import ollama

from tests.clients.drivers.rows import HTTPX, MESSAGES, main, row


@row("chat", "ollama")
def chat(url: str) -> Iterator[str]:
    for part in ollama.Client(host=url, **HTTPX).chat("tiny", MESSAGES, stream=True):
        yield part.message.content or ""


@row("chat-async", "ollama")
async def chat_async(url: str) -> AsyncIterator[str]:
    async for part in await ollama.AsyncClient(host=url, **HTTPX).chat("tiny", MESSAGES, stream=True):
        yield part.message.content or ""


if __name__ == "__main__":
    main()
