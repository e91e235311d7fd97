"""How far a backend has got, read from what it streams anyway: llama.cpp's prompt progress and its router's status events."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import attrs

from txsse.wire.eventstream import EventStreamDecoder

_MEMBER: Final = re.compile(rb'"(?:prompt_progress|download_progress|progress)"\s*+[:,]')
_MOST: Final = 1e15


@attrs.frozen
class Progress:
    """A backend's report.

    :param state: ``prefill``, ``loading`` or ``downloading``.
    :param done: tokens, parts of the model or bytes; of *total*.
    :param cached: how many of *done* cost no time, for they were known from an earlier request.
    :param seconds: since it began, where the backend says so.
    :param model: whose progress it is, where the backend says so.
    """

    state: str
    done: float
    total: float
    cached: float = 0
    seconds: float | None = None
    model: str = ""

    @property
    def fraction(self) -> float:
        """0 to 1."""
        return min(max(self.done / self.total, 0.0), 1.0)

    @property
    def remaining(self) -> float | None:
        """Seconds left if it goes on as it went so far; ``None`` where that cannot be known."""
        timed = self.done - self.cached
        return None if self.seconds is None or timed <= 0 else max(self.seconds / timed * (self.total - self.done), 0.0)


def progress_of(frames: bytes) -> Progress | None:
    """The last report among these whole events. Where there is none, that costs one search for a substring.

    * Completions that were asked with ``return_progress``: ``"prompt_progress": {"total", "cache", "processed", "time_ms"}`` in a chunk.
    * ``GET /models/sse`` of llama.cpp's router: ``{"model", "event": "model_status", "data": {"status": "loading", "progress": {"stages",
      "current", "value"}}}`` (before June 2026 ``"progress": {"stage", "value"}``), and ``"event": "download_progress"`` with
      ``{"done", "total"}`` for each file.
    """
    if b'progress"' not in frames or not _MEMBER.search(frames):
        return None
    found = None
    for event in EventStreamDecoder(len(frames) + 1).feed(frames):
        if 'progress"' in event.data:
            found = _read(event.data) or found
    return found


def _read(data: str) -> Progress | None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    if isinstance(prompt := value.get("prompt_progress"), dict):
        return _prefill(prompt)
    told = value.get("data")
    if not isinstance(told, dict):
        return None
    model = value.get("model")
    model = model if isinstance(model, str) else ""
    if value.get("event") == "download_progress":
        return _download(told, model)
    status, progress = told.get("status"), told.get("progress")
    if not isinstance(progress, dict):
        return None
    if status == "downloading":
        return _download(progress, model)
    return _load(progress, model) if status == "loading" else None


def _prefill(told: dict[str, Any]) -> Progress | None:
    total = _number(told.get("total"))
    if total <= 0:
        return None
    milliseconds = told.get("time_ms")
    seconds = _number(milliseconds) / 1000 if milliseconds is not None else None
    return Progress("prefill", _number(told.get("processed")), total, _number(told.get("cache")), seconds)


def _load(told: dict[str, Any], model: str) -> Progress:
    stages, current, value = told.get("stages"), told.get("current"), _number(told.get("value"))
    if isinstance(stages, list) and current in stages:
        return Progress("loading", stages.index(current) + value, len(stages), model=model)
    return Progress("loading", value, 1, model=model)


def _download(files: dict[str, Any], model: str) -> Progress | None:
    told = [each for each in files.values() if isinstance(each, dict)]
    total = sum(_number(each.get("total")) for each in told)
    return Progress("downloading", sum(_number(each.get("done")) for each in told), total, model=model) if total > 0 else None


def _number(value: object) -> float:
    """0 for what is none, and for one that no count can be (among them the infinite and NaN)."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= _MOST else 0
