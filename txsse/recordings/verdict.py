"""What may be stored: a recorded answer is looked at once, after upstream has ended it cleanly.

A stored answer is told again and again, so every doubt is a refusal: cut, failed, filtered, or anything after its end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator
from typing import Any, Final, NamedTuple

from txsse.recordings.courses import COURSES, REASONS, AnyStream, Course
from txsse.recordings.likeness import past_likes
from txsse.wire.eventstream import EventStreamDecoder
from txsse.wire.peek import scan

__all__ = ["REASONS", "STEP", "TURNS", "Verdict", "judge"]

STEP: Final = 64 * 1024
"""Bytes that are looked at between two turns of the reactor."""
TURNS: Final = 200
"""Events or lines that are looked at between two turns of the reactor."""
MAX_PARSED: Final = 256 * 1024
"""Bytes of a JSON answer that are parsed in one go (2.5 ms for log probabilities); a longer one is scanned in steps."""

Looked = tuple[str, str] | None
"""Name and data of an event (or a line, which has no name); ``None``: enough was looked at for one turn."""

_BOM: Final = b"\xef\xbb\xbf"
_BLANK_LINES: Final = (b"\n\n", b"\n\r", b"\r\r")
_TAIL: Final = 256
_END_OF_LINE: Final = re.compile(rb"\r\n?|\n")
# What nearly every event consists of. (Fields of other names, comments, and lines that go on are for the decoder.)
_FRAME: Final = re.compile(rb"(?:event: ?+([^\n]*+)\n)?+data: ?+([^\n]*+)\n\n")
_DATA_LINE: Final = re.compile(rb"(?<![^\r\n])data(?![^:\r\n])")

# The top-level members that decide about a document.
_MEMBERS: Final = frozenset(
    (
        "choices",
        "code",
        "detail",
        "done",
        "done_reason",
        "error",
        "incomplete_details",
        "message",
        "object",
        "status",
        "stop_reason",
        "type",
    )
)
_FINISH_NAME: Final = b'"finish_reason"'
_FINISH_REASON: Final = re.compile(rb'"finish_reason"\s*+:\s*+(null|"[^"\\]*+")')


class Verdict(NamedTuple):
    """
    :ivar reason: which of :data:`REASONS` speaks against keeping it, "" if none does.
    :ivar plain: it consists of events of data lines and nothing else: there are no comments in it.
    """

    reason: str
    plain: bool = False


def judge(dialect: str, streamed: bool, body: bytes) -> Generator[None, None, Verdict]:
    """May this body of a 200 that upstream ended cleanly be stored?

    Gives way every :data:`STEP` bytes or :data:`TURNS` events; what is one JSON text is parsed in one go, if it is not too long.

    :param dialect: its name; one that is not known is ``sse``.
    :param streamed: a stream in the dialect's form, not one JSON document.
    :param body: all of it, with or without upstream's comments.
    """
    course = COURSES.get(dialect, AnyStream)()
    if not body or body.isspace():
        return Verdict("empty")
    if not streamed:
        return Verdict(course.document((yield from _document(body))))
    events = _Events(body, course)
    taken = 0
    for each in _lines(body) if course.by_lines else events:
        if each is not None:
            if reason := course.take(*each):
                return Verdict(reason)
            taken += 1
        if each is None or taken % TURNS == 0:
            yield
    reason = course.end() or ("" if course.by_lines else _loose_end(body, has_terminal=course.has_terminal))
    return Verdict(reason, events.plain)


class _Events:
    """All events of *body*; the last one may lack its blank line. Left out are those that are like the one before them, which *course* has
    taken.

    Parsing an event takes 3 us, seeing that it is like the one before 0.15.

    :ivar plain: none so far had to be decoded: there is nothing between them.
    """

    def __init__(self, body: bytes, course: Course) -> None:
        self._body = body
        self._course = course
        self.plain = True

    def __iter__(self) -> Iterator[Looked]:
        body, course = self._body, self._course
        decoder: EventStreamDecoder | None = None
        by_frame = 13 not in body
        begin = given_way = len(_BOM) if body.startswith(_BOM) else 0
        while begin < len(body):
            blank = body.find(b"\n\n", begin) if by_frame else -1
            end = blank + 2 if blank >= 0 else min(begin + STEP, len(body))
            if frame := _FRAME.fullmatch(body, begin, end) if blank >= 0 else None:
                yield _text(frame[1] or b"message"), _text(frame[2])
            else:
                self.plain = False
                if decoder is None:
                    decoder = EventStreamDecoder(len(body) + 2)
                    decoder.feed(b"\n")  # the stream has begun: a byte order mark is none any more
                for event in decoder.feed(body[begin:end]):
                    yield event.type, event.data
            if blank >= 0 and course.of_objects and not course.ended:
                end = past_likes(body, begin, end, STEP)
            if end - given_way >= STEP:
                given_way = end
                yield None
            begin = end
        for event in () if decoder is None else decoder.feed(b"\n\n"):
            yield event.type, event.data


def _lines(body: bytes) -> Iterator[Looked]:
    """The lines that are not blank. A blank is how such a stream is kept alive."""
    lines = body.removeprefix(_BOM).split(b"\n")
    for at in range(0, len(lines), TURNS):
        texts = [line.decode("utf-8", "replace").strip() for line in lines[at : at + TURNS]]
        yield from (("", text) for text in texts if text)
        yield None


def _loose_end(body: bytes, *, has_terminal: bool) -> str:
    """What is wrong after the last event: a comment or an event without data, or that the event itself is not closed.

    One that says that it is the end needs no blank line after it.
    """
    last = body[-_TAIL:].rstrip(b"\r\n")  # not the body, of which that would be a copy
    end = max(len(body) - _TAIL, 0) + len(last) if last else len(body.rstrip(b"\r\n"))
    begin = max(body.rfind(blank, 0, end) for blank in (_BLANK_LINES if 13 in body else _BLANK_LINES[:1])) + 1
    frame = body[begin:end] if begin else body[:end].removeprefix(_BOM)
    has_data = _DATA_LINE.search(frame) is not None
    if not has_terminal:
        is_closed = len(_END_OF_LINE.findall(body, end, end + 4)) > 1
        return "unfinished" if has_data and not is_closed else ""
    last_line = frame[max(frame.rfind(b"\n"), frame.rfind(b"\r")) + 1 :]
    return "" if has_data and not last_line.startswith(b":") else "after_terminal"


def _document(body: bytes) -> Generator[None, None, object]:
    """A JSON answer, or as much of it as decides; ``None`` if it is no JSON."""
    if len(body) > MAX_PARSED:
        return (yield from _outline(body))
    return _load(body)


def _outline(body: bytes) -> Generator[None, None, object]:
    """The members that decide, of the object that *body* is. Every array is an empty one."""
    if body.lstrip().startswith(b"["):
        found = yield from scan(b'{"":%b}' % body, frozenset())
        return None if found is None else []
    found = yield from scan(body, _MEMBERS)
    if found is None:
        return None
    outline: dict[str, Any] = {name: _member(raw) for name, raw in found.items()}
    if found.get("choices", b"").startswith(b"["):
        outline["choices"] = [{"finish_reason": reason} for reason in _finish_reasons(body)]
    return outline


def _member(raw: bytes) -> object:
    """A member's value. Of one that was too long to be kept there is only the first byte: a string, or something that is there."""
    if len(raw) > 1 or raw.isdigit():
        return _load(raw)
    return "..." if raw == b'"' else True


def _finish_reasons(body: bytes) -> Iterator[str | None]:
    """Of every choice. A name in quotes and a colon can be nothing but a member: in a string the quotes would be escaped."""
    at = body.find(_FINISH_NAME)
    while at >= 0:
        match = _FINISH_REASON.match(body, at)
        yield None if match is None or match[1] == b"null" else match[1][1:-1].decode("utf-8", "replace")
        at = body.find(_FINISH_NAME, at + len(_FINISH_NAME))


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _load(text: bytes) -> object:
    value: object
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value
