"""What the Python drivers share. A driver is a file that says how its client reads the text of a stream::

    # Runs in .venv-clients with: some-client==1.2.3 what-it-does-not-install==4.5

    @row("chat", "openai-chat")
    def chat(url: str) -> Iterator[str]:
        yield from SomeClient(base_url=url).read()

    if __name__ == "__main__":
        main()

``setup.sh`` installs what the comment says. Besides ``.venv-clients`` there are ``.venv-clients-2x``, for what wants openai 2, ``node``
(with ``package@1.2.3``; its drivers end in ``.mjs``), and ``.venv`` for programs of the system; a driver may run in several.

A row yields text as it comes and raises what its client raises; it may be an asynchronous generator. *url* is where the API begins:
what comes before ``/v1/chat/completions`` and the like. ``main`` runs every row in every scenario, all at once, and prints a line of
JSON for each.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from typing import Any, Final, TextIO, TypeAlias

READ_TIMEOUT: Final = 1.5
"""Seconds a client that has such a setting bears silence here; the upstream's silence is longer."""
HTTPX: Final[dict[str, Any]] = {"timeout": READ_TIMEOUT, "verify": False}
"""Settings of httpx clients: to load the trusted certificates takes 50 ms each time, and nothing here is https."""
LIMIT: Final = 120.0
"""Seconds that one scenario may take."""
MESSAGES: Final = [{"role": "user", "content": "Hi"}]

Reader: TypeAlias = Callable[[str], "Iterator[str] | AsyncIterator[str]"]
_ROWS: Final[dict[str, Reader]] = {}


class ErrorEvent(Exception):
    """The stream said that it failed: for libraries that hand out events and leave their meaning to the application."""


def row(name: str, dialect: str) -> Callable[[Reader], Reader]:
    """Make the decorated reader a row of the matrix. The tests find it by reading the file, and the dialect too."""

    def register(reader: Reader) -> Reader:
        _ROWS[name] = reader
        return reader

    return register


def main() -> None:
    """Run all rows: ``driver.py URL SCENARIO..``."""
    base, *scenarios = sys.argv[1:]
    output = sys.stdout
    with redirect_stdout(sys.stderr):  # clients print what they like
        asyncio.run(_run_all(base, scenarios, output))


async def _run_all(base: str, scenarios: list[str], output: TextIO) -> None:
    cells = [(name, scenario) for name in _ROWS for scenario in scenarios]
    with ThreadPoolExecutor(len(cells)) as threads:
        await asyncio.gather(*[_run(threads, base, name, scenario, output) for name, scenario in cells])


async def _run(threads: ThreadPoolExecutor, base: str, name: str, scenario: str, output: TextIO) -> None:
    result: dict[str, Any] = {"row": name, "scenario": scenario, "text": "", "error": None}
    pieces = _ROWS[name](f"{base}/{name}/{scenario}")
    try:
        async with asyncio.timeout(LIMIT):
            if isinstance(pieces, AsyncIterator):
                async for piece in pieces:
                    result["text"] += piece
            else:
                await asyncio.get_running_loop().run_in_executor(threads, _read, pieces, result)
    except Exception as raised:
        result["error"] = {"type": f"{type(raised).__module__}.{type(raised).__qualname__}", "message": str(raised)}
    print(json.dumps(result), file=output, flush=True)


def _read(pieces: Iterator[str], result: dict[str, Any]) -> None:
    for piece in pieces:
        result["text"] += piece
