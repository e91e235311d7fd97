"""Who is alive: each process renews one lease; who does not is dead to the others.

A lease of length L (seconds) is a key that lives for 0.6 L and is renewed every 0.2 L. Its absence is believed when it was seen twice,
0.25 L apart: by then a process that lives has renewed what was evicted, or flushed. So one that hangs for less than 0.65 L is never taken
for dead, and one that is dead is known to be after 0.85 L and the time between two looks, twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse.redis.connection import LONGEST_LOGIN, LONGEST_PAUSE, Reply
from txsse.redis.errors import RedisError
from txsse.redis.scripts import RENEW, lease_key

if TYPE_CHECKING:
    from txsse.redis.link import RedisLink

LIFE: Final = 0.6
RENEWAL: Final = 0.2
CONFIRMATION: Final = 0.25
LOOK: Final = 0.05
"""Parts of a lease: how long its key lives, how often it is renewed, when its absence is believed, how often it is looked for."""


class Absences:
    """Tells a dead process from one that was not to be seen for a moment. No I/O, no clock.

    :param lease: seconds.
    """

    def __init__(self, lease: float) -> None:
        self._confirmation = CONFIRMATION * lease
        self._grace = lease + LONGEST_PAUSE + LONGEST_LOGIN
        self._quiet_until = 0.0
        self._missing: dict[str, float] = {}  # since when

    def see(self, owner: str, present: bool, now: float) -> bool:
        """Whether *owner* is dead."""
        if present:
            self._missing.pop(owner, None)
            return False
        return now >= self._quiet_until and now - self._missing.setdefault(owner, now) >= self._confirmation

    def look_away(self, now: float) -> None:
        """We could not see for a while, and perhaps the others could not be seen: they have time to come back."""
        self._missing.clear()
        self._quiet_until = now + self._grace

    def keep(self, owners: Iterable[str]) -> None:
        """Nobody asks for the others any more."""
        kept = set(owners)
        for owner in [each for each in self._missing if each not in kept]:
            del self._missing[owner]


class Lease:
    """Ours.

    :param name: this process's.
    :param renewed: called after each renewal; with ``True`` if the lease had lapsed: we may have been taken for dead.
    """

    _log = Logger()

    def __init__(self, link: RedisLink, clock: IReactorTime, name: str, length: float, renewed: Callable[[bool], None]) -> None:
        self._link = link
        self._name = name
        self._life = round(1000 * LIFE * length)
        self._renewed = renewed
        self._held = False
        self._loop = LoopingCall(self.renew)
        self._loop.clock = clock
        self._interval = RENEWAL * length

    def start(self) -> None:
        self._loop.start(self._interval).addErrback(lambda failure: self._log.failure("the lease is not renewed any more", failure))

    def renew(self) -> None:
        """Now."""
        if self._link.available:
            renewing = self._link.run(RENEW, [lease_key(self._name)], [self._life])
            renewing.addCallbacks(self._done, self._failed)

    def stop(self) -> None:
        """Idempotent."""
        if self._loop.running:
            self._loop.stop()

    def _done(self, was_there: Reply) -> None:
        lapsed, self._held = not was_there and self._held, True
        self._renewed(lapsed)

    def _failed(self, failure: Failure) -> None:
        failure.trap(RedisError)  # it is renewed again
