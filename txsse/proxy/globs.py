"""The globs of the configuration, as patterns for ``fullmatch``."""

from __future__ import annotations

import re
from collections.abc import Mapping


def glob(pattern: str) -> re.Pattern[str]:
    """A glob: ``*`` is anything, ``?`` any character."""
    return _pattern(pattern, {"**": ".*", "*": ".*", "?": "."})


def path_glob(pattern: str) -> re.Pattern[str]:
    """A glob for paths: ``**`` is anything, ``*`` anything inside a segment, ``?`` one such character."""
    return _pattern(pattern, {"**": ".*", "*": "[^/]*", "?": "[^/]"})


def _pattern(pattern: str, wild: Mapping[str, str]) -> re.Pattern[str]:
    parts = re.split(r"(\*\*|\*|\?)", pattern)
    return re.compile("".join(wild.get(part) or re.escape(part) for part in parts), re.DOTALL)
