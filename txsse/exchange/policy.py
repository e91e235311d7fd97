"""What a route and its upstream ask of an exchange: every number the machine needs, resolved once per configuration."""

from __future__ import annotations

from collections.abc import Callable

import attrs


@attrs.frozen(kw_only=True)
class Policy:
    """One route's behaviour. Durations in seconds, sizes in bytes; 0 means "never" for every limit of time."""

    holds: bool  # False: the upstream counts as ready for ever (preset none), a refusal is final
    hold_timeout: float
    hold_timeout_status: int
    hold_commit_after: float
    message: str
    progress: str
    separator: str
    channel: str
    status_comments: bool
    commit_after: float
    interval: float
    heartbeat: float
    heartbeat_midstream: bool
    form: str
    normalise: bool
    first_byte: float
    idle: float
    total: float
    comments_count: bool
    loading_status: frozenset[int]
    is_loading: Callable[[int, bytes], bool]  # is this answer (status, beginning of its body) a backend's way of saying "not yet"?
    hold_bytes: int
    error_end: str
    error_event: bool
    require_done: bool
    falls_back: bool  # there is another upstream to go to when this one does not become ready
    overflow_falls_back: bool  # also when too many wait for it
    pads_json: bool  # JSON answers that do not stream are kept alive with blanks before them
    counts_tokens: bool = True
    unheard: bool = False  # it has no client of its own: its failure is told, not written
