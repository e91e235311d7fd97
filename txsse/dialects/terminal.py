"""Finding the event that ends a stream without decoding the others."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from typing import Final

from txsse.wire.eventstream import Event, EventStreamDecoder

_BLANK_LINES: Final = (b"\n\n", b"\n\r", b"\r\r")
_BLANK_LINE: Final = re.compile(rb"\n\n|\n\r\n?+|\r\r\n?+")


def ends_with(frames: bytes, event: bytes) -> bool:
    """Is *event* (its lines end with LF) the last of these whole events? In 0.2 us, where :func:`holds_event` takes a dozen.

    It has to begin them or to follow an empty line, and two LFs are one wherever they stand, also after a CR.
    """
    before = len(frames) - len(event)
    return frames.endswith(event) and (before == 0 or frames.endswith(b"\n\n", 0, before))


def holds_event(frames: bytes, pattern: re.Pattern[bytes], is_it: Callable[[Event], bool]) -> bool:
    """Is one of these whole events the one looked for? Only events in which *pattern* is found are decoded, each once."""
    at = 0
    while match := pattern.search(frames, at):
        begin = max(at - 1, 0, *(frames.rfind(blank, at, match.start()) for blank in _BLANK_LINES))  # at the line end before it
        end = _BLANK_LINE.search(frames, match.end())
        at = len(frames) if end is None else end.end()
        if any(is_it(event) for event in EventStreamDecoder(at - begin + 1).feed(frames[begin:at])):
            return True
    return False


def is_of_type(event: Event, names: Collection[str]) -> bool:
    """Is this event called one of *names*, by its ``event`` line or by the ``type`` member of its data?"""
    if event.type in names:
        return True
    try:
        value = json.loads(event.data)
    except (ValueError, RecursionError):
        return False
    kind = value.get("type") if isinstance(value, dict) else None
    return isinstance(kind, str) and kind in names
