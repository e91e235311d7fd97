"""Routes of kind ``predictions``."""

from __future__ import annotations

import pytest

from txsse.config import ConfigError, loads

UPSTREAM = '[[upstream]]\nname = "llama"\nurl = "http://127.0.0.1:8080"\n'


def written(more: str, path: str = "/v1/chat/completions") -> str:
    return f'{UPSTREAM}[[route]]\nkind = "predictions"\nmatch.path = "{path}"\n{more}\n'


def problem(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loads(text)
    (told,) = caught.value.problems
    return str(told)


def test_who_leaves_cancels_unless_the_file_says_otherwise() -> None:
    assert loads(written("")).route[0].resume.on_disconnect == "cancel"
    assert loads(written('resume.ttl = "1s"')).route[0].resume.on_disconnect == "cancel"
    assert loads(written('resume.on_disconnect = "grace"')).route[0].resume.on_disconnect == "grace"
    assert loads(UPSTREAM).route[0].resume.on_disconnect == "grace"


@pytest.mark.parametrize("path", ["/**", "/v1/*", "*", "/v1/chat?"])
def test_the_path_is_the_upstreams(path: str) -> None:
    told = problem(written("", path))
    assert told.startswith("route.match.path (route 1, 'llama')")
    assert "write it as in '/v1/chat/completions'" in told


def test_without_a_path() -> None:
    assert "route.match.path" in problem(f'{UPSTREAM}[[route]]\nkind = "predictions"\n')


@pytest.mark.parametrize("path", ["/a b", "/ä", "/a#b"])
def test_a_path_that_cannot_be_asked_for(path: str) -> None:
    assert "is not a URL path" in problem(written("", path))


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ('match.model = "qwen*"', "match.model"),
        ('streaming = "never"', "streaming"),
        ('static = { body = "x" }', "static"),
        ('no_wake = { paths = ["/predictions/**"] }', "no_wake"),
        ("hold.placeholder = { status = 503 }", "hold.placeholder"),
        ('hold.message = "wait"', "hold.message"),
        ('cache.mode = "all"', "cache.mode"),
    ],
)
def test_what_means_nothing_there_is_refused_with_the_remedy(more: str, key: str) -> None:
    told = problem(written(more))
    assert told.startswith(f"route.{key} (")
    assert "remove it" in told


def test_a_kind_that_there_is_not() -> None:
    assert "predictions" in problem(written("").replace('"predictions"', '"prediction"', 1))
