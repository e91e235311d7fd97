"""Starts and stops one upstream: one start for all who wait, one decision for everything that happens.

Whatever happens changes a fact: somebody waits, a probe passed, the process ended, another member of the group stands in line. The facts
are looked at together in the reactor's next turn, and only there it is decided whether to start, go on, give up or stop. So no order of
events can be forgotten, and a request on its way from the gate to its dispatch is never taken for idleness.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from txsse.config import model
from txsse.upstream.room import Refusal
from txsse.upstream.state import Event, Standing, State
from txsse.upstream.timer import Timer
from txsse.upstream.wake.child import Exit
from txsse.upstream.wake.effort import Effort, Phase
from txsse.upstream.wake.eta import Starts
from txsse.upstream.wake.group import Group
from txsse.upstream.wake.parts import Ended, Errands, Owner, Result, Spawn


class Starter:
    """One upstream's starts and stops.

    What its owner tells it: :meth:`wanted` and :meth:`unwanted` (does anybody wait?), :meth:`busy` and :meth:`idle` (is a request
    open?), :meth:`looked` (what a probe found out), and what the administrator asks for.

    :param config: ``cooldown``, ``cancel_after`` and ``stop_after_idle``, in seconds.
    :param standing: with a process of ours it begins as ``DOWN``: nothing runs, and nobody need ask.
    :param errands: what wakes it from afar; ``None`` = there is nothing to be done but to run the process.
    :param spawn: runs its process; ``None`` = it has none of ours.
    :param group: whose place it holds from the beginning of a start until nothing of that is left.
    :param starts: told of each start that made it ready.
    """

    def __init__(
        self,
        clock: IReactorTime,
        name: str,
        config: model.Wake,
        standing: Standing,
        owner: Owner,
        *,
        errands: Errands | None,
        spawn: Spawn | None,
        group: Group,
        starts: Starts,
    ) -> None:
        self._clock = clock
        self._name = name
        self._config = config
        self._standing = standing
        self._owner = owner
        self._group = group
        self._starts = starts
        self._effort = Effort(errands, spawn, self)
        # The facts.
        self._start = False  # one is under way
        self._began = 0.0
        self._wanted = False
        self._insisted = False  # the administrator wants it up
        self._missed = False  # a probe that somebody waits for found nothing
        self._busy = False
        self._idle_since = 0.0
        self._failure = ""  # of the last start that failed
        self._stop_asked = False
        self._retired = False
        self._closing: list[Deferred[None]] | None = None
        # The times.
        self._decision = Timer(clock, self._decide)
        self._patience = Timer(clock, self._lose_patience)  # cancel_after
        self._cooling = Timer(clock, self._cooled)  # cooldown
        self._idling = Timer(clock, self._decide)  # stop_after_idle

    # -- what the owner asks

    @property
    def starting(self) -> bool:
        """It comes up: probe it, though nobody wait."""
        return self._start and self._effort.phase is Phase.DONE

    @property
    def barred(self) -> bool:
        """Do not probe it, though somebody wait: there is nothing to be probed yet, or it is not to be let through to."""
        effort = self._effort
        return (
            effort.phase in (Phase.ERRANDS, Phase.LEAVING)
            or self._standing.state in (State.FAILING, State.STOPPING)
            or (effort.owns_process and effort.process is None)
        )

    @property
    def draining(self) -> bool:
        """It is about to stop: let those through who wait already (they count as busy), and nobody who comes from now on."""
        return self._effort.phase is Phase.DONE and self._standing.state is State.STOPPING

    @property
    def refusal(self) -> Refusal | None:
        """Why nobody need begin to wait now; ``None`` if it may help."""
        return Refusal("wake_failed", self._failure, self._cooling.left) if self._cooling.running else None

    @property
    def elapsed(self) -> float | None:
        """Seconds since the start under way began; ``None`` if there is none, or it has to wait for its group."""
        return self._clock.seconds() - self._began if self._start else None

    @property
    def eta(self) -> float | None:
        """Seconds until it is ready, judging by its last starts (0: any moment); ``None`` without any. Before a start: of a whole one."""
        return self._starts.remaining(self._name, self.elapsed or 0.0)

    @property
    def at_rest(self) -> bool:
        """Nothing of ours is under way, no process runs."""
        return self._effort.phase is Phase.RESTING

    # -- what the owner tells

    def wanted(self) -> None:
        """Somebody waits; while it drains, somebody who has come since. Idempotent."""
        self._wanted = True
        self._decide_soon()

    def unwanted(self) -> None:
        """Nobody waits any more: all were let through, turned away, or left. Idempotent."""
        if self._wanted:
            self._idle_since = self._clock.seconds()
        self._wanted = self._missed = False
        self._decide_soon()

    def busy(self) -> None:
        """A request is open; while it drains, or is still to be let through. Idempotent, and cheap."""
        self._busy = True

    def idle(self) -> None:
        """None is. Idempotent, and cheap while nothing hangs on it."""
        if self._busy:
            self._idle_since = self._clock.seconds()
        self._busy = False
        if self._leaves_when_idle or (self._config.stop_after_idle and not self._idling.running):
            self._decide_soon()

    def looked(self, event: Event) -> None:
        """A probe has found out *event*, and the standing has heard of it."""
        if event is Event.PROBE_PASSED:
            self._insisted = False
            if self._start:
                self._came_up()
        elif event is Event.PROBE_FAILED:
            self._missed = True
            if self._start and self._standing.state is State.DOWN:
                self._standing.hear(Event.WAKE)  # it said that it loads, and now nothing: it is still on its way
        self._decide_soon()

    # -- what the administrator asks for

    def wake(self) -> None:
        """Start it, though nobody wait and the last start have failed just now. If it is ready nothing happens."""
        if self._standing.state is not State.READY:
            self._insisted = True
            self._decide_soon()

    def stop(self) -> None:
        """End a start under way; stop its process as soon as no request is open, if asked again at once, and once more by force.

        What runs elsewhere cannot be stopped from here: it is taken for down until a probe finds it up.
        """
        self._insisted = False
        phase = self._effort.phase
        if self._start:
            self._give_up("it was stopped")
        elif phase is Phase.DONE and self._stop_asked:
            self._leave()
        elif phase is Phase.DONE:
            self._stop_asked = True
            self._decide_soon()
        elif self._effort.process is not None:
            self._effort.process.kill()
        elif self._standing.state is State.READY:
            self._standing.hear(Event.STOPPED, "it was stopped")
            self._owner.look()

    def retire(self) -> None:
        """A new configuration does without it: who waits or is served comes to an end, then it stops."""
        self._retired = True
        self._decide_soon()

    def close(self) -> Deferred[None]:
        """Stop it now, whoever is served; fires when nothing of it is left. There is no start after that."""
        closed: Deferred[None] = Deferred()
        self._closing = [*(self._closing or ()), closed]
        for timer in (self._decision, self._patience, self._cooling, self._idling):
            timer.cancel()
        if self._start:
            self._give_up("the proxy is shutting down")
        elif self._effort.phase is Phase.DONE:
            self._leave()
        self._decide()
        return closed

    # -- called by the group

    def granted(self) -> None:
        if self._may_start:
            self._begin()
        else:
            self._group.give_back(self)

    def reconsider(self) -> None:
        self._decide_soon()

    # -- the decision

    def _decide_soon(self) -> None:
        if self._closing is None:
            self._decision.set(0)

    def _decide(self) -> None:
        phase = self._effort.phase
        if self._start:
            self._decide_start()
        elif phase is Phase.DONE:
            self._decide_service()
        elif phase is Phase.RESTING and self._closing:
            closing, self._closing = self._closing, []
            for each in closing:
                each.callback(None)
        self._line_up()

    @property
    def _others_wait(self) -> bool:
        """Whether it is to make room."""
        return self._retired or self._group.contested(self)

    @property
    def _leaves_when_idle(self) -> bool:
        return self._stop_asked or self._others_wait

    @property
    def _may_start(self) -> bool:
        if self._closing is not None or self._standing.state is State.READY:
            return False
        if self._insisted:
            return True
        # One that runs elsewhere may be up by itself: first it is looked at.
        return self._wanted and not self._cooling.running and (self._effort.owns_process or self._missed)

    def _line_up(self) -> None:
        """Be in line for the group's place, or not. Who is about to lose it lines up for another turn."""
        loses_it = self._effort.phase is Phase.LEAVING or self._standing.state is State.STOPPING
        if self._may_start and (loses_it or self._effort.phase is Phase.RESTING):
            self._group.ask(self)
        else:
            self._group.withdraw(self)

    def _decide_start(self) -> None:
        if self._wanted or self._insisted:
            self._patience.cancel()
        elif self._others_wait or (self.starting and self._effort.process is None):
            # The latter: all was done that can be done from here, and nobody is left to look whether it helped.
            self._lose_patience()
        elif self._config.cancel_after:
            self._patience.set(self._config.cancel_after)

    def _lose_patience(self) -> None:
        self._give_up("nobody waited any more")

    def _decide_service(self) -> None:
        draining = self._standing.state is State.STOPPING
        # Who waits at the gate of a ready one waits for a slot, and is let through while it drains; who comes then has to wait for the
        # next turn, after those who stand in line now. If it is not ready just now, whoever waits for that comes first.
        ready = self._standing.state is State.READY
        if self._stop_asked or (self._others_wait and (draining or ready or not self._wanted)):
            if not self._busy and not (ready and self._wanted):
                self._leave()
            elif not draining:
                self._standing.hear(Event.STOP)
                self._owner.look()
        elif draining:
            self._standing.hear(Event.CALLED_OFF)
            self._owner.look()
        elif self._config.stop_after_idle and not self._busy and not self._wanted:
            rest = self._idle_since + self._config.stop_after_idle - self._clock.seconds()
            if rest <= 0:
                self._leave()
            else:
                # Not moved by the requests of this time: when it rings is early enough to see whether there were any.
                self._idling.set(rest)

    # -- a start

    def _begin(self) -> None:
        self._cooling.cancel()
        self._start = True
        self._began = self._clock.seconds()
        self._missed = False
        self._standing.hear(Event.WAKE, "")
        self._effort.begin()

    def _came_up(self) -> None:
        seconds = self._end_start()
        self._starts.add(self._name, seconds)
        self._idle_since = self._clock.seconds()
        if self._effort.process is None:
            self._effort.leave()
        self._owner.wake_ended(Ended(Result.READY, seconds))

    def _fail(self, detail: str) -> None:
        seconds = self._end_start()
        self._standing.hear(Event.WAKE_FAILED, detail)
        self._failure = detail
        self._cooling.set(self._config.cooldown)
        self.phase_entered()
        self._owner.wake_ended(Ended(Result.FAILED, seconds, detail))

    def _give_up(self, detail: str) -> None:
        seconds = self._end_start()
        if self._effort.process is None:
            self._standing.hear(Event.STOPPED)
            self._effort.leave()
        else:
            self._leave()
        self._owner.wake_ended(Ended(Result.CANCELLED, seconds, detail))

    def _end_start(self) -> float:
        self._start = self._insisted = False
        self._patience.cancel()
        return self._clock.seconds() - self._began

    def _cooled(self) -> None:
        self._standing.hear(Event.COOLED)
        self._decide_soon()

    def _leave(self) -> None:
        if self._standing.state is not State.STOPPING:
            self._standing.hear(Event.STOP)
        self._effort.leave()

    # -- called by the effort

    def phase_entered(self) -> None:
        at_rest = self.at_rest
        if at_rest:
            self._stop_asked = False
            self._idling.cancel()
            if self._standing.state is State.STOPPING:
                self._standing.hear(Event.STOPPED)
        self._owner.look()
        if at_rest:
            self._group.give_back(self)
        if at_rest and self._closing:
            self._decide()
        else:
            self._decide_soon()

    def failed(self, detail: str) -> None:
        self._fail(detail)

    def exited(self, how: Exit) -> None:
        detail = f"its process {how}"
        if self._start:
            self._fail(detail)
        else:
            # It was ready once: who waits now waits for another start, which has nothing to do with this end.
            self._standing.hear(Event.STOPPED, detail)
            self.phase_entered()
