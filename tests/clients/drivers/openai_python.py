"""OpenAI's own client for Python, synchronous and asynchronous, with its helpers."""

# Runs in .venv-clients with: openai==3.51.0
# Runs in .venv-clients-2x with: openai==2.54.0

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai

from tests.clients.drivers.rows import MESSAGES, READ_TIMEOUT, main, row

ASK: Any = {"model": "tiny", "messages": MESSAGES}


# One client for all, with one pool of connections: to make one takes 50 ms.
SYNC = openai.OpenAI(base_url="http://127.0.0.1", api_key="k", timeout=READ_TIMEOUT)
ASYNC = openai.AsyncOpenAI(base_url="http://127.0.0.1", api_key="k", timeout=READ_TIMEOUT)


def sync(url: str) -> openai.OpenAI:
    return SYNC.with_options(base_url=f"{url}/v1")


def asynchronous(url: str) -> openai.AsyncOpenAI:
    return ASYNC.with_options(base_url=f"{url}/v1")


@row("chat", "openai-chat")
def chat(url: str) -> Iterator[str]:
    for chunk in sync(url).chat.completions.create(**ASK, stream=True):
        yield chunk.choices[0].delta.content or ""


@row("chat-async", "openai-chat")
async def chat_async(url: str) -> AsyncIterator[str]:
    async for chunk in await asynchronous(url).chat.completions.create(**ASK, stream=True):
        yield chunk.choices[0].delta.content or ""


@row("chat-stream-helper", "openai-chat")
def chat_stream_helper(url: str) -> Iterator[str]:
    with sync(url).chat.completions.stream(**ASK) as stream:
        text = ""
        for event in stream:
            if event.type == "content.delta":
                text += event.delta
                yield event.delta
        message = stream.get_final_completion().choices[0].message
        assert (message.role, message.content) == ("assistant", text)


@row("chat-stream-helper-async", "openai-chat")
async def chat_stream_helper_async(url: str) -> AsyncIterator[str]:
    async with asynchronous(url).chat.completions.stream(**ASK) as stream:
        text = ""
        async for event in stream:
            if event.type == "content.delta":
                text += event.delta
                yield event.delta
        message = (await stream.get_final_completion()).choices[0].message
        assert (message.role, message.content) == ("assistant", text)


@row("completions", "openai-completions")
def completions(url: str) -> Iterator[str]:
    for chunk in sync(url).completions.create(model="tiny", prompt="Hi", stream=True):
        yield chunk.choices[0].text


@row("completions-async", "openai-completions")
async def completions_async(url: str) -> AsyncIterator[str]:
    async for chunk in await asynchronous(url).completions.create(model="tiny", prompt="Hi", stream=True):
        yield chunk.choices[0].text


@row("responses", "openai-responses")
def responses(url: str) -> Iterator[str]:
    for event in sync(url).responses.create(model="tiny", input="Hi", stream=True):
        if event.type == "response.output_text.delta":
            yield event.delta


@row("responses-async", "openai-responses")
async def responses_async(url: str) -> AsyncIterator[str]:
    async for event in await asynchronous(url).responses.create(model="tiny", input="Hi", stream=True):
        if event.type == "response.output_text.delta":
            yield event.delta


@row("responses-stream-helper", "openai-responses")
def responses_stream_helper(url: str) -> Iterator[str]:
    with sync(url).responses.stream(model="tiny", input="Hi") as stream:
        text = ""
        for event in stream:
            if event.type == "response.output_text.delta":
                text += event.delta
                yield event.delta
        assert stream.get_final_response().output_text == text


@row("responses-stream-helper-async", "openai-responses")
async def responses_stream_helper_async(url: str) -> AsyncIterator[str]:
    async with asynchronous(url).responses.stream(model="tiny", input="Hi") as stream:
        text = ""
        async for event in stream:
            if event.type == "response.output_text.delta":
                text += event.delta
                yield event.delta
        assert (await stream.get_final_response()).output_text == text


if __name__ == "__main__":
    main()
