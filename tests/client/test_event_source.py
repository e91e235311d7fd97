"""What a browser's EventSource does, on a fake clock: connecting, reading, connecting again."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError, DNSLookupError
from twisted.web.http_headers import Headers

import txsse
from tests.client.rig import Follower, Web, stream_head
from txsse.client import Backoff, EventSource, State, StreamLost, StreamRefused
from txsse.testing import answer, chunk
from txsse.testing.http import head
from txsse.wire.eventstream import MAX_EVENT_BYTES, Event, EventTooLong

STREAM = b": hi\nid: 1\ndata: a\n\nevent: x\r\ndata: b\r\ndata: c\r\n\r\nretry: 50\nid: 2\ndata: d\n\ndata: unfinished\n"
EVENTS = [Event("message", "a", "1"), Event("x", "b\nc", "1"), Event("message", "d", "2", 50)]


def test_it_is_a_public_name() -> None:
    assert txsse.EventSource is EventSource


def test_it_asks_as_the_standard_says(web: Web) -> None:
    web.follow("http://server.test/a/b?c=d|e")
    request = web.last.request
    assert (request.method, request.target, request.header("host")) == (b"GET", b"/a/b?c=d%7Ce", b"server.test")
    assert request.header("accept") == b"text/event-stream"
    assert request.header("cache-control") == b"no-store"
    assert request.header_all("accept-encoding") == [b"identity"]
    assert request.header("last-event-id") is None
    assert request.header("x-txsse-resume") is None


@pytest.mark.parametrize("headers", [{"accept": "*/*", "X-Two": ["a", "b"]}, Headers({"Accept": ["*/*"], "X-Two": ["a", "b"]})])
def test_own_headers_are_sent_in_place_of_the_usual_ones(web: Web, headers: Any) -> None:
    web.follow(headers=headers)
    assert web.last.request.header_all("accept") == [b"*/*"]
    assert web.last.request.header_all("x-two") == [b"a", b"b"]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_the_events_are_the_same_however_the_bytes_are_cut(cuts: list[int]) -> None:
    web = Web()
    follower = web.follow()
    edges = [0, *sorted(cuts), len(STREAM)]
    web.last.open(*(STREAM[begin:end] for begin, end in pairwise(edges) if begin < end))
    assert follower.events == EVENTS
    assert (follower.source.last_event_id, follower.source.retry) == ("2", 50)


@pytest.mark.parametrize("how", ["end", "close", "reset"])
def test_a_get_is_asked_again_after_any_end_with_the_last_id(web: Web, how: str) -> None:
    follower = web.follow()
    web.last.open(b"id: \xc3\xb6 1\ndata: a\n\n", b"id: 2\ndata: half")
    getattr(web.last, how)()
    assert follower.source.state is State.CONNECTING
    web.clock.advance(2.99)
    assert len(web.connections) == 1
    web.clock.advance(0.01)
    assert web.last.last_event_id == "\u00f6 1".encode()
    web.last.open(b"\xef\xbb\xbfdata: b\n\n")
    assert follower.events == [Event("message", "a", "\u00f6 1"), Event("message", "b", "\u00f6 1")]
    assert not follower.finished


def test_a_body_without_a_length_ends_cleanly_with_its_connection(web: Web) -> None:
    follower = web.follow(stop_at_end=True)
    web.last.send(head("HTTP/1.1 200 OK", ["Content-Type: Text/Event-Stream; charset=utf-8"]) + b"data: a\n\n")
    web.last.close()
    assert follower.closed and follower.data == ["a"]


def test_an_empty_id_is_not_sent_and_an_id_without_data_is(web: Web) -> None:
    web.follow()
    web.last.open(b"id: 7\n\n")
    web.last.reset()
    web.clock.advance(3)
    assert web.last.last_event_id == b"7"
    web.last.open(b"id\n\n")
    web.last.reset()
    web.clock.advance(3)
    assert web.last.last_event_id is None


def test_a_stream_is_gone_on_with_where_another_process_left_it(web: Web) -> None:
    source = web.follow(last_event_id="s.9").source
    assert web.last.last_event_id == b"s.9"
    web.last.open(b"data: a\n\n")
    assert source.last_event_id == "s.9"


def test_the_last_id_is_that_of_the_event_handed_out_and_not_of_those_that_wait(web: Web) -> None:
    source = web.source()
    first = Deferred.fromCoroutine(source.__anext__())
    web.last.open(b"id: 1\ndata: a\n\nid: 2\ndata: b\n\nid: 3\n\n")
    assert first.result == Event("message", "a", "1")
    assert source.last_event_id == "1"
    web.last.end()
    follower = Follower(source)
    assert (follower.data, source.last_event_id) == (["b"], "3")


def test_retry_sets_the_wait_also_without_an_event(web: Web) -> None:
    web.follow()
    web.last.open(b"retry: 10000\n: that is all\n")
    web.last.end()
    web.clock.advance(9.9)
    assert len(web.connections) == 1
    web.clock.advance(0.1)
    assert len(web.connections) == 2


def test_waits_double_up_to_a_minute_until_a_byte_of_a_stream_comes(web: Web) -> None:
    waits: list[float] = []
    web.down = ConnectionRefusedError()
    web.follow(on_state=lambda source: waits.append(source.delay))
    for _ in range(7):
        web.clock.advance(waits[-1])
    assert waits == [3, 6, 12, 24, 48, 60, 60, 60]
    web.down = None
    web.clock.advance(60)
    web.last.open(b":\n")
    web.last.reset()
    assert waits[-1] == 3


def test_an_end_with_nothing_before_it_counts_as_a_failure(web: Web) -> None:
    follower = web.follow(max_retries=1)
    for _ in range(2):
        web.last.open()
        web.last.end()
        web.clock.advance(3)
    assert isinstance(follower.error, StreamLost) and follower.error.reason is None
    assert "nothing on it" in str(follower.error)


@pytest.mark.parametrize("retries", [0, 1, 4])
def test_it_gives_up_after_so_many_failures_in_a_row(web: Web, retries: int) -> None:
    web.down = DNSLookupError("no such name")
    follower = web.follow(max_retries=retries)
    for _ in range(retries):
        assert not follower.finished
        web.clock.advance(follower.source.delay)
    assert web.attempts == retries + 1
    assert isinstance(follower.error, StreamLost) and follower.error.reason is web.down
    assert "no such name" in str(follower.error)
    assert follower.source.state is State.CLOSED


def test_bytes_of_a_stream_make_the_failures_forgotten(web: Web) -> None:
    follower = web.follow(max_retries=1)
    for _ in range(5):
        web.last.open(b"data: a\n\n")
        web.last.reset()
        web.clock.advance(3)
    assert len(follower.events) == 5 and not follower.finished


def test_jitter_is_added_to_each_wait(web: Web) -> None:
    source = web.follow(backoff=Backoff(jitter=0.5, random=lambda: 0.5)).source
    web.last.reset()
    assert source.delay == 3 * 1.25


def test_204_is_the_end(web: Web) -> None:
    follower = web.follow()
    web.last.open(b"id: 1\ndata: a\n\n")
    web.last.end()
    web.clock.advance(3)
    web.last.send(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert follower.closed and follower.data == ["a"]
    assert web.clock.getDelayedCalls() == []


@pytest.mark.parametrize("status", ["200 OK", "201 Created", "400 Bad", "404 Not Found", "410 Gone", "429 Slow", "500 Oops", "503 No"])
def test_any_other_answer_is_refused_with_the_beginning_of_its_body(web: Web, status: str) -> None:
    follower = web.follow()
    web.last.send(answer(b"x" * 5000, status, ["Content-Type: text/plain"]))
    assert isinstance(follower.error, StreamRefused)
    assert (follower.error.status, follower.error.body) == (int(status[:3]), b"x" * 4096)
    assert follower.error.content_type == "text/plain"
    assert status in str(follower.error) and len(str(follower.error)) < 300
    assert web.clock.getDelayedCalls() == []


def test_a_refusal_without_an_end_is_not_waited_for(web: Web) -> None:
    follower = web.follow()
    web.last.send(head("HTTP/1.1 500 Oops", ["Transfer-Encoding: chunked"]) + chunk(b"it is"))
    assert not follower.finished
    web.clock.advance(5)
    assert isinstance(follower.error, StreamRefused) and follower.error.body == b"it is"
    assert web.last.aborted


def test_a_refusal_that_breaks_off_is_one_all_the_same(web: Web) -> None:
    follower = web.follow()
    web.last.send(head("HTTP/1.1 200 OK", ["Content-Length: 10"]) + b"it is")
    web.last.reset()
    assert isinstance(follower.error, StreamRefused)
    assert str(follower.error) == "200 OK is no event stream but of no type: it is"


@pytest.mark.parametrize("status", ["429 Too Many", "503 Service Unavailable"])
@pytest.mark.parametrize(("fields", "wait"), [
    (["Retry-After: 20"], 20),
    (["Retry-After: 1"], 3),
    (["Date: Tue, 17 Nov 2026 10:00:00 GMT", "Retry-After: Tue, 17 Nov 2026 10:00:40 GMT"], 40),
])  # fmt: skip
def test_the_server_may_say_when_to_come_back(web: Web, status: str, fields: list[str], wait: float) -> None:
    follower = web.follow()
    web.last.send(answer(b"busy", status, fields))
    assert isinstance(follower.source.failure, StreamRefused) and follower.source.delay == wait
    web.clock.advance(wait)
    web.last.open(b"data: a\n\n")
    assert follower.data == ["a"] and follower.source.failure is None


def test_who_says_it_too_often_is_believed_at_last(web: Web) -> None:
    follower = web.follow(max_retries=1)
    for _ in range(2):
        web.last.send(answer(b"busy", "503 No", ["Retry-After: 1"]))
        web.clock.advance(3)
    assert isinstance(follower.error, StreamRefused) and follower.error.status == 503


def test_a_cookie_comes_back_with_the_next_request(web: Web) -> None:
    web.follow()
    web.last.open(headers=("Set-Cookie: node=b; Path=/",))
    web.last.reset()
    web.clock.advance(3)
    assert web.last.request.header("cookie") == b"node=b"


def test_an_endless_event_ends_the_source(web: Web) -> None:
    follower = web.follow()
    web.last.open(b"data: a\n\n", bytes(MAX_EVENT_BYTES + 1))
    assert isinstance(follower.error, EventTooLong) and follower.data == ["a"]
    assert web.last.aborted and follower.source.state is State.CLOSED


def test_each_change_of_state_is_told(web: Web) -> None:
    told: list[tuple[State, int | None, str, float]] = []

    def note(source: EventSource) -> None:
        code = source.response.code if source.response is not None else None
        told.append((source.state, code, type(source.failure).__name__, source.delay))

    follower = web.follow(on_state=note)
    assert follower.source.state is State.CONNECTING and not told
    web.last.open(b"data: a\n\n")
    web.last.reset()
    web.clock.advance(3)
    web.last.open(b"data: b\n\n")
    web.last.end()
    web.clock.advance(3)
    web.last.send(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert told == [
        (State.OPEN, 200, "NoneType", 0),
        (State.CONNECTING, 200, "ResponseFailed", 3),
        (State.OPEN, 200, "NoneType", 3),
        (State.CONNECTING, 200, "NoneType", 3),
        (State.CLOSED, 204, "NoneType", 3),
    ]


@pytest.mark.parametrize("when", list(State))
def test_whoever_is_told_may_close(web: Web, when: State) -> None:
    follower = web.follow(on_state=lambda source: source.close() if source.state is when else None)
    web.last.open(b"data: a\n\n")
    web.last.end()
    if when is State.CLOSED:
        follower.source.close()
    assert follower.closed
    assert web.clock.getDelayedCalls() == []


def test_comments_are_told_where_they_stood(web: Web) -> None:
    seen: list[str] = []
    source = web.source(on_comment=lambda text: seen.append(f": {text}"))
    Follower(source, lambda event: seen.append(event.data))
    web.last.open(b': txsse {"state":"waking"}\n', b"data: a\n\n:b\ndata: c\n\n: d", b"\n")
    assert seen == [': txsse {"state":"waking"}', "a", ": b", "c", ": d"]


# Time


def test_silence_before_the_head_is_a_failure(web: Web) -> None:
    follower = web.follow(timeout=10)
    web.clock.advance(10)
    assert web.last.aborted
    assert isinstance(follower.source.failure, TimeoutError) and "nothing came for 10 s" in str(follower.source.failure)
    web.clock.advance(3)
    assert len(web.connections) == 2


def test_silence_on_the_stream_is_a_loss_and_any_byte_a_sign_of_life(web: Web) -> None:
    source = web.follow(timeout=10).source
    web.last.open(b"id: 1\ndata: a\n\n")
    for piece in (b": still here\n", b"da", b"ta: half"):
        web.clock.advance(9.9)
        web.last.say(piece)
    web.clock.advance(9.9)
    assert not web.last.aborted
    web.clock.advance(0.1)
    assert source.state is State.CONNECTING and isinstance(source.failure, TimeoutError)
    assert web.last.aborted
    web.clock.advance(3)
    assert web.last.last_event_id == b"1"


def test_the_time_of_a_slow_reader_does_not_count(web: Web) -> None:
    pause: Deferred[None] = Deferred()
    follower = Follower(web.source(timeout=10), lambda event: pause if event.data == "a" else None)
    web.last.open(b"data: a\n\n")
    web.clock.advance(100)
    web.last.say(b"data: b\n\n")
    pause.callback(None)
    assert follower.data == ["a", "b"] and follower.source.state is State.OPEN


# Leaving


def connecting(web: Web) -> None:
    pass


def before_the_head(web: Web) -> None:
    assert web.last.request


def in_the_stream(web: Web) -> None:
    web.last.open(b"data: a\n\n")


def between_connections(web: Web) -> None:
    web.last.reset()


def in_a_refusal(web: Web) -> None:
    web.last.send(head("HTTP/1.1 500 Oops", ["Transfer-Encoding: chunked"]))


MOMENTS = [connecting, before_the_head, in_the_stream, between_connections, in_a_refusal]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("how", ["close", "aclose", "cancel"])
def test_leaving_closes_the_connection_at_once(web: Web, moment: Any, how: str) -> None:
    if moment is connecting:
        web.slow = Deferred()
    follower = web.follow(timeout=60)
    moment(web)
    if how == "cancel":
        follower.running.cancel()
        assert isinstance(follower.error, CancelledError)
    else:
        closing = getattr(follower.source, how)()
        if how == "aclose":
            assert Deferred.fromCoroutine(closing).called
        assert follower.closed
    assert follower.finished and follower.source.state is State.CLOSED
    assert all(each.aborted for each in web.connections) or moment is between_connections
    assert web.clock.getDelayedCalls() == []


def test_nothing_more_comes_out_of_a_closed_source(web: Web) -> None:
    source = web.source()
    first = Deferred.fromCoroutine(source.__anext__())
    web.last.open(b"data: a\n\ndata: b\n\n")
    assert first.called
    source.close()
    source.close()
    assert web.last.aborted
    assert Follower(source).closed and len(web.connections) == 1


def test_the_block_of_a_with_statement_closes_it(web: Web) -> None:
    async def read_one() -> Event:
        async with web.source() as source:
            async for event in source:
                return event
        raise AssertionError("no event")

    reading = Deferred.fromCoroutine(read_one())
    web.last.open(b"data: a\n\n")
    assert reading.called and web.last.aborted


def test_only_one_may_wait(web: Web) -> None:
    follower = web.follow()
    second = Follower(follower.source)
    assert isinstance(second.error, RuntimeError)
    web.last.open(b"data: a\n\n")
    assert follower.data == ["a"]


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("server.test/x", {}),
        ("ftp://server.test/", {}),
        ("http://", {}),
        ("http://h:port/", {}),
        ("http://user:word@h/", {}),
        ("http://h/", {"body": b"{}", "json": {}}),
    ],
)
def test_what_cannot_be_asked_is_refused_at_once(web: Web, url: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        web.source(url, **options)


def test_it_begins_when_it_is_asked_for_an_event(web: Web) -> None:
    source = web.source()
    assert web.attempts == 0
    follower = Follower(source)
    web.last.send(stream_head()[:20])
    web.last.send(stream_head()[20:])
    assert follower.source.state is State.OPEN
