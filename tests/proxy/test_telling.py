"""Hits as streams: a clock that goes on whoever reads, places that are found again, an end."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from twisted.internet.task import Clock

from tests.exchange.scripts import DONE, EVENT
from tests.fakes import FakeBackend, Seat, bound
from tests.proxy.test_playback import BIG, entry_of
from tests.proxy.test_resumable import SID, event
from tests.proxy.test_streams import Kept
from txsse.clock import Alarms
from txsse.config import model
from txsse.dialects import DIALECTS
from txsse.dialects.usage import Usage
from txsse.errors import ProxyError
from txsse.proxy.playback import Stored
from txsse.proxy.resumption import Resumption, place_notes, summary
from txsse.proxy.streams import Streams
from txsse.proxy.telling import PER_HIT, Telling
from txsse.recordings.cursor import Cursor
from txsse.recordings.entry import Entry
from txsse.recordings.numbering import Ids
from txsse.recordings.store import Quota

FOUR = [event(number) for number in (1, 2, 3, 4)]


def with_ids(*numbers: int, parts: list[bytes] = FOUR) -> bytes:
    return b"".join(b"id: %b.%d\n%b" % (SID.encode(), number, parts[number - 1]) for number in numbers)


class Told:
    """A hit that is told from now on, in a registry; *entry* is what the store has."""

    def __init__(self, pieces: list[bytes], times: list[float] | None = None, *, own: bool = False, **cache: Any) -> None:
        self.clock = Clock()
        self.clock.advance(1000.1)
        streamed = cache.pop("streamed", True)
        dialect = cache.pop("dialect", "openai-chat")
        keepalive = model.Keepalive(interval=60.0, commit_after=0.05, heartbeat=0)
        resume = attrs.evolve(model.Resume(mode="auto"), **cache.pop("resume", {}))
        config = model.Route(name="llama", keepalive=keepalive, resume=resume, cache=model.Cache(mode="all", **cache))
        self.route = bound(config, FakeBackend())
        self.entry: Entry | None = entry_of(pieces, times, streamed=streamed, dialect=dialect)
        self.quota = Quota(1 << 20)
        self.alarms = Alarms(self.clock)
        self.streams = Streams(self.alarms, lambda result: None)
        self.resumption = Resumption(self.streams, lambda result: None)
        self.dialect = dialect
        self.telling = self.tell(own=own)

    def tell(self, sid: str = SID, *, own: bool = False) -> Telling:
        assert self.entry is not None
        stored = Stored(self.entry, self.alarms, self.route.config.cache, own=own)
        about = (stored, self.route, DIALECTS[self.dialect], self.alarms, self.quota, self.streams.ended)
        telling = Telling(*about, sid=sid, scope=bytes(32), created=5.0)
        self.streams.add(telling)
        telling.begin()
        return telling

    def join(self, after: int = 0, numbers: Ids = Ids.EACH) -> Seat:
        seat = Seat(self.clock, self.route, self.telling, dialect=self.dialect)
        seat.reader.after, seat.reader.numbers = after, numbers
        return seat.begin()

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.005)):
            self.clock.advance(0.005)

    def place(self, cursor: Cursor) -> tuple[int, int] | None:
        return self.resumption.place(self.found, cursor)

    @property
    def found(self) -> Any:
        return self.streams.find(SID, None)

    @property
    def code(self) -> str:
        with pytest.raises(ProxyError) as caught:
            self.streams.find(SID, None)
        return caught.value.code


# -- all at once


def test_at_once_with_ids_or_as_it_is() -> None:
    told = Told([FOUR[0] + FOUR[1], FOUR[2] + FOUR[3]])
    assert told.telling.over and told.streams.live == 0
    knowing, plain, late = told.join(), told.join(numbers=Ids.NONE), told.join(2)
    assert knowing.downstream.body == with_ids(1, 2, 3, 4)
    assert plain.downstream.body == b"".join(FOUR)
    assert late.downstream.body == with_ids(3, 4)
    for seat in (knowing, plain, late):
        assert (seat.downstream.end, seat.outcome) == ("finish", "ok")
        assert seat.reader.tally.usage == Usage(3, 4)
        assert not seat.reader.charged(), "no upstream worked for it"


def test_what_who_comes_back_is_told_of_it() -> None:
    told = Told(FOUR)
    assert [told.place(Cursor(after)) for after in (0, 3, 4, 9)] == [(0, 0), (3, 0), None, None]
    found = summary(told.found)
    assert (found["state"], found["first"], found["last"], found["created"], found["model"]) == ("done", 1, 4, 5.0, "tiny")
    assert dict(place_notes(told.found, 0)) == {b"X-Stream-State": b"done", b"X-Stream-First": b"1", b"X-Stream-Last": b"4"}


def test_an_end_that_no_reader_could_name_is_not_waited_for() -> None:
    told = Told([event(1), b"data: [DONE]"])
    assert told.place(Cursor(1)) is None
    assert told.join(1).downstream.body.endswith(b"data: [DONE]")


def test_events_that_upstream_gave_ids_keep_them_and_are_found() -> None:
    own = b"id: a\n" + event(2)
    told = Told([event(1), own, event(3)])
    assert told.join().downstream.body == with_ids(1) + own + with_ids(3, parts=[event(1), own, event(3)])
    assert told.place(Cursor(foreign=b"a")) == (2, 0)


def test_lines_and_documents() -> None:
    lines = [b'{"message":{"content":"a"},"done":false}\n', b'{"message":{},"done":true}\n']
    told = Told(lines, dialect="ollama")
    assert told.join(1, Ids.NONE).downstream.body == lines[1]
    told = Told([b'{"a":', b"1}"], streamed=False)
    assert told.place(Cursor(1)) == (0, 0)
    seat = told.join(numbers=Ids.NONE)
    assert (seat.downstream.body, seat.downstream.header(b"content-length"), seat.outcome) == (b'{"a":1}', b"7", "ok")


def test_a_slow_reader_gets_all_of_it() -> None:
    told = Told([BIG] * 20)
    seat = Seat(told.clock, told.route, told.telling)
    seat.downstream.on_write = seat.reader.client_paused
    seat.begin()
    while not seat.owner.ended:
        told.wait(0.05)
        seat.reader.client_resumed()
    assert seat.downstream.body == BIG * 20


# -- in its time


TIMES = [0.0, 1.0, 1.0, 2.0]


@pytest.mark.parametrize("numbers", [Ids.EACH, Ids.NONE])
def test_events_come_when_they_are_due(numbers: Ids) -> None:
    told = Told(FOUR, TIMES, replay="original")
    seat = told.join(numbers=numbers)
    told.wait(2.2)
    assert seat.downstream.body == (with_ids(1, 2, 3, 4) if numbers else b"".join(FOUR))
    assert [time - 1000.1 for time in seat.downstream.times] == pytest.approx([0.0, 1.0, 2.0], abs=0.06)
    assert (seat.outcome, told.telling.over) == ("ok", True)


def test_who_comes_back_gets_what_was_due_at_once_and_the_rest_in_its_time() -> None:
    told = Told(FOUR, TIMES, replay="original")
    seat = told.join()
    told.wait(0.1)
    seat.downstream.gone = True
    seat.reader.client_gone()
    assert (seat.downstream.body, told.streams.live, told.telling.orphaned) == (with_ids(1), 1, True)
    told.wait(1.4)
    assert (summary(told.found)["state"], summary(told.found)["last"]) == ("live", 3)
    assert told.place(Cursor(1)) == (1, 0)
    again = told.join(1)
    assert again.downstream.body == with_ids(2, 3)
    told.wait(0.6)
    assert again.downstream.body == with_ids(2, 3, 4)
    assert again.downstream.times[-1] - 1000.1 == pytest.approx(2.0, abs=0.06)
    assert told.place(Cursor(4)) is None


def test_nobody_need_read_it() -> None:
    told = Told(FOUR, TIMES, replay="original", resume={"on_disconnect": "cancel"})
    told.telling.let_run()
    told.wait(2.3)
    assert (told.telling.over, told.telling.error, told.streams.live) == (True, None, 0)
    assert told.join().downstream.body == with_ids(1, 2, 3, 4)


def test_a_pace_between_events_where_pieces_hold_several() -> None:
    told = Told([b"".join(FOUR)], replay="fixed", gap=0.5)
    seat = told.join()
    told.wait(1.7)
    assert seat.downstream.packets[-3:] == [with_ids(number) for number in (2, 3, 4)]
    told = Told([FOUR[0] + FOUR[1], FOUR[2] + FOUR[3]], [0.0, 1.0], replay="original")
    seat = told.join()
    told.wait(0.5)
    assert seat.downstream.body == with_ids(1, 2), "what came together is told together"
    told.wait(0.7)
    assert seat.outcome == "ok"


def test_only_what_is_still_to_come() -> None:
    told = Told(FOUR, TIMES, replay="original")
    told.wait(0.5)
    assert told.place(Cursor(live=True)) == (1, 0)


def test_a_live_reader_that_pauses_misses_nothing_that_is_due_at_that_moment() -> None:
    told = Told(FOUR, TIMES, replay="original")
    seat = told.join()
    told.clock.advance(0.5)
    told.clock.rightNow += 0.6  # the reactor is late
    seat.reader.client_paused()
    told.wait(0.5)
    seat.reader.client_resumed()
    told.wait(1)
    assert seat.downstream.body == with_ids(1, 2, 3, 4)


def test_readers_at_different_places_share_its_clock() -> None:
    told = Told(FOUR, TIMES, replay="original")
    first = told.join()
    told.wait(0.5)
    second, third = told.join(), told.join(1)
    told.wait(0.3)
    third.downstream.gone = True
    third.reader.client_gone()
    told.wait(1.5)
    assert first.downstream.body == second.downstream.body == with_ids(1, 2, 3, 4)
    assert third.downstream.body == b""


def test_it_can_be_ended() -> None:
    told = Told(FOUR, TIMES, replay="original")
    seat = told.join()
    told.wait(0.1)
    told.telling.cancel(ProxyError("cancelled", "By request."))
    told.telling.cancel(ProxyError("cancelled", "Again."))
    told.wait(0.5)
    assert (seat.code, seat.downstream.end) == ("cancelled", "cut")
    assert seat.downstream.body.startswith(with_ids(1) + b"id: %b.2\ndata: " % SID.encode())
    assert (summary(told.found)["last"], told.place(Cursor(1)), told.place(Cursor(2))) == (2, (1, 0), None)
    late = told.join()
    told.wait(2)
    assert late.downstream.body == seat.downstream.body, "no more than was told by then"


# -- what it holds


def test_it_takes_next_to_nothing_and_keeps_nothing_from_going() -> None:
    told = Told([BIG] * 10)
    assert told.quota.used == told.streams.bytes_used == PER_HIT
    told.join()
    told.wait(0.5)
    told.entry = None
    assert told.code == "stream_gone"
    assert (told.quota.used, told.streams.bytes_used, [*told.streams]) == (0, 0, [])


def test_many_of_one_share_when_it_is_due() -> None:
    told = Told([BIG] * 100, replay="fixed", gap=1.0)
    assert told.entry is not None
    paces = [model.Cache(replay="fixed", gap=gap) for gap in (1.0, 1.0, 2.0)]
    first, second, reloaded = [Stored(told.entry, told.alarms, pace).schedule() for pace in paces]
    assert first is second
    assert first is not None and reloaded is not None
    assert first[0] is reloaded[0] is told.entry.ends
    assert (first[1][99], reloaded[1][99]) == (99.0, 198.0)
    assert len(told.entry.schedules) == 1


def test_who_reads_it_keeps_it() -> None:
    told = Told(FOUR, TIMES, replay="original")
    seat = told.join()
    told.entry = None
    told.wait(1.2)
    assert told.found is told.telling
    told.wait(1)
    assert (seat.downstream.body, seat.outcome) == (with_ids(1, 2, 3, 4), "ok")
    assert told.code == "stream_gone"


def test_where_it_is_gone_in_the_middle_nobody_can_come_back() -> None:
    told = Told(FOUR, TIMES, replay="original")
    told.wait(0.2)
    told.entry = None
    assert (told.code, told.streams.live, told.quota.used) == ("stream_gone", 0, 0)
    told.wait(3)


def test_what_was_made_for_it_is_kept_with_it_and_counts() -> None:
    told = Told(FOUR, own=True)
    assert told.entry is not None
    size = PER_HIT + told.entry.size
    told.entry = None
    assert told.quota.used == told.streams.bytes_used == size
    assert told.join().downstream.body == with_ids(1, 2, 3, 4)
    told.wait(0.1)
    told.streams.forget(SID)
    assert (told.quota.used, told.code) == (0, "stream_gone")


def test_where_there_is_no_memory_for_it_it_is_told_and_gone() -> None:
    told = Told([EVENT, DONE])
    told.quota.limit = told.quota.used
    telling = told.tell("n" * 22)
    with pytest.raises(ProxyError, match="not kept"):
        told.streams.find("n" * 22, None)
    seat = Seat(told.clock, told.route, telling).begin()
    assert seat.downstream.body == EVENT + DONE


def test_of_more_than_may_run_those_that_nobody_reads_make_room_for_each_other() -> None:
    told = Told(FOUR, TIMES, replay="original")
    told.streams.most_live = 2
    run = Kept(told.streams).run
    run.let_run()
    second = told.tell("2" * 22)
    assert (told.telling.error is not None, run.over, second.over) == (True, False, False)
    Seat(told.clock, told.route, second).begin()
    told.tell("3" * 22)
    assert (run.over, second.over, told.streams.live) == (False, False, 3), "neither makes room: one is read, one has an upstream"


def test_only_the_latest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("txsse.proxy.streams.MOST_HITS", 3)
    told = Told(FOUR)
    reader = Seat(told.clock, told.route, told.telling)
    reader.downstream.on_write = reader.reader.client_paused
    told.telling.join(reader.reader)  # the first one is read
    for number in range(4):
        told.tell(f"{number:022}")
    assert [run.sid for run in told.streams] == [SID, f"{2:022}", f"{3:022}"]
    assert told.quota.used == 3 * PER_HIT
