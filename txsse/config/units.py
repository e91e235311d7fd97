"""Durations and sizes: read from what people write, and written back."""

from __future__ import annotations

import math
import re
from typing import Final

from txsse.config.errors import Refused, shown

_DURATIONS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZES: Final = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_WRITTEN: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?) ?([A-Za-z]*)\Z", re.ASCII)

LONGEST: Final = 10 * 365 * 24 * 3600.0  # seconds; more is a slip, and far more would overflow a timer
LARGEST: Final = 2**60  # bytes


def read_duration(value: object) -> float:
    """Seconds of a number, or of ``"250ms"``, ``"5s"``, ``"10m"``, ``"1h"``.

    :raises Refused: it is neither, or negative, or longer than ten years.
    """
    allowed = "allowed: seconds as a number, or a string like '250ms', '5s', '10m', '1h'"
    seconds: float
    if isinstance(value, str) and (match := _WRITTEN.match(value)) is not None and match[2] in ("", *_DURATIONS):
        seconds = _scaled(match[1], match[2])
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value) if abs(value) <= LARGEST else math.inf
    else:
        raise Refused(f"{shown(value)} is not a duration; {allowed}")
    if not 0 <= seconds <= LONGEST:
        raise Refused(f"{shown(value)} is not a duration between 0 and ten years; {allowed}")
    return seconds


def _scaled(number: str, unit: str) -> float:
    # Milliseconds are divided: 0.001 has no exact float, and 250 * 0.001 would be written back with a tail of digits.
    return float(number) / 1000 if unit == "ms" else float(number) * _DURATIONS[unit or "s"]


def read_size(value: object) -> int:
    """Bytes of a whole number, or of ``"64KiB"``, ``"1MiB"``, ``"2GiB"``.

    :raises Refused: it is neither, or negative, or not whole.
    """
    allowed = "allowed: bytes as a whole number, or a string like '64KiB', '1MiB', '2GiB'"
    if isinstance(value, str) and (match := _WRITTEN.match(value)) is not None:
        if match[2] not in ("", *_SIZES):
            # "64KB" may mean 64,000 or 65,536: ask.
            raise Refused(f"{shown(value)} is not a size, the units are {', '.join(_SIZES)}; {allowed}")
        exact = float(match[1]) * _SIZES[match[2] or "B"] if "." in match[1] else int(match[1]) * _SIZES[match[2] or "B"]
    elif isinstance(value, int) and not isinstance(value, bool):
        exact = value
    else:
        raise Refused(f"{shown(value)} is not a size; {allowed}")
    if exact != exact // 1 or not 0 <= exact <= LARGEST:
        raise Refused(f"{shown(value)} is not a whole number of bytes between 0 and 1024 PiB; {allowed}")
    return int(exact)


def write_duration(seconds: float) -> str:
    """The shortest exact way to write it as a TOML value, quotes included: ``"600s"``, ``"250ms"``, ``0``, ``0.0001``."""
    if seconds == 0:
        return "0"
    if seconds % 3600 == 0:
        return f'"{seconds / 3600:.0f}h"'
    if seconds % 1 == 0:
        return f'"{seconds:.0f}s"'
    milliseconds = round(seconds * 1000)
    if milliseconds / 1000 == seconds:
        return f'"{milliseconds}ms"'
    return repr(seconds)


def write_size(size: int) -> str:
    """The shortest exact way to write it as a TOML value, quotes included: ``"64KiB"``, ``1000``."""
    for unit, factor in reversed(_SIZES.items()):
        if factor > 1 and size and size % factor == 0:
            return f'"{size // factor}{unit}"'
    return str(size)
