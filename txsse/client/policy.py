"""How long a client waits before it asks again."""

from __future__ import annotations

import random
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Final

import attrs
from twisted.web.http_headers import Headers

RETRY: Final = 3000  # milliseconds between connections, unless the stream says otherwise
_LEAST: Final = 0.1  # seconds from which the waits double, where the stream has asked for less
_MOST_DIGITS: Final = 9


@attrs.frozen
class Backoff:
    """Waits grow with each failure, and are never shorter than the server has asked for.

    :param longest: seconds up to which they double. Beyond it only because of a ``retry:`` or ``Retry-After``.
    :param jitter: up to this part of a wait is added to it at random, so that clients that were cut off together do not come back together.
    :param random: returns numbers from 0 up to 1.
    """

    longest: float = 60.0
    jitter: float = 0.25
    random: Callable[[], float] = random.random

    def delay(self, retry: float, failures: int, retry_after: float = 0.0) -> float:
        """Seconds until the next attempt.

        :param retry: the stream's reconnection time in seconds.
        :param failures: in a row, the last one included; after a clean end none.
        :param retry_after: seconds, if the server named them when it refused.
        """
        wait = retry
        if failures > 1:
            doubled = max(retry, _LEAST) * 2.0 ** min(failures - 1, 32)
            wait = max(retry, min(doubled, self.longest))
        return max(wait, retry_after) * (1 + self.jitter * self.random())


def retry_after(headers: Headers) -> float | None:
    """Seconds of a Retry-After field (RFC 9110 section 10.2.3); ``None``: there is none, or none one can read.

    A date is taken relative to the response's own Date, as the two clocks may differ; without a Date it says nothing.
    """
    value = (headers.getRawHeaders("retry-after") or [""])[-1].strip()
    if value.isascii() and value.isdigit():
        return float(value) if len(value) <= _MOST_DIGITS else None
    try:
        until, now = (parsedate_to_datetime(text) for text in (value, (headers.getRawHeaders("date") or [""])[-1]))
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError):  # no dates, or one with a time zone and one without
        return None
