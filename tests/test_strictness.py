"""The strict fixtures of conftest.py: each kind of sloppiness fails the test that did it, and only that one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SLOPPY = """
import gc
import pytest
from twisted.internet import defer, protocol, reactor, task
from twisted.logger import Logger
from twisted.python import log
from twisted.trial.unittest import SynchronousTestCase

def test_bad_log_err():
    log.err(ValueError("told the old way"))

def test_bad_log_text():
    log.err("only text")

def test_bad_logger_failure():
    try:
        1 / 0
    except ZeroDivisionError:
        Logger().failure("told the new way")

def test_bad_logger_critical():
    Logger().critical("on fire")

def test_bad_lost_deferred():
    defer.fail(ValueError("nobody listens"))

def test_bad_lost_deferred_in_a_cycle():
    lost = defer.fail(ValueError("nobody listens, in a circle"))
    lost.itself = lost

def test_bad_delayed_call():
    reactor.callLater(3600, print)

def test_bad_open_port():
    reactor.listenTCP(0, protocol.Factory(), interface="127.0.0.1")

async def test_bad_async_delayed_call():
    await task.deferLater(reactor, 0)
    reactor.callLater(3600, print)

class TestBad(SynchronousTestCase):
    def test_bad_in_trial_delayed_call(self):
        reactor.callLater(3600, print)

class TestGood(SynchronousTestCase):
    def test_good_flushed_by_trial(self):
        log.err(ValueError("expected"))
        assert len(self.flushLoggedErrors(ValueError)) == 1

def test_bad_not_all_flushed(expected_errors):
    log.err(ValueError("expected"))
    log.err(KeyError("not expected"))
    assert len(expected_errors.flush(ValueError)) == 1

def test_good_flushed(expected_errors):
    log.err(ValueError("expected"))
    defer.fail(KeyError("expected as well"))
    assert len(expected_errors.flush(ValueError, KeyError)) == 2

def test_good_logger_error_without_exception():
    Logger().error("the upstream has gone, which happens")

async def test_good_connection_that_is_closing():
    port = reactor.listenTCP(0, protocol.Factory.forProtocol(protocol.Protocol), interface="127.0.0.1")
    creator = protocol.ClientCreator(reactor, protocol.Protocol)
    client = await creator.connectTCP("127.0.0.1", port.getHost().port)
    client.transport.loseConnection()
    port.stopListening()
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Test name to ``PASSED`` or ``ERROR``, from a pytest of its own."""
    folder = tmp_path_factory.mktemp("sloppy")
    strict = (Path(__file__).parent / "conftest.py").read_text()
    (folder / "conftest.py").write_text(strict.replace("SETTLE_TURNS = 80", "SETTLE_TURNS = 20"))
    (folder / "test_sloppy.py").write_text(SLOPPY)
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", "--reactor=default", str(folder)]
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=150)
    summary = answer.stdout.rpartition("short test summary info")[2]
    found: dict[str, str] = {}
    for outcome, name in re.findall(r"^(PASSED|FAILED|ERROR) \S*::(\w+)", summary, re.MULTILINE):
        # A test that passed but whose teardown complained is listed twice; the complaint counts.
        if outcome != "PASSED" or name not in found:
            found[name] = outcome
    return found


def test_what_is_logged_lost_or_left_behind_fails_the_test(outcomes: dict[str, str]) -> None:
    bad = {name: outcome for name, outcome in outcomes.items() if name.startswith("test_bad")}
    assert len(bad) == 11
    assert set(bad.values()) == {"ERROR"}


def test_what_is_expected_or_cleaned_up_passes(outcomes: dict[str, str]) -> None:
    good = {name: outcome for name, outcome in outcomes.items() if name.startswith("test_good")}
    assert len(good) == 4
    assert set(good.values()) == {"PASSED"}
