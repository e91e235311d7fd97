"""Whether a webhook may go where a client wants it to go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse.webhooks import WebhookRefused
from txsse.webhooks.addresses import Reach
from txsse.webhooks.allow import AllowList


def refusal(url: object, *entries: str) -> str:
    with pytest.raises(WebhookRefused) as caught:
        AllowList(entries).find(url)
    assert not url or str(url) not in caught.value.reason
    return caught.value.reason


@pytest.mark.parametrize(
    ("entry", "url", "normal"),
    [
        ("https://a.example", "https://a.example", "https://a.example/"),
        ("https://a.example/", "https://a.example/x/y?z=1&z=2", "https://a.example/x/y?z=1&z=2"),
        ("https://a.example/", "HTTPS://A.Example:443/X", "https://a.example/X"),
        ("https://A.EXAMPLE:443", "https://a.example/%C3%A9%20?q", "https://a.example/%C3%A9%20?q"),
        ("https://a.example:8443/", "https://a.example:08443/", "https://a.example:8443/"),
        ("https://a.example:*/", "https://a.example:99/", "https://a.example:99/"),
        ("https://a.example/hooks/", "https://a.example/hooks/", "https://a.example/hooks/"),
        ("https://a.example/hooks/", "https://a.example/hooks/x/y", "https://a.example/hooks/x/y"),
        ("https://a.example/hooks/*/done", "https://a.example/hooks/7/done", "https://a.example/hooks/7/done"),
        ("https://a.example/**/done", "https://a.example/x/y/done", "https://a.example/x/y/done"),
        ("https://*.example.com/", "https://a.b.example.com/", "https://a.b.example.com/"),
        ("https://*/", "https://anything.example/..x/...", "https://anything.example/..x/..."),
        ("https://*/", "https://8.8.8.8/", "https://8.8.8.8/"),
        ("http://10.0.0.7/", "http://10.0.0.7:80/", "http://10.0.0.7/"),
        ("http://[::1]:99/", "http://[0:0::1]:99/", "http://[::1]:99/"),
        ("http://localhost:9000", "http://localhost:9000/x", "http://localhost:9000/x"),
    ],
)
def test_what_an_entry_covers_is_allowed(entry: str, url: str, normal: str) -> None:
    assert AllowList([entry]).find(url).url == normal


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("https://a.example/", "http://a.example/"),
        ("https://a.example/", "https://a.example:8443/"),
        ("https://a.example:8443/", "https://a.example/"),
        ("https://a.example/", "https://a.example.evil/"),
        ("https://a.example/", "https://evil-a.example/"),
        ("https://a.example/", "https://b.a.example/"),
        ("https://*.example.com/", "https://example.com/"),
        ("https://*.example.com/", "https://evilexample.com/"),
        ("https://*.0.0.x/", "https://8.8.8.8/"),
        ("https://a.example/hooks", "https://a.example/hooks/"),
        ("https://a.example/hooks", "https://a.example/hooks2"),
        ("https://a.example/hooks/", "https://a.example/hooks"),
        ("https://a.example/hooks/", "https://a.example/HOOKS/x"),
        ("https://a.example/hooks/", "https://a.example/?/hooks/x"),
        ("https://a.example/hooks/*/done", "https://a.example/hooks/a/b/done"),
        ("http://127.0.0.1/", "http://[::ffff:127.0.0.1]/"),
    ],
)
def test_what_no_entry_covers_is_refused(entry: str, url: str) -> None:
    assert "not allowed here" in refusal(url, entry)


def test_where_nothing_is_listed_nothing_is_allowed() -> None:
    assert "webhooks.allow" in refusal("https://a.example/")


@pytest.mark.parametrize(
    "url",
    [
        "https://user@a.example/", "https://a.example@evil.example/", "https://user:pw@a.example/", "https://a.example:443@evil.example/",
        "https://a.example\\@evil.example/", "https://evil.example\\.a.example/", "https://a.example/\\x", "https://a.example/#/hooks",
        "https://a.example /", " https://a.example/", "https://a.example/\n", "https://a.example/\r\nX: y", "https://a.ex\tample/",
        "https://ä.example/", "https://a\u3002example/", "ftp://a.example/", "file:///etc/passwd", "//a.example/", "a.example",
        "https:a.example",        "https:///x", "https://", "https://:443/", "https://a.example:/", "https://a.example:x/", "https://a.example:0/",
        "https://a.example:65536/", "https://a.example./", "https://a..example/", "https://-a.example/", "https://a%2eexample/",
        "https://[::1/", "https://[::1%25eth0]/", "https://[::1]x/", "https://[a.example]/", "https://127.1/", "https://2130706433/",
        "https://0x7f000001/", "https://0x7f.1/", "https://0177.0.0.1/", "https://1.2.3.4.5/", "https://a.example.0x/", "https://127.0.0.1./",
        "https://a.example/..", "https://a.example/hooks/../x", "https://a.example/./x", "https://a.example/%2e%2E/x",
        "https://a.example/%252e%252e/x", "https://a.example/.%2e/x", "https://a.example/..;/x", "https://a.example/..%3b/x",
        "https://a.example/a%2fb", "https://a.example/a%5cb", "https://a.example/a%252fb", "https://a.example/%00", "https://a.example/%0d%0a",
        "https://a.example//x", "https://a.example/" + "x" * 2048, "https://" + "a" * 64 + "/", "https://" + "a." * 127 + "a/", "", None, 5,
        ["https://a.example/"], {"url": "https://a.example/"}, b"https://a.example/",
    ],
)  # fmt: skip
def test_what_could_be_read_in_two_ways_is_refused_whatever_is_listed(url: object) -> None:
    reason = refusal(url, "https://*:*/", "https://a.example/", "https://127.0.0.1/", "http://*:*/")
    assert reason.startswith("webhook ") and reason.endswith(".") and "not allowed here" not in reason


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "[::1]", "[fe80::1]", "[::ffff:10.0.0.1]", "168.63.129.16"])
def test_a_private_address_must_be_named(host: str) -> None:
    assert "private address" in refusal(f"http://{host}/", "http://*/")
    assert AllowList(["http://*/", f"http://{host}/"]).find(f"http://{host}/").reach is Reach.ANY


def test_the_entry_that_reaches_furthest_counts() -> None:
    entries = AllowList(["https://*.example/", "https://a.example/", "https://1.1.1.1/"])
    assert entries.find("https://b.example/").reach is Reach.PUBLIC
    assert entries.find("https://a.example/").reach is Reach.NAMED
    assert entries.find("https://1.1.1.1/").reach is Reach.ANY


@given(st.text(max_size=80).map("https://a.example".__add__) | st.text(max_size=80).map("https://".__add__))
def test_whatever_is_written_goes_to_the_listed_host_or_nowhere(url: str) -> None:
    try:
        found = AllowList(["https://a.example/hooks/"]).find(url)
    except WebhookRefused:
        return
    assert found.origin == "https://a.example" and found.path.startswith("/hooks/")
