"""How the demo backend behaves: settings of the whole backend, and the manner of one answer, which request headers change."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import attrs

TEXT = (
    "Good morning. I was asleep, and somebody had to load me from a slow disk before I could say a word. "
    "All that time your connection stayed open, because a proxy kept it alive on my behalf."
)


@attrs.frozen(kw_only=True)
class DemoSettings:
    """What the fake model does when nobody asks for anything else. All times in seconds."""

    wake_seconds: float = 10.0
    from_start: bool = False  # count wake_seconds from listen(), not from the first request of any kind
    closed: bool = False  # the port is closed until it is awake (counted from listen()); else /health and all else say 503
    prefill_seconds: float = 0.0  # silence before the response head
    pace: float = 0.1  # from word to word
    text: str = TEXT
    model: str = "demo"


FAILURES = {
    "reset": "RST before the head",
    "status": "status=429: that status with an error as JSON (default 500)",
    "html": "html=502: that status with an HTML page (default 500)",
    "json200": "200 with application/json although a stream was asked for",
    "die-in-event": "the connection ends in the middle of an event, half-way through the words",
    "die-between-events": "the connection ends between two events, half-way through the words",
    "no-done": "a clean end, but without data: [DONE]",
    "hang-before-head": "no answer, for ever",
    "hang-after-head": "the head, then nothing, for ever",
    "hang-mid-event": "half-way through the words half an event, then nothing, for ever",
    "loading": "loading=2: 503 Loading model so many times in a row (default 1), then a good answer",
}
"""The ways to fail that a request can ask for by ``X-Demo-Fail: <way>`` or ``?fail=<way>``."""


class BadManner(ValueError):
    """A request asked for something the demo backend does not know; the text says what."""


@attrs.frozen(kw_only=True)
class Manner:
    """How one request is answered. All times in seconds; each can be set by the header ``X-Demo-<Name>``."""

    prefill: float  # silence before the head
    pace: float  # from word to word
    words: list[str]
    first: float = 0.0  # silence between the head and the first event
    gap: float = 0.0  # additional silence between two events, half-way through the words
    stall: float = 0.0  # silence in the middle of the event half-way through the words
    fail: str = ""  # a key of FAILURES
    number: int | None = None  # what stood behind its "="


def manner(settings: DemoSettings, header: Callable[[str], str | None], query_fail: str = "") -> Manner:
    """The manner a request asks for; *header* looks a request header up. Raises :class:`BadManner`."""
    fail, _, number = (header("X-Demo-Fail") or query_fail).partition("=")
    if fail and fail not in FAILURES:
        raise BadManner(f"unknown failure {fail!r}; known are {', '.join(FAILURES)}")
    words = settings.text.split()
    count = int(_number(header, "Words", len(words)))
    return Manner(
        prefill=_number(header, "Prefill", settings.prefill_seconds),
        pace=_number(header, "Pace", settings.pace),
        words=list(itertools.islice(itertools.cycle(words), count)),
        first=_number(header, "First", 0.0),
        gap=_number(header, "Gap", 0.0),
        stall=_number(header, "Stall", 0.0),
        fail=fail,
        number=_integer(f"the number of {fail}", number) if number else None,
    )


def _number(header: Callable[[str], str | None], name: str, default: float) -> float:
    text = header(f"X-Demo-{name}")
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86400:
        raise BadManner(f"X-Demo-{name} is not a number from 0 to 86400: {text!r}")
    return value


def _integer(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise BadManner(f"{name} is not a whole number: {text!r}") from None
