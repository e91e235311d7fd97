"""What a run measures, under the names and by the rules that replicate/cog has for it. Sans-I/O."""

from __future__ import annotations

import re
from typing import Any, Final, Literal, TypeAlias, get_args

Mode: TypeAlias = Literal["replace", "increment", "append"]
"""What becomes of a value that is there already."""

MAX_NAME: Final = 128
MAX_SEGMENTS: Final = 4
PREDICT_TIME: Final = "predict_time"
"""The one metric that each run has: how many seconds it took."""

_ABSENT: Final = object()
_STRANGE: Final = re.compile(r"[^A-Za-z0-9_]")


class Metrics:
    """Values by name; a name with dots is a path into nested objects.

    :ivar values: as JSON has them.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def record(self, name: str, value: Any, mode: Mode = "replace") -> None:
        """Put the JSON *value* at *name*: in place of what is there, added to it, or as one more of a list.

        ``None`` in place of a value deletes it.

        :raises ValueError: no name or mode of a metric.
        :raises TypeError: *value* is of another kind than what is there, which has to be deleted first.
        """
        check_name(name)
        if mode not in get_args(Mode):
            raise ValueError(f"the mode of a metric is replace, increment or append, not {mode!r}")
        before = self._value(name)
        if mode == "increment":
            if _kind(value) != "number" or (before is not None and _kind(before) != "number"):
                raise TypeError(f"metric {name!r} can be incremented only where it and the increment are numbers")
            value = value if before is None else before + value
        elif mode == "append":
            known = before if isinstance(before, list) else [] if before is None else [before]
            value = [*known, value]
        elif before is not None and value is not None and _kind(before) != _kind(value):
            raise TypeError(f"metric {name!r} is a {_kind(before)}: delete it (None) before it becomes a {_kind(value)}")
        self._put(name, value)

    def _value(self, name: str) -> Any:
        """What is at *name*, or ``None``."""
        value: Any = self.values
        for segment in name.split("."):
            if not isinstance(value, dict):
                raise TypeError(f"metric {name!r} has no place: {segment!r} would be in a {_kind(value)}, which is no object")
            value = value.get(segment, _ABSENT)
            if value is _ABSENT:
                return None
        return value

    def _put(self, name: str, value: Any) -> None:
        *path, leaf = name.split(".")
        place = self.values
        for segment in path:
            place = place.setdefault(segment, {})
        if value is None:
            place.pop(leaf, None)
        else:
            place[leaf] = value


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        return "list"
    return "null" if value is None else "object"


def check_name(name: str) -> None:
    """Is *name* one that a metric may have?

    :raises ValueError: no, and why.
    """
    if name == PREDICT_TIME:
        raise ValueError(f"metric name {name!r} is reserved")
    if name.startswith("cog."):
        raise ValueError("metric names that begin with 'cog.' are reserved")
    if len(name) > MAX_NAME:
        raise ValueError(f"a metric name has at most {MAX_NAME} characters, not {len(name)}")
    segments = name.split(".")
    if len(segments) > MAX_SEGMENTS:
        raise ValueError(f"a metric name has at most {MAX_SEGMENTS} dot-separated segments, not {len(segments)}")
    if not segments[0]:
        raise ValueError("a metric name must not start with a dot, or be empty")
    for segment in segments:
        _check_segment(segment)


def _check_segment(segment: str) -> None:
    if not segment:
        raise ValueError("a metric name must not contain empty segments: no two dots together, none at the end")
    strange = _STRANGE.search(segment)
    if strange is not None:
        raise ValueError(f"segment {segment!r} of a metric name contains {strange.group()!r}: letters, digits and underscores only")
    if not segment[0].isalpha():
        raise ValueError(f"segment {segment!r} of a metric name must start with a letter")
    if segment.endswith("_"):
        raise ValueError(f"segment {segment!r} of a metric name must end with a letter or digit")
    if "__" in segment:
        raise ValueError(f"segment {segment!r} of a metric name must not contain consecutive underscores")
