"""twistd whose function calls are counted, those in Python and those in C. usage: counted.py FILE TWISTD_ARGUMENTS..

SIGWINCH, which nothing else here uses, writes the count.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType

FILE = Path(sys.argv[1])

calls = 0


def count(frame: FrameType, event: str, argument: object) -> None:
    global calls
    if event in ("call", "c_call"):
        calls += 1


def write(number: int, frame: FrameType | None) -> None:
    part = FILE.with_suffix(".part")
    part.write_text(str(calls))
    part.rename(FILE)


if __name__ == "__main__":
    from twisted.scripts.twistd import run

    signal.signal(signal.SIGWINCH, write)
    sys.argv = ["twistd", *sys.argv[2:]]
    sys.setprofile(count)
    run()
