"""Has the peer of a connection left that we are not reading from?"""

from __future__ import annotations

import select
from typing import Any, Final

# A FIN shows in POLLRDHUP although unread bytes lie before it, which no read would tell; Linux has it.
_LEFT: Final = getattr(select, "POLLRDHUP", 0) | getattr(select, "POLLHUP", 0) | getattr(select, "POLLERR", 0)


def has_left(transport: Any) -> bool:
    """Whether the other side of *transport* has closed, half-closed or reset the connection; ``False`` where there is no telling.

    Why: a reactor hears of an end by reading, and of a paused socket it hears nothing at all.
    """
    fileno = getattr(transport, "fileno", None)
    descriptor = -1 if fileno is None else fileno()
    if descriptor < 0 or not _LEFT:
        return False
    poller = select.poll()
    poller.register(descriptor, _LEFT)
    return any(found & _LEFT for _, found in poller.poll(0))
