"""What one proxy does with streams that machines share: its own are written, those of others are found, placed and claimed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from typing import Any, TypeVar, cast

import attrs
import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed

from tests.proxy.sharing import SCOPE, SID, FakeJournal, a_batch, a_meta, a_route
from txsse.dialects import DIALECTS
from txsse.errors import ProxyError
from txsse.proxy.elsewhere import Spot
from txsse.proxy.resumable import ResumableRun
from txsse.proxy.routes import BoundRoute
from txsse.proxy.shared import ATTEMPTS, Held, Shared
from txsse.proxy.streams import Claim
from txsse.recordings.cursor import Cursor
from txsse.redis.claims import Claimed, Claims
from txsse.redis.journal import Found
from txsse.redis.link import RedisLink
from txsse.redis.records import DONE, OWNER_LOST, UNSHARED, Meta, Terminal
from txsse.wire.http1 import ResponseHead

T = TypeVar("T")
FAILED = Terminal("upstream_timeout", "It was silent.", 504)
OURS = "us~" + "n" * 22
CLAIM = Claim("llama", SCOPE, b"key")


class FakeClaims:
    """Answers as the test says, in turn; then as if there were none."""

    def __init__(self, *there: Claimed) -> None:
        self.there = list(there)
        self.instead: list[Claimed | None] = []
        self.settled: list[tuple[Claimed, float]] = []

    def claim(self, key: bytes, wanted: Claimed, meta: Meta, instead: Claimed | None = None) -> Deferred[Claimed | None]:
        self.instead.append(instead)
        return succeed(self.there.pop(0) if self.there else None)

    def settle(self, key: bytes, claimed: Claimed, life: float) -> None:
        self.settled.append((claimed, life))


@attrs.define
class FakeLink:
    available: bool = True
    timeouts: int = 7
    trouble: str = "it is slow"
    refusals: Counter[str] = attrs.field(factory=lambda: Counter(OOM=1))


class World:
    def __init__(self, *there: Claimed, **resume: Any) -> None:
        self.journal = FakeJournal()
        self.counted: list[str] = []
        self.route = a_route(**resume)
        self.shared = Shared(cast(RedisLink, FakeLink()), self.journal.real, lambda: [self.route], self.counted.append)
        self.claims = FakeClaims(*there)
        self.shared._claims = cast(Claims, self.claims)

    def there_is(self, last: int, terminal: Terminal | None = None, first: int = 1, sid: str = SID, **meta: Any) -> None:
        self.journal.found[sid] = Found(a_meta(**meta), last, terminal, first)

    def place(self, cursor: Cursor, scope: bytes = SCOPE) -> Spot | ProxyError:
        return went(self.shared.place(SID, cursor, lambda setting: scope))

    def claim(self) -> Held | str | ProxyError:
        return went(self.shared.claim(CLAIM, b"body", OURS, self.route, DIALECTS["openai-chat"], 1.0))


def test_who_leaves_while_a_stream_is_looked_up_has_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    world, ended = World(), list[Any]()
    monkeypatch.setattr(world.journal, "open", lambda sid: Deferred())
    looking = world.shared.open(SID).addErrback(lambda failure: ended.append(failure.type))
    looking.cancel()
    assert ended == [CancelledError]


def went(steps: Generator[Deferred[Any], None, T]) -> T:
    """What steps come to, each of which is over at once."""
    while True:
        try:
            assert next(steps).called
        except StopIteration as end:
            return cast(T, end.value)


def code(found: object) -> str:
    assert isinstance(found, ProxyError), found
    return found.code


# -- placing readers


@pytest.mark.parametrize(
    ("cursor", "after"), [(Cursor(), 0), (Cursor(3), 3), (Cursor(9), 9), (Cursor(live=True), 5)], ids=["all", "some", "ahead", "live"]
)
def test_a_reader_of_a_stream_that_runs_goes_on(cursor: Cursor, after: int) -> None:
    world = World()
    world.there_is(5)
    spot = world.place(cursor)
    assert isinstance(spot, Spot) and (spot.after, spot.gap, spot.route) == (after, 0, world.route)
    assert world.counted == ["resumed"]


@pytest.mark.parametrize(
    ("terminal", "after", "complete"), [(DONE, 4, False), (DONE, 5, True), (DONE, 6, True), (FAILED, 5, False), (FAILED, 6, True)]
)
def test_who_has_all_of_a_stream_that_is_over_is_told_so(terminal: Terminal, after: int, complete: bool) -> None:
    world = World()
    world.there_is(5, terminal)
    spot = world.place(Cursor(after))
    assert isinstance(spot, Spot) and (spot.after is None) is complete
    assert world.counted == ["complete" if complete else "resumed"]


@pytest.mark.parametrize("terminal", [OWNER_LOST, UNSHARED])
def test_of_a_stream_that_is_lost_the_rest_is_told_and_then_an_error(terminal: Terminal) -> None:
    world = World()
    world.there_is(5, terminal)
    assert isinstance(world.place(Cursor(4)), Spot)
    for cursor in (Cursor(5), Cursor(6), Cursor(live=True)):
        error = world.place(cursor)
        assert code(error) == terminal.code and cast(ProxyError, error).http_status == 502
    assert world.counted == ["resumed", "gone", "gone", "gone"]


def test_a_strangers_stream_is_none() -> None:
    world = World()
    assert code(world.place(Cursor())) == "stream_not_found"
    world.there_is(5)
    assert code(world.place(Cursor(), b"x" * 32)) == "stream_not_found"
    world.there_is(5, route="another")
    assert code(world.place(Cursor())) == "stream_not_found"
    assert world.counted == ["not_found"] * 3


def test_nobody_knows_while_redis_is_away() -> None:
    world = World()
    world.journal.down()
    error = world.place(Cursor())
    assert code(error) == "upstream_unavailable" and cast(ProxyError, error).http_status == 503
    world.shared.cancel(SID)
    assert world.journal.cancelled == [SID]


def test_what_is_not_kept_any_more_is_skipped_or_refused() -> None:
    world = World()
    world.there_is(9, first=4)
    spot = world.place(Cursor(1))
    assert isinstance(spot, Spot) and (spot.after, spot.gap) == (3, 2)
    strict = World(on_gap="error")
    strict.there_is(9, first=4)
    assert code(strict.place(Cursor(1))) == "stream_gone"
    assert isinstance(strict.place(Cursor(3)), Spot)
    assert world.counted + strict.counted == ["gap", "gap", "resumed"]


@pytest.mark.parametrize(("terminal", "expected"), [(DONE, "stream_gone"), (OWNER_LOST, "owner_lost")])
def test_where_nothing_is_left_to_tell_it_is_gone(terminal: Terminal, expected: str) -> None:
    world = World()
    world.there_is(5, terminal, first=6)
    error = world.place(Cursor(1))
    assert code(error) == expected
    world.there_is(5, FAILED, first=6)
    spot = world.place(Cursor(1))
    assert isinstance(spot, Spot) and (spot.after, spot.gap) == (5, 4), "the error is left"
    assert world.counted == ["gone", "gap"]


def test_an_error_that_cannot_be_told_in_the_stream_is_told_instead_of_it() -> None:
    world = World()
    world.there_is(5, FAILED, dialect="sse")
    assert isinstance(world.place(Cursor(4)), Spot)
    assert code(world.place(Cursor(5))) == FAILED.code


def test_readers_here_are_counted() -> None:
    world = World(max_readers=2)
    world.there_is(5)
    sources = []
    for _ in range(2):
        spot = world.place(Cursor())
        assert isinstance(spot, Spot)
        sources.append(world.shared.source(spot))
        sources[-1].join(cast(Any, None))
    assert code(world.place(Cursor())) == "too_many_readers"
    sources[0].leave(cast(Any, None))
    sources[0].leave(cast(Any, None))
    assert isinstance(world.place(Cursor()), Spot)


def test_an_id_of_upstreams_is_looked_for() -> None:
    world = World()
    world.there_is(2)
    steps = world.shared.place(SID, Cursor(foreign=b"b"), lambda setting: SCOPE)
    next(steps)
    searching = next(steps)
    (follow,) = world.journal.follows
    assert follow.after == 0 and not searching.called
    follow.follower.pieces(a_batch(1, b"id: a\ndata: 1\n\n", b"id: b\ndata: 2\n\n"))
    assert follow.stopped
    spot = went(steps)
    assert isinstance(spot, Spot) and spot.after == 2
    world.there_is(0)
    assert code(world.place(Cursor(foreign=b"b"))) == "bad_cursor"


# -- sharing our own


@attrs.define
class FakeRun:
    sid: str = OURS
    scope: bytes = SCOPE
    created: float = 1.0
    error: ProxyError | None = None
    head: ResponseHead | None = None
    streamed: bool = True
    home: BoundRoute = attrs.field(factory=a_route)
    dialect: Any = DIALECTS["openai-chat"]
    sharing: Any = None
    elsewhere: int = 0
    cancelled: ProxyError | None = None

    @property
    def resume(self) -> Any:
        return self.home.config.resume

    def read_elsewhere(self, count: int) -> None:
        self.elsewhere = count

    def cancel(self, error: ProxyError) -> None:
        self.cancelled = error


def ended(run: FakeRun) -> Terminal:
    world = World()
    world.shared.share(cast(ResumableRun, run))
    (share,) = world.journal.shares
    run.sharing.append(b"data: 1\n\n")
    run.sharing.finish(run.error)
    assert share.pieces == [b"data: 1\n\n"]
    assert (share.sid, share.meta.route, share.meta.scope, share.keep) == (OURS, "llama", SCOPE, run.resume.max_bytes)
    (terminal,) = share.terminals
    return terminal


def head(status: int = 200) -> ResponseHead:
    return ResponseHead(status, b"", b"HTTP/1.1", [])


def test_others_hear_how_it_ended() -> None:
    assert ended(FakeRun(head=head())) == DONE
    assert ended(FakeRun(head=head(), error=ProxyError("upstream_timeout", "It was silent."))) == FAILED
    refused = ended(FakeRun(head=head(429), streamed=False))
    assert (refused.code, refused.status) == ("upstream_error", 429)


def test_what_others_want_of_it_is_done() -> None:
    world, run = World(), FakeRun()
    world.shared.share(cast(ResumableRun, run))
    run.sharing.readers_changed(2)
    assert run.elsewhere == 2
    run.sharing.cancel_asked()
    assert code(run.cancelled) == "cancelled"
    run.sharing.unshared("fenced")
    run.sharing.unshared("behind")
    assert world.shared.losses == {"fenced": 1, "behind": 1}


def test_a_run_that_can_be_read_here_only_is_shared_no_more() -> None:
    world, run = World(), FakeRun()
    world.shared.share(cast(ResumableRun, run))
    run.sharing.drop()
    assert world.journal.shares[0].terminals == [UNSHARED]


@pytest.mark.parametrize(("answer", "life"), [(head(), 300.0), (head(429), 0.0), (None, 0.0)])
def test_the_claim_that_it_was_made_under_stands_if_something_was_begun(answer: ResponseHead | None, life: float) -> None:
    world, run = World(), FakeRun(head=answer)
    held = Held(b"k", Claimed(OURS, b"body"))
    world.shared.share(cast(ResumableRun, run), held)
    run.sharing.finish(run.error)
    assert world.claims.settled == [(held.claimed, life)]


# -- claims


def test_a_claim_that_nobody_has_made_is_ours() -> None:
    world = World()
    held = world.claim()
    assert isinstance(held, Held) and held.claimed == Claimed(OURS, b"body")


@pytest.mark.parametrize("terminal", [None, DONE, FAILED])
def test_a_claim_leads_to_the_stream_that_it_made(terminal: Terminal | None) -> None:
    world = World(Claimed(SID, b"body"))
    world.there_is(5, terminal)
    assert world.claim() == SID


def test_while_nobody_can_say_what_became_of_it_no_other_is_made() -> None:
    world = World(Claimed(SID, b"body"))
    world.journal.down()
    assert world.claim() == SID


def test_a_claim_with_another_body_is_a_conflict() -> None:
    world = World(Claimed(SID, b"other"))
    assert code(world.claim()) == "idempotency_conflict"
    assert world.counted == ["conflict"]


def test_a_stream_that_is_lost_gives_way() -> None:
    lost = Claimed(SID, b"body")
    world = World(lost)
    world.there_is(5, OWNER_LOST)
    assert isinstance(world.claim(), Held)
    assert world.claims.instead == [None, lost]


def test_nor_is_one_of_which_nothing_came() -> None:
    world = World(Claimed(SID, b"body"))
    world.there_is(0, FAILED)
    assert isinstance(world.claim(), Held)


def test_it_is_not_tried_for_ever() -> None:
    world = World(*[Claimed("a~" + f"{number:022}", b"body") for number in range(9)])
    assert isinstance(world.claim(), Held)
    assert len(world.claims.instead) == ATTEMPTS


def test_who_leaves_meanwhile_gives_it_up() -> None:
    world = World()
    steps = world.shared.claim(CLAIM, b"body", OURS, world.route, DIALECTS["openai-chat"], 1.0)
    next(steps)
    steps.close()
    assert world.claims.settled == [(Claimed(OURS, b"body"), 0)]


def test_keys_of_others_are_others() -> None:
    keys = set()
    for claim in (CLAIM, attrs.evolve(CLAIM, scope=b"x" * 32), attrs.evolve(CLAIM, key=b"other"), attrs.evolve(CLAIM, route="other")):
        held = went(World().shared.claim(claim, b"body", OURS, a_route(), DIALECTS["sse"], 1.0))
        assert isinstance(held, Held)
        keys.add(held.key)
    assert len(keys) == 4


def test_the_operator_sees_how_it_stands() -> None:
    shared = World().shared
    assert (shared.trouble, shared.refusals) == ("it is slow", {"OOM": 1})
    assert (shared.up, shared.timeouts, shared.owned, shared.followed, shared.reaped, shared.dropped) == (True, 7, 1, 2, 3, 4)
