"""Errors before the commit: the status of their code, in the shape of the dialect that the path or the route speaks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.proxy.test_handler import READY, Bench
from txsse.errors import CODES, ProxyError
from txsse.wire.http1 import RequestHead

PATHS = {
    "openai": ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/anything"],
    "anthropic": ["/v1/messages", "/proxy/v1/messages"],
    "ollama": ["/api/chat", "/api/generate"],
}


def shape(kind: str, code: str, message: str) -> Any:
    row = CODES[code]
    if kind == "anthropic":
        return {"type": "error", "error": {"type": row.anthropic_type, "message": message, "code": code}}
    if kind == "ollama":
        return {"error": message}
    return {"error": {"message": message, "type": row.openai_type, "param": None, "code": code}}


CASES = [pytest.param(kind, path, id=path) for kind, paths in PATHS.items() for path in paths]


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize(("kind", "path"), CASES)
def test_every_code_in_every_shape(kind: str, path: str, code: str) -> None:
    """As the fronts refuse."""
    client = Bench().refuse(ProxyError(code, "No."), RequestHead(b"POST", path.encode(), b"HTTP/1.1", [(b"Host", b"x")]), path.encode())
    assert client.status == CODES[code].status
    assert json.loads(client.body) == shape(kind, code, "No.")
    assert client.header(b"content-type") == b"application/json"
    assert (client.header(b"retry-after") is not None) is (client.status in (429, 503))


@pytest.mark.parametrize(
    ("dialect", "kind"), [("anthropic", "anthropic"), ("ollama", "ollama"), ("sse", "openai"), ("openai-chat", "openai")]
)
@pytest.mark.parametrize("path", ["/v1/messages", "/api/chat", "/v1/chat/completions", "/ask"])
def test_the_route_knows_better_than_the_path(dialect: str, kind: str, path: str) -> None:
    bench = Bench(READY + f'[[route]]\nupstream = "llama"\ndialect = "{dialect}"\n')
    head = RequestHead(b"POST", path.encode(), b"HTTP/1.1", [(b"Host", b"x")])
    client = bench.refuse(ProxyError("body_too_large", "Too much."), head, path.encode())
    assert json.loads(client.body) == shape(kind, "body_too_large", "Too much.")


@pytest.mark.parametrize(("kind", "path"), CASES)
def test_what_fails_after_the_dispatch_has_the_same_shape(kind: str, path: str) -> None:
    bench = Bench()
    _, client = bench.open(path=path.encode(), body=b'{"stream":false}')
    bench.refuse_connection()
    assert client.status == 502
    message = "The upstream could not be reached: connection refused. Try again in a moment."
    assert json.loads(client.body) == shape(kind, "upstream_unavailable", message)


def test_a_query_is_no_part_of_the_path() -> None:
    path = b"/v1/messages?beta=true"
    client = Bench().refuse(ProxyError("no_route", "No."), RequestHead(b"POST", path, b"HTTP/1.1", [(b"Host", b"x")]), path)
    assert json.loads(client.body)["type"] == "error"


def test_a_head_that_could_not_be_read_has_no_dialect() -> None:
    client = Bench().refuse(ProxyError("bad_request", "No."), None, b"")
    assert json.loads(client.body) == shape("openai", "bad_request", "No.")
