"""curl, and a shell script's way of reading a chat: what follows ``data: `` on a line."""

# Runs in .venv with: curl

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from tests.clients.drivers.rows import main, row

ASK = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "stream": True})


class CurlFailed(Exception):
    """Its exit status, its own message, and that of the error it printed."""


@row("chat", "openai-chat")
async def chat(url: str) -> AsyncIterator[str]:
    command = ["curl", "-sSN", "--fail-with-body", "-H", "Content-Type: application/json", "-d", ASK, f"{url}/v1/chat/completions"]
    pipe = asyncio.subprocess.PIPE
    curl = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe)
    assert curl.stdout is not None and curl.stderr is not None
    failure = ""
    async for line in curl.stdout:
        if line.startswith(b"{"):
            failure = json.loads(line)["error"]["message"]
        elif line.startswith(b"data: {"):
            chunk = json.loads(line.removeprefix(b"data: "))
            if "error" in chunk:
                failure = chunk["error"]["message"]
            else:
                yield chunk["choices"][0]["delta"].get("content", "")
    status = await curl.wait()
    if status or failure:
        raise CurlFailed(f"exit status {status}, {(await curl.stderr.read()).decode().strip()}; {failure}")


if __name__ == "__main__":
    main()
