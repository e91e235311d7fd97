"""``txsse check FILE``: is this configuration right, and what does it amount to?"""

from __future__ import annotations

import sys

from txsse.config import ConfigError, load, render
from txsse.proxy.verify import problems


def check(path: str) -> int:
    """Print the configuration with all defaults filled in and return 0, or say on stderr what is wrong and return 2.

    :param path: of the file; ``-`` is standard input.
    """
    try:
        configuration = load("/dev/stdin" if path == "-" else path)
    except ConfigError as error:
        for problem in error.problems:
            print(f"txsse check: {problem}", file=sys.stderr)
        return 2
    wrong = list(problems(configuration))
    for problem in wrong:
        print(f"txsse check: {problem}", file=sys.stderr)
    if wrong:
        return 2
    sys.stdout.write(render(configuration))
    return 0
