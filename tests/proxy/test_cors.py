"""CORS fields of the proxy's own answers."""

from __future__ import annotations

import pytest

from txsse.proxy.cors import cors_headers, is_preflight, preflight_headers, shared_anew
from txsse.wire.headers import Headers
from txsse.wire.http1 import RequestHead, ResponseHead

ORIGIN = (b"Origin", b"https://chat.example")
ALLOWED = ["https://chat.example"]


def test_an_allowed_origin_may_read_the_answer() -> None:
    assert cors_headers([ORIGIN], ALLOWED) == [
        (b"Access-Control-Allow-Origin", b"https://chat.example"),
        (b"Vary", b"Origin"),
    ]


@pytest.mark.parametrize(
    "headers",
    [[], [(b"Origin", b"https://evil.example")], [(b"Origin", b"null")], [(b"Origin", b"https://chat.example.evil")], [ORIGIN, ORIGIN]],
)
def test_nobody_else_may_and_caches_are_told(headers: Headers) -> None:
    assert cors_headers(headers, ALLOWED) == [(b"Vary", b"Origin")]


def test_any_origin() -> None:
    assert cors_headers([ORIGIN], ["*"]) == [(b"Access-Control-Allow-Origin", b"*")]


def test_without_configuration_nothing_is_added() -> None:
    assert cors_headers([ORIGIN], []) == []


def test_an_answer_that_is_told_again_is_for_the_origin_that_asks_now() -> None:
    head = ResponseHead(200, b"OK", b"HTTP/1.1", [(b"Access-Control-Allow-Origin", b"https://other.example"), (b"X-A", b"b")])
    told = shared_anew(head, [ORIGIN], ALLOWED)
    assert told.headers == [(b"X-A", b"b"), *cors_headers([ORIGIN], ALLOWED)]
    assert shared_anew(head, [], ALLOWED).headers == [(b"X-A", b"b"), (b"Vary", b"Origin")]
    assert shared_anew(head, [ORIGIN], []) is head, "whom the upstream lets read it is the upstream's to say"


def test_a_preflight_is_options_with_origin_and_method() -> None:
    asking: Headers = [ORIGIN, (b"Access-Control-Request-Method", b"POST")]
    assert is_preflight(RequestHead(b"OPTIONS", b"/", b"HTTP/1.1", asking))
    assert not is_preflight(RequestHead(b"POST", b"/", b"HTTP/1.1", asking))
    assert not is_preflight(RequestHead(b"OPTIONS", b"/", b"HTTP/1.1", [ORIGIN]))


def test_a_preflight_gets_what_it_asks_for() -> None:
    asking: Headers = [
        ORIGIN,
        (b"Access-Control-Request-Method", b"POST"),
        (b"Access-Control-Request-Headers", b"authorization,content-type"),
    ]
    answer = preflight_headers(asking, ALLOWED)
    assert answer == [
        (b"Access-Control-Allow-Origin", b"https://chat.example"),
        (b"Access-Control-Allow-Methods", b"POST"),
        (b"Access-Control-Max-Age", b"600"),
        (b"Vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
        (b"Access-Control-Allow-Headers", b"authorization,content-type"),
    ]


def test_a_foreign_preflight_is_not_answered() -> None:
    assert preflight_headers([(b"Origin", b"https://evil.example"), (b"Access-Control-Request-Method", b"POST")], ALLOWED) is None
