"""Which server a request goes to, and which are left out: on a fake clock, with probes that the test answers, and nothing to connect to."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock

from txsse.config import model
from txsse.testing.waiting import pump
from txsse.upstream.endpoints import Target
from txsse.upstream.gate import Gate
from txsse.upstream.lookout import Verdict
from txsse.upstream.pool import ConnectionPool
from txsse.upstream.servers import LENIENCE, Server, Servers
from txsse.upstream.state import State

READY = Verdict(True)
REFUSED = Verdict(False, detail="connection refused")
LOADING = Verdict(False, loading=True, detail="HTTP 503")
UNTRUSTED = Verdict(False, detail="certificate not trusted", hopeless=True)
INTERVAL = 0.25
TIMEOUT = 2.0


class ScriptedProbe:
    """Gives ``verdict``, or with ``None`` waits until the test answers."""

    def __init__(self, clock: Clock, verdict: Verdict | None) -> None:
        self.clock = clock
        self.verdict = verdict
        self.started: list[float] = []
        self.cancelled = 0
        self.pending: Deferred[Verdict] | None = None

    def __call__(self) -> Deferred[Verdict]:
        assert self.pending is None, "two looks at once"
        self.started.append(self.clock.seconds())
        if self.verdict is not None:
            return succeed(self.verdict)
        self.pending = Deferred(self._cancel)
        return self.pending

    def _cancel(self, pending: Deferred[Verdict]) -> None:
        self.cancelled += 1
        self.pending = None

    def answer(self, verdict: Verdict) -> None:
        pending, self.pending = self.pending, None
        assert pending is not None
        pending.callback(verdict)


class Rig:
    """Some servers of one upstream. ``None`` as a verdict: the test answers that probe."""

    def __init__(self, *verdicts: Verdict | None, config: model.Probe | None = None, hosts: str = "127.0.0.1") -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.probes = [ScriptedProbe(self.clock, verdict) for verdict in verdicts]
        nowhere = cast(ConnectionPool, None)
        self.all = [Server(Target.parse(f"http://{hosts}:{port}"), nowhere, probe) for port, probe in enumerate(self.probes, 1)]
        self.servers = Servers("llama", self.all, self.clock, config or model.Probe(interval=INTERVAL, timeout=TIMEOUT))

    def ask(self) -> list[Verdict]:
        """What the gate asks; the answer is in the list when it has come."""
        heard: list[Verdict] = []
        self.asking = self.servers.ask()
        self.asking.addCallbacks(heard.append, lambda failure: failure.trap(CancelledError))
        return heard

    def pick(self) -> int:
        """The number of the server that takes the next request, which stays there."""
        server = self.servers.pick()
        server.in_flight += 1
        return self.all.index(server)

    @property
    def states(self) -> list[State]:
        return [server.state for server in self.all]

    @property
    def looks(self) -> list[int]:
        return [len(probe.started) for probe in self.probes]


def all_up(count: int = 3, **options: Any) -> Rig:
    rig = Rig(*[READY] * count, **options)
    assert rig.ask() == [READY]
    for probe in rig.probes:
        probe.started.clear()
    rig.clock.advance(60)
    return rig


# -- who is chosen


def test_equals_take_turns() -> None:
    rig = all_up()
    assert [rig.pick() for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]


def test_the_least_busy_is_chosen() -> None:
    rig = all_up()
    rig.all[0].in_flight, rig.all[1].in_flight = 2, 1
    assert [rig.pick() for _ in range(6)] == [2, 1, 2, 0, 1, 2]


def test_of_equals_the_one_that_was_chosen_longest_ago() -> None:
    rig = all_up()
    for expected in (0, 1, 2, 0, 1):
        assert rig.pick() == expected
        rig.all[expected].in_flight = 0


def test_nobody_is_looked_at_while_all_are_up() -> None:
    rig = all_up()
    for _ in range(100):
        rig.pick()
        rig.clock.advance(1)
    assert rig.looks == [0, 0, 0]
    assert not rig.clock.getDelayedCalls()


def test_preset_none_takes_all_for_up() -> None:
    rig = Rig(REFUSED, REFUSED, config=model.Probe(preset="none"))
    assert [rig.pick() for _ in range(2)] == [0, 1]
    assert rig.looks == [0, 0]


def test_where_none_is_up_any_is_chosen() -> None:
    rig = Rig(REFUSED, REFUSED)
    assert [rig.pick() for _ in range(4)] == [0, 1, 0, 1]


# -- who is left out


def test_three_failures_in_a_row_leave_a_server_out() -> None:
    rig = all_up(2)
    bad = rig.all[0]
    rig.probes[0].verdict = REFUSED
    for _ in range(LENIENCE - 1):
        rig.servers.blame(bad, "connection reset")
    assert bad.up
    bad.failed = 0  # it answered one
    for _ in range(LENIENCE):
        assert bad.up
        rig.servers.blame(bad, "connection reset")
    assert rig.states == [State.DOWN, State.READY]
    assert [rig.pick() for _ in range(5)] == [1] * 5


def test_one_that_cannot_be_reached_is_left_out_at_once() -> None:
    rig = all_up(2)
    rig.servers.blame(rig.all[0], "connection refused", gone=True)
    assert rig.states == [State.DOWN, State.READY]


def test_the_last_one_up_is_not_left_out_for_its_failures() -> None:
    rig = all_up(2)
    rig.probes[0].verdict = REFUSED
    rig.servers.blame(rig.all[0], "connection refused", gone=True)
    for _ in range(10):
        rig.servers.blame(rig.all[1], "connection reset")
    assert rig.states == [State.DOWN, State.READY]
    assert rig.pick() == 1


def test_a_sole_one_is_never_left_out_and_never_looked_at_by_the_way() -> None:
    rig = all_up(1)
    for _ in range(10):
        rig.servers.blame(rig.all[0], "connection refused", gone=True)
        assert rig.pick() == 0
    assert rig.all[0].up
    rig.servers.leave_out(rig.all[0], REFUSED)
    rig.clock.advance(60)
    assert rig.pick() == 0
    assert rig.looks == [0]


@pytest.mark.parametrize("verdict", [REFUSED, LOADING])
def test_the_gate_closes_only_if_no_other_is_up(verdict: Verdict) -> None:
    rig = all_up(2)
    assert rig.servers.leave_out(rig.all[0], verdict)
    assert not rig.servers.leave_out(rig.all[1], verdict)


# -- how it comes back


def test_who_is_left_out_is_looked_at_when_a_request_comes_and_at_most_once_per_interval() -> None:
    rig = all_up(2)
    rig.probes[0].verdict = REFUSED
    rig.servers.leave_out(rig.all[0], REFUSED)
    pump(rig.clock, 10, 1)
    assert rig.looks == [0, 0], "nobody came"
    for _ in range(100):
        rig.pick()
    assert rig.looks == [1, 0], "one look for all of them"
    for _ in range(100):
        rig.pick()
        rig.clock.advance(INTERVAL / 25)
    assert rig.looks == [4, 0]
    rig.probes[0].verdict = READY
    rig.clock.advance(INTERVAL)
    rig.pick()
    assert rig.states == [State.READY, State.READY]
    assert {rig.pick() for _ in range(300)} == {0, 1}
    assert rig.looks == [5, 0]
    assert not rig.clock.getDelayedCalls()


@pytest.mark.parametrize(("interval", "longest", "rest"), [(0.25, 1, 1), (2, 1, 2)])
def test_a_far_one_is_looked_at_more_rarely(interval: float, longest: float, rest: float) -> None:
    rig = all_up(2, hosts="192.0.2.1", config=model.Probe(interval=interval, max_interval=longest))
    rig.probes[0].verdict = REFUSED
    rig.servers.leave_out(rig.all[0], REFUSED)
    for _ in range(120):
        rig.pick()
        rig.clock.advance(0.1)
    assert 11 / rest <= rig.looks[0] <= 13 / rest


def test_a_look_has_its_time() -> None:
    rig = all_up(2)
    rig.probes[0].verdict = None
    rig.servers.leave_out(rig.all[0], REFUSED)
    rig.pick()
    rig.clock.advance(INTERVAL * 3)
    rig.pick()
    assert rig.looks == [1, 0], "it is still under way"
    rig.clock.advance(TIMEOUT)
    assert rig.probes[0].cancelled == 1
    assert rig.all[0].verdict == Verdict(False, detail="timed out")
    rig.pick()
    assert rig.looks == [2, 0]
    rig.servers._stop_looking()


def test_after_a_loading_answer_it_is_left_in_peace_for_an_interval() -> None:
    rig = all_up(2)
    rig.servers.leave_out(rig.all[0], LOADING)
    rig.pick()
    assert rig.looks == [0, 0]
    assert rig.states == [State.LOADING, State.READY]
    rig.clock.advance(INTERVAL)
    rig.pick()
    assert rig.looks == [1, 0]


def test_what_a_look_finds_out_is_older_than_what_the_data_path_tells_meanwhile() -> None:
    rig = all_up(2)
    rig.probes[0].verdict = None
    rig.servers.leave_out(rig.all[0], REFUSED)
    rig.pick()
    rig.servers.leave_out(rig.all[0], LOADING)
    assert rig.probes[0].cancelled == 1
    assert rig.all[0].verdict == LOADING


def test_a_late_failure_of_one_that_is_left_out_already_changes_nothing() -> None:
    rig = all_up(2)
    rig.probes[0].verdict = None
    rig.servers.leave_out(rig.all[0], REFUSED)
    rig.pick()
    rig.servers.blame(rig.all[0], "connect timeout after 5 s", gone=True)
    assert rig.all[0].verdict == REFUSED
    rig.probes[0].answer(READY)
    assert rig.all[0].up


def test_one_that_came_back_is_on_probation_until_it_answers() -> None:
    rig = all_up(2)
    bad = rig.all[0]
    for _ in range(LENIENCE):
        rig.servers.blame(bad, "connection reset")
    rig.pick()
    assert bad.up, "its probe passes"
    rig.servers.blame(bad, "connection reset")
    assert not bad.up
    rig.clock.advance(INTERVAL)
    rig.pick()
    bad.failed = 0  # it answered
    rig.servers.blame(bad, "connection reset")
    assert bad.up


def test_one_that_came_back_is_used_when_ready_after_is_over() -> None:
    rig = all_up(2, config=model.Probe(ready_after=5))
    rig.servers.leave_out(rig.all[0], REFUSED)
    assert rig.pick() == 1
    assert rig.all[0].up
    rig.all[0].in_flight = -100
    assert rig.pick() == 1
    rig.clock.advance(5)
    assert rig.pick() == 0
    assert rig.servers.leave_out(rig.all[1], REFUSED)
    rig.clock.advance(1)
    rig.servers.leave_out(rig.all[0], REFUSED)
    rig.clock.advance(1)
    rig.pick()
    assert rig.states == [State.READY, State.READY]
    rig.servers.leave_out(rig.all[1], LOADING)
    rig.all[0].in_flight = 100
    assert [rig.pick() for _ in range(3)] == [0, 0, 0], "better one that may not be quite there than none"


# -- what the gate is told


def test_ready_as_soon_as_one_is() -> None:
    rig = Rig(None, None, None)
    heard = rig.ask()
    assert rig.looks == [1, 1, 1], "all at once"
    rig.probes[0].answer(REFUSED)
    assert heard == []
    rig.probes[1].answer(READY)
    assert heard == [READY]
    assert rig.states == [State.DOWN, State.READY, State.UNKNOWN]
    rig.probes[2].answer(READY)
    assert rig.states == [State.DOWN, State.READY, State.READY], "the others come when they come"
    assert not rig.clock.getDelayedCalls()


@pytest.mark.parametrize(
    ("verdicts", "told"),
    [
        ((REFUSED, LOADING, UNTRUSTED), LOADING),
        ((UNTRUSTED, REFUSED, REFUSED), REFUSED),
        ((UNTRUSTED, UNTRUSTED, UNTRUSTED), UNTRUSTED),
        ((REFUSED, Verdict(False, detail="HTTP 500"), UNTRUSTED), REFUSED),
    ],
)
def test_not_ready_in_the_words_of_the_most_hopeful(verdicts: tuple[Verdict, ...], told: Verdict) -> None:
    rig = Rig(None, None, None)
    heard = rig.ask()
    for probe, verdict in zip(rig.probes, verdicts, strict=True):
        assert heard == []
        probe.answer(verdict)
    assert heard == [told]


def test_one_that_does_not_answer_holds_nobody_up() -> None:
    rig = Rig(None, LOADING)
    heard = rig.ask()
    pump(rig.clock, 1.0)
    assert heard == []
    assert rig.looks == [1, 4], "each interval"
    rig.probes[1].verdict = READY
    pump(rig.clock, INTERVAL)
    assert heard == [READY]
    pump(rig.clock, TIMEOUT)
    assert rig.states == [State.DOWN, State.READY]
    assert rig.looks == [1, 5]


def test_a_round_ends_when_the_slowest_is_out_of_time() -> None:
    rig = Rig(None, LOADING, None)
    heard = rig.ask()
    pump(rig.clock, TIMEOUT - 0.1)
    rig.probes[2].answer(REFUSED)
    assert heard == []
    pump(rig.clock, 0.1)
    assert heard == [LOADING]
    assert all(probe.pending is None for probe in rig.probes)
    assert not rig.clock.getDelayedCalls()


def test_what_is_still_under_way_at_the_end_of_a_round_is_stopped() -> None:
    rig = Rig(None, LOADING)
    heard = rig.ask()
    rig.probes[1].verdict = None
    pump(rig.clock, INTERVAL)
    assert rig.looks == [1, 2]
    rig.probes[0].answer(REFUSED)
    assert heard == [LOADING]
    assert rig.probes[1].cancelled == 1
    assert not rig.clock.getDelayedCalls()


def test_to_stop_asking_stops_every_look() -> None:
    rig = Rig(None, None)
    heard = rig.ask()
    rig.asking.cancel()
    assert [probe.cancelled for probe in rig.probes] == [1, 1]
    assert heard == []
    assert rig.states == [State.UNKNOWN, State.UNKNOWN]
    assert not rig.clock.getDelayedCalls()


def test_a_look_that_is_under_way_already_is_waited_for() -> None:
    rig = all_up(2)
    rig.probes[0].verdict = None
    rig.servers.leave_out(rig.all[0], REFUSED)
    rig.pick()
    rig.probes[1].verdict = REFUSED
    rig.servers.leave_out(rig.all[1], REFUSED)
    heard = rig.ask()
    assert rig.looks == [1, 1]
    assert heard == []
    rig.probes[0].answer(READY)
    assert heard == [READY]


def test_who_was_looked_at_just_now_is_not_asked_again() -> None:
    rig = all_up(2)
    rig.probes[0].verdict = rig.probes[1].verdict = LOADING
    rig.servers.leave_out(rig.all[0], LOADING)
    rig.clock.advance(INTERVAL)
    rig.pick()
    rig.servers.leave_out(rig.all[1], REFUSED)
    assert rig.looks == [1, 0]
    assert rig.ask() == [LOADING]
    assert rig.looks == [1, 1]
    assert rig.ask() == [LOADING], "nobody is asked, and what is known is told"
    assert rig.looks == [1, 1]


def test_what_was_up_when_the_gate_was_closed_for_other_reasons_is_asked_anew() -> None:
    rig = all_up(2)
    for probe in rig.probes:
        probe.verdict = None
    rig.clock.advance(60)
    heard = rig.ask()
    assert heard == []
    rig.probes[0].answer(REFUSED)
    rig.probes[1].answer(REFUSED)
    assert heard == [REFUSED]


def test_a_late_refusal_ends_a_round_too() -> None:
    rig = Rig(None, REFUSED)
    heard = rig.ask()
    rig.servers.leave_out(rig.all[0], LOADING)
    assert heard == [LOADING]
    assert rig.probes[0].cancelled == 1


def test_closing_stops_what_is_under_way() -> None:
    class Pool:
        closed = retired = 0

        def close(self) -> None:
            self.closed += 1

        def retire(self) -> None:
            self.retired += 1

    rig = all_up(2)
    pool = Pool()
    for server in rig.all:
        server.pool = cast(ConnectionPool, pool)
    rig.probes[0].verdict = None
    rig.servers.leave_out(rig.all[0], REFUSED)
    rig.pick()
    rig.servers.retire()
    assert rig.probes[0].pending is not None
    rig.servers.close()
    assert (pool.retired, pool.closed) == (2, 2)
    assert rig.probes[0].cancelled == 1
    assert not rig.clock.getDelayedCalls()


def test_behind_a_gate() -> None:
    rig = Rig(REFUSED, None)
    config = model.Probe(interval=INTERVAL, timeout=TIMEOUT)
    changes: list[tuple[State, State, str]] = []
    gate = Gate(rig.clock, rig.servers.ask, config, True, lambda *change: changes.append(change))
    entered: list[str] = []

    class Guest:
        def admitted(self) -> None:
            entered.append("admitted")

        def turned_away(self, refusal: object) -> None:
            entered.append("turned away")

    guest = Guest()
    gate.enter(guest)
    rig.clock.advance(0)
    pump(rig.clock, TIMEOUT + 0.01)
    assert changes == [(State.UNKNOWN, State.DOWN, "connection refused")]
    assert rig.looks[0] in (8, 9) and rig.looks[1] == 2, "the next round has begun"
    rig.probes[1].answer(READY)
    assert entered == ["admitted"]
    assert gate.ready
    assert rig.pick() == 1
    gate.give_back()
    assert not rig.clock.getDelayedCalls()


# -- whatever happens


@attrs.frozen
class Step:
    kind: str  # request, success, reset, refused, health, time
    server: int = 0
    verdict: Verdict = READY
    seconds: float = 0.0


SERVERS = 3
NUMBER = st.integers(0, SERVERS - 1)
STEP = st.one_of(
    st.just(Step("request")),
    st.builds(Step, st.sampled_from(["success", "reset", "refused"]), NUMBER),
    st.builds(Step, st.just("health"), NUMBER, st.sampled_from([READY, REFUSED, LOADING])),
    st.builds(Step, st.just("time"), seconds=st.sampled_from([0.01, 0.1, INTERVAL, 3.0])),
)


@given(st.lists(STEP, max_size=60))
def test_whatever_happens(steps: list[Step]) -> None:
    rig = all_up(SERVERS)
    in_a_row = [0] * SERVERS
    for step in steps:
        server, number = rig.all[step.server], step.server
        up = [each.up for each in rig.all]
        looked = rig.looks
        if step.kind == "health":
            rig.probes[number].verdict = step.verdict
        elif step.kind == "time":
            rig.clock.advance(step.seconds)
        elif step.kind == "request":
            before = [each.in_flight for each in rig.all]
            chosen = rig.pick()
            usable = [each for each in range(SERVERS) if up[each]]
            assert chosen in usable, "one is always up here, so nobody is chosen who is not"
            assert before[chosen] == min(before[each] for each in usable)
            for each in range(SERVERS):
                looks = rig.probes[each].started
                assert len(looks) - looked[each] <= (not up[each]), "only those that are left out are looked at"
                assert all(later - sooner > INTERVAL - 1e-9 for sooner, later in pairwise(looks))
                back = rig.all[each].up and not up[each]
                assert not back or (looks[-1] == rig.clock.seconds() and rig.probes[each].verdict == READY)
                assert back or rig.all[each].up == up[each]
        elif server.in_flight:
            server.in_flight -= 1
            if step.kind == "success":
                server.failed = in_a_row[number] = 0
            else:
                in_a_row[number] += 1
                rig.servers.blame(server, step.kind, gone=step.kind == "refused")
                deserved = step.kind == "refused" or in_a_row[number] >= LENIENCE
                others = any(up[each] for each in range(SERVERS) if each != number)
                assert server.up == (up[number] and not (deserved and others))
        assert any(each.up for each in rig.all), "the last one stays"
    for probe in rig.probes:
        probe.verdict = READY
    rig.clock.advance(INTERVAL)
    rig.pick()
    assert all(each.up for each in rig.all), "all come back"


@given(st.lists(st.sampled_from(["request", "reset", "refused", "time"]), max_size=30))
def test_a_sole_one_is_taken_whatever_happens(steps: list[str]) -> None:
    rig = all_up(1)
    for step in steps:
        if step == "time":
            rig.clock.advance(INTERVAL)
        elif step == "request":
            assert rig.pick() == 0
        else:
            rig.servers.blame(rig.all[0], step, gone=step == "refused")
        assert rig.all[0].up
    assert rig.looks == [0]
