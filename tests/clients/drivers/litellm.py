"""LiteLLM as a library."""

# Runs in .venv-clients-2x with: litellm==1.106.2

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from tests.clients.drivers.rows import MESSAGES, READ_TIMEOUT, main, row

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks the network for prices

import litellm


@row("acompletion", "openai-chat")
async def acompletion(url: str) -> AsyncIterator[str]:
    chunks = await litellm.acompletion(
        model="openai/tiny", api_base=f"{url}/v1", api_key="k", messages=MESSAGES, stream=True, timeout=READ_TIMEOUT
    )
    async for chunk in chunks:
        yield chunk.choices[0].delta.content or ""


if __name__ == "__main__":
    main()
