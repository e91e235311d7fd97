"""The other upstream: after the hold or a failed wake, before and after the commit, once, and never after the total deadline."""

from __future__ import annotations

from tests.exchange.playbook import STREAM_HEAD, Feed, Player, Wait
from tests.exchange.scripts import EVENT, REFUSED, STATUS, head
from txsse.errors import ProxyError
from txsse.exchange import actions as act
from txsse.exchange import events as ev
from txsse.exchange.events import Timer
from txsse.exchange.table import HeadOf, State

HOLD = ev.Elapsed(Timer.HOLD)
NOT_READY = ev.Begin(ready=False)
OTHER_IS_READY = ev.UpstreamReady(cold=True)
WAKE_FAILED = ev.UpstreamFailed(ProxyError("wake_failed", "It exited with status 3."))
TOO_MANY = ev.UpstreamFailed(ProxyError("too_many_waiting", "Too many wait."))


def test_after_the_hold_the_other_upstream_gets_the_request() -> None:
    player = Player(falls_back=True)
    assert player.play(NOT_READY, Wait(600), HOLD)[-2:] == [act.StopWaiting(), act.FallBack()]
    assert player.state is State.HELD
    assert Timer.HOLD not in player.running
    player.play(OTHER_IS_READY)
    assert player.outcomes[-1] == act.Dispatch()
    player.play(ev.HeadCame(STREAM_HEAD, True), Feed(EVENT))
    assert (player.head_of, player.client) == (HeadOf.UPSTREAM, EVENT)


def test_after_the_commit_its_answer_follows_ours() -> None:
    player = Player(falls_back=True)
    player.play(NOT_READY, ev.Elapsed(Timer.COMMIT), WAKE_FAILED, OTHER_IS_READY, ev.HeadCame(STREAM_HEAD, True), Feed(EVENT))
    assert act.FallBack() in player.outcomes
    assert player.client == STATUS + EVENT
    assert player.machine.cold


def test_it_gets_no_hold_of_its_own() -> None:
    player = Player(falls_back=True)
    player.play(NOT_READY, HOLD, OTHER_IS_READY, ev.DispatchFailed(REFUSED))
    assert player.outcomes[-1] == act.Done("upstream_error", "upstream_unavailable")
    assert not any(isinstance(each, act.MarkDown) for each in player.outcomes)


def test_a_loading_answer_of_its_own_is_passed_on() -> None:
    player = Player(falls_back=True)
    player.play(NOT_READY, HOLD, OTHER_IS_READY, ev.HeadCame(head(503), True))
    assert act.RelayHead(head(503), True) in player.outcomes


def test_if_it_has_no_slot_either_that_is_the_end() -> None:
    player = Player(falls_back=True)
    player.play(NOT_READY, HOLD, ev.UpstreamFailed(ProxyError("queue_timeout", "No slot.")))
    assert player.outcomes[-1] == act.Done("timeout", "queue_timeout")


def test_who_finds_the_room_full_is_sent_there_only_where_the_route_says_so() -> None:
    overflowing = Player(falls_back=True, overflow_falls_back=True)
    assert overflowing.play(NOT_READY, TOO_MANY)[-1] == act.FallBack()
    assert not overflowing.machine.cold
    refused = Player(falls_back=True)
    assert refused.play(NOT_READY, TOO_MANY)[-1] == act.Done("rejected", "too_many_waiting")


def test_the_total_deadline_beats_it() -> None:
    player = Player(falls_back=True, hold_timeout=30.0, total=30.0)
    player.play(NOT_READY, Wait(30), HOLD)
    assert act.FallBack() not in player.outcomes
    assert player.outcomes[-1] == act.Done("timeout", "readiness_timeout")


def test_without_one_nothing_changes() -> None:
    player = Player()
    player.play(NOT_READY, HOLD)
    assert player.outcomes[-1] == act.Done("timeout", "readiness_timeout")
