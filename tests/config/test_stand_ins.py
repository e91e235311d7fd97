"""The tables of answers that stand in for an upstream: what may be written there, and what is refused in which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from txsse.config import ConfigError, Route, loads, render
from txsse.config.model import Hold, NoWake, Placeholder, Static
from txsse.config.stand_ins import gives_placeholder, gives_static

HERE = Path(__file__)


def route(more: str) -> Route:
    (found,) = loads(f'[[upstream]]\nname = "llama"\nurl = "http://a"\n[[route]]\n{more}').route
    return found


def problems(more: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        route(more)
    return caught.value.problems


def test_nothing_is_given_unless_it_is_written() -> None:
    assert route("static = {}\nno_wake = {}\nhold = { placeholder = {} }") == route("")
    assert not gives_static(Static()) and not gives_placeholder(Placeholder())


@pytest.mark.parametrize("more", ["status = 204", 'body = "ok"', f'file = "{HERE}"'])
def test_one_of_three_keys_makes_an_answer(more: str) -> None:
    assert gives_static(route(f"static = {{ {more} }}").static)
    assert gives_placeholder(route(f"hold = {{ placeholder = {{ {more} }} }}").hold.placeholder)


def test_files_make_a_placeholder_and_the_page_alone_makes_none() -> None:
    assert gives_placeholder(route(f'hold = {{ placeholder = {{ files = {{ "/" = "{HERE}" }} }} }}').hold.placeholder)
    assert not gives_placeholder(route(f'hold = {{ placeholder = {{ page = "always", page_file = "{HERE}" }} }}').hold.placeholder)


def test_all_of_it_is_shown_and_loads_again() -> None:
    text = f"""
[[upstream]]
name = "llama"
url = "http://a"
[[route]]
static = {{ status = 200, body = "ok", content_type = "text/plain", headers = {{ Cache-Control = "no-store" }}, when = "always" }}
no_wake = {{ paths = ["/favicon.ico", "*.css", "**/x", "robots.txt"], user_agents = ["kube-probe/*"] }}
[route.hold]
overflow = "placeholder"
placeholder = {{ status = 425, file = "{HERE}", files = {{ "/styles.css" = "{HERE}" }}, page = "never" }}
"""
    loaded = loads(text)
    assert loaded.route[0] == Route(
        name="llama",
        upstream="llama",
        static=Static(200, "ok", content_type="text/plain", headers={"Cache-Control": "no-store"}, when="always"),
        no_wake=NoWake(("/favicon.ico", "*.css", "**/x", "robots.txt"), ("kube-probe/*",)),
        hold=Hold(overflow="placeholder", placeholder=Placeholder(425, file=str(HERE), files={"/styles.css": str(HERE)}, page="never")),
    )
    shown = render(loaded)
    assert '\n[route.static]\nstatus = 200\nbody = "ok"\n' in shown
    assert '\n[route.no_wake]\npaths = ["/favicon.ico", "*.css", "**/x", "robots.txt"]\n' in shown
    assert "\n[route.hold.placeholder]\nstatus = 425\n" in shown
    assert loads(shown) == loaded


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ('static = "ok"', "route.static (route 1): 'ok' is not a table"),
        ('static = { body = "a", boddy = "b" }', "route.static.boddy (route 1): unknown key; did you mean 'body'?"),
        ("static = { status = 199 }", "route.static.status (route 1): 199 is not the status of an answer; allowed: 200 to 599"),
        ("static = { status = true }", "route.static.status (route 1): true is not the status of an answer"),
        ('static = { body = "a", when = "never" }', "route.static.when (route 1): 'never' is not allowed; "),
        ('static = { when = "always" }', "route.static (route 1, 'llama'): there is no answer; write status, body or file"),
        (f'static = {{ body = "a", file = "{HERE}" }}', "route.static.file (route 1, 'llama'): not together with body"),
        ('static = { body = "a", status = 204 }', "route.static.status (route 1, 'llama'): 204 has no body; remove body"),
        ('static = { status = 200, content_type = "a/b" }', "route.static.content_type (route 1, 'llama'): 'a/b' is that of nothing"),
        ('static = { body = "a", content_type = "a\\nb" }', "route.static.content_type (route 1): 'a\\nb' has control characters"),
        ('static = { file = "/nowhere" }', "route.static.file (route 1): '/nowhere' cannot be read"),
        ('static = { body = "", headers = "x" }', "route.static.headers (route 1): 'x' is not a table"),
        ('static = { headers = { "a b" = "c" } }', "route.static.headers (route 1): 'a b' is not a header name"),
        ('static = { headers = { A = "c\\r\\nd" } }', "route.static.headers (route 1): A: 'c\\r\\nd' has control characters"),
        (
            'static = { headers = { content-length = "1" } }',
            "route.static.headers (route 1): content-length is written by the proxy",
        ),
        ('static = { headers = { Content-Type = "a" } }', "route.static.headers (route 1): Content-Type has an option of its own"),
        ('no_wake = { path = ["/a"] }', "route.no_wake.path (route 1): unknown key; did you mean 'paths'?"),
        ('no_wake = { paths = "/a" }', "route.no_wake.paths (route 1): '/a' is not a list"),
        ('no_wake = { paths = ["a/b"] }', "route.no_wake.paths (route 1): 'a/b' would never match, paths begin with a slash"),
        ("no_wake = { user_agents = [1] }", "route.no_wake.user_agents (route 1): 1 is not a string"),
        ('hold = { placeholder = { file = "/nowhere" } }', "route.hold.placeholder.file (route 1): '/nowhere' cannot be read"),
        ("hold = { placeholder = { files = [] } }", "route.hold.placeholder.files (route 1): [] is not a table"),
        ('hold = { placeholder = { files = { "a" = "b" } } }', "route.hold.placeholder.files (route 1): 'a' is not a path; write '/a'"),
        ('hold = { placeholder = { files = { "/a" = "" } } }', "route.hold.placeholder.files (route 1): /a: the name of its file is empty"),
        ('hold = { placeholder = { files = { "/a" = "/nowhere" } } }', "route.hold.placeholder.files (route 1): /a: '/nowhere' cannot be"),
        (
            "hold = { placeholder = { page = true } }",
            "route.hold.placeholder.page (route 1): true is not allowed; Allowed: auto, ",
        ),
        (
            f'hold = {{ placeholder = {{ page = "never", page_file = "{HERE}" }} }}',
            "route.hold.placeholder.page_file (route 1, 'llama'): the page is never shown",
        ),
        (
            'hold = { overflow = "placeholder" }',
            "route.hold.overflow (route 1, 'llama'): 'placeholder', and there is none; write ",
        ),
    ],
)
def test_what_cannot_be_right_is_refused(more: str, problem: str) -> None:
    (found,) = problems(more)
    assert found.startswith(problem)
