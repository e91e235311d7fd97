"""Running a coroutine in the reactor until it returns an exit status, or Ctrl-C comes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

INTERRUPTED = 130  # what a shell reports for a program that died of SIGINT


def run(main: Callable[[Any], Coroutine[Deferred[Any], Any, int]]) -> int:
    """Run ``main(reactor)`` in the global reactor and return its result; :data:`INTERRUPTED` if a signal stopped the reactor first.

    Not ``task.react``: that ends the process by itself, and with status 0 after Ctrl-C.
    """
    from twisted.internet import reactor

    return run_in(reactor, main)


def run_in(reactor: Any, main: Callable[[Any], Coroutine[Deferred[Any], Any, int]]) -> int:
    """:func:`run` in a given reactor that is not running yet. What *main* raises is raised here, when the reactor has stopped."""
    status = INTERRUPTED
    stopping = False
    failures: list[Failure] = []

    def start() -> None:
        running = Deferred.fromCoroutine(main(reactor))
        # On Ctrl-C the coroutine is cancelled, and the reactor waits until it has put its things away.
        reactor.addSystemEventTrigger("before", "shutdown", interrupt, running)
        running.addCallbacks(returned, failures.append)
        running.addBoth(finished)

    def interrupt(running: Deferred[None]) -> Deferred[None]:
        nonlocal stopping
        stopping = True
        running.cancel()
        return running

    def returned(result: int) -> None:
        nonlocal status
        status = result

    def finished(_: object) -> None:
        if not stopping:
            reactor.stop()

    reactor.callWhenRunning(start)
    reactor.run()
    for failure in failures:
        if not failure.check(CancelledError):
            failure.raiseException()
    return status
