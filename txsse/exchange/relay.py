"""The path of body bytes: fed with what upstream sent, it answers with what may be written to the client now.

Body bytes are not events. The shell's inner loop is ``read -> feed -> write``; the machine is called only where the phase changes.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from typing import Protocol

from txsse.dialects.base import Dialect
from txsse.wire.boundary import BoundaryTracker

_BOM = b"\xef\xbb\xbf"
_EVENT_LINE = re.compile(rb"(?:\A|[\r\n])[^:\r\n]")
_ID_LINE = re.compile(rb"(?:\A|[\r\n])id:?")


class Phase(enum.Enum):
    """The turns a stream takes, each told just before the bytes concerned are handed out."""

    FIRST_BYTE = "first byte"
    FIRST_EVENT = "first event"
    TERMINAL = "terminal event"


class Relay(Protocol):
    """What stands between upstream's body and the client's socket."""

    quiet: bool
    """The last bytes fed were comments only, and comments are no sign of life on this route."""

    def feed(self, data: bytes) -> bytes:
        """Take what upstream sent; return what the client may have now."""

    def end(self) -> bytes:
        """Upstream ended cleanly: the rest, unchanged."""

    def may_speak(self) -> bool:
        """Is the stream at a place where bytes of our own do no harm?"""


class PlainRelay:
    """A body that is none of our business: every byte through, none of ours between."""

    __slots__ = ()
    quiet = False

    def feed(self, data: bytes) -> bytes:
        return data

    def end(self) -> bytes:
        return b""

    def may_speak(self) -> bool:
        return False


class StreamRelay:
    """An event stream, cut only between events so that the proxy can speak while upstream stalls inside one.

    :param spoke: bytes of our own went before (upstream's BOM would then stand inside the stream and is dropped).
    :param on_phase: told at the turns of :class:`Phase`.
    """

    __slots__ = (
        "_comments_count",
        "_dialect",
        "_fresh",
        "_hint",
        "_on_phase",
        "_tracker",
        "_watch_ids",
        "id_seen",
        "quiet",
        "spoke",
        "started",
    )

    def __init__(
        self,
        dialect: Dialect,
        hold_bytes: int,
        on_phase: Callable[[Phase], None],
        *,
        spoke: bool,
        comments_count: bool = True,
        watch_ids: bool = False,
    ) -> None:
        self._tracker = BoundaryTracker(hold_bytes)
        self._dialect = dialect
        self._hint = dialect.terminal_hint
        self._on_phase = on_phase
        self._fresh = True  # no upstream byte was let through yet
        self.started = False  # an event was
        self._comments_count = comments_count
        self._watch_ids = watch_ids
        self.spoke = spoke
        self.id_seen = False
        self.quiet = False

    def feed(self, data: bytes) -> bytes:
        was_raw = self._tracker.raw
        out = self._tracker.feed(data)
        if not self.started and out:
            out = self._first(out)
        if not self._comments_count:
            self.quiet = bool(out) and not was_raw and not self._tracker.held and not _EVENT_LINE.search(out)
        if self._watch_ids and not self.id_seen and _ID_LINE.search(out):
            self.id_seen = True
        # Past the hold bound *out* begins inside an event: what it begins with is not the beginning of a line.
        if self._hint is not None and self._hint in out and self._dialect.is_terminal(b":" + out if was_raw else out):
            self._hint = None
            self._on_phase(Phase.TERMINAL)
        return out

    def end(self) -> bytes:
        rest = self._tracker.end()
        if rest and not self.started:
            rest = self._first(rest)
        # A last event without its blank line is no event to a parser, but an upstream that wrote its terminal line did finish.
        if self._hint is not None and self._hint in rest and self._dialect.is_terminal(rest + b"\n\n"):
            self._hint = None
            self._on_phase(Phase.TERMINAL)
        return rest

    def may_speak(self) -> bool:
        return self._tracker.at_boundary

    @property
    def cut_inside_event(self) -> bool:
        """Part of an unfinished event is with the client: no frame of ours can be understood any more."""
        return self._tracker.raw

    def _first(self, out: bytes) -> bytes:
        if self._fresh:
            self._fresh = False
            self._on_phase(Phase.FIRST_BYTE)
            if self.spoke and out.startswith(_BOM):
                out = out[len(_BOM) :]
        if _EVENT_LINE.search(out.removeprefix(_BOM)):
            self.started = True
            self._on_phase(Phase.FIRST_EVENT)
        return out
