"""The suite in two processes side by side, one a core: ``python -m tests.halves [options of pytest]``.

What waits (whole proxies as processes) runs beside what computes. With paths among the arguments it is pytest itself.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
WAITING: Final = ("tests/integration",)
"""Takes about as long as all the others."""


def main(arguments: list[str]) -> int:
    pytest = [sys.executable, "-m", "pytest", *arguments]
    if any(not argument.startswith("-") and Path(argument.partition("::")[0]).exists() for argument in arguments):
        return subprocess.run(pytest, cwd=HERE.parent, check=False).returncode
    others = [f"--ignore={path}" for path in WAITING]
    with tempfile.TemporaryFile("w+") as kept:
        beside = subprocess.Popen([*pytest, *WAITING], cwd=HERE.parent, stdout=kept, stderr=subprocess.STDOUT)
        try:
            first = subprocess.run([*pytest, *others], cwd=HERE.parent, check=False).returncode
            second = beside.wait()
        finally:
            if beside.poll() is None:
                beside.terminate()
                beside.wait()
        kept.seek(0)
        sys.stdout.write(kept.read())
    return first or second


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
