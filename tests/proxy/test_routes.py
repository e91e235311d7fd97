"""From a request to its route, and from a route's configuration to the policy of an exchange."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tests.fakes import FakeBackend
from txsse.config import model
from txsse.exchange.policy import Policy
from txsse.proxy.forwarded import TrustedProxies
from txsse.proxy.globs import glob, path_glob
from txsse.proxy.routes import BoundRoute, RouteTable, policy_of
from txsse.upstream.backend import Backend
from txsse.wire.headers import Headers
from txsse.wire.http1 import RequestHead


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("/**", "/", True),
        ("/**", "/v1/chat/completions", True),
        ("/v1/*", "/v1/models", True),
        ("/v1/*", "/v1/", True),
        ("/v1/*", "/v1", False),
        ("/v1/*", "/v1/chat/completions", False),
        ("/v1/**", "/v1/chat/completions", True),
        ("/**/completions", "/v1/chat/completions", True),
        ("/v?/models", "/v1/models", True),
        ("/v?/models", "/v/models", False),
        ("/v?/models", "/v//models", False),
        ("/a.b+(c)", "/a.b+(c)", True),
        ("/a.b", "/axb", False),
        ("*.js", "app.js", True),
        ("/v1/**", "/v1/a\nb", True),
        ("/[ab]", "/a", False),
        ("/v1", "/v1/", False),
        ("", "", True),
    ],
)
def test_globs_of_paths(pattern: str, text: str, fits: bool) -> None:
    assert (path_glob(pattern).fullmatch(text) is not None) is fits


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("qwen*", "qwen/qwen3-8b", True),
        ("*/qwen3", "org/team/qwen3", True),
        ("curl/?.*", "curl/8.5.0", True),
        ("qwen?", "qwen", False),
        ("qwen*", "a qwen", False),
        ("q.en", "qwen", False),
    ],
)
def test_a_slash_means_nothing_in_globs_of_anything_else(pattern: str, text: str, fits: bool) -> None:
    assert (glob(pattern).fullmatch(text) is not None) is fits


def bind(name: str, **match: Any) -> BoundRoute:
    route = model.Route(name=name, upstream="llama", match=model.Match(**match))
    return BoundRoute.bind(route, cast(Backend, FakeBackend()), "test", TrustedProxies())


def found(
    table: RouteTable,
    path: str = "/",
    *,
    method: bytes = b"POST",
    host: bytes = b"example.org",
    headers: Headers | None = None,
    wanted: str | None = None,
    any_model: bool = False,
) -> str | None:
    head = RequestHead(method, path.encode(), b"HTTP/1.1", [(b"Host", host), *(headers or [])])
    route = table.find(head, wanted, any_model=any_model)
    return None if route is None else route.name


def test_the_first_match_wins() -> None:
    table = RouteTable([bind("chat", path="/v1/chat/**"), bind("v1", path="/v1/**"), bind("again", path="/v1/chat/**")])
    assert found(table, "/v1/chat/completions") == "chat"
    assert found(table, "/v1/models") == "v1"
    assert found(table, "/") is None


def test_the_default_route_takes_everything() -> None:
    table = RouteTable([bind("all")])
    assert found(table, "/x/y", method=b"PURGE", host=b"") == "all"


@pytest.mark.parametrize(
    ("host", "fits"),
    [
        (b"api.example.org", True),
        (b"API.Example.ORG:8080", True),
        (b"example.org", False),
        (b"a/b.example.org", False),
        (b"", False),
    ],
)
def test_hosts_without_port_and_case(host: bytes, fits: bool) -> None:
    assert (found(RouteTable([bind("r", host="*.Example.org")]), host=host) is not None) is fits


def test_an_address_in_brackets_is_a_host() -> None:
    table = RouteTable([bind("r", host="[::1]")])
    assert found(table, host=b"[::1]:8787") == "r"
    assert found(table, host=b"[::1]") == "r"
    assert found(table, host=b"[::2]:8787") is None


def test_methods_are_compared_as_they_are_sent() -> None:
    table = RouteTable([bind("r", method="post")])
    assert found(table, method=b"POST") == "r"
    assert found(table, method=b"post") is None
    assert found(table, method=b"GET") is None


def test_headers_by_any_of_their_lines() -> None:
    table = RouteTable([bind("r", header={"X-Tenant": "a*", "x-tier": "gold"})])
    assert found(table, headers=[(b"x-tenant", b"acme"), (b"X-Tier", b"gold")]) == "r"
    assert found(table, headers=[(b"x-tenant", b"zeta"), (b"X-Tenant", b"acme"), (b"X-Tier", b"gold")]) == "r"
    assert found(table, headers=[(b"x-tenant", b"acme")]) is None
    assert found(table, headers=[(b"x-tenant", b"\xff"), (b"X-Tier", b"gold")]) is None


def test_models_are_compared_when_the_body_is_there() -> None:
    table = RouteTable([bind("qwen", model="qwen*"), bind("rest")])
    assert found(table, any_model=True) == "qwen"
    assert found(table, wanted="qwen3:4b") == "qwen"
    assert found(table, wanted="llama3") == "rest"
    assert found(table, wanted=None) == "rest"


def test_a_route_that_asks_for_a_model_still_asks_for_the_rest() -> None:
    table = RouteTable([bind("qwen", model="qwen*", path="/v1/**")])
    assert found(table, "/v2", any_model=True) is None


def test_the_dialect_is_the_paths_or_the_routes() -> None:
    assert bind("r").dialect("/v1/chat/completions").name == "openai-chat"
    assert bind("r").dialect("/x").name == "sse"
    route = model.Route(name="r", dialect="openai-chat")
    assert BoundRoute.bind(route, cast(Backend, FakeBackend()), "test", TrustedProxies()).dialect("/x").name == "openai-chat"


def test_every_number_of_the_policy_is_the_configurations() -> None:
    policy = policy_of(model.Route(), model.Upstream())
    assert (policy.hold_timeout, policy.hold_commit_after, policy.hold_timeout_status) == (600, 1, 503)
    assert (policy.commit_after, policy.interval, policy.heartbeat, policy.form) == (5, 15, 45, "auto")
    assert (policy.first_byte, policy.idle, policy.total, policy.comments_count) == (600, 300, 0, True)
    assert (policy.hold_bytes, policy.error_end, policy.error_event, policy.require_done) == (65536, "abort", False, False)
    assert (policy.message, policy.progress, policy.separator, policy.channel) == ("", ".", "\n\n---\n\n", "reasoning")
    assert policy.holds
    assert policy.status_comments


@pytest.mark.parametrize(("preset", "holds"), [("none", False), ("auto", True), ("tcp", True)])
def test_only_preset_none_does_not_hold(preset: str, holds: bool) -> None:
    assert policy_of(model.Route(), model.Upstream(probe=model.Probe(preset=preset))).holds is holds


@pytest.mark.parametrize(
    ("status", "body", "loading"),
    [
        (503, b'{"error":{"message":"Loading model"}}', True),
        (503, b"Model NOT READY", True),
        (503, b"\xff\xfe loading", True),
        (503, b"overloaded", False),
        (503, b"", False),
        (500, b"loading", False),
        (200, b"loading", False),
    ],
)
def test_what_a_loading_answer_is(status: int, body: bytes, loading: bool) -> None:
    assert policy_of(model.Route(), model.Upstream()).is_loading(status, body) is loading


def test_the_loading_answer_is_configurable() -> None:
    probe = model.Probe(loading_status=(425, 502), loading_match="^warming")
    policy: Policy = policy_of(model.Route(), model.Upstream(probe=probe))
    assert policy.is_loading(425, b"warming up")
    assert policy.is_loading(502, b"warming up")
    assert not policy.is_loading(503, b"warming up")
    assert not policy.is_loading(425, b"still warming")


def test_models_and_header_fields_with_a_slash_are_met() -> None:
    table = RouteTable([bind("model", model="qwen*"), bind("agent", header={"User-Agent": "kube-*"})])
    assert found(table, wanted="qwen/qwen3-8b") == "model"
    assert found(table, headers=[(b"User-Agent", b"kube-probe/1.31")]) == "agent"


def test_who_comes_back_to_a_run_is_a_reader_of_its_route() -> None:
    route = model.Route(name="r", resume=model.Resume(mode="auto"))
    bound = BoundRoute.bind(route, cast(Backend, FakeBackend()), "test", TrustedProxies())
    bound.prepare()
    assert bound.for_runs is not None and bound.for_readers is not None
    assert bound.for_runs.policy.unheard and not bound.for_readers.policy.unheard
    assert bound.for_runs.for_readers is bound.for_readers
