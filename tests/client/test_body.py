"""A stream is read no faster than it is consumed."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.client.rig import Follower, Web
from txsse.client import State
from txsse.client.body import HIGH_WATER
from txsse.wire.eventstream import Event

EVENT = b"data: " + b"x" * 1015 + b"\n\n"  # 1 KiB with its framing


def test_who_takes_what_comes_is_never_paused(web: Web) -> None:
    follower = web.follow()
    web.last.open()
    for _ in range(300):
        web.last.say(EVENT)
        assert not web.last.paused
    assert len(follower.events) == 300


def test_reading_stops_while_nobody_takes_and_goes_on_when_all_is_taken(web: Web) -> None:
    pauses: list[Deferred[None]] = []

    def hold(event: Event) -> Deferred[None]:
        pauses.append(Deferred())
        return pauses[-1]

    follower = Follower(web.source(), hold)
    web.last.open()
    sent = 0
    while not web.last.paused:
        web.last.say(EVENT)
        sent += 1
    assert HIGH_WATER / len(EVENT) <= sent <= HIGH_WATER / len(EVENT) + 2
    for taken in range(1, sent):
        assert web.last.paused
        pauses[-1].callback(None)
        assert len(follower.events) == taken + 1
    assert web.last.paused  # the last one is being worked on
    pauses[-1].callback(None)
    assert not web.last.paused and len(follower.events) == sent
    web.last.say(EVENT)
    assert len(follower.events) == sent + 1


def test_an_event_longer_than_the_mark_is_read_to_its_end(web: Web) -> None:
    follower = web.follow()
    web.last.open(b"data: ")
    for _ in range(20):
        web.last.say(b"y" * 10_000)
        assert not web.last.paused
    web.last.say(b"\n\n")
    assert follower.data == ["y" * 200_000]


def test_what_was_read_before_a_loss_is_handed_out_before_the_next_connection(web: Web) -> None:
    pause: Deferred[None] = Deferred()
    follower = Follower(web.source(), lambda event: pause if event.data == "a" else None)
    web.last.open(b"id: 1\ndata: a\n\nid: 2\ndata: b\n\nid: 3\ndata: c\n\n")
    web.last.reset()
    assert (follower.data, follower.source.state) == (["a"], State.OPEN)
    pause.callback(None)
    assert follower.data == ["a", "b", "c"]
    web.clock.advance(3)
    assert web.last.last_event_id == b"3"


def test_a_closed_source_lets_go_of_a_paused_connection(web: Web) -> None:
    source = web.source()
    first = Deferred.fromCoroutine(source.__anext__())
    web.last.open(EVENT * 100)
    assert first.called and web.last.paused
    source.close()
    assert web.last.aborted
    web.last.reset()
    assert source.state is State.CLOSED
