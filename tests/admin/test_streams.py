"""Streams on the admin listener: shown by the beginning of their ids, and ended by whoever may."""

from __future__ import annotations

import pytest

from tests.admin.fakes import FakeStreams, stream
from tests.admin.test_site import Answer, FakeProxy, ask
from txsse.admin.streams import MOST_STREAMS

FIRST = "abcdEFGH" + "1" * 14
SECOND = "abcdXXXX" + "2" * 14


@pytest.fixture
def proxy() -> FakeProxy:
    return FakeProxy(streams=FakeStreams([stream(FIRST), stream(SECOND, state="done", readers=0)]))


def end(target: str, proxy: FakeProxy, method: str = "DELETE", token: str = "", **fields: str) -> Answer:
    return ask(target, method=method, proxy=proxy, token=token, body=b"", host="localhost", **fields)


def test_they_are_shown_the_newest_first_and_nobody_can_read_one_with_what_is_shown(proxy: FakeProxy) -> None:
    answer = ask("/streams", proxy=proxy)
    shown = answer.json()
    assert (shown["kept"], shown["live"], shown["bytes"]) == (2, 1, 3000)
    assert shown["streams"][1] == {
        "kind": "stream",
        "id": "abcdEFGH..",
        "route": "chat",
        "state": "live",
        "upstream": "ready",
        "age": 2.0,
        "first": 1,
        "last": 12,
        "bytes": 1500,
        "readers": 1,
    }
    assert [each["id"] for each in shown["streams"]] == ["abcdXXXX..", "abcdEFGH.."]
    assert FIRST.encode() not in answer.body


def test_no_more_are_shown_than_a_person_reads() -> None:
    proxy = FakeProxy(streams=FakeStreams([stream(f"{number:022}") for number in range(MOST_STREAMS + 1)]))
    shown = ask("/streams", proxy=proxy).json()
    assert (shown["kept"], len(shown["streams"])) == (MOST_STREAMS + 1, MOST_STREAMS)


@pytest.mark.parametrize("target", [FIRST, "abcdEFGH..", "abcdEFGH", "abcdE"])
def test_one_is_ended_by_what_is_shown_of_its_id_or_all_of_it(target: str, proxy: FakeProxy) -> None:
    answer = end(f"/streams/{target}", proxy)
    assert answer.status == 200
    assert (answer.json()["id"], answer.json()["state"]) == ("abcdEFGH..", "error")
    assert end(f"/streams/{target}", proxy).status == 200, "it is ended once"


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        ("abcd", 409, "ambiguous"),
        ("bcdE", 404, "not_found"),
        ("abc", 400, "bad_request"),
        ("..", 400, "bad_request"),
        ("abcd*", 400, "bad_request"),
        ("%20abcdEFGH", 400, "bad_request"),
        ("a" * 65, 400, "bad_request"),
        ("", 404, "not_found"),
    ],
)
def test_a_slip_ends_nothing(target: str, status: int, code: str, proxy: FakeProxy) -> None:
    answer = end(f"/streams/{target}", proxy)
    assert (answer.status, answer.json()["error"]["code"]) == (status, code)
    assert proxy.streams is not None
    assert proxy.streams.live == 1


@pytest.mark.parametrize(("target", "allowed"), [("/streams", "GET, HEAD"), ("/streams/abcdEFGH..", "DELETE")])
def test_other_methods_are_told_which_are_right(target: str, allowed: str, proxy: FakeProxy) -> None:
    answer = end(target, proxy, "POST", Content_Length="0")
    assert (answer.status, answer.headers["allow"]) == (405, allowed)


def test_nobody_ends_one_from_a_page_of_a_stranger_or_without_the_token(proxy: FakeProxy) -> None:
    target = "/streams/abcdEFGH.."
    assert end(target, proxy, Origin="http://evil.example").status == 403
    assert end(target, proxy, Sec_Fetch_Site="cross-site").status == 403
    assert end(target, proxy, token="s3cret").status == 401
    assert ask("/streams", proxy=proxy, token="s3cret").status == 401
    assert proxy.streams is not None
    assert proxy.streams.live == 1


@pytest.mark.parametrize(("method", "target"), [("GET", "/streams"), ("DELETE", "/streams/abcdEFGH")])
def test_where_none_are_kept_there_is_nothing(method: str, target: str) -> None:
    answer = ask(target, method=method)
    assert answer.status == 404
    assert answer.json()["error"]["message"] == "No route keeps streams: see mode in [route.resume]."


def test_the_status_tells_how_many_there_are(proxy: FakeProxy) -> None:
    assert ask("/status", proxy=proxy).json()["streams"] == {"kept": 2, "live": 1, "bytes": 3000}
    assert "streams" not in ask("/status").json()
    page = ask("/", proxy=proxy).body
    assert b"<td>2</td><td>1</td><td>0.0 MiB</td>" in page
    assert b"streams to come back to" not in ask("/").body
