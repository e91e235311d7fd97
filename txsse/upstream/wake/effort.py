"""The work of starting one upstream, and what comes of it: first the errands, then a process of ours."""

from __future__ import annotations

import enum
from typing import Protocol

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse.upstream.wake.child import Exit
from txsse.upstream.wake.parts import Errands, Process, Spawn, WakeFailed


class Phase(enum.Enum):
    """What is under way."""

    RESTING = "nothing"
    ERRANDS = "the errands"
    DONE = "all is done that we can do: a process of ours runs, or the upstream comes up elsewhere"
    LEAVING = "the end of the process"


class Boss(Protocol):
    """Who has it done."""

    def phase_entered(self) -> None:
        """The phase is another one."""

    def failed(self, detail: str) -> None:
        """The start has come to nothing: an errand failed, or there is no process. Nothing is under way any more."""

    def exited(self, how: Exit) -> None:
        """The process ended without being asked to. What it leaves behind is on its way out."""


class Effort:
    """Does it, and undoes it.

    :param errands: ``None`` = there are none.
    :param spawn: ``None`` = there is no process of ours.
    """

    _log = Logger()

    def __init__(self, errands: Errands | None, spawn: Spawn | None, boss: Boss) -> None:
        self.phase = Phase.RESTING
        self.owns_process = spawn is not None
        self.process: Process | None = None
        self._errands = errands
        self._spawn = spawn
        self._boss = boss
        self._errand: Deferred[None] | None = None

    def begin(self) -> None:
        """Do all there is to do."""
        self._enter(Phase.ERRANDS)
        self._errand = errand = succeed(None) if self._errands is None else maybeDeferred(self._errands)
        errand.addCallbacks(self._run, self._errands_failed, (errand,), errbackArgs=(errand,))

    def leave(self) -> None:
        """Undo it: stop what is being done, or the process. The phase tells when nothing is left."""
        errand, self._errand = self._errand, None
        if errand is not None:
            errand.cancel()
        if self.process is None:
            self._enter(Phase.RESTING)
        else:
            self._enter(Phase.LEAVING)
            self.process.stop()

    def _run(self, _: None, errand: Deferred[None]) -> None:
        if errand is not self._errand:
            return  # it could not be cancelled in time
        self._errand = None
        try:
            self.process = None if self._spawn is None else self._spawn(self._exited, self._gone)
        except OSError as error:
            self._fail(f"there can be no new process ({error.strerror})")
        else:
            self._enter(Phase.DONE)

    def _errands_failed(self, failure: Failure, errand: Deferred[None]) -> None:
        if errand is not self._errand:
            return  # it was us who cancelled
        self._errand = None
        if failure.check(WakeFailed):
            self._fail(failure.getErrorMessage())
        else:
            self._log.failure("waking failed in a way of its own", failure)
            self._fail(type(failure.value).__name__)

    def _fail(self, detail: str) -> None:
        self.phase = Phase.RESTING
        self._boss.failed(detail)

    def _exited(self, how: Exit) -> None:
        if self.phase is not Phase.LEAVING:
            self.phase = Phase.LEAVING
            self._boss.exited(how)

    def _gone(self) -> None:
        self.process = None
        self._enter(Phase.RESTING)

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self._boss.phase_entered()
