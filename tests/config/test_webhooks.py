"""The table ``[webhooks]``: what may be written there, and what is said about the rest."""

from __future__ import annotations

import pytest

from txsse.config import ConfigError, loads, render
from txsse.config.errors import Refused
from txsse.config.model import Webhooks
from txsse.config.webhooks import Allowed, read_allowed, signing_keys

ONE = '[[upstream]]\nname = "llama"\nurl = "http://a"\n'
KEY = "whsec_" + "A" * 32  # 24 bytes
LONG = "whsec_" + "A" * 88  # 66 bytes


def problems(more: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loads(f"[webhooks]\n{more}\n{ONE}")
    return caught.value.problems


def test_no_webhook_goes_anywhere_unless_it_is_written() -> None:
    assert loads(ONE).webhooks == Webhooks() and Webhooks().allow == ()


def test_all_of_it_is_shown_and_loads_again_without_its_secret() -> None:
    text = f"""
[webhooks]
allow = ["https://Hooks.example", "http://10.0.0.7:*/hooks/*"]
secret = "{KEY}"
interval = 0
timeout = "5s"
max_attempts = 3
max_concurrency = 4
max_body = "64KiB"
max_queued = "1MiB"
{ONE}"""
    loaded = loads(text)
    assert loaded.webhooks.allow == ("https://Hooks.example", "http://10.0.0.7:*/hooks/*")
    assert loaded.webhooks.secret.reveal() == KEY
    shown = render(loaded)
    assert KEY not in shown
    assert loads(shown.replace('secret = "***"', f'secret = "{KEY}"')) == loaded


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("https://a.example", Allowed("https", "a.example", 443, "/**")),
        ("http://A.example/", Allowed("http", "a.example", 80, "/**")),
        ("https://a.example:8443/hooks", Allowed("https", "a.example", 8443, "/hooks")),
        ("https://a.example:*/hooks/", Allowed("https", "a.example", None, "/hooks/**")),
        ("https://*.a.example/*/x", Allowed("https", "*.a.example", 443, "/*/x")),
        ("https://*:*", Allowed("https", "*", None, "/**")),
        ("http://[::0:1]", Allowed("http", "::1", 80, "/**")),
        ("http://127.0.0.1:9000", Allowed("http", "127.0.0.1", 9000, "/**")),
    ],
)
def test_an_entry_has_four_parts(text: str, allowed: Allowed) -> None:
    assert read_allowed(text) == allowed


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not a URL without a query"),
        ("*", "is not a URL without a query"),
        ("hooks.example", "is not a URL without a query"),
        ("*://hooks.example", "is not a URL without a query"),
        ("ftp://hooks.example", "is not a URL without a query"),
        ("https://hooks.example/?x=1", "is not a URL without a query"),
        ("https://hooks.example/#x", "is not a URL without a query"),
        ("https://hooks.example/ x", "is not a URL without a query"),
        ("https://hooks.example:80*/", "is not a URL without a query"),
        ("https://hooks.example:0/", "its port is not one of 1 to 65535"),
        ("https://ho*ks.example/", "its host is not a name"),
        ("https://hooks.*/", "its host is not a name"),
        ("https://*hooks.example/", "its host is not a name"),
        ("https://*./", "its host is not a name"),
        ("https://a.*.example/", "its host is not a name"),
        ("https://10.0.0.*/", "its host is not a name"),
        ("https://10.0/", "its host is not an IPv4 address of four decimal numbers"),
        ("https://*.10.0.0.1/", "there is nothing below an IP address"),
        ("https://*.[::1]/", "is not a URL without a query"),
        ("https://[::x]/", "what is in brackets is not an IPv6 address"),
        ("https://hooks.example/../x", "its path has a segment '.' or '..'"),
        ("https://hooks.example/%2Fx", "its path has a slash that not everybody takes for one"),
    ],
)
def test_an_entry_that_would_allow_something_else_than_it_seems_to_is_refused(text: str, reason: str) -> None:
    with pytest.raises(Refused) as caught:
        read_allowed(text)
    assert reason in caught.value.reason and "allowed: 'https://host'" in caught.value.reason


def test_a_password_in_an_entry_is_not_shown() -> None:
    (problem,) = problems('allow = ["https://me:s3cret@hooks.example/"]')
    assert problem == "webhooks.allow: a user name or password in the URL is not allowed; remove it"


def test_a_secret_may_be_several() -> None:
    assert signing_keys("") == ()
    assert signing_keys(f" {KEY}\n{KEY} ") == (bytes(24), bytes(24))


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        ("s3cret", "it does not begin with 'whsec_'"),
        (" ", "it does not begin with 'whsec_'"),
        (f"{KEY} s3cret", "it does not begin with 'whsec_'"),
        ("whsec_s3cret", "what follows 'whsec_' is not base64"),
        ("whsec_s3cret-s3cret-s3cret-s3cret-", "what follows 'whsec_' is not base64"),
        ("whsec_s3cret==", "it has"),
        ("whsec_", "it has 0 bytes"),
        (LONG, "it has 66 bytes"),
    ],
)
def test_a_secret_that_receivers_could_not_read_is_refused_and_not_shown(secret: str, reason: str) -> None:
    (problem,) = problems(f'secret = "{secret}"')
    assert problem.startswith(f"webhooks.secret: {reason}")
    assert problem.endswith("; write it as 'whsec_' and the base64 of 24 to 64 random bytes")
    assert "s3cret" not in problem and LONG not in problem


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ('allow = "https://a"', "allow: 'https://a' is not a list; write it as in [\"https://hooks.example/\"]"),
        ("allow = [1]", "allow: 1 is not a string; write it in quotes"),
        ("timeout = 0", "timeout: 0 is not allowed; allowed: a duration above 0"),
        ("max_attempts = 0", "max_attempts: 0 is not allowed; allowed: a whole number of at least 1"),
        ("max_concurrency = 0", "max_concurrency: 0 is not allowed; allowed: a whole number of at least 1"),
        ("max_body = 0", "max_body: 0 is not allowed; allowed: a size above 0"),
        ("max_queued = 0", "max_queued: 0 is not allowed; allowed: a size above 0"),
        ("alow = []", "alow: unknown key; did you mean 'allow'? Allowed: "),
    ],
)
def test_what_cannot_be_right_is_refused(more: str, problem: str) -> None:
    (found,) = problems(more)
    assert found.startswith(f"webhooks.{problem}")
