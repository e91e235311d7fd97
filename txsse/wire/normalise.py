"""Upstream's own keepalives, rewritten or dropped where they are known to break clients.

What breaks whom, measured: a comment ``: ping`` or a bare ``:`` (Continue, parsers that want ``": "`` in every line); a blank line that
ends no event, and an event without data such as ``event: ping`` or ``retry: 3000`` (openai-python and what is built on it after an ``id``
line or at once, openai-go up to 3.42, fetch-event-source with ``JSON.parse``); what a dialect's own parser chokes on, such as an event with
empty data. Everything else passes byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from txsse.wire.eventstream import Event, EventStreamDecoder
from txsse.wire.pieces import EventFilter, LineFilter

_AT_LINE: Final = rb"(?:(?<![^\r\n])|(?<=\A\xef\xbb\xbf))"
_BAD_COMMENT: Final = re.compile(_AT_LINE + rb":[ \t]*+(?:ping[^\r\n]*+)?(?=[\r\n])", re.IGNORECASE)
_ID_OR_RETRY: Final = re.compile(_AT_LINE + rb"(?:id|retry)(?::[^\r\n]*+)?(?:\r\n?+|\n)")
_LINE_BEGIN: Final = rb"(?:\A(?:\xef\xbb\xbf)?+|[\r\n])"
_DATA_LINE: Final = re.compile(_LINE_BEGIN + rb"data[:\r\n]")
_ID_LINE: Final = re.compile(_LINE_BEGIN + rb"id[:\r\n]")
_MAX_KEPT: Final = 4096
# Nearly every event: one line of JSON, perhaps with a name. Nothing in it has to be looked for but what a dialect calls suspicious.
_USUAL: Final = re.compile(rb"(?:event: [^\r\n]++\r?+\n)?+data: ?+[{\[][^\r\n]*+(?:\n\n|\r\n\r\n)")


class EventNormaliser(EventFilter):
    """For event streams.

    A comment with such a text becomes ``: txsse``, and the blank line after any comment goes, so that it is glued to the next event. Of an
    event that goes, the ``id`` and ``retry`` lines are kept for the next one, where they have the same effect.

    :param frames: comments keep their blank line (for clients that split a stream at blank lines), until an ``id`` was seen.
    :param is_ping: does this event, although it has data, stand for nothing but a sign of life? ``None``: none does.
    :param suspects: one of these stands in every event for which *is_ping* is true, of those that hold one line of JSON.
    """

    __slots__ = ("_after_comment", "_frames", "_is_ping", "_kept", "_suspects")

    def __init__(self, *, frames: bool = False, is_ping: Callable[[Event], bool] | None = None, suspects: tuple[bytes, ...] = ()) -> None:
        super().__init__()
        self._frames = frames
        self._is_ping = is_ping
        self._suspects = suspects
        self._kept = b""
        self._after_comment = False

    def rewrite(self, piece: bytes, *, whole: bool) -> bytes:
        first = piece[0]
        if first == 58:  # a comment
            self._after_comment = True
            return _BAD_COMMENT.sub(b": txsse", piece)
        if first in b"\r\n":
            keep = self._frames and self._after_comment
            self._after_comment = False
            return piece if keep else b""
        self._after_comment = False
        usual = _USUAL.match(piece) is not None
        if not usual and self._frames and _ID_LINE.search(piece):
            self._frames = False
        if whole and (self._is_suspicious(piece) if usual else not _DATA_LINE.search(piece) or self._stands_for_nothing(piece)):
            self._keep(b"".join(match[0] for match in _ID_OR_RETRY.finditer(piece)))
            return b""
        if not usual:
            piece = _BAD_COMMENT.sub(b": txsse", piece)
        kept, self._kept = self._kept, b""
        return kept + piece

    def _keep(self, lines: bytes) -> None:
        if len(self._kept) + len(lines) > _MAX_KEPT:
            self._kept = b""  # the last id is the one that counts
        self._kept += lines

    def _is_suspicious(self, piece: bytes) -> bool:
        return any(suspect in piece for suspect in self._suspects) and self._stands_for_nothing(piece)

    def _stands_for_nothing(self, piece: bytes) -> bool:
        return self._is_ping is not None and all(map(self._is_ping, EventStreamDecoder(len(piece) + 1).feed(piece)))


class LineNormaliser(LineFilter):
    """For newline-delimited JSON: lines that hold no message are dropped, for ollama-python dies of them.

    These are blank lines, ``{}``, and comments of an event stream that somebody put there.
    """

    __slots__ = ()

    def rewrite(self, piece: bytes, *, whole: bool) -> bytes:
        says_nothing = whole and piece.endswith(b"\n") and (piece.startswith(b":") or piece.strip() in (b"", b"{}"))
        return b"" if says_nothing else piece
