"""A run that outlives its readers: events with numbers, places that are found again, and its end when nobody comes."""

from __future__ import annotations

import re
from typing import Any

import attrs
import pytest

from tests.conftest import ExpectedErrors
from tests.exchange.scripts import DONE, EVENT
from tests.fakes import Hall, Seat, a_request
from txsse.config import model
from txsse.dialects import DIALECTS
from txsse.errors import ProxyError
from txsse.exchange import failures
from txsse.interfaces import Failed, Fault
from txsse.proxy.lasting import RETRY
from txsse.proxy.resumable import ResumableRun
from txsse.recordings.cursor import Cursor
from txsse.recordings.numbering import Ids

SID = "S" * 22
TRUNCATED = Failed(Fault.TRUNCATED, "connection closed inside the response")
BIG = b"data: " + b"x" * 16384 + b"\n\n"
OLLAMA = b'{"message":{"content":"a"},"done":false}\n'


def event(number: int) -> bytes:
    return b'data: {"choices":[{"delta":{"content":"%d"}}]}\n\n' % number


def numbered(*numbers: int, first: int = 1) -> bytes:
    return b"".join(b"id: %b.%d\n%b" % (SID.encode(), seq, event(number)) for seq, number in enumerate(numbers, numbers[0]))


class Resumed(Hall):
    """A run that can be resumed and everything around it."""

    run: ResumableRun

    def __init__(
        self,
        dialect: str = "openai-chat",
        *,
        ready: bool = True,
        error_event: bool = False,
        hold: model.Hold | None = None,
        timeouts: model.Timeouts | None = None,
        **resume: Any,
    ) -> None:
        keepalive = model.Keepalive(interval=0.1, commit_after=0.05, heartbeat=0)
        settings = attrs.evolve(model.Resume(mode="auto"), **resume)
        route = model.Route(
            name="llama", keepalive=keepalive, resume=settings, hold=hold or model.Hold(), stream=model.Stream(error_event=error_event)
        )
        upstream = model.Upstream(name="llama", probe=model.Probe(preset="openai"), timeouts=timeouts or model.Timeouts())
        super().__init__(route, None if ready and timeouts is None else upstream, ready=ready, dialect=dialect)
        self.run = ResumableRun(
            self.owner,
            self.watcher,
            self.route,
            a_request(self.clock),
            DIALECTS[dialect],
            streaming=True,
            members={},
            request_id=b"r",
            limit=settings.max_bytes,
            space=self.quota,
            sid=SID,
            scope=bytes(32),
            created=0.0,
        )

    def join(self, after: int = 0, *, numbers: Ids = Ids.EACH, asked: bool = False, commits: bool = False) -> Seat:
        if asked:
            self.run.begin()
        seat = Seat(self.clock, self.route, self.run, asked=asked, dialect=self.dialect, commits=commits)
        seat.reader.after, seat.reader.numbers = after, numbers
        return seat.begin()

    def leave(self, seat: Seat) -> None:
        seat.downstream.gone = True
        seat.reader.client_gone()

    def streaming(self, *events: bytes, numbers: Ids = Ids.EACH) -> Seat:
        """Somebody reads it, and these have come."""
        seat = self.join(asked=True, numbers=numbers)
        self.answer()
        self.body(*events)
        return seat

    @property
    def closed(self) -> bool:
        return self.backend.last.aborted


# -- numbers


def test_each_event_has_its_number_for_those_who_want_numbers() -> None:
    hall = Resumed()
    first, plain = hall.join(asked=True), hall.join(numbers=Ids.NONE)
    hall.answer()
    hall.body(event(1), event(2) + event(3), b": c\n\n", DONE)
    hall.ended()
    assert first.downstream.body == numbered(1, 2, 3) + b": c\nid: %b.4\n%b" % (SID.encode(), DONE)
    assert plain.downstream.body == event(1) + event(2) + event(3) + b": c\n\n" + DONE
    late = hall.join(2)
    assert late.downstream.body == numbered(3) + b"id: %b.4\n%b" % (SID.encode(), DONE)
    assert [seat.outcome for seat in (first, plain, late)] == ["ok"] * 3


def test_a_reader_who_paused_goes_on_with_the_next_number() -> None:
    hall = Resumed()
    seat = hall.streaming(event(1))
    seat.reader.client_paused()
    hall.body(event(2), b": c\n", event(3))
    seat.reader.client_resumed()
    hall.body(event(4))
    assert seat.downstream.body == numbered(1, 2, 3, 4), "what stands between events is told to those only who are there"


@pytest.mark.parametrize("after", [0, 1, 3, 4])
def test_whoever_attaches_misses_nothing_and_gets_nothing_twice(after: int) -> None:
    hall = Resumed()
    hall.streaming(*map(event, (1, 2, 3, 4)))
    seat = hall.join(after)
    hall.body(event(5))
    assert seat.downstream.body == numbered(*range(after + 1, 6))


def test_a_byte_order_mark_does_not_stand_behind_an_id() -> None:
    hall = Resumed()
    seat = hall.streaming(b"\xef\xbb\xbf" + event(1))
    assert seat.downstream.body == numbered(1)


def test_once_upstream_has_given_an_id_ours_are_given_no_more() -> None:
    hall = Resumed("sse")
    seat = hall.streaming(event(1), b"id: a\n" + event(2), event(3), numbers=Ids.UNLESS_OWN)
    assert seat.downstream.body == numbered(1) + b"id: a\n" + event(2) + event(3)
    assert hall.join(1, numbers=Ids.UNLESS_OWN).downstream.body == b"id: a\n" + event(2) + event(3)
    assert hall.run.place_of(Cursor(foreign=b"a")) == 2
    assert hall.run.place_of(Cursor(foreign=b"b")) is None


def test_but_to_who_comes_back_to_us_in_all_events_that_have_none() -> None:
    hall = Resumed("sse")
    own = b"id: a\n" + event(2)
    plain, knowing = hall.streaming(numbers=Ids.UNLESS_OWN), hall.join()
    hall.body(event(1), own + event(3), b": c\n\n" + own, event(5))
    assert plain.downstream.body == numbered(1) + own + event(3) + b": c\n\n" + own + event(5)
    whole = numbered(1) + own + numbered(3) + own + numbered(5)
    assert knowing.downstream.body == whole.replace(own + numbered(5), b": c\n" + own + numbered(5))
    assert hall.join().downstream.body == whole
    assert hall.join(3).downstream.body == own + numbered(5)


@pytest.mark.parametrize(
    ("numbers", "expected"), [(Ids.EACH, b"id: %b.2\nevent: error\n" % SID.encode()), (Ids.UNLESS_OWN, b"event: error\n")]
)
def test_nor_has_an_error_an_id_where_upstreams_stand_alone(numbers: Ids, expected: bytes) -> None:
    hall = Resumed("sse", error_event=True)
    own = b"id: a\n" + event(1)
    seat = hall.streaming(own, numbers=numbers)
    hall.failed(TRUNCATED)
    assert seat.downstream.body.startswith(own + expected)


def test_an_id_of_upstream_is_found_among_thousands() -> None:
    hall = Resumed("sse")
    hall.streaming(*(b"id: %d\ndata: %b\n\n" % (number, b"x" * 100) for number in range(1, 5001)))
    assert [hall.run.place_of(Cursor(foreign=b"%d" % number)) for number in (1, 2500, 5000)] == [1, 2500, 5000]


@pytest.mark.parametrize(
    ("cursor", "place"), [(Cursor(), 0), (Cursor(2), 2), (Cursor(3), 3), (Cursor(4), 4), (Cursor(9), 4), (Cursor(live=True), 3)]
)
def test_the_place_of_a_cursor(cursor: Cursor, place: int) -> None:
    hall = Resumed()
    hall.streaming(event(1), event(2), event(3))
    assert hall.run.place_of(cursor) == place


def test_lines_are_numbered_and_bear_no_ids() -> None:
    hall = Resumed("ollama")
    seat = hall.join(asked=True, numbers=Ids.NONE)
    hall.answer(200, b"application/x-ndjson")
    hall.body(OLLAMA * 3)
    assert hall.join(1, numbers=Ids.NONE).downstream.body == OLLAMA * 2
    assert (seat.downstream.body, hall.run.recording.last, hall.run.numbered) == (OLLAMA * 3, 3, False)


def test_a_document_is_told_whole_whatever_the_cursor() -> None:
    hall = Resumed()
    hall.join(asked=True)
    hall.answer(200, b"application/json", (b"Content-Length", b"8"))
    hall.body(b"abcd", b"efgh")
    hall.ended()
    assert hall.run.place_of(Cursor(1)) == hall.run.place_of(Cursor(live=True)) == 0
    assert hall.join().downstream.body == b"abcdefgh"


def test_what_is_left_at_the_end_without_its_blank_line_has_no_number_that_a_reader_could_name() -> None:
    hall = Resumed("sse")
    hall.streaming(event(1) + b"data: 2")
    hall.ended()
    assert (hall.run.recording.last, hall.run.last_whole) == (2, 1)
    assert hall.join().downstream.body.endswith(b"\ndata: 2")


# -- what is too much


def test_an_event_up_to_the_bound_is_held_whole_and_a_longer_one_ends_the_coming_back() -> None:
    hall = Resumed(max_bytes=300_000)
    seat = hall.streaming(event(1), b"data: " + b"x" * 200_000)
    assert seat.downstream.body == numbered(1)
    hall.body(b"\n\n")
    assert hall.run.kept and hall.run.recording.last == 2
    slow = hall.join(2)
    slow.reader.client_paused()
    hall.body(b"data: " + b"y" * 200_000, b"y" * 200_000)
    assert not hall.run.kept
    hall.body(b"\n\n" + event(3))
    assert seat.downstream.body.endswith(b"y" * 400_000 + b"\n\n" + event(3)), "without a number"
    hall.ended()
    assert seat.outcome == "ok"


def test_a_slow_reader_is_told_of_a_gap_and_goes_on() -> None:
    hall = Resumed(max_bytes=51 * 1024)
    hall.streaming(event(1))
    slow = hall.join()
    slow.reader.client_paused()
    hall.body(*[BIG] * 10)
    slow.reader.client_resumed()
    told = slow.downstream.body.removeprefix(numbered(1))
    assert told == b': txsse {"gap":7}\n' + b"".join(b"id: %b.%d\n%b" % (SID.encode(), seq, BIG) for seq in (9, 10, 11))


@pytest.mark.parametrize("dialect", ["openai-chat", "ollama"])
def test_or_that_it_cannot_where_the_gap_is_an_error_or_nothing_could_tell_of_it(dialect: str) -> None:
    hall = Resumed(dialect, max_bytes=51 * 1024, on_gap="error" if dialect == "openai-chat" else "skip")
    line = OLLAMA[:-2] + b"x" * 16384 + OLLAMA[-2:]
    hall.join(asked=True, numbers=Ids.NONE)
    hall.answer(200, b"text/event-stream" if dialect == "openai-chat" else b"application/x-ndjson")
    slow = hall.join(numbers=Ids.NONE)
    slow.reader.client_paused()
    hall.body(*[BIG if dialect == "openai-chat" else line] * 10)
    slow.reader.client_resumed()
    hall.wait(0.5)
    assert (slow.code, slow.downstream.end) == ("replay_truncated", "cut")
    if dialect == "openai-chat":
        assert b'"skipped":7' in slow.downstream.body
        assert b'"first":"%b.8"' % SID.encode() in slow.downstream.body


def test_an_error_of_a_readers_own_is_no_event_of_a_stream_that_is_over() -> None:
    hall = Resumed(max_bytes=51 * 1024, on_gap="error")
    hall.streaming(event(1))
    slow = hall.join()
    slow.reader.client_paused()
    hall.body(*[BIG] * 10, DONE)
    hall.ended()
    slow.reader.client_resumed()
    hall.wait(0.5)
    assert slow.code == "replay_truncated"
    assert slow.downstream.body.count(b"\nid: ") == 0, "who comes back with the error's number would be told that it has all"


def test_a_stream_of_which_nothing_is_left_does_not_end_as_if_it_had_been_told() -> None:
    hall = Resumed()
    hall.streaming(event(1))
    slow = hall.join()
    slow.reader.client_paused()
    hall.body(event(2) + DONE)
    hall.ended()
    hall.run.recording.close()  # evicted
    slow.reader.client_resumed()
    hall.wait(0.5)
    assert (slow.code, slow.downstream.end) == ("replay_truncated", "cut")


# -- leaving


def test_cancel_ends_it_with_the_last_reader() -> None:
    hall = Resumed(on_disconnect="cancel")
    first = hall.streaming(event(1))
    second = hall.join()
    hall.leave(first)
    assert not hall.closed
    hall.leave(second)
    assert hall.closed and hall.run.over
    assert hall.run.error is not None and hall.run.error.code == "cancelled"
    assert hall.watcher.over == 1


def test_grace_is_for_coming_back() -> None:
    hall = Resumed(on_disconnect="grace", grace=2.0)
    seat = hall.streaming(event(1))
    hall.leave(seat)
    hall.wait(1)
    assert not hall.closed
    seat = hall.join(1)
    hall.wait(3)
    assert not hall.closed
    hall.leave(seat)
    hall.wait(1.9)
    assert not hall.closed
    hall.wait(0.3)
    assert hall.closed and hall.watcher.over == 1


def test_continue_runs_on_as_long_as_an_orphan_may() -> None:
    hall = Resumed(on_disconnect="continue", max_orphan=5.0)
    hall.leave(hall.streaming(event(1)))
    hall.body(event(2))
    hall.wait(4.8)
    hall.body(DONE)
    hall.ended()
    assert hall.run.error is None and hall.run.whole
    assert hall.join().downstream.body.endswith(DONE)
    hall.wait(1)
    assert hall.watcher.over == 1


def test_an_orphan_does_not_run_for_ever() -> None:
    hall = Resumed(on_disconnect="continue", max_orphan=5.0)
    hall.leave(hall.streaming(event(1)))
    hall.wait(5.4)
    assert hall.closed


@pytest.mark.parametrize("background", [True, False])
def test_what_nobody_reads_waits_no_longer_than_a_request_may(background: bool) -> None:
    hall = Resumed(ready=False, on_disconnect="continue", hold=model.Hold(timeout=5.0))
    if background:
        hall.run.begin()
        hall.run.let_run()
    else:
        hall.leave(hall.join(asked=True))
    hall.wait(4.8)
    assert not hall.run.over
    hall.wait(0.4)
    assert hall.run.error is not None and hall.run.error.code == "readiness_timeout"


@pytest.mark.parametrize("background", [True, False])
def test_the_body_of_what_nobody_reads_takes_memory_until_it_is_needed_no_more(background: bool) -> None:
    hall = Resumed(on_disconnect="continue")
    size = len(hall.run.request.body)
    seat = hall.join(asked=True)
    assert hall.quota.used == 0, "the front accounts for it"
    if background:
        hall.run.let_run()
    hall.leave(seat)
    assert hall.quota.used == size
    hall.leave(hall.join())
    assert hall.quota.used == size
    hall.answer()
    assert not hall.run.request.body, "it was sent, and need not be sent again"
    assert hall.quota.used == 0


@pytest.mark.parametrize("background", [True, False])
def test_without_memory_for_its_body_it_ends(background: bool) -> None:
    hall = Resumed(ready=False, on_disconnect="continue")
    hall.quota.take(hall.quota.limit)
    if background:
        hall.run.begin()
        hall.run.let_run()
    else:
        hall.leave(hall.join(asked=True))
    assert hall.run.over
    assert hall.run.error is not None and hall.run.error.code == "too_many_connections"


def test_its_hold_ends_for_all_who_read_it_and_who_comes_later_is_told_so() -> None:
    hall = Resumed(ready=False, hold=model.Hold(commit_after=0.05, timeout=5.0))
    hall.join(asked=True)
    hall.wait(4)
    seat = hall.join(commits=True)
    hall.wait(1.5)
    assert (seat.code, seat.downstream.end) == ("readiness_timeout", "cut")
    assert seat.downstream.body.count(b"id: %b.1\ndata: {" % SID.encode()) == 1
    assert hall.run.over and hall.watcher.over == 1


def test_its_total_time_goes_on_without_a_reader() -> None:
    hall = Resumed(on_disconnect="continue", timeouts=model.Timeouts(total=3.0))
    hall.leave(hall.streaming(event(1)))
    hall.wait(3.4)
    assert hall.closed
    assert hall.run.error is not None and hall.run.error.code == "upstream_timeout"


def test_nobody_is_waited_for_after_the_end() -> None:
    hall = Resumed()
    seat = hall.streaming(event(1) + DONE)
    hall.leave(seat)
    hall.ended()
    assert hall.run.error is None
    assert hall.watcher.complete == [event(1) + DONE]
    hall.wait(40)
    assert hall.watcher.over == 1


def test_who_lets_it_run_may_look_and_leave() -> None:
    hall = Resumed(on_disconnect="cancel", max_orphan=5.0)
    hall.run.begin()
    hall.run.let_run()
    hall.answer()
    hall.wait(3)
    looker = hall.join()
    hall.wait(3)
    hall.leave(looker)
    hall.wait(4.8)
    assert not hall.closed
    hall.wait(0.6)
    assert hall.closed


def test_to_let_it_run_is_nothing_to_one_that_is_read() -> None:
    hall = Resumed(max_orphan=1.0)
    hall.streaming(event(1))
    hall.run.let_run()
    hall.wait(3)
    assert not hall.closed


def test_what_is_read_elsewhere_is_no_orphan() -> None:
    hall = Resumed(on_disconnect="grace", grace=1.0)
    seat = hall.streaming(event(1))
    hall.run.read_elsewhere(1)
    hall.leave(seat)
    hall.wait(3)
    assert not hall.closed
    hall.run.read_elsewhere(0)
    hall.wait(1.2)
    assert hall.closed


# -- ends


def test_it_is_ended_for_everybody_once() -> None:
    hall = Resumed()
    first, second = hall.streaming(event(1)), hall.join(1)
    hall.run.cancel(ProxyError("cancelled", "By request."))
    hall.run.cancel(ProxyError("cancelled", "Again."))
    hall.wait(0.5)
    for seat in (first, second):
        assert b"\n\nid: %b.2\ndata: " % SID.encode() in b"\n\n" + seat.downstream.body
        assert (seat.code, seat.downstream.end) == ("cancelled", "cut")
    assert hall.closed and hall.watcher.over == 1
    assert hall.run.error is not None and hall.run.error.message == "By request."


def test_one_that_waits_is_ended_too() -> None:
    hall = Resumed(ready=False)
    seat = hall.join(asked=True)
    hall.run.cancel(ProxyError("cancelled", "By request."))
    assert (seat.downstream.status, hall.backend.gate.waiters) == (502, [])


def test_the_error_is_the_last_event() -> None:
    hall = Resumed()
    first, plain = hall.streaming(event(1)), hall.join(numbers=Ids.NONE)
    hall.failed(TRUNCATED)
    hall.wait(0.5)
    assert first.downstream.body.startswith(numbered(1) + b'id: %b.2\ndata: {"error":' % SID.encode())
    assert plain.downstream.body.startswith(event(1) + b'data: {"error":')
    again = hall.join(1)
    hall.wait(0.5)
    assert again.downstream.body == first.downstream.body.removeprefix(numbered(1))


def test_where_no_error_can_follow_upstreams_head_who_comes_back_for_it_gets_it_before_that() -> None:
    hall = Resumed("sse")
    first = hall.streaming(event(1))
    hall.failed(TRUNCATED)
    hall.wait(0.5)
    assert (first.downstream.body, first.downstream.end) == (numbered(1), "cut")
    again = hall.join(1)
    assert (again.downstream.status, again.downstream.end, again.code) == (502, "finish", "upstream_disconnected")
    whole = hall.join(0)
    hall.wait(0.5)
    assert (whole.downstream.status, whole.downstream.body, whole.downstream.end) == (200, numbered(1), "cut")


def test_who_is_sent_away_is_told_when_to_come_back_each_at_its_own_time() -> None:
    hall = Resumed(on_disconnect="cancel")
    seats = [hall.streaming(event(1)), *(hall.join() for _ in range(20))]
    hall.run.closing = True
    for seat in seats:
        seat.reader.shut_down()
    hall.wait(0.5)
    times = set()
    for seat in seats:
        found = re.search(rb'\n\nretry: (\d+)\ndata: {"error":{[^\n]*"code":"shutting_down"', seat.downstream.body)
        assert found is not None
        times.add(int(found[1]))
    assert RETRY[0] <= min(times) < max(times) <= RETRY[1] and len(times) > 10
    assert not hall.closed
    hall.run.cancel(failures.shutting_down())
    assert hall.run.error is not None and hall.run.error.code == "shutting_down"


def test_what_it_holds_is_kept_when_it_is_over() -> None:
    hall = Resumed()
    seat = hall.streaming(event(1) + DONE)
    hall.ended()
    assert seat.outcome == "ok"
    assert hall.run.recording.size == hall.quota.used > 0
    assert hall.join().downstream.body == seat.downstream.body


def test_a_bug_in_one_reader_is_not_the_others(expected_errors: ExpectedErrors) -> None:
    hall = Resumed()
    broken = hall.streaming()
    other = hall.join()

    def break_down() -> None:
        raise ZeroDivisionError("a bug")

    broken.downstream.on_write = break_down
    hall.body(EVENT, DONE)
    assert other.downstream.body.count(b"id: ") == 2
    assert len(expected_errors.flush(ZeroDivisionError)) == 1
