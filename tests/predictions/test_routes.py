"""Which requests are about predictions, and what becomes of them at a front that does not ask."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock

from tests.predictions.bench import ASYNC, JSON, READY, predictions
from tests.proxy.test_handler import Bench
from tests.web.bench import Service
from txsse import ProxyService
from txsse.config import loads
from txsse.wire.headers import Headers

OTHER = '[[route]]\nname = "other"\nupstream = "llama"\n'


def taken(bench: Bench, path: str, method: bytes = b"GET", headers: Headers | None = None) -> bool:
    return bench.proxy.predicts(bench.request(method, path.encode(), headers).head)


@pytest.mark.parametrize(
    ("path", "is_taken"),
    [
        ("/predictions", True),
        ("/predictions?a=b", True),
        ("/predictions/one", True),
        ("/predictions/one/cancel", True),
        ("/health-check", True),
        ("/predictions/", False),
        ("/predictions/one/other", False),
        ("/v1/chat/completions", False),
        ("/", False),
    ],
)
def test_paths(path: str, is_taken: bool) -> None:
    assert taken(Bench(READY + predictions() + OTHER), path) == is_taken


def test_the_first_route_that_is_met() -> None:
    assert not taken(Bench(READY + OTHER + predictions()), "/predictions")
    by_model = OTHER + 'match = { model = "qwen*" }\n'
    assert taken(Bench(READY + by_model + predictions()), "/predictions", b"POST"), "a request for a prediction names no model"
    host = predictions('match.host = "models.example"') + OTHER
    assert not taken(Bench(READY + host), "/predictions")


def test_what_nobody_else_wants() -> None:
    assert taken(Bench(READY + predictions()), "/")
    assert Bench(READY + predictions()).screen(b"GET", b"/other") == "no_route"


def test_a_front_that_does_not_ask() -> None:
    bench = Bench(READY + predictions() + OTHER)
    _, client = bench.open(path=b"/predictions", body=b'{"input":{}}')
    assert (client.status, json.loads(client.body)["error"]["code"]) == (404, "no_route")


def test_preflights_are_answered_whether_it_is_ready_or_not() -> None:
    bench = Bench(READY + predictions('cors_origins = ["https://a.example"]'))
    fields: Headers = [(b"Origin", b"https://a.example"), (b"Access-Control-Request-Method", b"PUT")]
    assert not taken(bench, "/predictions/one", b"OPTIONS", fields)
    _, client = bench.open(b"OPTIONS", b"/predictions/one", fields)
    assert (client.status, client.header(b"access-control-allow-methods")) == (204, b"PUT")


def test_a_reload_brings_and_takes_them() -> None:
    bench = Bench(READY + OTHER)
    assert bench.proxy.predictions is None
    bench.proxy.configure(loads(READY + predictions() + OTHER))
    models = bench.proxy.predictions
    assert models is not None and taken(bench, "/predictions")
    bench.proxy.configure(loads(READY + OTHER))
    assert not taken(bench, "/predictions")
    bench.proxy.configure(loads(READY + predictions()))
    assert bench.proxy.predictions is models, "what was made is still there"


def test_on_a_strangers_site(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"ann:{hashlib.sha256(b'secret').hexdigest()}\n")
    made: list[ProxyService] = []

    def make(clock: MemoryReactorClock) -> Any:
        made.append(
            ProxyService(loads(f'auth = {{ keys_file = "{keys}" }}\n' + READY + predictions()), reactor=clock, access_log=lambda _: None)
        )
        return made[0].predictions_resource()

    service = Service(make)
    refused = service.ask("POST", "/predictions", JSON, body=b'{"input":{}}')
    assert (refused.answer.status, refused.document["code"]) == (401, "invalid_api_key")
    assert refused.answer.header("www-authenticate") == b"Bearer"
    let_in = service.ask("POST", "/predictions", JSON, ASYNC, "Authorization: Bearer secret", body=b'{"input":{}}')
    assert let_in.answer.status == 202
    assert len(service.clock.tcpClients) == 1
    with pytest.raises(ValueError, match="no route"):
        ProxyService(loads(READY + OTHER), reactor=MemoryReactorClock()).predictions_resource()
