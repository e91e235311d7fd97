"""The path of body bytes: fed with what upstream sent, it answers with what may be written to the client now.

Body bytes are not events. The shell's inner loop is ``read -> feed -> write``; the machine is called only where the phase changes.
"""

from __future__ import annotations

import enum
import re
from typing import Protocol

from txsse.dialects.base import Dialect, Filter, Witness
from txsse.dialects.progress import Progress, progress_of
from txsse.dialects.usage import Usage, UsageWitness, usage_of_document
from txsse.wire.boundary import BoundaryTracker
from txsse.wire.lines import LineTracker

_BOM = b"\xef\xbb\xbf"
_ID_LINE = re.compile(rb"(?:\A(?:\xef\xbb\xbf)?+|[\r\n])id[:\r\n]")


class Phase(enum.Enum):
    """The turns a stream takes, each told just before the bytes concerned are handed out."""

    __hash__ = object.__hash__  # Enum's own is Python code

    FIRST_BYTE = "first byte"
    FIRST_EVENT = "first event"
    TERMINAL = "terminal event"


class Turns(Protocol):
    """Who is told of the turns a stream takes."""

    def turned(self, phase: Phase) -> None: ...


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

    def read_usage(self) -> tuple[Usage | None, str]:
        """What was told of tokens, and the model named with it (``None`` and "" for nothing). Asked once, at the end."""


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

    def read_usage(self) -> tuple[Usage | None, str]:
        return None, ""


class DocumentRelay(PlainRelay):
    """A JSON body, of which only what it tells of its usage is our business: that stands near its end.

    :param dialect: its name.
    """

    __slots__ = ("_before", "_dialect", "_last")

    def __init__(self, dialect: str) -> None:
        self._dialect = dialect
        self._before = self._last = b""

    def feed(self, data: bytes) -> bytes:
        self._before, self._last = self._last, data
        return data

    def read_usage(self) -> tuple[Usage | None, str]:
        return usage_of_document(self._dialect, self._before + self._last)


class PaddedRelay(DocumentRelay):
    """A JSON body before which the proxy writes blanks, until its first byte."""

    __slots__ = ("_begun", "_turns")

    def __init__(self, dialect: str, turns: Turns) -> None:
        super().__init__(dialect)
        self._turns = turns
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        super().feed(data)
        if self._begun:
            return data
        self._begun = True
        self._turns.turned(Phase.FIRST_BYTE)
        return data.removeprefix(_BOM)  # which is none after our blanks


class StreamRelay:
    """An event stream (or lines of JSON), cut only between events so that the proxy can speak while upstream stalls inside one.

    What only some streams need (ids watched, filters, a witness, comments that do not count, progress) is looked after by
    :meth:`_attend`; a stream that needs none of it, and has begun, does not even ask.

    :param spoke: bytes of our own went before (upstream's BOM would then stand inside the stream and is dropped).
    :param turns: told of them.
    :param filters: what everything that is let through goes through, in this order.
    :param witness: told of everything that is let through, until it has seen enough.
    :param follow: upstream may tell of its progress.
    :param usage: notes what it tells of tokens.
    :ivar tracker: where it may be cut.
    :ivar attentive: more is to be done with what is let through than to look for its end and its usage.
    :ivar terminated: the terminal event was let through.
    """

    __slots__ = (
        "_comments_count",
        "_dialect",
        "_edge",
        "_ends",
        "_filters",
        "_follow",
        "_fresh",
        "_turns",
        "_usage",
        "_usage_word",
        "_watch_ids",
        "_witness",
        "_word",
        "attentive",
        "id_seen",
        "progress",
        "quiet",
        "spoke",
        "started",
        "terminated",
        "tracker",
    )

    def __init__(
        self,
        dialect: Dialect,
        hold_bytes: int,
        turns: Turns,
        *,
        spoke: bool,
        comments_count: bool,
        watch_ids: bool,
        filters: tuple[Filter, ...],
        witness: Witness | None,
        follow: bool,
        usage: UsageWitness | None = None,
    ) -> None:
        self.tracker = LineTracker(hold_bytes) if dialect.by_lines else BoundaryTracker(hold_bytes)
        self._dialect = dialect
        self._ends = dialect.terminal_pattern  # until it has
        self._word = dialect.terminal_word
        self._turns = turns
        self._usage = usage
        self._usage_word = b"" if usage is None else usage.word
        self._fresh = True  # no upstream byte was let through yet
        self._comments_count = comments_count
        self._watch_ids = watch_ids
        self._edge = b""  # the last bytes let through of an event past the hold bound
        self._filters = filters
        self._witness = witness
        self._follow = follow
        self.attentive = True
        self.started = False  # an event was let through
        self.spoke = spoke
        self.id_seen = False
        self.quiet = False
        self.terminated = False
        self.progress: Progress | None = None  # what upstream told of it, until it told anything else

    def feed(self, data: bytes) -> bytes:
        was_raw = self.tracker.raw
        passed = self.tracker.feed(data)
        out = self._attend(passed, was_raw) if self.attentive else passed
        if self._ends is not None and passed.rfind(self._word) >= 0 and self._ends.search(passed):
            # Past the hold bound it begins inside an event: what it begins with is not the beginning of a line.
            self._look_for_end(b":" + passed if was_raw else passed)
        if self._usage is not None and passed.rfind(self._usage_word) >= 0:
            self._usage.see(passed)
        return out

    def end(self) -> bytes:
        rest = self.tracker.end()
        out = self._attend(rest, False) if self.attentive and rest else rest
        # A last event without its blank line is no event to a parser, but an upstream that wrote its terminal line did finish.
        if self._ends is not None and self._ends.search(rest):
            self._look_for_end(rest + b"\n\n")
        if self._usage is not None and rest:
            self._usage.see(rest)
        return out

    def read_usage(self) -> tuple[Usage | None, str]:
        return (None, "") if self._usage is None else self._usage.read()

    def may_speak(self) -> bool:
        return self.tracker.at_boundary

    @property
    def cut_inside_event(self) -> bool:
        """Part of an unfinished event is with the client: no frame of ours can be understood any more."""
        return self.tracker.raw

    def _look_for_end(self, frames: bytes) -> None:
        if self._dialect.is_terminal(frames):
            self._ends = None
            self.terminated = True
            self._turns.turned(Phase.TERMINAL)

    def _attend(self, out: bytes, was_raw: bool) -> bytes:
        if self._witness is not None and out and not self._witness.see(out):
            self._witness = None
        if self._fresh and out:
            out = self._begin(out)
        if not self._comments_count:
            self.quiet = bool(out) and not was_raw and not self.tracker.held and not self._dialect.event_pattern.search(out)
        if self._watch_ids and self._has_id(out, was_raw):
            self.id_seen, self._watch_ids = True, False
        if self._follow and self._dialect.event_pattern.search(out):
            self.progress = progress_of(out)
        for rewrite in self._filters:
            out = rewrite(out) if out else out
        if not self.started and self._dialect.event_pattern.search(out):
            self.started = True
            self._turns.turned(Phase.FIRST_EVENT)
        needed = self._filters or self._witness or self._watch_ids or self._follow
        self.attentive = bool(needed) or not (self.started and self._comments_count)
        return out

    def _has_id(self, out: bytes, was_raw: bool) -> bool:
        # Past the hold bound a piece begins anywhere, in the middle of "id:" too: it is looked at with the end of what went before.
        view = b":" + self._edge + out if was_raw else out
        if self.tracker.raw:
            self._edge = view[-3:]
        return _ID_LINE.search(view) is not None

    def _begin(self, out: bytes) -> bytes:
        self._fresh = False
        self._turns.turned(Phase.FIRST_BYTE)
        return out.removeprefix(_BOM) if self.spoke else out
