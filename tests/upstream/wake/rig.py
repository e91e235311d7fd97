"""An upstream that is started, with everything around the starter played by the test: a small gate, a process, errands, a fake clock."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from txsse.config import model
from txsse.upstream.wake.child import Exit
from txsse.upstream.wake.eta import Starts
from txsse.upstream.wake.group import Group
from txsse.upstream.wake.parts import Ended
from txsse.upstream.wake.starter import Starter
from txsse.upstream.wake.states import Event, Standing, State


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

    def exit(self, how: Exit = Exit(status=0)) -> None:
        """The process ends; the rest of its group is still there."""
        self.ended = True
        self._exited(how)

    def vanish(self) -> None:
        """Nothing of it is left."""
        self.left = False
        self._gone()


class Rig:
    """One upstream: who waits at its gate, what is open there, and its starter.

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
    ) -> None:
        self.clock = clock or Clock()
        self.name = name
        self.starts = Starts()
        self.changes: list[State] = []
        self.processes: list[FakeProcess] = []
        self.cannot_spawn: OSError | None = None
        self.errands: list[Deferred[None]] = []
        self.cancelled_errands = 0
        self.ended: list[Ended] = []
        self.waiting = 0
        self.open = 0
        self.served = 0
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
        def cancelled(_: Deferred[None]) -> None:
            self.cancelled_errands += 1

        self.errands.append(Deferred(cancelled))
        return self.errands[-1]

    # -- the gate

    @property
    def state(self) -> State:
        return self.standing.state

    def look(self) -> None:
        if self.state is State.READY:
            self._let_through()

    def wake_ended(self, ended: Ended) -> None:
        self.ended.append(ended)
        if self.state is not State.READY:
            self._nobody_waits()

    def come(self, count: int = 1) -> None:
        """So many requests arrive."""
        for _ in range(count):
            if self.state is State.READY:
                self._dispatch()
            elif self.starter.refusal is None:
                self.waiting += 1
                self.starter.wanted()

    def leave(self) -> None:
        """One that waits goes away."""
        self.waiting -= 1
        if not self.waiting:
            self.starter.unwanted()

    def finish(self) -> None:
        """One that is open comes to its end."""
        self.open -= 1
        if not self.open:
            self.starter.idle()

    def _dispatch(self) -> None:
        self.open += 1
        self.served += 1
        self.starter.busy()

    def _let_through(self) -> None:
        if self.waiting:
            while self.waiting:
                self.waiting -= 1
                # Worse than any gate: for a moment nobody waits and nothing is open.
                if not self.waiting:
                    self.starter.unwanted()
                self._dispatch()

    def _nobody_waits(self) -> None:
        if self.waiting:
            self.waiting = 0
            self.starter.unwanted()

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

    def die(self, how: Exit = Exit(status=0)) -> None:
        """The process ends, and all of its group."""
        self.process.exit(how)
        self.process.vanish()

    @property
    def quiet(self) -> bool:
        return not self.clock.getDelayedCalls()

