"""The gate of an upstream that is started: the real gate and the real starter, with a process that is played."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Final

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from tests.upstream.wake.rig import FakeProcess
from txsse.config import model
from txsse.testing import pump
from txsse.upstream.gate import Gate
from txsse.upstream.lookout import Verdict
from txsse.upstream.room import Refusal
from txsse.upstream.state import State
from txsse.upstream.wake.child import Exit
from txsse.upstream.wake.eta import Starts
from txsse.upstream.wake.group import Group
from txsse.upstream.wake.parts import Ended, Result
from txsse.upstream.wake.starter import Starter

RUNS: Final = 500
STEPS: Final = 200
INTERVAL: Final = 0.25


class Client:
    """One request: waits at the gate, is let through once, or told why not."""

    def __init__(self, upstream: Upstream) -> None:
        self.waits = True
        self.refusal: Refusal | None = None
        self._upstream = upstream
        upstream.clients.append(self)
        upstream.gate.enter(self, 0, upstream.clock.seconds())

    def admitted(self) -> None:
        self._over()
        self._upstream.open += 1
        assert not self._upstream.processes or self._upstream.process.left

    def turned_away(self, refusal: Refusal) -> None:
        self._over()
        self.refusal = refusal

    def leave(self) -> None:
        self._over()
        self._upstream.gate.leave(self)

    def _over(self) -> None:
        assert self.waits, "told twice"
        self.waits = False


class Upstream:
    """Run by the proxy, or *elsewhere*."""

    def __init__(
        self,
        config: model.Wake | None = None,
        *,
        clock: Clock | None = None,
        group: Group | None = None,
        slots: int = 0,
        elsewhere: bool = False,
    ) -> None:
        self.clock = clock or Clock()
        self.clients: list[Client] = []
        self.processes: list[FakeProcess] = []
        self.open = 0
        self.up = False  # its process answers
        self.quick = False  # and does so from the start
        self.probes = 0
        self.ended: list[Ended] = []
        self._elsewhere = elsewhere
        self.gate = Gate(self.clock, self._probe, model.Probe(), True, slots=slots, state=State.DOWN)
        self.starter = self.gate.starter = Starter(
            self.clock,
            "llama",
            config or model.Wake(),
            self.gate.standing,
            self,
            errands=None,
            spawn=None if elsewhere else self._spawn,
            group=group or Group(),
            starts=Starts(),
        )

    def _probe(self) -> Deferred[Verdict]:
        self.probes += 1
        if self._elsewhere:
            return succeed(Verdict(self.up, detail="connection refused"))
        assert self.process.left, "there is nothing to be probed"
        return succeed(Verdict(self.up and not self.process.ended, detail="connection refused"))

    def _spawn(self, exited: Callable[[Exit], None], gone: Callable[[], None]) -> FakeProcess:
        self.processes.append(FakeProcess(exited, gone))
        self.up = self.quick
        return self.process

    @property
    def process(self) -> FakeProcess:
        return self.processes[-1]

    def look(self) -> None:
        self.gate.look()

    def wake_ended(self, ended: Ended) -> None:
        self.ended.append(ended)
        if ended.result is not Result.READY:
            refusal = self.starter.refusal
            self.gate.turn_away(Refusal("wake_failed", ended.detail, None if refusal is None else refusal.retry_after))

    # -- what a test does

    def come(self) -> Client:
        return Client(self)

    def come_up(self) -> None:
        """Through one request, which stays open."""
        self.come()
        self.turn()
        self.up = True
        self.wait(INTERVAL)
        assert self.gate.ready and self.open == 1

    def finish(self) -> None:
        self.open -= 1
        self.gate.give_back()

    def turn(self) -> None:
        self.clock.advance(0)

    def wait(self, seconds: float) -> None:
        pump(self.clock, seconds, 0.05)

    def let_end(self) -> None:
        """What was asked to end ends, and what ended leaves nothing."""
        if self.processes and self.process.asked and not self.process.ended:
            self.process.exit()
        if self.processes and self.process.ended and self.process.left:
            self.process.vanish()


def test_nothing_is_probed_before_its_process_runs() -> None:
    upstream = Upstream()
    client = upstream.come()
    assert upstream.gate.state is State.DOWN
    upstream.wait(1)
    assert upstream.probes == 4
    assert (upstream.gate.state, upstream.gate.last_error) == (State.WAKING, "connection refused")
    upstream.up = True
    upstream.wait(INTERVAL)
    assert not client.waits
    assert upstream.gate.cold


def test_one_that_is_up_at_the_first_look_was_cold_all_the_same() -> None:
    upstream = Upstream()
    upstream.quick = True
    upstream.come()
    upstream.turn()
    assert (upstream.gate.ready, upstream.probes) == (True, 1)
    assert upstream.gate.cold


def test_a_start_goes_on_when_all_have_left_and_whoever_comes_then_finds_it_cold() -> None:
    upstream = Upstream()
    upstream.come().leave()
    upstream.turn()
    assert not upstream.processes
    first = upstream.come()
    upstream.turn()
    first.leave()
    upstream.wait(1)
    assert upstream.probes >= 3
    upstream.come()
    upstream.up = True
    upstream.wait(INTERVAL)
    assert upstream.gate.ready
    assert upstream.gate.cold


def test_an_exit_before_it_is_ready_turns_everybody_away_and_others_until_the_cool_down_is_over() -> None:
    upstream = Upstream(model.Wake(cooldown=30))
    clients = [upstream.come() for _ in range(3)]
    upstream.wait(1)
    upstream.process.exit(Exit(status=3))
    words = "its process exited with status 3"
    assert [each.refusal for each in clients] == [Refusal("wake_failed", words, 30)] * 3
    upstream.process.vanish()
    upstream.wait(12)
    upstream.gate.mark_down("connection refused")  # of a dispatch before all that
    refusal = upstream.come().refusal
    assert refusal is not None
    assert (refusal.code, refusal.detail) == ("wake_failed", words)
    assert refusal.retry_after == pytest.approx(18, abs=0.1)
    upstream.wait(18.1)
    assert upstream.come().waits
    upstream.turn()
    assert len(upstream.processes) == 2


def test_the_time_left_is_known_while_it_is_not_ready() -> None:
    upstream = Upstream()
    assert upstream.gate.eta is None
    upstream.come_up()
    assert upstream.gate.eta is None
    upstream.finish()
    upstream.process.exit()
    upstream.process.vanish()
    assert upstream.gate.eta == pytest.approx(INTERVAL, abs=0.1)


def test_while_it_is_about_to_stop_those_who_wait_are_let_through_and_others_wait_for_the_next_turn() -> None:
    upstream = Upstream(slots=1)
    upstream.come_up()
    queued = upstream.come()
    upstream.starter.stop()
    upstream.turn()
    assert upstream.gate.state is State.STOPPING
    late, leaves = upstream.come(), upstream.come()
    leaves.leave()
    assert upstream.gate.waiting == 2
    upstream.finish()
    upstream.turn()
    assert (queued.waits, late.waits, upstream.process.asked) == (False, True, [])
    upstream.finish()
    upstream.turn()
    assert upstream.process.asked == ["stop"]
    upstream.let_end()
    upstream.turn()
    assert len(upstream.processes) == 2
    upstream.up = True
    upstream.wait(2 * INTERVAL)
    assert not late.waits


def test_a_request_that_does_not_wait_for_readiness_keeps_it_from_being_idle() -> None:
    upstream = Upstream(model.Wake(stop_after_idle=10))
    upstream.come_up()
    assert upstream.gate.take_slot()
    upstream.finish()
    upstream.wait(60)
    assert upstream.process.asked == []
    upstream.gate.give_back()
    upstream.wait(10.1)
    assert upstream.process.asked == ["stop"]


def test_those_who_wait_for_a_slot_of_one_that_is_taken_for_down_wait_for_its_next_probe() -> None:
    upstream = Upstream(slots=1, elsewhere=True)
    upstream.up = True
    upstream.come()
    upstream.turn()
    queued = upstream.come()
    upstream.wait(1)
    upstream.starter.stop()
    assert (upstream.gate.state, queued.waits) == (State.DOWN, True)
    upstream.finish()
    upstream.wait(INTERVAL)
    assert upstream.gate.ready
    assert not queued.waits


def act(rnd: random.Random, upstream: Upstream) -> None:
    """Something happens to it."""
    ready = upstream.gate.ready
    ended = not upstream.processes or upstream.process.ended
    match rnd.choice(["come", "come", "leave", "finish", "up", "exit", "time", "time", "vanish", "down", "loading", "stop", "wake"]):
        case "come":
            upstream.come()
        case "leave":
            waiting = [each for each in upstream.clients if each.waits]
            if waiting:
                rnd.choice(waiting).leave()
        case "finish" if upstream.open:
            upstream.finish()
        case "up":
            upstream.up = True
        case "exit" if not ended and (upstream.process.asked or rnd.random() < 0.1):
            upstream.process.exit(Exit(status=1))
        case "vanish" if ended and upstream.processes and upstream.process.left:
            upstream.process.vanish()
        case "time":
            upstream.wait(rnd.choice([0.01, 0.3, 1.5]))
        case "down" if ready and rnd.random() < 0.3:
            upstream.gate.mark_down("connection refused")
        case "loading" if ready and rnd.random() < 0.3:
            upstream.gate.mark_loading("HTTP 503")
        case "stop" if rnd.random() < 0.2:
            upstream.starter.stop()
        case "wake" if rnd.random() < 0.2:
            upstream.starter.wake()


def test_whatever_happens_one_runs_at_a_time_and_everybody_is_told_once() -> None:
    seen: Counter[State] = Counter()
    for seed in range(RUNS):
        rnd, clock, group = random.Random(seed), Clock(), Group()
        upstreams = [
            Upstream(
                model.Wake(cooldown=rnd.choice([0, 3]), cancel_after=rnd.choice([0, 1]), stop_after_idle=rnd.choice([0, 2])),
                clock=clock,
                group=group,
                slots=rnd.choice([0, 1, 2]),
            )
            for _ in range(rnd.choice([1, 2, 3]))
        ]
        for _ in range(STEPS):
            act(rnd, rnd.choice(upstreams))
            assert sum(process.left for each in upstreams for process in each.processes) <= 1, seed
            seen.update(each.gate.state for each in upstreams)
        assert all_told(clock, upstreams), seed
        assert_all_end(clock, upstreams)
    assert set(seen) == set(State) - {State.UNKNOWN}


def all_told(clock: Clock, upstreams: list[Upstream]) -> bool:
    """From here on all goes well."""
    for _ in range(1000):
        if not any(client.waits for each in upstreams for client in each.clients):
            return True
        for each in upstreams:
            each.up = True
            each.let_end()
            while each.open:
                each.finish()
        pump(clock, 0.3, 0.1)
    return False


def assert_all_end(clock: Clock, upstreams: list[Upstream]) -> None:
    closed = [each.starter.close() for each in upstreams]
    for each in upstreams:
        each.let_end()
    assert all(done.called for done in closed)
    assert not clock.getDelayedCalls()
