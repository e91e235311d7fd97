"""Predictions that machines share: ours are written as they are made, those of others told from what is written; the journal is made up."""

from __future__ import annotations

import json
from typing import Any, cast

import attrs
import pytest
from twisted.internet.defer import Deferred, fail, succeed

from tests.predictions.bench import ASYNC, EVENTS
from tests.predictions.test_app import Slow, error
from tests.predictions.test_retold import Original
from tests.proxy.sharing import SID, FakeJournal, a_batch, a_meta
from tests.web.bench import Client
from txsse.predictions.jobs import REMEMBERED
from txsse.predictions.shared import SharedPredictions
from txsse.proxy.resumption import ANONYMOUS
from txsse.proxy.shared import Shared
from txsse.redis.claims import Claimed, Claims
from txsse.redis.errors import Unavailable
from txsse.redis.journal import Found
from txsse.redis.link import RedisLink
from txsse.redis.records import DONE, GONE, OWNER_LOST, UNSHARED, Meta, Terminal
from txsse.redis.shares import Lead

FAILED = Terminal("failed")
TTL = 300.0


class FakeClaims:
    """Answers as the test says, in turn, the last one again and again."""

    def __init__(self) -> None:
        self.there: list[Claimed | None] = [None]
        self.down = False
        self.waits: Deferred[Claimed | None] | None = None
        self.laid: list[tuple[Claimed, Claimed | None]] = []
        self.settled: list[tuple[str, float]] = []

    def _next(self) -> Claimed | None:
        return self.there.pop(0) if len(self.there) > 1 else self.there[0]

    def find(self, key: bytes) -> Deferred[Claimed | None]:
        return fail(Unavailable("it is away")) if self.down else succeed(self._next())

    def claim(self, key: bytes, wanted: Claimed, meta: Meta, instead: Claimed | None = None) -> Deferred[Claimed | None]:
        self.laid.append((wanted, instead))
        return self.waits or succeed(self._next())

    def lead(self, key: bytes, claimed: Claimed) -> Lead:
        return Lead(key.hex(), claimed.pack(), 1.0)

    def settle(self, key: bytes, claimed: Claimed, life: float) -> None:
        self.settled.append((claimed.sid, life))


@attrs.define
class FakeLink:
    available: bool = True


class World(Slow):
    """A function that makes predictions on one of several machines; ``THERE`` is where a claim leads to a prediction of another one."""

    def __init__(self, **given: Any) -> None:
        self.journal = FakeJournal()
        self.shared = Shared(cast(RedisLink, FakeLink()), self.journal.real, tuple, lambda result: None)
        others = SharedPredictions(self.shared, "us")
        self.claims = FakeClaims()
        others.claims = cast(Claims, self.claims)
        super().__init__(elsewhere=others, **given)
        self.original = Original()

    def there_is(self, *words: str, ended: str = "", terminal: Terminal | None = None, first: int = 1, **meta: Any) -> None:
        """A prediction ``one`` of another machine."""
        prediction = self.original.prediction
        if prediction.status == "starting":
            prediction.start()
        for word in words:
            prediction.output(word)
        if ended:
            prediction.end(cast(Any, ended))
        events = self.original.events
        about = {"route": "", "dialect": "predictions", "scope": ANONYMOUS, "headers": [(b"Location", b"/predictions/one")]}
        self.journal.found[SID] = Found(attrs.evolve(a_meta(), **{**about, **meta}), len(events), terminal, first)
        self.journal.kept[SID] = events[first - 1 :]
        self.claims.there = [Claimed(SID, b"*")]

    def tell(self, first: int, last: int) -> None:
        """Those who follow it of these events."""
        for each in list(self.journal.follows):
            if not each.paused and not each.stopped:
                each.follower.pieces(a_batch(first, *self.original.events[first - 1 : last]))

    def end(self, terminal: Terminal) -> None:
        for each in self.journal.follows:
            each.follower.ended(terminal)


def ids(client: Client) -> list[str]:
    return [each.id.removeprefix(SID + ".") for each in client.events]


# -- ours


def test_its_events_are_written_as_they_come_and_the_document_last() -> None:
    world = World()
    client = world.bench.post(EVENTS)
    world.say("a")
    (share,) = world.journal.shares
    assert share.sid.startswith("us~") and share.lead is not None
    assert share.lead.says == Claimed(share.sid, b"*").pack()
    assert [piece.partition(b"\n")[0] for piece in share.pieces] == [b"event: start", b"event: output"]
    world.say("")
    assert (share.terminals, world.claims.settled) == ([DONE], [(share.sid, TTL + REMEMBERED)])
    assert json.loads(share.pieces[-1].partition(b"data: ")[2]) == client.told[-1][1]
    assert [each.id for each in client.events] == [f"{share.sid}.{number}" for number in range(1, 4)]
    assert share.meta.headers[0][1].decode() == (client.answer.header("location") or b"").decode()


def test_one_that_is_canceled_elsewhere_and_shared_no_more() -> None:
    world = World()
    world.bench.put("one", ASYNC)
    (share,) = world.journal.shares
    owner: Any = share.owner
    owner.cancel_asked()
    assert world.bench.look("one").document["status"] == "canceled"
    assert share.terminals == [Terminal("canceled")]
    owner.unshared("behind")
    assert world.shared.losses["behind"] == 1


def test_who_follows_it_elsewhere_keeps_it() -> None:
    world = World()
    client = world.bench.put("one", EVENTS)
    owner: Any = world.journal.shares[0].owner
    owner.readers_changed(2)
    client.leave()
    assert world.bench.status("one") == "processing"
    owner.readers_changed(1)
    owner.readers_changed(0)
    assert world.bench.status("one") == "canceled"


def test_a_put_is_claimed_and_the_claim_is_given_up_if_nothing_comes_of_it() -> None:
    world = World(slots=1)
    world.bench.put("one", ASYNC)
    assert [wanted.sid for wanted, _ in world.claims.laid] == [world.journal.shares[0].sid]
    refused = world.bench.put("two")
    assert error(refused) == (409, "at_capacity")
    second = world.journal.shares[1]
    assert second.sid == world.claims.laid[1][0].sid
    assert [(end.code, end.status) for end in second.terminals] == [("at_capacity", 409)]
    assert world.claims.settled == [(second.sid, 0)]
    world.say("")
    bad = world.bench.ask("PUT", "/predictions/four?starting_after=x", EVENTS, body={})
    assert error(bad) == (400, "bad_cursor")
    assert world.claims.settled[-1] == (world.journal.shares[-1].sid, 0)
    assert world.journal.shares[-1].terminals[0].code == "bad_cursor"


def test_who_leaves_while_redis_is_asked_gives_the_claim_up() -> None:
    world = World()
    world.claims.waits = Deferred()
    client = world.bench.put("one")
    client.leave()
    assert world.runs == 0
    assert [end.code for end in world.journal.shares[0].terminals] == ["cancelled"]
    assert world.claims.settled == [(world.journal.shares[0].sid, 0)]


def test_while_nobody_can_say_a_put_is_made_once_here() -> None:
    world = World()
    first, second = world.bench.put("one", EVENTS), world.bench.put("one", EVENTS)
    world.say("a")
    world.say("")
    assert first.events == second.events and world.runs == 1


# -- theirs


def test_its_document_is_made_of_what_is_written() -> None:
    world = World()
    world.there_is("a", "b")
    assert world.bench.look("one").body == world.original.prediction.to_json()
    world.there_is(ended="failed", terminal=FAILED)
    assert world.bench.look("one").body == world.original.prediction.to_json()
    assert not world.journal.follows, "to look is not to follow"


def test_of_one_whose_beginning_is_not_kept_output_is_missing() -> None:
    world = World()
    world.there_is("a", "b", "c", first=3)
    found = world.bench.look("one").document
    assert (found["status"], found["output"], found["truncated"]) == ("processing", [], True)


@pytest.mark.parametrize(("terminal", "answer"), [(UNSHARED, (502, "replay_truncated")), (GONE, (410, "stream_gone"))])
def test_one_that_cannot_be_had_any_more(terminal: Terminal, answer: tuple[int, str]) -> None:
    world = World()
    world.there_is("a", terminal=terminal)
    assert error(world.bench.look("one")) == answer
    client = world.bench.look("one", EVENTS)
    world.end(terminal)
    assert [name for name, _ in client.told] == ["error"] and client.told[0][1]["code"] == answer[1]


def test_its_events_are_told_from_a_cursor_on_without_a_seam() -> None:
    world = World()
    world.there_is("a", "b")
    client = world.bench.look("one", EVENTS, f"Last-Event-ID: {SID}.2")
    assert client.answer.header("x-stream-state") == b"live" and client.answer.header("x-stream-last") == b"3"
    assert world.journal.follows[0].after == 2
    world.tell(3, 3)
    world.there_is("c", "d", ended="succeeded")
    client.stop_reading()
    world.tell(4, 4)
    assert world.journal.follows[0].paused
    client.read_on()
    assert not world.journal.follows[0].paused
    world.tell(5, 6)
    assert ids(client) == ["3", "4", "5", "6"] and client.told[-1][1]["output"] == ["a", "b", "c", "d"]
    assert client.answer.complete and world.journal.follows[0].stopped
    world.there_is(terminal=DONE)
    done = world.bench.look("one", EVENTS, f"Last-Event-ID: {SID}.6")
    assert (done.answer.status, done.answer.header("x-stream-state")) == (204, b"done")


def test_the_same_put_waits_for_it_and_makes_no_other() -> None:
    world = World()
    world.there_is("a")
    client = world.bench.put("one")
    early = world.bench.put("one", ASYNC)
    assert (early.answer.status, early.document["output"]) == (202, ["a"])
    world.there_is("b", ended="succeeded", terminal=DONE)
    world.tell(3, 4)
    assert client.document["output"] == ["a", "b"]
    assert world.bench.put("one").document == client.document
    assert world.runs == 0 and not world.journal.shares


def test_a_cursor_leads_to_it_if_it_is_the_callers() -> None:
    world = World()
    world.there_is("a")
    client = world.bench.post(EVENTS, f"Last-Event-ID: {SID}.1")
    world.tell(2, 2)
    assert ids(client) == ["2"]
    assert client.answer.header("location") == b"/predictions/one"
    other = world.bench.put("two", EVENTS, f"Last-Event-ID: {SID}.1")
    assert error(other) == (400, "bad_cursor")
    for meta in ({"scope": b"x" * 32}, {"route": "another"}, {"dialect": "sse"}):
        world.there_is(**meta)
        assert error(world.bench.post(EVENTS, f"Last-Event-ID: {SID}.1")) == (404, "stream_not_found")


def test_its_machine_dies() -> None:
    world = World()
    world.there_is("a")
    client = world.bench.look("one", EVENTS, f"Last-Event-ID: {SID}.2")
    waits = world.bench.put("one")
    world.there_is("b", terminal=OWNER_LOST)
    world.tell(3, 3)
    world.end(OWNER_LOST)
    (_, chunk), (name, last) = client.told
    assert (chunk["chunk"], name, last["status"], last["output"]) == ("b", "completed", "failed", ["a", "b"])
    assert last["error"].startswith("owner_lost: ") and b"completed\nid" not in client.body
    assert last == waits.document == world.bench.look("one").document == world.bench.put("one").document
    assert world.runs == 0, "perhaps it goes on where it was"


def test_its_machine_dies_and_redis_with_it() -> None:
    world = World()
    world.there_is("a")
    client = world.bench.look("one", EVENTS)
    world.journal.down()
    world.end(OWNER_LOST)
    ((name, last),) = client.told
    assert (name, last["id"], last["status"], last["truncated"]) == ("completed", "one", "failed", True)


@pytest.mark.parametrize("on_gap", ["skip", "error"])
def test_events_that_are_gone_are_told(on_gap: str) -> None:
    world = World(on_gap=on_gap)
    world.there_is("a", "b", "c", first=3)
    looks = world.bench.look("one", EVENTS)
    if on_gap == "error":
        assert error(looks) == (410, "stream_gone")
        ((name, told),) = world.bench.put("one", EVENTS).told
        assert (name, told["code"], told["skipped"], told["first"]) == ("error", "replay_truncated", 2, f"{SID}.3")
        slow = world.bench.look("one", EVENTS, f"Last-Event-ID: {SID}.2")
        world.journal.follows[-1].follower.gap(1)
        assert slow.told[0][1]["first"] == f"{SID}.4" and slow.answer.complete
        return
    assert looks.answer.header("x-stream-gap") == b"2" and world.journal.follows[0].after == 2
    world.journal.follows[0].follower.gap(1)
    world.tell(4, 4)
    assert looks.comments[-1] == 'txsse {"gap":1}' and ids(looks) == ["4"]


def test_readers_are_counted() -> None:
    world = World(max_readers=1)
    world.there_is("a")
    client = world.bench.look("one", EVENTS)
    assert error(world.bench.look("one", EVENTS)) == (429, "too_many_readers")
    client.leave()
    assert world.journal.follows[0].stopped
    assert world.bench.look("one", EVENTS).answer.status == 200


def test_it_is_canceled_from_here() -> None:
    world = World()
    world.there_is("a")
    assert world.bench.ask("POST", "/predictions/one/cancel").document == {}
    assert world.journal.cancelled == [SID]
    world.journal.down()
    assert error(world.bench.ask("POST", "/predictions/one/cancel")) == (503, "upstream_unavailable")


def test_where_nobody_can_say() -> None:
    world = World()
    world.there_is("a")
    world.journal.down()
    for client in (world.bench.look("one"), world.bench.put("one"), world.bench.post(f"Last-Event-ID: {SID}.1")):
        assert error(client) == (503, "upstream_unavailable")
    world.claims.down = True
    assert error(world.bench.look("one")) == (503, "upstream_unavailable")
    assert world.runs == 0


def test_a_claim_outlives_its_prediction() -> None:
    world = World()
    world.there_is("a")
    world.journal.found.clear()
    assert error(world.bench.look("one")) == (410, "stream_gone")
    world.claims.there = [Claimed(SID, b"*"), None]
    world.bench.put("one", ASYNC)
    assert world.runs == 1 and world.claims.laid[1][1] == Claimed(SID, b"*"), "the old one gives way"
    world.say("")
