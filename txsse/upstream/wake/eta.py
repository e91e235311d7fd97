"""How long starts take: the last few of each upstream, kept across restarts of the proxy if there is a folder for it."""

from __future__ import annotations

import json
import os
from collections import deque
from pathlib import Path
from typing import Any, Final

from twisted.logger import Logger

from txsse.config.secret import why_unreadable

KEPT: Final = 5
"""Starts per upstream: enough for a median that one start from a cold disk does not spoil, few enough to follow a change of model."""
FILE: Final = "starts.json"
_LONGEST: Final = 1024 * 1024  # bytes of that file that are read
_MOST: Final = 1000  # upstreams that it keeps; names that are used no more would gather


class Starts:
    """The durations of successful starts, in seconds.

    The file is ``{"starts": {"<upstream>": [12.3, ..]}}``, oldest first. One that cannot be read or written costs a warning, nothing else.

    :param folder: ``server.state_dir``; "" = nothing is kept.
    """

    _log = Logger()

    def __init__(self, folder: str = "") -> None:
        self._file = Path(folder) / FILE if folder else None
        self._starts: dict[str, deque[float]] = {}
        if self._file is not None:
            self._read(self._file)

    def add(self, name: str, seconds: float) -> None:
        """A start of the upstream *name* took so long."""
        starts = self._starts.pop(name, None) or deque(maxlen=KEPT)
        starts.append(seconds)
        self._starts[name] = starts  # as the last one: those that nobody adds to come first
        while len(self._starts) > _MOST:
            del self._starts[next(iter(self._starts))]
        if self._file is not None:
            self._write(self._file)

    def expected(self, name: str) -> float | None:
        """How long a start of *name* takes: the median of those known; ``None`` before the first."""
        starts = sorted(self._starts.get(name, ()))
        middle = len(starts) // 2
        return (starts[middle] + starts[~middle]) / 2 if starts else None

    def remaining(self, name: str, elapsed: float) -> float | None:
        """What is left of a start that has gone on for *elapsed*; 0 if it takes longer than expected."""
        expected = self.expected(name)
        return None if expected is None else max(0.0, expected - elapsed)

    def _read(self, file: Path) -> None:
        try:
            with file.open("rb") as stream:
                content = json.loads(stream.read(_LONGEST))
        except FileNotFoundError:
            return
        except (OSError, ValueError, RecursionError) as error:
            why = "nested too deeply" if isinstance(error, RecursionError) else why_unreadable(error)
            self._log.warn("no history of starts: {file} cannot be read: {why}", file=str(file), why=why)
            return
        starts = content.get("starts") if isinstance(content, dict) else None
        for name, values in starts.items() if isinstance(starts, dict) else ():
            good = [float(each) for each in values if _is_duration(each)] if isinstance(values, list) else []
            if good:
                self._starts[name] = deque(good, KEPT)

    def _write(self, file: Path) -> None:
        content = {"starts": {name: [round(each, 3) for each in starts] for name, starts in self._starts.items()}}
        temporary = file.with_name(f".{FILE}.{os.getpid()}")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(content) + "\n", encoding="utf-8")
            temporary.replace(file)  # a reader sees the old file or the new one, whole
        except OSError as error:
            self._log.warn("the history of starts is not kept: {file} cannot be written: {why}", file=str(file), why=why_unreadable(error))


def _is_duration(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e9
