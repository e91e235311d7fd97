"""Read one streamed answer with txsse's own client, which goes on where it was when the connection breaks.

Needs a running proxy, for example ``twistd -n sse-proxy --demo``. Run it as::

    python examples/read_stream_event_source.py http://127.0.0.1:8787/v1 "Good morning?"

The question is sent once. A route with ``resume.mode`` names a Location for its answer, and there the rest is read after a break, without
asking the model again; from any other server a break is ``StreamLost``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from txsse import EventSource
from txsse.client import State, StreamLost, StreamRefused


class AnswerFailed(Exception):
    """The stream told an error, in its own words."""


async def read(reactor: Any, base_url: str, question: str, show: Callable[[str], object], tell: Callable[[str], object]) -> None:
    """Give the pieces of the answer to *show* as they come, and to *tell* what becomes of the connection.

    :raises AnswerFailed: the answer failed, and the stream said so.
    :raises StreamRefused: there was no stream.
    :raises StreamLost: it broke, and cannot be gone on with.
    """

    def changed(source: EventSource) -> None:
        if source.state is State.CONNECTING:
            tell(f"{source.failure or 'the connection ended'}; again in {source.delay:.1f} s")

    source = EventSource(
        f"{base_url}/chat/completions",
        json={"model": "demo", "stream": True, "messages": [{"role": "user", "content": question}]},
        timeout=60,  # the proxy's keepalives come every 15 s
        max_retries=5,
        on_state=changed,
        reactor=reactor,
    )
    async with source:
        async for event in source:
            if event.data == "[DONE]":
                return
            piece = json.loads(event.data)
            if "error" in piece:
                raise AnswerFailed(piece["error"]["message"])
            for choice in piece["choices"]:
                show(choice["delta"].get("content") or "")


async def main(reactor: Any, base_url: str = "http://127.0.0.1:8787/v1", question: str = "Good morning?") -> None:
    try:
        await read(
            reactor,
            base_url,
            question,
            show=lambda text: print(text, end="", flush=True),
            tell=lambda text: print(f"\n[{text}]", file=sys.stderr),
        )
        print()
    except (AnswerFailed, StreamRefused, StreamLost) as error:
        sys.exit(f"failed: {error}")


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, *sys.argv[1:])))
