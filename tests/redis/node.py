"""Another process that owns streams: ``python -m tests.redis.node URL LEASE INTERVAL SID..``; it can be frozen and killed.

Writes a piece to each stream every INTERVAL seconds, and says what it hears of them, a line each. :class:`Node` runs it.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from tests.redis.streams import Keeper, a_meta, piece_of
from txsse.redis.journal import Journal
from txsse.redis.link import RedisLink
from txsse.redis.outbox import Loss


class Node(ProcessProtocol):
    """
    :ivar said: its lines so far.
    """

    def __init__(self, url: str, lease: float, interval: float, *sids: str) -> None:
        self.said: list[str] = []
        self.gone: Deferred[None] = Deferred()
        self._rest = ""
        arguments = [sys.executable, "-m", "tests.redis.node", url, str(lease), str(interval), *sids]
        self._process: Any = _REACTOR.spawnProcess(self, sys.executable, arguments, dict(os.environ), childFDs={0: "w", 1: "r", 2: 2})

    def freeze(self) -> None:
        self._process.signalProcess(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.signalProcess(signal.SIGCONT)

    def kill(self) -> Deferred[None]:
        """Fires when it is gone. Idempotent."""
        with suppress(ProcessExitedAlready):
            self._process.signalProcess(signal.SIGKILL)
        gone: Deferred[None] = Deferred()
        self.gone.addCallback(lambda _: gone.callback(None))
        return gone

    def outReceived(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data.decode()).split("\n")
        self.said += lines

    def processEnded(self, reason: Failure) -> None:
        self.gone.callback(None)


class _Keeper(Keeper):
    def __init__(self, sid: str) -> None:
        super().__init__()
        self._sid = sid

    def unshared(self, why: Loss) -> None:
        print("unshared", why, self._sid, flush=True)


_REACTOR: Any = reactor


def _main(url: str, lease: str, interval: str, *sids: str) -> None:
    link = RedisLink(url, _REACTOR, changed=lambda why: print("down" if why else "up", flush=True))
    journal = Journal(link, _REACTOR, "child", lease=float(lease))
    link.start()
    journal.start()
    shares = [journal.create(sid, a_meta(), _Keeper(sid)) for sid in sids]

    def write() -> None:
        for share in shares:
            share.append(piece_of(share.outbox.last + 1))

    LoopingCall(write).start(float(interval))
    _REACTOR.run()


if __name__ == "__main__":
    _main(*sys.argv[1:])
