"""LangChain's ``ChatOpenAI``, asynchronously."""

# Runs in .venv-clients with: langchain-openai==1.7.3

from __future__ import annotations

from collections.abc import AsyncIterator

from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tests.clients.drivers.rows import READ_TIMEOUT, main, row


@row("astream", "openai-chat")
async def astream(url: str) -> AsyncIterator[str]:
    model = ChatOpenAI(model="tiny", base_url=f"{url}/v1", api_key=SecretStr("k"), timeout=READ_TIMEOUT)
    async for chunk in model.astream("Hi"):
        yield chunk.text


if __name__ == "__main__":
    main()
