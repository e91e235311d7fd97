"""Where a chat stream ends: what the dialect finds by a look is what a decoder of every event finds."""

from __future__ import annotations

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from txsse.dialects import DIALECTS
from txsse.wire.eventstream import EventStreamDecoder

CHAT = DIALECTS["openai-chat"]
PIECES = (
    b"\n",
    b"\r\n",
    b"\r",
    b"data: [DONE]",
    b"data:[DONE]",
    b"data:  [DONE]",
    b"data: [DONE] ",
    b"data: x",
    b"data",
    b": [DONE]",
    b"id: 1",
)


@settings(max_examples=500)
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=14), bom=st.booleans())
def test_the_look_agrees_with_the_decoder(pieces: list[bytes], bom: bool) -> None:
    frames = b"\xef\xbb\xbf" * bom + b"".join(pieces) + b"\n\n"
    assert CHAT.is_terminal(frames) is any(event.data == "[DONE]" for event in EventStreamDecoder().feed(frames))


def test_a_burst_is_not_decoded_to_find_its_end() -> None:
    burst = b'data: {"choices":[{"index":0,"delta":{"content":" word"}}]}\n\n' * 20_000
    began = time.perf_counter()
    assert CHAT.is_terminal(burst + b"data: [DONE]\n\n")
    assert time.perf_counter() - began < 0.05  # all of it decoded takes ten times as long
