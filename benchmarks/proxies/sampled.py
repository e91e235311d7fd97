"""twistd with a sampler in it, which notes each few milliseconds of CPU time which function runs.

usage: sampled.py FILE TWISTD_ARGUMENTS..

SIGWINCH, which nothing else here uses, writes the samples as JSON and begins anew. The kernel's time counts for whoever called it.
"""

from __future__ import annotations

import atexit
import json
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

EVERY = 0.001  # seconds; the kernel's tick may be longer
FILE = Path(sys.argv[1])

samples: Counter[tuple[str, str]] = Counter()


def sample(number: int, frame: FrameType | None) -> None:
    if frame is not None:
        samples[frame.f_code.co_filename, frame.f_code.co_qualname] += 1


def write(number: int, frame: FrameType | None) -> None:
    part = FILE.with_suffix(".part")
    part.write_text(json.dumps([[file, function, count] for (file, function), count in samples.most_common()]))
    part.rename(FILE)
    samples.clear()


if __name__ == "__main__":
    from twisted.scripts.twistd import run

    signal.signal(signal.SIGPROF, sample)
    signal.signal(signal.SIGWINCH, write)
    signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)
    atexit.register(signal.setitimer, signal.ITIMER_PROF, 0)  # an interpreter that ends forgets its handlers first
    sys.argv = ["twistd", *sys.argv[2:]]
    run()
