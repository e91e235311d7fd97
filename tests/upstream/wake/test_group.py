"""At most one of a group runs, in the order of asking; by itself, and with starters and everything that can happen to them."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from tests.upstream.wake.rig import Rig
from txsse.config import model
from txsse.upstream.state import Event, State
from txsse.upstream.wake.child import Exit
from txsse.upstream.wake.group import Group


@attrs.define(eq=False)
class Player:
    """A member that keeps the place until the test takes it back."""

    group: Group
    log: list[str]
    name: str
    gives_back_at_once: bool = False
    contested: bool = False

    def granted(self) -> None:
        self.log.append(self.name)
        if self.gives_back_at_once:
            self.group.give_back(self)

    def reconsider(self) -> None:
        self.contested = self.group.contested(self)


def players(names: str) -> tuple[Group, list[str], list[Player]]:
    group, log = Group(), list[str]()
    return group, log, [Player(group, log, name) for name in names]


def test_the_first_to_ask_has_the_place_and_the_others_in_their_order() -> None:
    group, log, (a, b, c) = players("abc")
    for each in (a, c, b, c, b):
        group.ask(each)
    assert log == ["a"]
    group.give_back(a)
    assert log == ["a", "c"]
    group.give_back(c)
    group.give_back(b)
    assert log == ["a", "c", "b"]


def test_who_has_the_place_is_told_when_others_want_it_and_when_they_no_longer_do() -> None:
    group, _, (a, b, c) = players("abc")
    group.ask(a)
    assert not a.contested
    group.ask(b)
    group.ask(c)
    assert a.contested
    group.withdraw(b)
    assert a.contested
    group.withdraw(c)
    assert not a.contested


def test_who_withdraws_is_passed_over_and_loses_its_turn() -> None:
    group, log, (a, b, c) = players("abc")
    for each in (a, b, c):
        group.ask(each)
    group.withdraw(b)
    group.ask(b)
    group.give_back(a)
    group.give_back(c)
    assert log == ["a", "c", "b"]


def test_who_has_the_place_may_stand_in_line_for_another_turn() -> None:
    group, log, (a, b, c) = players("abc")
    for each in (a, b, a, c):
        group.ask(each)
    for each in (a, b, a, c):
        group.give_back(each)
    assert log == ["a", "b", "a", "c"]


def test_nobody_contests_its_own_place() -> None:
    group, _, (a,) = players("a")
    group.ask(a)
    group.ask(a)
    assert not a.contested
    assert not group.contested(a)


def test_giving_back_what_one_does_not_have_changes_nothing() -> None:
    group, log, (a, b) = players("ab")
    group.ask(a)
    group.give_back(b)
    group.ask(b)
    assert log == ["a"]


def test_a_place_given_back_at_once_goes_on_to_the_next() -> None:
    group, log, (a, b, c) = players("abc")
    for each in (a, b, c):
        group.ask(each)
    b.gives_back_at_once = True
    group.give_back(a)
    assert log == ["a", "b", "c"]


@given(st.lists(st.tuples(st.sampled_from(["ask", "withdraw", "give_back"]), st.integers(0, 3)), max_size=60))
def test_never_two_have_the_place_and_turns_come_in_the_order_of_asking(calls: list[tuple[str, int]]) -> None:
    group, log, members = players("abcd")
    has: list[str] = []
    line: list[str] = []
    for call, number in calls:
        member = members[number]
        before = len(log)
        getattr(group, call)(member)
        if call == "ask" and member.name not in line:
            line.append(member.name)
        elif call == "withdraw" and member.name in line:
            line.remove(member.name)
        elif call == "give_back" and has == [member.name]:
            has.clear()
        granted = log[before:]
        expected = [] if has else line[:1]
        assert granted == expected
        for name in granted:
            line.remove(name)
            has.append(name)
        assert len(has) <= 1
        assert bool(line) <= bool(has)  # nobody waits for a free place


# -- with starters


def two(config: model.Wake | None = None) -> tuple[Rig, Rig]:
    clock, group = Clock(), Group()
    config = config or model.Wake()
    return Rig(config, name="a", clock=clock, group=group), Rig(config, name="b", clock=clock, group=group)


def test_an_idle_one_is_stopped_before_the_other_starts() -> None:
    a, b = two()
    a.come_up()
    a.finish()
    b.come()
    b.turn()
    assert a.process.asked == ["stop"]
    assert (b.processes, b.state, b.starter.elapsed) == ([], State.DOWN, None)
    a.process.exit()
    b.turn()
    assert b.processes == []  # the rest of its group may still hold the memory
    a.process.vanish()
    b.turn()
    assert (len(b.processes), b.state) == (1, State.WAKING)


def test_a_busy_one_is_waited_for_and_who_comes_there_later_waits_for_the_next_turn() -> None:
    a, b = two()
    a.come_up()
    b.come()
    b.turn()
    assert (a.state, a.process.asked) == (State.STOPPING, [])
    a.come()
    a.turn()
    assert (a.open, a.waiting) == (1, 1)
    a.finish()
    a.turn()
    assert a.process.asked == ["stop"]
    a.die()
    a.turn()
    assert (len(a.processes), len(b.processes)) == (1, 1)
    b.probe(Event.PROBE_PASSED)
    b.turn()
    assert (b.open, b.state) == (1, State.STOPPING)  # whoever waits at a came before anybody else who comes here
    b.finish()
    b.turn()
    b.die()
    a.turn()
    a.probe(Event.PROBE_PASSED)
    a.turn()
    assert (a.open, a.state) == (1, State.READY)


def test_one_that_is_starting_for_somebody_is_not_disturbed() -> None:
    a, b = two()
    a.come()
    a.turn()
    b.come()
    b.turn()
    assert (a.process.asked, b.processes) == ([], [])
    a.come(3)
    a.probe(Event.PROBE_PASSED)
    assert a.open == 4  # all who waited go through before it makes room
    a.turn()
    assert (a.state, a.process.asked) == (State.STOPPING, [])


def test_one_that_is_starting_for_nobody_is_stopped() -> None:
    a, b = two()
    a.come()
    a.turn()
    a.leave()
    a.turn()
    assert a.process.asked == []
    b.come()
    b.turn()
    assert a.process.asked == ["stop"]


def test_when_the_other_no_longer_wants_it_the_stop_is_called_off() -> None:
    a, b = two()
    a.come_up()
    b.come()
    b.turn()
    a.come(2)
    assert (a.state, a.waiting) == (State.STOPPING, 2)
    b.leave()
    b.turn()
    assert (a.state, a.waiting, a.open) == (State.READY, 0, 3)
    assert (a.process.asked, b.processes) == ([], [])


def test_a_stop_that_has_begun_is_not_called_off() -> None:
    a, b = two()
    a.come_up()
    a.finish()
    b.come()
    b.turn()
    b.leave()
    a.come()
    a.turn()
    assert (a.state, a.waiting) == (State.STOPPING, 1)
    a.die()
    a.turn()
    assert (len(a.processes), len(b.processes)) == (2, 0)


def test_turns_are_in_the_order_of_the_first_who_came() -> None:
    clock, group = Clock(), Group()
    a, b, c = (Rig(name=name, clock=clock, group=group) for name in "abc")
    a.come_up()
    b.come()
    clock.advance(0)
    a.come()
    clock.advance(0)
    c.come()
    b.come()
    clock.advance(0)
    order: list[str] = []
    for _ in range(4):
        up = next(rig for rig in (a, b, c) if rig.processes and rig.process.left)
        if up.may_probe:
            up.probe(Event.PROBE_PASSED)
            clock.advance(0)
        order.append(f"{up.name}{up.open}")
        while up.open:
            up.finish()
        clock.advance(0)
        if up.process.asked:
            up.die()
            clock.advance(0)
    assert order == ["a1", "b2", "a1", "c1"]


def test_those_who_wait_for_a_slot_when_the_other_comes_are_served_first() -> None:
    clock, group = Clock(), Group()
    a, b = Rig(name="a", clock=clock, group=group, slots=1), Rig(name="b", clock=clock, group=group)
    a.come_up()
    a.come(3)
    b.come()
    clock.advance(0)
    a.come(5)
    assert (a.state, a.open, a.first, a.later) == (State.STOPPING, 1, 3, 5)
    for _ in range(4):
        assert (a.open, a.process.asked) == (1, [])
        a.finish()
        clock.advance(0)
    assert (a.served, a.open, a.process.asked) == (4, 0, ["stop"])
    a.die()
    clock.advance(0)
    assert (len(b.processes), a.waiting) == (1, 5)


def test_one_who_is_about_to_get_a_slot_is_served_first_though_nothing_is_open_just_now() -> None:
    a, b = two()
    a.come_up()
    a.finish()
    b.come()
    a.first = 1  # the gate lets it through in its next turn
    a.starter.wanted()
    b.turn()
    assert (a.state, a.open, a.process.asked) == (State.STOPPING, 1, [])


def test_an_endless_line_for_slots_does_not_keep_the_other_out() -> None:
    clock, group = Clock(), Group()
    a, b = Rig(name="a", clock=clock, group=group, slots=1), Rig(name="b", clock=clock, group=group)
    a.come_up()
    b.come()
    for _ in range(100):
        a.come(2)
        a.finish()
        clock.advance(0)
        if a.process.asked:
            break
    assert a.process.asked == ["stop"]


def test_one_that_is_not_ready_just_now_is_not_stopped_while_somebody_waits_for_it() -> None:
    a, b = two()
    a.come_up()
    a.finish()
    a.standing.hear(Event.DISPATCH_LOADING, "HTTP 503")
    a.come()
    b.come()
    b.turn()
    assert (a.state, a.process.asked) == (State.LOADING, [])
    a.probe(Event.PROBE_PASSED)
    a.turn()
    assert (a.open, a.state) == (1, State.STOPPING)


def test_a_failed_start_makes_room_for_the_other() -> None:
    a, b = two()
    a.come()
    a.turn()
    b.come()
    b.turn()
    a.process.exit(Exit(status=1))
    b.turn()
    assert b.processes == []
    a.process.vanish()
    b.turn()
    assert len(b.processes) == 1


def test_two_generations_of_one_upstream_do_not_run_side_by_side() -> None:
    old, new = two()
    old.come_up()
    old.starter.retire()
    new.come()
    new.turn()
    assert new.processes == []
    old.finish()
    new.turn()
    old.die()
    new.turn()
    assert len(new.processes) == 1


# -- anything that can happen, in any order

Move = Callable[[Rig], None]


def _if(condition: Callable[[Rig], object], move: Move) -> Move:
    return lambda rig: move(rig) if condition(rig) else None


def _running(rig: Rig) -> bool:
    return bool(rig.processes) and not rig.process.ended


MOVES: dict[str, Move] = {
    "come": lambda rig: rig.come(),
    "leave": _if(lambda rig: rig.waiting, lambda rig: rig.leave()),
    "finish": _if(lambda rig: rig.open, lambda rig: rig.finish()),
    "probe passes": _if(lambda rig: rig.may_probe, lambda rig: rig.probe(Event.PROBE_PASSED)),
    "probe: loading": _if(lambda rig: rig.may_probe, lambda rig: rig.probe(Event.PROBE_LOADING)),
    "probe fails": _if(lambda rig: rig.may_probe, lambda rig: rig.probe(Event.PROBE_FAILED)),
    "dispatch refused": lambda rig: rig.standing.hear(Event.DISPATCH_REFUSED),
    "dispatch: loading": lambda rig: rig.standing.hear(Event.DISPATCH_LOADING),
    "exit": _if(_running, lambda rig: rig.process.exit(Exit(status=1))),
    "vanish": _if(lambda rig: rig.processes and rig.process.ended and rig.process.left, lambda rig: rig.process.vanish()),
    "errand done": _if(lambda rig: rig.errands and not rig.errands[-1].called, lambda rig: rig.errands[-1].callback(None)),
    "wake": lambda rig: rig.starter.wake(),
    "stop": lambda rig: rig.starter.stop(),
    "retire": lambda rig: rig.starter.retire(),
    "turn": lambda rig: rig.turn(),
    "time": lambda rig: rig.clock.advance(7),
}
SCRIPTS = st.lists(st.tuples(st.sampled_from(sorted(MOVES)), st.integers(0, 2)), min_size=20, max_size=120)
CONFIGS = st.builds(
    model.Wake,
    cooldown=st.sampled_from([0.0, 10.0]),
    cancel_after=st.sampled_from([0.0, 5.0]),
    stop_after_idle=st.sampled_from([0.0, 20.0]),
)


def check(rigs: list[Rig]) -> None:
    """What holds at any time."""
    assert sum(process.left for rig in rigs for process in rig.processes) <= 1
    for rig in rigs:
        assert sum(process.left for process in rig.processes) <= 1
        assert not (rig.state is State.READY and rig.waiting and not rig.slots)
        assert not (rig.state is State.READY and not (rig.processes and rig.process.left))
        assert not (rig.starter.refusal and rig.waiting)
        assert (rig.state in (State.WAKING, State.FAILING)) <= bool(rig.starter.elapsed is not None or rig.starter.refusal)


def serve_all(rigs: list[Rig]) -> None:
    """Everything goes well from now on: processes come up when probed, end when asked to, streams come to their ends."""
    for _ in range(200):
        for rig in rigs:
            if rig.errands and not rig.errands[-1].called:
                rig.errands[-1].callback(None)
            if rig.may_probe:
                rig.probe(Event.PROBE_PASSED)
            while rig.open:
                rig.finish()
            if _running(rig) and rig.process.asked:
                rig.process.exit()
            if rig.processes and rig.process.ended and rig.process.left:
                rig.process.vanish()
            check(rigs)
        rigs[0].clock.advance(0)
        if not any(rig.waiting for rig in rigs):
            return
    raise AssertionError(f"still waiting: {[rig.waiting for rig in rigs]}, {[rig.state for rig in rigs]}")


@settings(max_examples=150)
@given(SCRIPTS, CONFIGS, st.booleans())
def test_whatever_happens_no_two_run_at_once_and_nobody_is_forgotten(
    script: list[tuple[str, int]], config: model.Wake, errands: bool
) -> None:
    clock, group = Clock(), Group()
    rigs = [Rig(config, name=name, clock=clock, group=group, errands=errands and name == "a", slots=name == "b") for name in "abc"]
    for move, number in script:
        MOVES[move](rigs[number])
        check(rigs)
    clock.advance(0)
    serve_all(rigs)
    closed = [rig.starter.close() for rig in rigs]
    for rig in rigs:
        if rig.processes and rig.process.left:
            assert rig.process.asked or rig.process.ended
            if not rig.process.ended:
                rig.process.exit()
            rig.process.vanish()
    assert all(done.called for done in closed)
    assert not clock.getDelayedCalls()


@settings(max_examples=100)
@given(SCRIPTS, CONFIGS)
def test_whatever_happens_to_one_that_is_elsewhere_nobody_is_forgotten(script: list[tuple[str, int]], config: model.Wake) -> None:
    rig = Rig(config, process=False, errands=True)
    for move, _ in script:
        MOVES[move](rig)
        assert not (rig.state is State.READY and rig.waiting)
        assert sum(not errand.called for errand in rig.errands) <= 1
    rig.turn()
    for _ in range(20):
        if rig.errands and not rig.errands[-1].called:
            rig.errands[-1].callback(None)
        if rig.may_probe:
            rig.probe(Event.PROBE_PASSED)
        rig.turn()
    assert rig.waiting == 0
    assert rig.starter.close().called
    assert rig.quiet
