"""What is counted while serving: plain integers, read by the admin listener at scrape time.

A ``prometheus_client`` counter costs 0.9-2.8 us an increment and its import 4 MiB; an int in a dict costs 0.04 us. So the data path
knows only this module, and :mod:`txsse.admin.exposition` turns it into Prometheus text when somebody asks.
Keys are label values. They come from the configuration, from fixed sets or from :data:`txsse.errors.CODES`: never a path, host or key.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Literal, Protocol

import attrs

from txsse.errors import Outcome

if TYPE_CHECKING:
    from txsse.dialects.usage import Usage
    from txsse.recordings.view import CacheView, SharedView, StreamsView

Phase = Literal["hold", "first_byte", "gap"]
CacheResult = Literal["hit", "miss", "coalesced", "bypass", "uncacheable", "store", "evict"]  # of a request; the last two, of an entry
TokenKind = Literal["prompt", "completion", "cached"]

MOST_MODELS: Final = 50
"""Models that have counters of their own; the others share one."""
LONGEST_MODEL: Final = 128  # characters of a model's name: some servers give the path of a file

# Seconds. Dense where a warm answer lies, up to the half hour a big model may take to load.
BOUNDS: Final = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0)


@attrs.define(eq=False)
class Histogram:
    """Observed durations in seconds, counted into the buckets of :data:`BOUNDS` and one more for what is longer."""

    counts: list[int] = attrs.field(factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def cumulative(self) -> list[tuple[float, int]]:
        """``(upper bound, observations up to and including it)`` for every bucket, the last one's bound being infinite."""
        running = 0
        rows = []
        for bound, count in zip((*BOUNDS, float("inf")), self.counts, strict=True):
            running += count
            rows.append((bound, running))
        return rows


class UpstreamView(Protocol):
    """What a scrape asks of an upstream."""

    @property
    def name(self) -> str: ...

    @property
    def state(self) -> str:
        """One word out of a fixed set, such as ``ready``."""

    @property
    def waiting(self) -> int:
        """Requests held for it now."""


def _no_upstreams() -> Iterable[UpstreamView]:
    return ()


def _nothing() -> None:
    return None


@attrs.define(eq=False)
class Metrics:
    """The counters of one proxy. Increment them in place: ``metrics.requests[route, 200, "ok"] += 1``."""

    upstreams: Callable[[], Iterable[UpstreamView]] = _no_upstreams
    cache_view: Callable[[], CacheView | None] = _nothing
    streams_view: Callable[[], StreamsView | None] = _nothing
    shared_view: Callable[[], SharedView | None] = _nothing
    requests: Counter[tuple[str, int, Outcome]] = attrs.field(factory=Counter)  # (route, status, outcome)
    in_flight: Counter[str] = attrs.field(factory=Counter)  # by route; goes down again
    hold_seconds: defaultdict[str, Histogram] = attrs.field(factory=lambda: defaultdict(Histogram))  # by upstream
    first_byte_seconds: defaultdict[str, Histogram] = attrs.field(factory=lambda: defaultdict(Histogram))  # by route
    relayed_bytes: Counter[str] = attrs.field(factory=Counter)  # by route
    keepalives: Counter[Phase] = attrs.field(factory=Counter)
    rejections: Counter[str] = attrs.field(factory=Counter)  # by error code
    stream_errors: Counter[str] = attrs.field(factory=Counter)  # by error code
    wakes: Counter[tuple[str, str]] = attrs.field(factory=Counter)  # (upstream, how the start ended)
    unterminated: Counter[str] = attrs.field(factory=Counter)  # by route: ended cleanly without the terminal event
    reading: Counter[str] = attrs.field(factory=Counter)  # by route: those in flight who read what others asked for, less what these asked
    resumes: Counter[str] = attrs.field(factory=Counter)  # by result
    cache: Counter[CacheResult] = attrs.field(factory=Counter)
    cache_refusals: Counter[str] = attrs.field(factory=Counter)  # by reason: not looked up, or not stored
    tokens: Counter[tuple[str, str, TokenKind]] = attrs.field(factory=Counter)  # (route, model, kind)
    _models: dict[str, str] = attrs.field(factory=dict, init=False)  # as they were given -> label

    def count_tokens(self, route: str, model: str, usage: Usage, *, cached: bool) -> None:
        """What a successful response took.

        :param model: as its upstream calls it, "" if it does not. The first :data:`MOST_MODELS` have counters of their own.
        :param cached: it was told from a recording, no upstream worked for it: prompt and answer together are counted apart.
        """
        label = self._model_label(model)
        if cached:
            self.tokens[route, label, "cached"] += usage.prompt + usage.completion
        else:
            self.tokens[route, label, "prompt"] += usage.prompt
            self.tokens[route, label, "completion"] += usage.completion

    def _model_label(self, model: str) -> str:
        label = self._models.get(model)
        if label is not None:
            return label
        if not model:
            return "unknown"
        if len(self._models) == MOST_MODELS:
            return "other"
        # What JSON takes for text may be half of a surrogate pair, which no scrape could send.
        label = self._models[model] = model[:LONGEST_MODEL].encode("utf-8", "replace").decode("utf-8")
        return label
