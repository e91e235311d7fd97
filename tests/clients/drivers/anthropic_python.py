"""Anthropic's own client for Python."""

# Runs in .venv-clients with: anthropic==2.10.0

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import anthropic

from tests.clients.drivers.rows import MESSAGES, READ_TIMEOUT, main, row

ASK: Any = {"model": "tiny", "messages": MESSAGES, "max_tokens": 100}


# One client for all, with one pool of connections: to make one takes 50 ms.
SYNC = anthropic.Anthropic(base_url="http://127.0.0.1", api_key="k", timeout=READ_TIMEOUT)
ASYNC = anthropic.AsyncAnthropic(base_url="http://127.0.0.1", api_key="k", timeout=READ_TIMEOUT)


def sync(url: str) -> anthropic.Anthropic:
    return SYNC.with_options(base_url=url)


def asynchronous(url: str) -> anthropic.AsyncAnthropic:
    return ASYNC.with_options(base_url=url)


@row("messages", "anthropic")
def messages(url: str) -> Iterator[str]:
    for event in sync(url).messages.create(**ASK, stream=True):
        if event.type == "content_block_delta" and event.delta.type == "text_delta":
            yield event.delta.text


@row("messages-async", "anthropic")
async def messages_async(url: str) -> AsyncIterator[str]:
    async for event in await asynchronous(url).messages.create(**ASK, stream=True):
        if event.type == "content_block_delta" and event.delta.type == "text_delta":
            yield event.delta.text


@row("stream-helper", "anthropic")
def stream_helper(url: str) -> Iterator[str]:
    with sync(url).messages.stream(**ASK) as stream:
        text = ""
        for piece in stream.text_stream:
            text += piece
            yield piece
        assert text == "".join(block.text for block in stream.get_final_message().content if block.type == "text")


@row("stream-helper-async", "anthropic")
async def stream_helper_async(url: str) -> AsyncIterator[str]:
    async with asynchronous(url).messages.stream(**ASK) as stream:
        text = ""
        async for piece in stream.text_stream:
            text += piece
            yield piece
        final = await stream.get_final_message()
        assert text == "".join(block.text for block in final.content if block.type == "text")


if __name__ == "__main__":
    main()
