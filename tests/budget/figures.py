"""The figures that were recorded, and how far a measurement may be from them.

In memory calls are exact and bytecodes within 2 % on the versions that they were recorded with, and memory is within 3 %. Of the real
process system calls are within 2 % and function calls within 5 %, for its clocks go on meanwhile. On another Python or Twisted, both of
which have a share in each figure, everything is within 15 %, and bytecodes, which each version of Python numbers anew, are not compared.
Less than recorded fails as well as more: what was won is recorded, so that it cannot be lost again unseen.
"""

from __future__ import annotations

import json
import platform
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Final, TypeAlias

import attrs

from tests.budget import process_calls, system_calls
from tests.budget.lockstep import reactors
from tests.budget.scenarios import COUNTS, MEMORY

FILE: Final = Path(__file__).with_name("figures.json")
TOLERANCES: Final = {
    "calls": 0.0,
    "c_calls": 0.0,
    "bytecodes": 0.02,
    "bytes": 0.03,
    "blocks": 0.03,
    "system calls": 0.02,
    "process calls": 0.04,
}
ELSEWHERE: Final = 0.15  # on other versions
SYSTEM_CALLS: Final = "system calls"
PROCESS_CALLS: Final = "process calls"

Figures: TypeAlias = dict[str, float]


def versions() -> dict[str, str]:
    """What the figures depend on besides our own code."""
    return {"Python": ".".join(platform.python_version_tuple()[:2]), "Twisted": version("twisted")}


@attrs.define
class Recorded:
    """``figures.json``: what it was recorded with, then scenario by scenario."""

    versions: dict[str, str] = attrs.field(factory=dict)
    counts: dict[str, Figures] = attrs.field(factory=dict)
    memory: dict[str, Figures] = attrs.field(factory=dict)
    process_calls: dict[str, Figures] = attrs.field(factory=dict)  # by reactor
    system_calls: dict[str, Figures] = attrs.field(factory=dict)  # by reactor

    @classmethod
    def load(cls) -> Recorded:
        return cls(**json.loads(FILE.read_text(encoding="utf-8"))) if FILE.exists() else cls()

    def save(self) -> None:
        FILE.write_text(json.dumps(attrs.asdict(self), indent=2) + "\n", encoding="utf-8")

    @property
    def here(self) -> bool:
        """They were recorded with what is installed here."""
        return self.versions == versions()

    def complaints(self, recorded: Mapping[str, float] | None, measured: Mapping[str, float], kind: str = "") -> list[str]:
        """What is too far from what was recorded.

        :param kind: whose tolerance holds for all of them; without it each figure has its own.
        """
        if recorded is None:
            return ["nothing is recorded: run `make budget`"]
        found = []
        for name, now in measured.items():
            if name == "bytecodes" and not self.here:
                continue
            was = recorded.get(name, 0.0)
            allowed = TOLERANCES[kind or name] if self.here else ELSEWHERE
            if abs(now - was) > allowed * was + 1e-9:
                found.append(f"{name}: {was:g} recorded, {now:g} measured, {allowed:.0%} allowed; if that is meant, run `make budget`")
        return found


def measure() -> Recorded:
    """Everything that can be measured here; system calls stay as they were recorded where there is no strace."""
    found = Recorded(versions())
    found.counts = {name: attrs.asdict(work()) for name, work in COUNTS.items()}
    found.memory = {name: attrs.asdict(work()) for name, work in MEMORY.items()}
    found.system_calls = Recorded.load().system_calls
    with tempfile.TemporaryDirectory() as folder:
        found.process_calls = {name: process_calls.measure(Path(folder), name) for name in reactors()}
        if not system_calls.missing():
            found.system_calls = {name: system_calls.measure(Path(folder), name) for name in reactors()}
    return found
