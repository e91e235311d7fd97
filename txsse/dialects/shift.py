"""An Anthropic stream as it goes on after a message and a content block of our own."""

from __future__ import annotations

import json
import re
from typing import Final, NamedTuple

from txsse.wire.pieces import EventFilter

_SPACE: Final = re.compile(r"[ \t\n\r]*+")
_NOT_DATA: Final = re.compile(rb"(?<![^\r\n])(?:data:|(?!data:)[^\r\n]++)|[\r\n]")
# Nearly every event of a stream, also one of which only the beginning is there.
_USUAL: Final = re.compile(
    rb"(?:event: ?content_block_[a-z]++(?:\r\n?+|\n))?+"
    rb'data: ?\{\s*+"type"\s*+:\s*+"content_block_(?:start|delta|stop)"\s*+,\s*+"index"\s*+:\s*+([0-9]{1,9})(?=\s*+[,}])'
)
_COUNTS: Final = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
_DECODER: Final = json.JSONDecoder()


class BlockShift(EventFilter):
    """Drops upstream's ``message_start``, adds 1 to every block's ``index``, and moves the counts of the prompt's tokens, which stood in
    the dropped event, into ``message_delta``. Everything else, and all else in these events, passes byte for byte.
    """

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[str, int] = {}

    def rewrite(self, piece: bytes, *, whole: bool) -> bytes:
        if piece[0] in b":\r\n":
            return piece
        usual = _USUAL.match(piece)
        if usual is not None:
            return piece[: usual.start(1)] + b"%d" % (int(usual[1]) + 1) + piece[usual.end(1) :]
        members = _members(piece)
        kind = members["type"].value if "type" in members else None
        if kind == "message_start":
            self._keep_counts(members)
            return b""
        if "index" in members:
            return _shifted(piece, members["index"])
        if kind == "message_delta" and "usage" in members:
            return self._with_counts(piece, members["usage"])
        return piece

    def _keep_counts(self, members: dict[str, _Member]) -> None:
        message = members["message"].value if "message" in members else None
        usage = message.get("usage") if isinstance(message, dict) else None
        if isinstance(usage, dict):
            self._counts = {name: usage[name] for name in _COUNTS if isinstance(usage.get(name), int)}

    def _with_counts(self, piece: bytes, usage: _Member) -> bytes:
        if not isinstance(usage.value, dict):
            return piece
        missing = {name: count for name, count in self._counts.items() if name not in usage.value}
        if not missing:
            return piece
        added = json.dumps(missing, separators=(",", ":"))[1:-1].encode()
        after_bracket = usage.begin + 1
        return piece[:after_bracket] + added + (b"," if usage.value else b"") + piece[after_bracket:]


class _Member(NamedTuple):
    """A member of an event's JSON object, and where its value's text stands in the event."""

    value: object
    begin: int
    end: int


def _shifted(piece: bytes, index: _Member) -> bytes:
    if not isinstance(index.value, int) or isinstance(index.value, bool):
        return piece
    return piece[: index.begin] + b"%d" % (index.value + 1) + piece[index.end :]


def _members(piece: bytes) -> dict[str, _Member]:
    """The top-level members of an event's data, as far as it can be read.

    Everything that is not data is blanked, so that places in the text are places in the event, however many lines the data has.
    """
    text = _NOT_DATA.sub(lambda match: b" " * len(match[0]), piece).decode("latin-1")
    found: dict[str, _Member] = {}
    at = _after_space(text, 0)
    mark = "{"
    try:
        while text[at] == mark:
            mark = ","
            name, at = _DECODER.raw_decode(text, _after_space(text, at + 1))
            begin = _after_space(text, text.index(":", at) + 1)
            value, at = _DECODER.raw_decode(text, begin)
            found[name] = _Member(value, begin, at)
            at = _after_space(text, at)
    except (ValueError, IndexError, RecursionError):
        pass  # cut short, or no JSON: what was understood up to there counts
    return found


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return at if match is None else match.end()
