"""A reader of a stream that another machine keeps: it hears what it would hear there, in the same bytes."""

from __future__ import annotations

from collections import Counter

import pytest
from twisted.internet.task import Clock

from tests.fakes import Seat
from tests.proxy.sharing import SID, FakeFollow, FakeJournal, a_batch, a_meta, a_route
from txsse.dialects import DIALECTS
from txsse.proxy.elsewhere import Elsewhere, Search, Spot, is_own, last_of
from txsse.recordings.numbering import Ids
from txsse.redis.journal import Found
from txsse.redis.records import DONE, GONE, OWNER_LOST, UNSHARED, Head, Terminal

ONE, TWO, THREE = b'data: {"n":1}\n\n', b'data: {"n":2}\n\n', b'data: {"n":3}\n\n'
FAILED = Terminal("upstream_timeout", "It was silent.", 504)
LOST = (OWNER_LOST, UNSHARED, GONE)


def a_spot(after: int = 0, dialect: str = "openai-chat", **resume: object) -> Spot:
    return Spot(SID, Found(a_meta(dialect), 5, None, 2), a_route(**resume), after)


class World:
    """One reader, and the journal that it reads from."""

    def __init__(self, spot: Spot, *, numbers: Ids = Ids.EACH, begun: bool = True, head: Head | None = None) -> None:
        self.clock = Clock()
        self.journal = FakeJournal()
        self.readers: Counter[str] = Counter()
        self.source = Elsewhere(spot, self.journal.real, self.readers)
        self.seat = Seat(self.clock, spot.route, self.source, commits=True, dialect=spot.found.meta.dialect)
        self.seat.reader.numbers = numbers
        self.seat.begin()
        if begun:
            self.follow.follower.began(head)

    @property
    def follow(self) -> FakeFollow:
        (follow,) = self.journal.follows
        return follow

    @property
    def body(self) -> bytes:
        return self.seat.downstream.body

    @property
    def code(self) -> str:
        """Of the error that it ended with; an error frame is given time to be read."""
        for _ in range(100):
            self.clock.advance(0.01)
        return self.seat.code


def test_it_goes_on_after_its_cursor_with_ids() -> None:
    world = World(a_spot(after=2))
    assert world.follow.after == 2
    assert world.seat.downstream.status == 200
    assert world.seat.downstream.header(b"content-type") == DIALECTS["openai-chat"].content_type
    assert world.seat.downstream.header(b"x-accel-buffering") == b"no"
    world.follow.follower.pieces(a_batch(3, ONE, TWO))
    world.follow.follower.pieces(a_batch(5, THREE))
    ids = [b"id: %b.%d\n" % (SID.encode(), number) for number in (3, 4, 5)]
    assert world.body == ids[0] + ONE + ids[1] + TWO + ids[2] + THREE
    world.follow.follower.ended(DONE)
    assert (world.seat.downstream.end, world.seat.outcome) == ("finish", "ok")
    assert not world.readers


def test_it_has_upstreams_head() -> None:
    fields = [(b"Content-Type", b"text/event-stream;x=y"), (b"Cache-Control", b"no-store"), (b"Content-Language", b"de")]
    world = World(a_spot(), head=Head(206, fields))
    told = world.seat.downstream
    assert told.status == 206
    assert [told.header(name.lower()) for name, _ in fields] == [value for _, value in fields]
    assert told.header(b"x-accel-buffering") is None


def test_until_that_comes_it_waits_as_a_reader_there_does() -> None:
    world = World(a_spot(), begun=False)
    assert not world.seat.downstream.status
    for _ in range(6):
        world.clock.advance(1)
    assert (world.seat.downstream.status, world.body[:1]) == (200, b":")
    world.follow.follower.began(Head(200, [(b"Content-Type", b"text/event-stream")]))
    world.follow.follower.pieces(a_batch(1, ONE))
    assert world.body.endswith(b"id: %b.1\n" % SID.encode() + ONE)


def test_an_error_instead_of_a_head_is_the_answer() -> None:
    world = World(a_spot(), begun=False)
    world.follow.follower.ended(FAILED)
    assert world.seat.downstream.status == 504 and b'"code":"upstream_timeout"' in world.body


def test_without_ids_the_bytes_are_as_they_came() -> None:
    world = World(a_spot(), numbers=Ids.NONE)
    world.follow.follower.pieces(a_batch(1, ONE, TWO))
    assert world.body == ONE + TWO


@pytest.mark.parametrize("own", [b"id: x\ndata: {}\n\n", b"data: {}\nid: x\n\n", b"data: {}\rid\r\r"])
def test_an_event_that_upstream_has_given_an_id_keeps_it(own: bytes) -> None:
    world = World(a_spot())
    world.follow.follower.pieces(a_batch(1, ONE))
    world.follow.follower.pieces(a_batch(2, TWO, own))
    world.follow.follower.pieces(a_batch(4, THREE))
    sid = SID.encode()
    assert world.body == b"id: %b.1\n%bid: %b.2\n%b%bid: %b.4\n%b" % (sid, ONE, sid, TWO, own, sid, THREE)


def test_an_id_inside_of_data_is_none() -> None:
    event = b'data: {\ndata: "id": 1}\n\n'
    world = World(a_spot())
    world.follow.follower.pieces(a_batch(1, event))
    assert world.body == b"id: %b.1\n" % SID.encode() + event


def test_the_streams_own_error_is_its_last_event() -> None:
    world = World(a_spot())
    world.follow.follower.pieces(a_batch(1, ONE))
    world.follow.follower.ended(FAILED)
    assert world.body.startswith(b"id: %b.1\n" % SID.encode() + ONE + b"id: %b.2\ndata: " % SID.encode())
    assert b'"code":"upstream_timeout"' in world.body
    assert world.code == "upstream_timeout"


@pytest.mark.parametrize("terminal", LOST)
def test_an_error_that_is_not_its_own_is_none_of_its_events(terminal: Terminal) -> None:
    """Where the stream goes on, the next event has that number."""
    assert not is_own(terminal)
    world = World(a_spot())
    world.follow.follower.pieces(a_batch(1, ONE))
    world.follow.follower.ended(terminal)
    rest = world.body.removeprefix(b"id: %b.1\n" % SID.encode() + ONE)
    assert rest.startswith(b"retry: ") and b"id: " not in rest
    assert b'"code":"%b"' % terminal.code.encode() in rest


def test_so_is_one_of_this_machine() -> None:
    world = World(a_spot())
    world.follow.follower.pieces(a_batch(1, ONE))
    world.seat.reader.shut_down()
    rest = world.body.removeprefix(b"id: %b.1\n" % SID.encode() + ONE)
    assert rest.startswith(b"retry: ") and b"shutting_down" in rest
    assert world.follow.stopped


def test_an_error_code_of_a_later_version_is_told_as_one_that_clients_know() -> None:
    world = World(a_spot())
    world.follow.follower.ended(Terminal("brand_new", "It is new.", 502))
    assert world.code == "upstream_error"


def test_what_is_gone_is_told_and_skipped() -> None:
    world = World(a_spot())
    world.follow.follower.gap(4)
    world.follow.follower.pieces(a_batch(5, ONE))
    assert world.body == b': txsse {"gap":4}\n' + b"id: %b.5\n" % SID.encode() + ONE


@pytest.mark.parametrize(("dialect", "on_gap"), [("openai-chat", "error"), ("ollama", "skip")])
def test_or_it_ends_the_reading(dialect: str, on_gap: str) -> None:
    world = World(a_spot(dialect=dialect, on_gap=on_gap), numbers=Ids.NONE)
    world.follow.follower.pieces(a_batch(1, b"{}\n" if dialect == "ollama" else ONE))
    world.follow.follower.gap(4)
    assert world.code == "replay_truncated"
    assert b'"skipped":4' in world.body and b'"first":"%b.6"' % SID.encode() in world.body
    assert world.follow.stopped


def test_a_client_that_is_slow_is_waited_for() -> None:
    world = World(a_spot())
    world.seat.reader.client_paused()
    assert world.follow.paused
    world.seat.reader.client_resumed()
    assert not world.follow.paused


def test_a_reader_that_leaves_reads_no_more() -> None:
    world = World(a_spot())
    assert world.readers[SID] == 1
    world.seat.reader.client_gone()
    assert world.follow.stopped
    assert not world.readers
    world.follow.follower.pieces(a_batch(1, ONE))
    assert world.body == b""


def test_where_it_is_is_told_in_the_head() -> None:
    spot = Spot(SID, Found(a_meta(), 5, FAILED, 2), a_route(), 3, 1)
    fields = dict(spot.notes)
    assert fields[b"X-Txsse-Stream"] == SID.encode() and fields[b"Location"] == b"/-/streams/" + SID.encode()
    assert [fields[b"X-Stream-" + name] for name in (b"State", b"First", b"Last", b"Gap")] == [b"error", b"2", b"6", b"1"]
    assert b"X-Stream-Gap" not in dict(a_spot().notes)


@pytest.mark.parametrize(
    ("terminal", "dialect", "last"), [(FAILED, "openai-chat", 6), (FAILED, "sse", 5), (DONE, "sse", 5), (OWNER_LOST, "sse", 5)]
)
def test_an_error_counts_where_it_is_an_event_of_the_stream(terminal: Terminal, dialect: str, last: int) -> None:
    assert last_of(Found(a_meta(dialect), 5, terminal), a_route()) == last


@pytest.mark.parametrize(("wanted", "number"), [(b"b", 3), (b"", None), (b"z", None)])
def test_an_id_of_upstreams_is_looked_for_among_what_there_is(wanted: bytes, number: int | None) -> None:
    search = Search(wanted, 4)
    search.gap(1)
    search.pieces(a_batch(2, b"id: a\ndata: 1\n\n", b"id: b\ndata: 2\n\n"))
    if not search.result.called:
        search.pieces(a_batch(4, b"data: 3\n\n", b"data: 4\n\n"))
    assert search.result.called and search.result.result == number


def test_it_is_not_found_in_a_stream_that_is_gone() -> None:
    search = Search(b"b", 4)
    search.ended(GONE)
    assert search.result.result is None
