"""The cache on the admin listener: shown, and emptied by whoever may."""

from __future__ import annotations

import pytest

from tests.admin.fakes import FakeCache, glimpse
from tests.admin.test_site import Answer, FakeProxy, ask
from txsse.admin.cache import MOST_ENTRIES

KEY = f"{1:064x}"


@pytest.fixture
def proxy() -> FakeProxy:
    """Its routes are ``default``, with one entry, and ``other`` entries that a reload has left without their route."""
    return FakeProxy(cache=FakeCache([glimpse(1, route="default"), glimpse(2, route="gone"), glimpse(3, route="gone")]))


def order(target: str, proxy: FakeProxy, method: str = "DELETE", token: str = "", **fields: str) -> Answer:
    return ask(target, method=method, proxy=proxy, token=token, body=b"", host="localhost", **fields)


def keys(proxy: FakeProxy) -> list[int]:
    assert proxy.cache is not None
    return [int.from_bytes(each.key, "big") for each in proxy.cache.held]


def test_its_entries_are_shown(proxy: FakeProxy) -> None:
    shown = ask("/cache", proxy=proxy).json()
    assert (shown["bytes"], shown["limit"], shown["count"], shown["flights"]) == (4500, 64 * 2**20, 3, 3)
    assert [each["route"] for each in shown["entries"]] == ["default", "gone", "gone"]
    assert shown["entries"][0] == {
        "key": KEY,
        "route": "default",
        "dialect": "openai-chat",
        "model": "qwen",
        "size": 1500,
        "age": 2.0,
        "expires_in": 3598.0,
        "hits": 3,
    }


def test_those_of_one_route_are_shown(proxy: FakeProxy) -> None:
    shown = ask("/cache?route=default", proxy=proxy).json()
    assert [each["key"] for each in shown["entries"]] == [KEY]
    assert shown["count"] == 3


def test_no_more_are_shown_than_a_person_reads() -> None:
    proxy = FakeProxy(cache=FakeCache([glimpse(number) for number in range(MOST_ENTRIES + 1)]))
    shown = ask("/cache", proxy=proxy).json()
    assert (shown["count"], len(shown["entries"])) == (MOST_ENTRIES + 1, MOST_ENTRIES)


@pytest.mark.parametrize(
    ("target", "purged", "left"),
    [
        ("/cache", 3, []),
        ("/cache?", 3, []),
        ("/cache?route=default", 1, [2, 3]),
        ("/cache?route=gone", 2, [1]),
        (f"/cache/{KEY}", 1, [2, 3]),
        (f"/cache/{KEY[:-1]}2", 1, [1, 3]),
    ],
)
def test_it_is_emptied_by_delete(target: str, purged: int, left: list[int], proxy: FakeProxy) -> None:
    answer = order(target, proxy)
    assert (answer.status, answer.json()) == (200, {"purged": purged})
    assert keys(proxy) == left


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        (f"/cache/{4:064x}", 404, "not_found"),
        (f"/cache/{KEY[1:]}", 400, "bad_request"),
        (f"/cache/{KEY}0", 400, "bad_request"),
        (f"/cache/{KEY[1:]}g", 400, "bad_request"),
        (f"/cache/%20{KEY[1:]}", 400, "bad_request"),
        ("/cache/all", 400, "bad_request"),
        ("/cache?route=chat", 404, "not_found"),
        ("/cache?route=", 404, "not_found"),
        ("/cache?route", 404, "not_found"),
        ("/cache?rout=default", 400, "bad_request"),
        ("/cache?route=default&route=default", 400, "bad_request"),
        ("/cache?route=default&all=1", 400, "bad_request"),
        ("/cache?&", 400, "bad_request"),
        ("/cache?route=%ff", 404, "not_found"),
        ("/cache/", 404, "not_found"),
    ],
)
def test_a_slip_empties_nothing(target: str, status: int, code: str, proxy: FakeProxy) -> None:
    answer = order(target, proxy)
    assert (answer.status, answer.json()["error"]["code"]) == (status, code)
    assert keys(proxy) == [1, 2, 3]


@pytest.mark.parametrize(("target", "allowed"), [("/cache", "DELETE, GET, HEAD"), (f"/cache/{KEY}", "DELETE")])
def test_other_methods_are_told_which_are_right(target: str, allowed: str, proxy: FakeProxy) -> None:
    answer = order(target, proxy, "POST", Content_Length="0")
    assert (answer.status, answer.headers["allow"]) == (405, allowed)


def test_nobody_empties_it_from_a_page_of_a_stranger_or_without_the_token(proxy: FakeProxy) -> None:
    for target in ("/cache", f"/cache/{KEY}"):
        assert order(target, proxy, Origin="http://evil.example").status == 403
        assert order(target, proxy, Sec_Fetch_Site="cross-site").status == 403
        assert order(target, proxy, token="s3cret").status == 401
    assert ask("/cache", proxy=proxy, token="s3cret").status == 401
    assert keys(proxy) == [1, 2, 3]


@pytest.mark.parametrize(("method", "target"), [("GET", "/cache"), ("DELETE", "/cache"), ("DELETE", f"/cache/{KEY}")])
def test_where_no_route_caches_there_is_nothing(method: str, target: str) -> None:
    answer = ask(target, method=method)
    assert answer.status == 404
    assert answer.json()["error"]["message"] == "No route has a cache: see mode in [route.cache]."


def test_status_and_its_page_tell_how_full_it_is_where_there_is_one(proxy: FakeProxy) -> None:
    assert ask("/status", proxy=proxy).json()["cache"] == {"bytes": 4500, "limit": 64 * 2**20, "count": 3, "flights": 3}
    assert b"<td>0.0 MiB of 64.0 MiB</td>" in ask("/", proxy=proxy).body
    assert "cache" not in ask("/status").json()
    assert b">cache<" not in ask("/").body
