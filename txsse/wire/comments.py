"""Taking the comments out of whole events: they are signs of life, and mean nothing to whoever reads the stream again."""

from __future__ import annotations

import re
from typing import Final

_END_OF_LINE: Final = re.compile(rb"\r\n?|\n")
_END_OF_EVENT: Final = re.compile(rb"\n\n|\n\r\n?|\r\r\n?")


def may_hold_comments(stream: bytes) -> bool:
    """Is there a line that begins with a colon?"""
    # One expression for the three takes thirteen times as long (1.7 us an event): it has no literal that could be searched for.
    return stream.startswith(b":") or b"\n:" in stream or (13 in stream and b"\r:" in stream)


def without_comments(events: bytes, *, after_cr: bool = False) -> bytes:
    """*events*, which begin where an event does, without the comment lines between them and the empty lines that end such.

    A comment inside an event is part of its bytes and stays.

    :param after_cr: the byte before was a CR: an LF that comes first ends the same line.
    """
    out = []
    at, end = 0, len(events)
    if after_cr and events.startswith(b"\n"):
        out.append(b"\n")
        at = 1
    commented = False
    while at < end:
        if events[at] == 58:  # a colon
            line = _END_OF_LINE.search(events, at)
            at = end if line is None else line.end()
            commented = True
        elif commented and (line := _END_OF_LINE.match(events, at)) is not None:
            at = line.end()
            commented = False
        else:
            commented = False
            event = _END_OF_EVENT.search(events, at)
            begin, at = at, end if event is None else event.end()
            out.append(events[begin:at])
    return b"".join(out)
