"""Which answers are kept by what their heads say, and what of those heads is told again."""

from __future__ import annotations

import pytest

from txsse.recordings.heads import REASONS, objection, told_again
from txsse.wire.headers import Headers
from txsse.wire.http1 import ResponseHead

SSE = (b"Content-Type", b"text/event-stream")


def head(*fields: tuple[bytes, bytes], status: int = 200) -> ResponseHead:
    return ResponseHead(status, b"", b"HTTP/1.1", [SSE, *fields])


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [(b"Cache-Control", b"no-cache")],  # nearly every stream says so
        [(b"Cache-Control", b"no-cache, no-transform, max-age=0, must-revalidate")],
        [(b"Cache-Control", b'no-cache="set-cookie"')],
        [(b"Pragma", b"no-cache")],
        [(b"Content-Encoding", b"identity")],
        [(b"Content-Encoding", b"")],
        [(b"Set-Cookie", b"a=b")],
        [(b"Vary", b"Origin, Access-Control-Request-Method"), (b"Vary", b"Accept-Encoding")],
        [(b"Vary", b"Authorization, Cookie, X-Api-Key, ACCEPT, api-key")],
        [(b"Vary", b" , ")],
    ],
)
def test_what_may_be_kept(fields: Headers) -> None:
    assert objection(head(*fields)) == ""


@pytest.mark.parametrize("status", [100, 201, 204, 206, 301, 304, 400, 429, 500, 503, 504])
def test_any_other_status_is_not_kept(status: int) -> None:
    assert objection(head(status=status)) == "status"


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ((b"Content-Encoding", b"gzip"), "encoded"),
        ((b"content-encoding", b" BR "), "encoded"),
        ((b"Cache-Control", b"no-store"), "no_store"),
        ((b"cache-control", b"max-age=60, Private"), "no_store"),
        ((b"Cache-Control", b'private="x-user"'), "no_store"),
        ((b"Vary", b"*"), "vary"),
        ((b"Vary", b"Accept, User-Agent"), "vary"),
        ((b"VARY", b"accept-language"), "vary"),
    ],
)
def test_what_may_not(field: tuple[bytes, bytes], reason: str) -> None:
    assert reason in REASONS
    assert objection(head(field)) == reason


def test_one_line_of_several_is_enough() -> None:
    assert objection(head((b"Cache-Control", b"no-cache"), (b"Cache-Control", b"no-store"))) == "no_store"
    assert objection(head((b"Vary", b"Origin"), (b"Vary", b"X-Experiment"))) == "vary"


def test_what_was_meant_for_the_one_who_asked_is_not_told_again() -> None:
    common = [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"Cache-Control", b"no-cache"),
        (b"X-Accel-Buffering", b"no"),
        (b"Content-Language", b"de"),
        (b"Access-Control-Allow-Origin", b"https://a.example"),  # the origin is in the key
    ]
    own = [
        (b"Set-Cookie", b"a=b"),
        (b"X-Request-Id", b"7"),
        (b"Date", b"Fri, 20 Nov 2026 12:00:00 GMT"),
        (b"Server", b"llama"),
        (b"Age", b"7"),
        (b"Content-Length", b"7"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Connection", b"keep-alive"),
        (b"ETag", b'"1"'),
        (b"openai-processing-ms", b"12"),
        (b"x-ratelimit-remaining-tokens", b"9"),
    ]
    assert told_again([*own[:5], *common, *own[5:]]) == common
