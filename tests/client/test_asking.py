"""Redirects."""

from __future__ import annotations

import pytest

from tests.client.rig import URL, Web
from txsse.client import StreamRefused
from txsse.client.asking import MOST_REDIRECTS
from txsse.testing import answer

SECRETS = {"Authorization": "Bearer k", "Cookie": "a=b", "X-Api-Key": "k", "X-Other": "o"}


def redirect(status: int, location: str) -> bytes:
    return answer(b"moved", f"{status} Elsewhere", [f"Location: {location}"])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_get_follows_and_comes_back_to_its_own_url(web: Web, status: int) -> None:
    follower = web.follow(headers=SECRETS)
    web.last.send(redirect(status, "other?x=1"))
    request = web.last.request
    assert (request.method, request.target, request.header("authorization")) == (b"GET", b"/other?x=1", b"Bearer k")
    web.last.open(b"id: 1\ndata: a\n\n")
    web.last.reset()
    web.clock.advance(3)
    assert (web.last.request.target, web.last.last_event_id) == (b"/events", b"1")
    assert follower.data == ["a"] and follower.source.url == URL


@pytest.mark.parametrize("status", [307, 308])
def test_a_post_keeps_its_body(web: Web, status: int) -> None:
    follower = web.follow(json={"a": 1})
    web.last.send(redirect(status, "http://server.test:81/new"))
    request = web.last.request
    assert (request.method, request.target, bytes(request.body)) == (b"POST", b"/new", b'{"a":1}')
    web.last.open(b"id: 1\ndata: a\n\n", headers=("Location: /-/streams/S",))
    web.last.reset()
    assert follower.source.url == "http://server.test:81/-/streams/S"


@pytest.mark.parametrize("status", [301, 302])
def test_what_a_post_should_become_is_not_guessed(web: Web, status: int) -> None:
    follower = web.follow(json={})
    web.last.send(redirect(status, "/new"))
    assert isinstance(follower.error, StreamRefused) and follower.error.status == status
    assert len(web.connections) == 1


@pytest.mark.parametrize("location", ["http://elsewhere.test/x", "https://server.test/x", "http://server.test:8080/x"])
def test_credentials_stay_with_their_origin(web: Web, location: str) -> None:
    web.follow(headers=SECRETS)
    web.last.send(redirect(307, location))
    assert location.startswith(web.last.origin)
    assert [name for name in SECRETS if web.last.request.header(name) is not None] == ["X-Other"]


@pytest.mark.parametrize("location", ["ftp://server.test/", "http://u:p@server.test/", "http://h:x/", "http://[/"])
def test_a_location_nobody_can_ask_is_a_refusal(web: Web, location: str) -> None:
    follower = web.follow()
    web.last.send(redirect(302, location))
    assert isinstance(follower.error, StreamRefused) and follower.error.status == 302


def test_a_redirect_to_nowhere_is_a_refusal(web: Web) -> None:
    follower = web.follow()
    web.last.send(answer(b"?", "302 Found"))
    assert isinstance(follower.error, StreamRefused) and follower.error.body == b"?"


def test_going_round_in_circles_ends(web: Web) -> None:
    follower = web.follow()
    for _ in range(MOST_REDIRECTS + 1):
        assert not follower.finished
        web.last.send(redirect(302, "/events"))
    assert isinstance(follower.error, StreamRefused) and follower.error.status == 302
    assert len(web.connections) == MOST_REDIRECTS + 1


def test_the_connections_on_the_way_are_closed(web: Web) -> None:
    web.follow()
    web.last.send(b"HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 1000000\r\n\r\nand it goes on")
    assert [each.aborted for each in web.connections] == [True, False]
