"""Streams that begin with a POST, which is sent once."""

from __future__ import annotations

import pytest
from twisted.internet.error import ConnectionRefusedError, TCPTimedOutError

from tests.client.rig import Follower, Web
from txsse.client import State, StreamLost, StreamRefused
from txsse.testing import answer

CHAT = "http://server.test/v1/chat/completions"
NAMED = ("Location: /-/streams/S",)


def post(web: Web, **options: object) -> Follower:
    return web.follow(CHAT, json={"stream": True, "n": 1}, headers={"Authorization": "Bearer k"}, **options)


def test_a_body_makes_it_a_post(web: Web) -> None:
    post(web)
    request = web.last.request
    assert (request.method, request.target, bytes(request.body)) == (b"POST", b"/v1/chat/completions", b'{"stream":true,"n":1}')
    assert request.header("content-type") == b"application/json"
    assert request.header("accept") == b"text/event-stream"
    assert request.header("x-txsse-resume") == b"1"


@pytest.mark.parametrize("body", ["{\u00f6}", "{\u00f6}".encode()])
def test_a_body_is_sent_as_it_is(web: Web, body: str | bytes) -> None:
    web.follow(CHAT, body=body, method="put")
    assert (web.last.request.method, bytes(web.last.request.body)) == (b"PUT", "{\u00f6}".encode())
    assert web.last.request.header("content-type") is None


def test_its_clean_end_is_the_end(web: Web) -> None:
    follower = post(web)
    web.last.open(b"data: a\n\n", headers=NAMED)
    web.last.end()
    assert follower.closed and follower.data == ["a"]
    assert len(web.connections) == 1


@pytest.mark.parametrize("last", [b"data: [DONE]\n\n", b"event: done\ndata: {}\n\n", b"event: message_stop\ndata: {}\n\n"])
@pytest.mark.parametrize("headers", [(), NAMED])
def test_a_break_after_the_terminal_event_is_the_end(web: Web, last: bytes, headers: tuple[str, ...]) -> None:
    follower = post(web)
    web.last.open(b"id: S.1\ndata: a\n\n", last, headers=headers)
    assert not follower.finished
    web.last.reset()
    assert follower.closed and len(follower.events) == 2


def test_a_terminal_event_that_is_not_the_last_one_ends_nothing(web: Web) -> None:
    follower = post(web)
    web.last.open(b"event: done\ndata: one\n\n", b"data: more\n\n")
    web.last.reset()
    assert isinstance(follower.error, StreamLost)


@pytest.mark.parametrize("location", [(), ("Location: http://elsewhere.test/-/streams/S",), ("Location: //[/",)])
def test_a_break_is_a_loss_where_no_location_of_the_same_origin_was_named(web: Web, location: tuple[str, ...]) -> None:
    follower = post(web)
    web.last.open(b"id: S.1\ndata: a\n\n", headers=location)
    web.last.reset()
    assert isinstance(follower.error, StreamLost) and type(follower.error.reason).__name__ == "ResponseFailed"
    web.clock.advance(100)
    assert len(web.connections) == 1


def test_it_is_taken_up_again_at_the_location_as_often_as_it_takes(web: Web) -> None:
    follower = post(web, max_retries=1)
    web.last.open(b"id: S.1\ndata: a\n\n", b"id: S.2\ndata: ha", headers=NAMED)
    for number in (1, 2, 3):
        web.last.reset()
        assert follower.source.url == "http://server.test/-/streams/S"
        web.clock.advance(3)
        request = web.last.request
        assert (request.method, request.target, bytes(request.body)) == (b"GET", b"/-/streams/S", b"")
        assert request.header("last-event-id") == b"S.%d" % number
        assert request.header("authorization") == b"Bearer k"
        assert request.header("content-type") is None
        web.last.open(b"id: S.%d\ndata: b\n\n" % (number + 1), headers=("Location: /-/streams/other",))
    web.last.end()
    assert follower.closed and follower.data == ["a", "b", "b", "b"]


def test_204_at_the_location_means_that_everything_was_read(web: Web) -> None:
    follower = post(web)
    web.last.open(b"id: S.1\ndata: a\n\n", headers=NAMED)
    web.last.reset()
    web.clock.advance(3)
    web.last.send(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert follower.closed


def test_a_stream_that_is_gone_is_refused(web: Web) -> None:
    follower = post(web)
    web.last.open(b"id: S.1\ndata: a\n\n", headers=NAMED)
    web.last.reset()
    web.clock.advance(3)
    web.last.send(answer(b"{}", "410 Gone"))
    assert isinstance(follower.error, StreamRefused) and follower.error.status == 410


def test_the_location_is_asked_again_when_nobody_answers_there(web: Web) -> None:
    follower = post(web)
    web.last.open(b"id: S.1\ndata: a\n\n", headers=NAMED)
    web.last.reset()
    web.clock.advance(3)
    web.last.reset()
    web.clock.advance(6)
    assert len(web.connections) == 3 and web.last.last_event_id == b"S.1"
    assert not follower.finished


def test_before_its_first_event_it_is_read_from_the_start(web: Web) -> None:
    follower = post(web)
    web.last.open(b": txsse\n", headers=NAMED)
    web.last.reset()
    web.clock.advance(3)
    assert web.last.last_event_id is None
    web.last.open(b"id: S.1\ndata: a\n\n")
    assert follower.data == ["a"]


def test_events_without_ids_are_not_read_twice(web: Web) -> None:
    follower = post(web)
    web.last.open(b"data: a\n\n", headers=NAMED)
    web.last.reset()
    assert isinstance(follower.error, StreamLost) and len(web.connections) == 1


def test_it_is_not_repeated_when_the_answer_does_not_come(web: Web) -> None:
    follower = post(web)
    web.last.reset()
    assert isinstance(follower.error, StreamLost) and type(follower.error.reason).__name__ == "ResponseNeverReceived"
    assert len(web.connections) == 1


def test_nor_when_it_does_not_come_in_time(web: Web) -> None:
    follower = post(web, timeout=10)
    web.clock.advance(10)
    assert isinstance(follower.error, StreamLost) and isinstance(follower.error.reason, TimeoutError)
    assert web.last.aborted


@pytest.mark.parametrize("error", [ConnectionRefusedError(), TCPTimedOutError()])
def test_it_is_sent_later_where_there_was_no_connection(web: Web, error: Exception) -> None:
    web.down = error
    follower = post(web)
    web.down = None
    web.clock.advance(3)
    web.last.open(b"data: a\n\n")
    assert follower.data == ["a"]


def test_it_is_sent_again_when_the_server_says_when(web: Web) -> None:
    follower = post(web)
    web.last.send(answer(b"{}", "429 Too Many Requests", ["Retry-After: 5"]))
    web.clock.advance(5)
    assert (web.last.request.method, bytes(web.last.request.body)) == (b"POST", b'{"stream":true,"n":1}')
    web.last.send(answer(b"{}", "503 Service Unavailable"))
    assert isinstance(follower.error, StreamRefused) and follower.error.status == 503


def test_a_silent_stream_is_taken_up_again(web: Web) -> None:
    follower = post(web, timeout=10)
    web.last.open(b"id: S.1\ndata: a\n\n", headers=NAMED)
    web.clock.advance(10)
    assert follower.source.state is State.CONNECTING
    web.clock.advance(3)
    assert web.last.request.target == b"/-/streams/S"


def test_303_says_where_the_stream_is(web: Web) -> None:
    follower = post(web)
    web.last.send(answer(b"", "303 See Other", ["Location: /streams/9"]))
    assert web.connections[0].aborted or web.connections[0].transport.disconnecting
    request = web.last.request
    assert (request.method, request.target, bytes(request.body)) == (b"GET", b"/streams/9", b"")
    web.last.reset()
    web.clock.advance(3)
    assert web.last.request.target == b"/streams/9"
    web.last.open(b"id: 1\ndata: a\n\n")
    web.last.end()
    assert follower.closed and follower.data == ["a"]
