"""The block of defaults that the product promises, loaded as it stands (``product_defaults.toml`` is a copy of it)."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from txsse.config import ConfigError, Configuration, Route, Upstream, load, loads
from txsse.config.fields import option_of, tables_of

BLOCK = Path(__file__).with_name("product_defaults.toml")
EXAMPLES = {"upstream.name", "upstream.url", "route.upstream"}  # marked `# example` in the block
IN_COMMENTS_ONLY = {"upstream.urls", "upstream.wake.wol_broadcast"}
IN_EXAMPLES = {f"upstream.wake.http.{key}" for key in ("url", "method", "headers", "body", "timeout")}
OF_OURS = {
    "server.node",
    "server.peers",
    "route.cache.convert",
    "route.cache.gap",
    "route.cache.no_cache_writes",
    "store.ca_file",
    *(f"webhooks.{key}" for key in ("allow", "secret", "ca_file", "interval", "timeout")),
    *(f"webhooks.max_{key}" for key in ("attempts", "concurrency", "body", "queued")),
}
ANSWERS = {  # tables of which the block has an example, and no more
    *(f"route.static.{key}" for key in ("status", "body", "file", "content_type", "headers", "when")),
    *(f"route.no_wake.{key}" for key in ("paths", "user_agents")),
    *(f"route.hold.placeholder.{key}" for key in ("status", "body", "file", "content_type", "files", "page", "page_file")),
}


def keys_of(document: dict[str, Any], path: str = "") -> Iterator[str]:
    for key, value in document.items():
        here = f"{path}.{key}".lstrip(".")
        inner = value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else value
        if isinstance(inner, dict) and inner:
            yield from keys_of(inner, here)
        else:
            yield here


def test_it_loads_and_every_value_but_the_examples_is_our_default() -> None:
    loaded = load(BLOCK)
    (upstream,), (route,) = loaded.upstream, loaded.route
    assert loaded == Configuration(upstream=loaded.upstream, route=loaded.route)
    assert upstream == Upstream(name="llama", url="http://127.0.0.1:8080")
    assert route == Route(name="llama", upstream="llama")


def test_it_names_every_option_of_the_model_and_no_other() -> None:
    promised = set(keys_of(tomllib.loads(BLOCK.read_text()))) | IN_COMMENTS_ONLY | OF_OURS | {"route.match.host", "route.match.method"}
    promised |= {"route.match.header", "route.match.model"}  # in match's example
    promised = promised - {"upstream.wake.http"} | IN_EXAMPLES
    promised = promised - {"route.static", "route.no_wake", "route.hold.placeholder"} | ANSWERS
    ours = {
        f"{header.strip('[]')}.{field.name}"
        for header, cls in tables_of(Configuration)
        for field in attrs.fields(cls)
        if option_of(field).of is None
    }
    assert ours == promised


def one_upstream(more: str) -> str:
    return f'[[upstream]]\nname = "llama"\nurl = "http://127.0.0.1:8080"\n{more}'


def one_route(more: str) -> str:
    return one_upstream(f'[[route]]\nupstream = "llama"\n{more}')


@pytest.mark.parametrize(
    "text",
    [
        one_route('match = { host = "", path = "/v1/**", method = "POST", header = { X-Tenant = "a*" }, model = "qwen*" }'),
        one_route('[route.hold]\nmessage = "Model {model} is waking up, about {eta} s left."\nchannel = "content"\ntimeout_status = 504'),
        one_route('dialect = "sse"\nstreaming = "always"\ncors_origins = ["https://chat.example", "*"]'),
        one_route('[route.keepalive]\nform = "frame"\nheartbeat = 0\n[route.stream]\nerror_end = "done"\nrequire_done = true'),
        one_upstream('host = "preserve"\n[upstream.probe]\npreset = "llamacpp-router"\npath = "/health?deep=1"\nexpect = [200, 204]'),
        one_upstream('host = "llama.example:8080"\n[upstream.timeouts]\ntotal = "1h"\ncomments_count = false'),
        '[server]\nlog_format = "json"\nadmin = "none"\ntrusted_proxies = ["10.0.0.0/8", "::1", "unix:"]\ncold_start_header = ""\n'
        + one_upstream(""),
        '[auth]\nforward = true\ncookie = "key"\nquery = "key"\n' + one_upstream(""),
        *(one_route(f'dialect = "{name}"') for name in ("openai-completions", "openai-responses", "anthropic", "ollama")),
        *(one_route(f'[route.hold]\nstyle = "{name}"') for name in ("keda", "llama-swap", "hearth", "ds4")),
        '[server]\nstate_dir = "/var/lib/txsse"\n' + one_upstream(""),
        one_upstream('[upstream.wake]\nhttp = [{ url = "http://a", method = "POST", headers = {}, body = "", timeout = "5s" }]'),
        one_upstream('[upstream.wake]\nwol = "00:11:22:33:44:55"\nwol_broadcast = "10.0.0.255"\ncooldown = 0\ncancel_after = "5s"'),
        one_upstream('group = "gpu0"\n[upstream.wake]\nexec = ["llama-server", "--port", "8080"]\nstop_after_idle = "10m"'),
        one_upstream('[upstream.wake]\nexec = ["llama-server", "--port", "${PORT}"]').replace(":8080", ":${PORT}"),
        one_route('[route.keepalive]\nheartbeat_midstream = true\nnormalise = true\njson = "whitespace"'),
        one_route('static = { status = 200, body = "ok", when = "unavailable" }'),
        one_route('no_wake = { paths = ["/favicon.ico"], user_agents = ["kube-probe/*"] }'),
        *(one_route(f'[route.cache]\nmode = "{mode}"') for mode in ("deterministic", "all", "opt-in")),
        one_route('[route.cache]\nttl = "10m"\nmax_entry = "64KiB"\nscope = "header:X-User"\nignore = ["user"]\ncoalesce = false'),
        one_route('[route.cache]\nreplay = "original"\nspeed = 2\nmax_gap = "500ms"\nconvert = true'),
        *(one_route(f'[route.resume]\nmode = "{mode}"') for mode in ("auto", "always")),
        one_route('[route.resume]\nmode = "auto"\nmax_bytes = "2MiB"\non_disconnect = "cancel"\nmax_readers = 1\non_gap = "error"'),
        one_route('[route.resume]\non_disconnect = "continue"\ngrace = "1s"\nmax_orphan = "1h"\nttl = "1h"'),
        '[store]\nkind = "redis"\nurl = "rediss://:password@cache:6380/1"\n' + one_route(""),
        '[store]\nkind = "sqlite"\nurl = "recordings.sqlite"\nmax_bytes = "1GiB"\n' + one_route(""),
        one_route(f'[route.hold]\noverflow = "placeholder"\nplaceholder = {{ status = 503, file = "{BLOCK}" }}'),
    ],
)
def test_other_values_of_what_is_built_load(text: str) -> None:
    assert len(loads(text).route) == 1


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("server.workers", "[server]\nworkers = 2"),
    ],
)
def test_what_is_not_built_is_refused_by_name_in_words_that_say_so(key: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads(text)
    (problem,) = caught.value.problems
    assert problem.startswith((f"{key}:", f"{key} ("))
    assert "not built yet in this version" in problem
