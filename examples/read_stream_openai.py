"""Read one streamed answer with the openai package, through the proxy, and print what comes when.

Needs ``pip install openai`` and a running proxy, for example ``twistd -n sse-proxy --demo``. Run it as::

    python examples/read_stream_openai.py http://127.0.0.1:8787/v1 "Good morning?"

Nothing in here knows of the proxy: comments and keepalives do not reach the program, errors arrive as ``openai.APIError``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import attrs
import openai


@attrs.frozen
class Piece:
    """A piece of the answer and when it came, in seconds since the request."""

    at: float
    text: str


def read(base_url: str, question: str, model: str = "demo") -> Iterator[Piece]:
    """The pieces of the answer as they come.

    :raises openai.APIError: the answer failed, before or after its first byte.
    """
    began = time.monotonic()
    with openai.OpenAI(base_url=base_url, api_key="none", timeout=600) as client:
        stream = client.chat.completions.create(model=model, messages=[{"role": "user", "content": question}], stream=True)
        for chunk in stream:
            for choice in chunk.choices:
                if choice.delta.content:
                    yield Piece(time.monotonic() - began, choice.delta.content)


def main(base_url: str = "http://127.0.0.1:8787/v1", question: str = "Good morning?") -> int:
    try:
        for piece in read(base_url, question):
            print(f"{piece.at:7.3f}  {piece.text!r}")
    except openai.APIError as error:
        print(f"failed: {error.message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
