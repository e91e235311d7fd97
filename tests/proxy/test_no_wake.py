"""Which requests wake nobody."""

from __future__ import annotations

import pytest

from txsse.config import model
from txsse.proxy.no_wake import NoWake, not_woken
from txsse.wire.headers import Headers
from txsse.wire.http1 import RequestHead


def meets(config: model.NoWake, path: bytes, agent: bytes | None = None) -> bool:
    compiled = NoWake.compile(config)
    assert compiled is not None
    headers: Headers = [(b"Host", b"h")] + ([] if agent is None else [(b"User-Agent", agent)])
    return compiled.meets(RequestHead(b"GET", path, b"HTTP/1.1", headers))


def test_nothing_named_is_nothing_to_look_for() -> None:
    assert NoWake.compile(model.NoWake()) is None


@pytest.mark.parametrize(
    ("glob", "path", "fits"),
    [
        ("/favicon.ico", b"/favicon.ico?v=2", True),
        ("/favicon.ico", b"/static/favicon.ico", False),
        ("/api/events", b"/api/events", True),
        ("/api/*", b"/api/a/b", False),
        ("/api/**", b"/api/a/b", True),
        ("favicon.ico", b"/static/favicon.ico", True),
        ("*.js", b"/a/b/app.js", True),
        ("*.js", b"/app.js/x", False),
        ("**.js", b"/a/b/app.js", True),
        ("/caf%C3%A9", b"/caf%C3%A9", False),
        ("/café", b"/caf%C3%A9", True),
    ],
)
def test_paths(glob: str, path: bytes, fits: bool) -> None:
    assert meets(model.NoWake(paths=(glob,)), path) is fits


@pytest.mark.parametrize(
    ("agent", "fits"), [(b"kube-probe/1.32", True), (b"Kube-Probe/1.32", False), (b"a kube-probe/1", False), (None, False), (b"", False)]
)
def test_user_agents(agent: bytes | None, fits: bool) -> None:
    assert meets(model.NoWake(user_agents=("kube-probe/*", "Prometheus/*")), b"/v1/chat/completions", agent) is fits


def test_either_is_enough() -> None:
    both = model.NoWake(paths=("/x",), user_agents=("curl/*",))
    assert [meets(both, b"/x"), meets(both, b"/y", b"curl/8"), meets(both, b"/y", b"wget")] == [True, True, False]


def test_what_such_a_request_is_told() -> None:
    error = not_woken("llama", "down")
    assert (error.code, error.http_status) == ("readiness_timeout", 503)
    assert "llama is not ready (it is down)" in error.message
