"""An upstream that is started, with everything around the starter played by the test: a small gate, a process, errands, a fake clock."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from txsse.config import model
from txsse.upstream.state import Event, Standing, State
from txsse.upstream.wake.child import Exit
from txsse.upstream.wake.eta import Starts
from txsse.upstream.wake.group import Group
from txsse.upstream.wake.parts import Ended
from txsse.upstream.wake.starter import Starter

GOODBYE = Exit(status=0)


class FakeProcess:
    """A process that does what the test says."""

    def __init__(self, exited: Callable[[Exit], None], gone: Callable[[], None]) -> None:
        self._exited = exited
        self._gone = gone
        self.asked: list[str] = []
        self.ended = False
        self.left = True

    def stop(self) -> None:
        self.asked.append("stop")

    def kill(self) -> None:
        self.asked.append("kill")

    def exit(self, how: Exit = GOODBYE) -> None:
        """The process ends; the rest of its group is still there."""
        self.ended = True
        self._exited(how)

    def vanish(self) -> None:
        """Nothing of it is left."""
        self.left = False
        self._gone()


class Rig:
    """One upstream: who waits at its gate, what is open there, and its starter.

    :param slots: how many requests may be open; 0 = any number.
    :param errands: it has some; each run of them waits in ``errands`` until the test ends it.
    """

    def __init__(
        self,
        config: model.Wake | None = None,
        *,
        name: str = "llama",
        process: bool = True,
        errands: bool = False,
        clock: Clock | None = None,
        group: Group | None = None,
        slots: int = 0,
    ) -> None:
        self.clock = clock or Clock()
        self.name = name
        self.starts = Starts()
        self.changes: list[State] = []
        self.processes: list[FakeProcess] = []
        self.cannot_spawn: OSError | None = None
        self.errands: list[Deferred[None]] = []
        self.cancelled_errands = 0
        self.stubborn = False  # errands go on to their end though they be cancelled
        self.ended: list[Ended] = []
        self.slots = slots
        self.first = 0  # they wait to be let through
        self.later = 0  # they came while it drained
        self.open = 0
        self.served = 0
        self._told = (False, False)  # somebody waits, something is open
        state = State.DOWN if process else State.UNKNOWN
        self.standing = Standing(self.clock.seconds, lambda old, new, detail: self.changes.append(new), state)
        self.starter = Starter(
            self.clock,
            name,
            config or model.Wake(),
            self.standing,
            self,
            errands=self._run_errands if errands else None,
            spawn=self._spawn if process else None,
            group=group or Group(),
            starts=self.starts,
        )

    def _spawn(self, exited: Callable[[Exit], None], gone: Callable[[], None]) -> FakeProcess:
        if self.cannot_spawn is not None:
            raise self.cannot_spawn
        self.processes.append(FakeProcess(exited, gone))
        return self.processes[-1]

    def _run_errands(self) -> Deferred[None]:
        def cancelled(errand: Deferred[None]) -> None:
            self.cancelled_errands += 1
            if self.stubborn:
                errand.callback(None)

        self.errands.append(Deferred(cancelled))
        return self.errands[-1]

    # -- the gate

    @property
    def state(self) -> State:
        return self.standing.state

    @property
    def waiting(self) -> int:
        """How many wait here."""
        return self.first + self.later

    def look(self) -> None:
        if not self.starter.draining:
            self.first, self.later = self.waiting, 0
        self._let_through()
        self._tell()

    def wake_ended(self, ended: Ended) -> None:
        self.ended.append(ended)
        if self.state is not State.READY:
            self.first = self.later = 0
            self._tell()

    def come(self, count: int = 1) -> None:
        """So many requests arrive."""
        for _ in range(count):
            if self.starter.refusal is not None:
                return
            if self.starter.draining:
                self.later += 1
            else:
                self.first += 1
            self._let_through()
            self._tell()

    def leave(self) -> None:
        """One that waits goes away."""
        if self.later:
            self.later -= 1
        else:
            self.first -= 1
        self._tell()

    def finish(self) -> None:
        """One that is open comes to its end."""
        self.open -= 1
        self._let_through()
        self._tell()

    def _let_through(self) -> None:
        while self.first and (self.state is State.READY or self.starter.draining) and (not self.slots or self.open < self.slots):
            self.first -= 1
            self._tell()  # worse than any gate: for a moment one that is let through is nowhere
            self.open += 1
            self.served += 1
            self._tell()

    def _tell(self) -> None:
        """What has changed, and only that."""
        draining = self.starter.draining
        wanted, busy = bool(self.later if draining else self.waiting), bool(self.open or (draining and self.first))
        before, self._told = self._told, (wanted, busy)
        if wanted != before[0]:
            self.starter.wanted() if wanted else self.starter.unwanted()
        if busy != before[1]:
            self.starter.busy() if busy else self.starter.idle()

    @property
    def may_probe(self) -> bool:
        wanted = self.waiting > 0 or self.starter.starting
        return wanted and not self.starter.barred and self.state is not State.READY

    def probe(self, event: Event, detail: str = "") -> None:
        """One look at it has this outcome."""
        assert self.may_probe
        self.standing.hear(event, detail)
        self.starter.looked(event)
        self.look()

    # -- shortcuts

    def turn(self) -> None:
        self.clock.advance(0)

    @property
    def process(self) -> FakeProcess:
        return self.processes[-1]

    def come_up(self) -> None:
        """Through one request, which stays open."""
        self.come()
        self.turn()
        self.probe(Event.PROBE_PASSED)
        self.turn()
        assert (self.state, self.open) == (State.READY, 1)
        self.changes.clear()
        self.ended.clear()

    def die(self, how: Exit = GOODBYE) -> None:
        """The process ends, and all of its group."""
        self.process.exit(how)
        self.process.vanish()

    @property
    def quiet(self) -> bool:
        return not self.clock.getDelayedCalls()
