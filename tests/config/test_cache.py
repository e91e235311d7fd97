"""The tables ``[route.cache]`` and ``[store]``: what may be written there, and what is said about the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse.config import ConfigError, Configuration, loads, render
from txsse.config.cache import read_scope, store_file
from txsse.config.errors import Refused
from txsse.config.model import MIB, Cache, Store

ONE = '[[upstream]]\nname = "llama"\nurl = "http://a"\n[[route]]\n'


def cached(more: str) -> Cache:
    return loads(f"{ONE}[route.cache]\n{more}").route[0].cache


def stored(more: str, server: str = "") -> Configuration:
    return loads(f"[server]\n{server}\n[store]\n{more}\n{ONE}")


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loads(text)
    return caught.value.problems


def test_nothing_is_cached_unless_it_is_written() -> None:
    assert cached("").mode == "off"


def test_all_of_it_is_shown_and_loads_again() -> None:
    text = f"""
[store]
kind = "sqlite"
url = "/var/lib/txsse/recordings.sqlite"
max_bytes = "1GiB"
{ONE}
[route.cache]
mode = "opt-in"
ttl = "10m"
max_entry = "2MiB"
scope = "header:X-User"
ignore = ["user", "metadata"]
replay = "fixed"
gap = "50ms"
coalesce = false
convert = true
"""
    loaded = loads(text)
    assert loaded.store == Store("sqlite", "/var/lib/txsse/recordings.sqlite", 1024 * MIB)
    assert loaded.route[0].cache == Cache(
        "opt-in", 600, 2 * MIB, "header:X-User", ("user", "metadata"), "fixed", gap=0.05, coalesce=False, convert=True
    )
    assert loads(render(loaded)) == loaded


@given(st.text(st.characters(min_codepoint=32, max_codepoint=255)))
def test_a_scope_by_header_has_the_name_of_one(name: str) -> None:
    try:
        assert read_scope(f"header:{name}") == f"header:{name}"
    except Refused as refused:
        assert refused.reason.endswith("is not a header name; write it as in 'header:X-User'")
        assert not name or not (name.isascii() and name.replace("-", "").isalnum())
    else:
        assert name and not set(name) & set(' :,;()<>@/[]{}?="\\')


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ('mode = "on"', "mode (route 1): 'on' is not allowed; Allowed: off, deterministic, all, opt-in"),
        ("mode = true", "mode (route 1): true is not allowed; Allowed: off, deterministic, all, opt-in"),
        ("ttl = 0", "ttl (route 1): 0 is not allowed; allowed: a duration above 0"),
        ("max_entry = 0", "max_entry (route 1): 0 is not allowed; allowed: a size above 0"),
        ("max_gap = 0", "max_gap (route 1): 0 is not allowed; allowed: a duration above 0"),
        ("gap = 0", "gap (route 1): 0 is not allowed; allowed: a duration above 0"),
        ("speed = 0", "speed (route 1): 0 is not allowed; allowed: a number above 0"),
        ("speed = -1.5", "speed (route 1): -1.5 is not allowed; allowed: a number above 0"),
        (
            'scope = "credentials"',
            "scope (route 1): 'credentials' is not allowed; did you mean 'credential'? Allowed: credential, shared, header:<name>",
        ),
        ('scope = "X-User"', "scope (route 1): 'X-User' is not allowed; Allowed: credential, shared, header:<name>"),
        ('scope = ""', "scope (route 1): '' is not allowed; Allowed: credential, shared, header:<name>"),
        ('scope = "header:"', "scope (route 1): 'header:': '' is not a header name; write it as in 'header:X-User'"),
        ('scope = "header: X-User"', "scope (route 1): 'header: X-User': ' X-User' is not a header name; write it as in 'header:X-User'"),
        ('scope = ["shared"]', "scope (route 1): ['shared'] is not a string; write it in quotes"),
        ('ignore = "user"', 'ignore (route 1): \'user\' is not a list; write it as in ["user", "metadata"]'),
        ('ignore = [""]', "ignore (route 1): '' is no member's name; remove it"),
        ("ignore = [1]", "ignore (route 1): 1 is not a string; write it in quotes"),
        (
            'ignore = ["user", "stream"]',
            "ignore (route 1): 'stream' cannot be ignored, it decides what the answer looks like; remove it, and write convert = true"
            " to answer both kinds of request from one entry",
        ),
        (
            'mode = "all"\nmax_entry = "65MiB"',
            "max_entry (route 1, 'llama'): 65MiB is more than store.max_bytes, 64MiB, holds; lower it, or raise store.max_bytes",
        ),
    ],
)
def test_what_cannot_be_right_about_a_cache_is_refused(more: str, problem: str) -> None:
    assert problems(f"{ONE}[route.cache]\n{more}") == [f"route.cache.{problem}"]


def test_where_nothing_is_cached_a_small_store_is_no_mistake() -> None:
    assert stored('max_bytes = "64KiB"').store.max_bytes == 64 * 1024


@pytest.mark.parametrize("more", ["", "speed = 2", 'replay = "fixed"\nmax_gap = "1s"', 'replay = "original"\ngap = "1s"'])
def test_a_small_store_and_what_has_no_effect_are_let_be(more: str) -> None:
    assert loads(f'[store]\nmax_bytes = "64KiB"\n{ONE}[route.cache]\nmode = "all"\n{more}').store.max_bytes == 64 * 1024


def test_a_store_of_kind_sqlite_has_a_file_of_its_own_or_one_with_the_rest(tmp_path: Path) -> None:
    assert store_file(stored(f'kind = "sqlite"\nurl = "{tmp_path}/a.db"', f'state_dir = "{tmp_path}"')) == f"{tmp_path}/a.db"
    assert store_file(stored('kind = "sqlite"', f'state_dir = "{tmp_path}"')) == f"{tmp_path}/recordings.sqlite"


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ('kind = "sqlit"', "kind: 'sqlit' is not allowed; did you mean 'sqlite'? Allowed: memory, sqlite, redis"),
        ("max_bytes = 0", "max_bytes: 0 is not allowed; allowed: a size above 0"),
        (
            'kind = "sqlite"',
            'kind: \'sqlite\' needs a file; write url = "/var/lib/txsse/recordings.sqlite", or state_dir = "/var/lib/txsse" in [server]',
        ),
        ('url = "a.sqlite"', "url: 'memory' has no file; write kind = 'sqlite' to keep recordings in it, or remove it"),
        (
            'kind = "sqlite"\nurl = "sqlite:///a.db"',
            "url: not the name of a file; write it as in '/var/lib/txsse/recordings.sqlite', or kind = 'memory' without it",
        ),
        (
            'kind = "sqlite"\nurl = ":memory:"',
            "url: not the name of a file; write it as in '/var/lib/txsse/recordings.sqlite', or kind = 'memory' without it",
        ),
        *(
            (
                store + f'ca_file = "{__file__}"',
                "ca_file: it is for a Redis that speaks TLS; write kind = 'redis' and a rediss:// URL, or remove it",
            )
            for store in ("", 'kind = "redis"\nurl = "redis://cache"\n', 'kind = "sqlite"\nurl = "a.db"\n')
        ),
        (
            'kind = "redis"\nurl = "rediss://cache"\nca_file = "/nowhere/ca.pem"',
            "ca_file: '/nowhere/ca.pem' cannot be read: No such file or directory",
        ),
        ('kind = "sqlite"\nurl = "/"', "url: '/' is not a file; name one, it is made if it is not there"),
        ('kind = "sqlite"\nurl = "a\\u0000b"', "url: 'a\\x00b' is not a file; name one, it is made if it is not there"),
    ],
)
def test_what_cannot_be_right_about_a_store_is_refused(more: str, problem: str) -> None:
    assert problems(f"[store]\n{more}\n{ONE}") == [f"store.{problem}"]


def test_the_authority_of_a_redis_is_shown_and_its_password_is_not() -> None:
    shown = render(stored(f'kind = "redis"\nurl = "rediss://me:hunter2@hunter3@cache"\nca_file = "{__file__}"'))
    assert f'url = "rediss://***@cache"\nmax_bytes = "64MiB"\nca_file = "{__file__}"\n' in shown


@pytest.mark.parametrize("scheme", ["redis", "rediss", "REDIS"])
def test_the_password_of_a_store_is_not_shown(scheme: str) -> None:
    (problem,) = problems(f'[store]\nkind = "sqlite"\nurl = "{scheme}://me:hunter2@cache"\n{ONE}')
    assert problem == "store.kind: 'sqlite' does not go with the URL of a Redis; write kind = 'redis', or remove url"
