"""Other forms of what is stored: as the other kind of answer, and without what upstream said to show that it was alive."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import accumulate
from typing import Any, Final

import attrs

from txsse.dialects import DIALECTS
from txsse.recordings.convert import to_document, to_stream
from txsse.recordings.entry import Entry
from txsse.recordings.lookup import Question
from txsse.wire.comments import may_hold_comments, without_comments

_BLANK_LINE: Final = (b"\n\n", b"\n\r", b"\r\r", b"\n\r\n", b"\r\r\n")


def converted(entry: Entry, question: Question) -> Entry | None:
    """*entry* as the kind of answer that *question* asks for, a stream or a document; ``None``: it is that, or not without a loss."""
    if entry.streamed == question.streamed:
        return None
    if entry.streamed:
        document = to_document(entry.dialect, entry.body)
        pieces = None if document is None else [document]
        kind = b"application/json"
    else:
        pieces = to_stream(entry.dialect, entry.body, include_usage=question.digest.wants_usage)
        kind = DIALECTS[entry.dialect].content_type
    if pieces is None:
        return None
    headers = [(name, value) for name, value in entry.headers if name.lower() != b"content-type"]
    return _pieced(entry, pieces, [0.0] * len(pieces), streamed=not entry.streamed, headers=[(b"Content-Type", kind), *headers])


def uncommented(entry: Entry) -> Entry:
    """*entry* without upstream's signs of life."""
    if not entry.streamed or DIALECTS[entry.dialect].by_lines or not may_hold_comments(entry.body):
        return entry
    pieces: list[bytes] = []
    times: list[float] = []
    begin = 0
    for end, time in zip(entry.ends, entry.times, strict=True):
        if end < len(entry.body) and not entry.body.endswith(_BLANK_LINE, begin, end):
            continue  # it was relayed in the middle of an event: a colon that comes next begins no comment
        after_cr = begin > 0 and entry.body[begin - 1] == 13
        piece = without_comments(entry.body[begin:end], after_cr=after_cr)
        if after_cr and not (pieces and pieces[-1].endswith(b"\r")):
            piece = piece.removeprefix(b"\n")  # the rest of a comment's line end
        if piece:
            pieces.append(piece)
            times.append(time)
        begin = end
    return _pieced(entry, pieces, times)


def _pieced(entry: Entry, pieces: list[bytes], times: Iterable[float], **changes: Any) -> Entry:
    """*entry* made of these pieces."""
    body = b"".join(pieces)
    return attrs.evolve(entry, body=body, ends=array("I", accumulate(map(len, pieces))), times=array("f", times), **changes)
