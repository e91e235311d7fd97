"""The rules that keep strangers and other pages' scripts out."""

from __future__ import annotations

import pytest
from twisted.web.http_headers import Headers

from txsse.admin.guard import OPEN_PATHS, Guard

LOCAL = "127.0.0.1:9180"


def refused(path: bytes = b"/status", *, guard: Guard | None = None, **fields: str | list[str]) -> int | None:
    headers = Headers()
    for name, value in {"host": LOCAL, **fields}.items():
        headers.setRawHeaders(name.replace("_", "-"), value if isinstance(value, list) else [value])
    refusal = (guard or Guard()).refusal(path, headers)
    return None if refusal is None else refusal.status


@pytest.mark.parametrize(
    "host", ["127.0.0.1", LOCAL, "10.1.2.3:80", "[::1]:9180", "[2001:db8::1]", "localhost:9180", "LocalHost", "localhost.", "gpu.lan:9180"]
)
def test_addresses_localhost_and_listed_names_are_served(host: str) -> None:
    assert refused(guard=Guard(["GPU.lan"]), host=host) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "gpu.lan.evil.example:9180",
        "2130706433",
        "127.1",
        "",
        "localhost:",
        "localhost:x",
        "user@localhost",
        "a\x85b",
        "[::1",
        ["localhost", "localhost"],
        [],
    ],
)
def test_a_name_that_dns_can_rebind_is_not(host: str | list[str]) -> None:
    assert refused(guard=Guard(["gpu.lan"]), host=host) == 403


@pytest.mark.parametrize(
    ("host", "origin"),
    [(LOCAL, f"http://{LOCAL}"), ("localhost:9180", "http://LOCALHOST:9180"), ("gpu.lan", "https://gpu.lan"), ("[::1]:80", "http://[::1]")],
)
def test_the_listeners_own_pages_may_ask(host: str, origin: str) -> None:
    assert refused(guard=Guard(["gpu.lan"]), host=host, origin=origin, sec_fetch_site="same-origin") is None


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "",
        "http://127.0.0.1:3000",
        "http://127.0.0.1",
        "https://localhost:9180",
        f"ftp://{LOCAL}",
        f"http://{LOCAL}/",
        [f"http://{LOCAL}", f"http://{LOCAL}"],
    ],
)
def test_a_foreign_origin_is_refused(origin: str | list[str]) -> None:
    assert refused(origin=origin) == 403


def test_fetch_metadata_tells_cross_site_requests() -> None:
    assert refused(sec_fetch_site="cross-site") == 403
    assert [refused(sec_fetch_site=site) for site in ("none", "same-origin", "same-site")] == [None, None, None]


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("Bearer s3cret", None),
        ("bearer  s3cret", None),
        ("Bearer s3cre", 401),
        ("Bearer s3crets", 401),
        ("Bearer \u00e9", 401),
        ("Basic s3cret", 401),
        ("s3cret", 401),
        ([], 401),
        (["Bearer s3cret", "Bearer s3cret"], 401),
    ],
)
def test_the_token_is_asked_for_where_one_is_set(authorization: str | list[str], status: int | None) -> None:
    guard = Guard(token="s3cret")
    assert refused(guard=guard, authorization=authorization) == status
    assert "s3cret" not in repr(guard)


def test_the_right_token_does_not_open_the_door_to_other_pages() -> None:
    guard = Guard(token="s3cret")
    assert refused(guard=guard, authorization="Bearer s3cret", origin="https://evil.example") == 403
    assert refused(guard=guard, authorization="Bearer s3cret", host="evil.example") == 403


@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
def test_probes_and_scrapes_are_open(path: bytes) -> None:
    assert refused(path, guard=Guard(token="s3cret"), host="10.0.0.1.nip.io", origin="null", sec_fetch_site="cross-site") is None


@pytest.mark.parametrize(
    "path", [b"/", b"/status", b"/healthz/", b"/health%7A", b"//healthz", b"/metrics/x", b"/METRICS", b"http://a/healthz"]
)
def test_nothing_that_merely_resembles_them_is(path: bytes) -> None:
    assert refused(path, guard=Guard(token="s3cret")) == 401
