"""Strictness for every test: nothing may be logged as an error, lost, or left behind in the reactor.

Twisted's trial gives its own test cases these guarantees; plain functions run by pytest get them here.
"""

from __future__ import annotations

import functools
import gc
import inspect
from collections.abc import Callable, Coroutine, Generator
from typing import Any, cast

import hypothesis
import pytest
import pytest_twisted  # type: ignore[import-untyped]  # has no types
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

# A busy machine is no reason to fail, neither in a test nor while its input is made; how long a whole run takes is watched elsewhere.
# What is tried is the same each time, or a run could fail for what nobody has changed: --hypothesis-profile=new tries something else.
hypothesis.settings.register_profile("new", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile("txsse", hypothesis.settings.get_profile("new"), derandomize=True)
hypothesis.settings.load_profile("txsse")

LONGEST_TEST = 180.0
"""Seconds: a test that waits for what never comes fails instead of holding up the whole run."""

SETTLE_TURNS = 80
SETTLE_STEP = 0.0005  # seconds that each turn lasts longer than the one before: 1.6 s in all, hardly one where two turns do


class LoggedError(Exception):
    """An error that was logged as text, without an exception."""


class ExpectedErrors(list[Failure]):
    """The errors logged by the running test so far. What is still in here when it ends fails it."""

    def flush(self, *types: type[BaseException]) -> list[Failure]:
        """Take out and return the failures of these *types* (all, without any), those of lost Deferreds included."""
        gc.collect()
        taken = [each for each in self if not types or each.check(*types)]
        self[:] = [each for each in self if each not in taken]
        return taken


def _as_failure(event: LogEvent) -> Failure | None:
    """The error in a log event; ``None`` if it is not about one."""
    failure = event.get("log_failure") or event.get("failure")  # the latter from twisted.python.log
    if isinstance(failure, Failure):
        return failure
    if event.get("log_namespace") == "twisted.internet.defer":
        return None  # "Unhandled error in Deferred:", a heading; the failure is the next event
    if event.get("isError") or event.get("log_level") is LogLevel.critical:
        return Failure(LoggedError(eventAsText(event, includeTimestamp=False)))
    return None


def _bounded(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Deferred[None]]:
    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> Deferred[None]:
        from twisted.internet import reactor

        running: Deferred[None] = Deferred.fromCoroutine(test(*args, **kwargs))
        return running.addTimeout(LONGEST_TEST, cast(IReactorTime, reactor))

    return run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.obj = _bounded(item.obj)


def _calls(reactor: Any) -> list[Any]:
    return [call for call in reactor.getDelayedCalls() if call.active()]


def _selectables(reactor: Any) -> list[Any]:
    # The reactor's own pipes (for signals and threads) are opened when it first needs them and stay.
    found = [*reactor.getReaders(), *reactor.getWriters()]
    return [each for each in found if not type(each).__name__.endswith("Waker")]


def _newcomers(look: Callable[[Any], list[Any]], reactor: Any, known: set[int]) -> list[Any]:
    return [each for each in look(reactor) if id(each) not in known]


@pytest.fixture(scope="session", autouse=True)
def _quick_garbage_collection() -> Generator[None]:
    """What the imports made is not looked at again, so that collecting after each test costs a fraction of a millisecond."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def expected_errors() -> ExpectedErrors:
    """The errors logged by this test, for one that provokes them: ``assert len(expected_errors.flush(ValueError)) == 1``."""
    return ExpectedErrors()


@pytest.fixture(autouse=True)
def _strict(request: pytest.FixtureRequest, expected_errors: ExpectedErrors) -> Generator[None]:
    from twisted.internet import reactor

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        failure = _as_failure(event)
        if failure is not None:
            expected_errors.append(failure)

    known_calls, known_selectables = ({id(each) for each in look(reactor)} for look in (_calls, _selectables))
    # Trial watches the log of its own cases, and knows which errors they flushed.
    observing = not isinstance(request.instance, SynchronousTestCase)
    if observing:
        globalLogPublisher.addObserver(observe)
    try:
        yield
        gc.collect()  # a failed Deferred tells that nobody handled it when it is collected
        gc.freeze()  # what outlives a test is not looked at again after each of the others: that cost 50 ms a time
        for turn in range(SETTLE_TURNS):
            calls = _newcomers(_calls, reactor, known_calls)
            selectables = _newcomers(_selectables, reactor, known_selectables)
            if not calls and not selectables:
                break
            # A closing connection takes a few turns of the reactor, its peer's as many again.
            pause: Deferred[None] = deferLater(reactor, turn * SETTLE_STEP)
            pytest_twisted.blockon(pause)
    finally:
        if observing:
            globalLogPublisher.removeObserver(observe)

    complaints = [f"logged error: {each.getErrorMessage()}\n{each.getTraceback()}" for each in expected_errors]
    complaints += [f"left behind a delayed call: {each}" for each in calls]
    complaints += [f"left behind an open selectable: {each!r}" for each in selectables]
    for call in calls:
        call.cancel()  # the next test shall not pay for it
    expected_errors.clear()
    if complaints:
        pytest.fail("\n".join(complaints), pytrace=False)
