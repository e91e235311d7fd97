"""The clients of the matrix: one file each in ``drivers``, found and read here. What a driver is, ``drivers/rows.py`` tells."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Final

import attrs

ROOT: Final = Path(__file__).parent.parent.parent
DRIVERS: Final = Path(__file__).parent / "drivers"
NODE_MODULES: Final = DRIVERS.parent / "node_modules"

_RUNS_IN: Final = re.compile(r"^(?:#|//) Runs in (\S+) with: (.+)$", re.MULTILINE)
_ROW: Final = re.compile(r'^@?row\("([\w-]+)", "([\w-]+)"', re.MULTILINE)
_PIN: Final = re.compile(r"(.)(?:==|@)([\d.]+)$")


@attrs.frozen
class Client:
    """A driver in one of the environments it runs in.

    :param environment: a virtual environment below the root, ``node``, or ``.venv`` for what is a program of the system.
    :param requirements: as ``setup.sh`` installs them.
    :param rows: the ways to read a stream with it: name and dialect.
    """

    driver: Path
    environment: str
    requirements: tuple[str, ...]
    rows: dict[str, str]

    @property
    def name(self) -> str:
        """Unique, and fit for a path."""
        suffix = self.environment.removeprefix(".venv-clients") if self.environment.startswith(".venv-clients") else ""
        return self.driver.stem.replace("_", "-") + suffix

    @property
    def title(self) -> str:
        """With the version, if it is pinned."""
        pin = _PIN.search(self.requirements[0])
        return f"{self.driver.stem.replace('_', '-')} {pin[2]}" if pin else self.driver.stem

    @property
    def missing(self) -> str:
        """What keeps it from running here, or ``""``."""
        if self.environment == "node":
            absent = [each for each in self.requirements if not (NODE_MODULES / _PIN.sub(r"\1", each)).is_dir()]
        elif self.environment == ".venv":
            absent = [each for each in self.requirements if shutil.which(each) is None]
        else:
            absent = [] if (ROOT / self.environment / "bin/python").exists() else [self.environment]
        return f"{', '.join(absent)} not installed: tests/clients/setup.sh" if absent else ""

    def command(self, url: str, scenarios: list[str]) -> list[str]:
        if self.environment == "node":
            return ["node", str(self.driver), url, *scenarios]
        python = sys.executable if self.environment == ".venv" else str(ROOT / self.environment / "bin/python")
        return [python, "-m", f"tests.clients.drivers.{self.driver.stem}", url, *scenarios]


def clients() -> list[Client]:
    """All of them, in the order of their names."""
    found = []
    for driver in sorted(DRIVERS.iterdir()):
        if driver.suffix in (".py", ".mjs") and driver.stem not in ("__init__", "rows"):
            source = driver.read_text("utf-8")
            rows = dict(_ROW.findall(source))
            assert rows, f"{driver.name} has no rows"
            environments = _RUNS_IN.findall(source)
            assert environments, f"{driver.name} does not say what it runs in"
            found += [Client(driver, environment, tuple(needs.split()), rows) for environment, needs in environments]
    return sorted(found, key=lambda client: client.name)
