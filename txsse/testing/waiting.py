"""Waiting in tests: for a condition, a gate, a fake clock. Every wait has an end, and a timeout says what was seen instead."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater

Reactor: TypeAlias = Any  # IReactorTCP, IReactorUNIX, IReactorSSL and IReactorTime at once: zope interfaces have no intersection

TIMEOUT = 20.0  # seconds any wait may take unless the test says otherwise: what comes at all comes at once, but not on a busy machine

KEPT_PORTS = 256
_kept: deque[int] = deque()  # descriptors of sockets that hold a port, the oldest first


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port nobody listens on: for a server that comes later, which must set ``SO_REUSEADDR``, as most do.

    It is kept from everybody who asks for any port, until this process ends or has asked for 256 more: a socket that is bound and does not
    listen refuses connections, and gives way to one that listens.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind((host, 0))
    port: int = holder.getsockname()[1]
    _kept.append(holder.detach())
    if len(_kept) > KEPT_PORTS:
        os.close(_kept.popleft())
    return port


def sleep(reactor: Reactor, seconds: float) -> Deferred[None]:
    """Fires after *seconds*; cancelling it stops the timer."""
    return deferLater(reactor, seconds, lambda: None)


def pump(clock: Clock, seconds: float, step: float = 0.005) -> None:
    """Advance a fake clock in small steps: one big ``advance`` makes a LoopingCall tick once and skip the rest."""
    end = clock.seconds() + seconds
    while clock.seconds() + step < end:
        clock.advance(step)
    clock.advance(max(0.0, end - clock.seconds()))


async def eventually(reactor: Reactor, condition: Callable[[], object], timeout: float = TIMEOUT, what: str = "the condition") -> None:
    """Return as soon as *condition* is true (looked at every 2 ms); ``AssertionError`` after *timeout* seconds."""
    end = reactor.seconds() + timeout
    while not condition():
        assert reactor.seconds() < end, f"{what} did not come true within {timeout} s"
        await sleep(reactor, 0.002)


class Gate:
    """Holds a script back until the test opens it; opening may come first."""

    def __init__(self) -> None:
        self.is_open = False
        self._waiting: list[Deferred[None]] = []

    def open(self) -> None:
        self.is_open = True
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    def wait(self) -> Deferred[None]:
        waiter: Deferred[None] = Deferred(self._forget)
        if self.is_open:
            waiter.callback(None)
        else:
            self._waiting.append(waiter)
        return waiter

    def _forget(self, waiter: Deferred[None]) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)


class Watch:
    """Lets coroutines wait for a condition of their owner, which calls :meth:`look` after each of its events."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._waiting: list[tuple[Callable[[], object], Deferred[None]]] = []

    def look(self) -> None:
        """Let everybody go on whose condition is true now."""
        ready = [entry for entry in self._waiting if entry[0]()]
        self._waiting = [entry for entry in self._waiting if entry not in ready]
        for _, waiter in ready:
            waiter.callback(None)

    async def until(self, condition: Callable[[], object], timeout: float | None, what: Callable[[], str]) -> None:
        """Return when *condition* is true; ``AssertionError`` with the text of *what* after *timeout* seconds (``None``: never)."""
        if condition():
            return
        waiter: Deferred[None] = Deferred(self._forget)
        self._waiting.append((condition, waiter))
        if timeout is not None:
            waiter.addTimeout(timeout, self._reactor, lambda _, seconds: _fail(f"{what()} within {seconds} s"))
        await waiter

    def _forget(self, waiter: Deferred[None]) -> None:
        self._waiting = [entry for entry in self._waiting if entry[1] is not waiter]


def _fail(message: str) -> None:
    raise AssertionError(message)
