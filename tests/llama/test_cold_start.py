"""A real llama.cpp server behind the real proxy process, read by the real openai client."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Generator
from pathlib import Path
from typing import Any

import attrs
import openai
import pytest

from tests.llama.make_model import write_model
from tests.llama.servers import SHUTDOWN, free_port, is_open, llama_command, proxy_command, running, starting_proxy_command, wait_until_open

ROOT = Path(__file__).parent.parent.parent
COLD_FOR = 3.0
TOKENS = 40
# What two answers may differ in: hop-by-hop fields, those of the proxy, and those the server makes anew each time.
INCOMPARABLE = {"connection", "keep-alive", "transfer-encoding", "date", "via", "x-request-id", "openai-processing-ms"}


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny.gguf")


@attrs.frozen
class Stack:
    """The ports of a running proxy and of its upstream, which may not be running."""

    folder: Path
    proxy: int
    upstream: int


@pytest.fixture
def stack(tmp_path: Path) -> Generator[Stack]:
    """A proxy before a port that nobody listens on yet."""
    made = Stack(tmp_path, free_port(), free_port())
    with running(proxy_command(made.proxy, made.upstream), tmp_path, "proxy") as process:
        wait_until_open(made.proxy, process)
        yield made


def client_of(port: int) -> openai.OpenAI:
    http_client = openai.DefaultHttpxClient(trust_env=False)
    return openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=60, http_client=http_client)


def read_stream(port: int) -> tuple[dict[str, str], str, str | None]:
    """Headers, text and finish reason of one streamed answer."""
    with client_of(port) as client:
        answer = client.chat.completions.with_raw_response.create(
            model="tiny", messages=[{"role": "user", "content": "Hello"}], stream=True, max_tokens=TOKENS, seed=1
        )
        headers = {name.lower(): value for name, value in answer.headers.items()}
        text, finish = "", None
        for chunk in answer.parse():
            for choice in chunk.choices:
                text += choice.delta.content or ""
                finish = choice.finish_reason or finish
    return headers, text, finish


def post(port: int) -> tuple[int, dict[str, str], bytes]:
    """Status, comparable headers and body (the chunk framing taken off) of one streamed answer."""
    messages = [{"role": "user", "content": "Hello"}]
    body = json.dumps({"model": "tiny", "messages": messages, "stream": True, "max_tokens": TOKENS, "temperature": 0, "seed": 1})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        comparable = {name: value for name, value in headers.items() if name not in INCOMPARABLE and not name.startswith("x-txsse-")}
        return answer.status, comparable, answer.read()
    finally:
        connection.close()


def without_ids(body: bytes) -> bytes:
    return re.sub(rb'"(id|created)": ?("[^"]*"|\d+)', rb'"\1":0', body)


def test_server_alone_streams_text(model: Path, tmp_path: Path) -> None:
    port = free_port()
    with running(llama_command(model, port), tmp_path, "llama") as process:
        wait_until_open(port, process)
        _, text, finish = read_stream(port)
    assert re.fullmatch(r"[a-z ]+", text)
    assert finish == "length"


def test_client_of_a_cold_server_waits_and_gets_its_answer(stack: Stack, model: Path) -> None:
    # Started by its own block, but not before the request has waited for it: a shell holds the place of the server.
    command = ["sh", "-c", f'sleep {COLD_FOR}; exec "$@"', "sh", *llama_command(model, stack.upstream)]
    with running(command, stack.folder, "llama"):
        headers, text, finish = read_stream(stack.proxy)
    assert headers["x-txsse-cold-start"] == "true"
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert re.fullmatch(r"[a-z ]+", text)
    assert finish == "length"


def status_of(admin_port: int) -> dict[str, Any]:
    """What the admin listener says of the upstream."""
    with urllib.request.urlopen(f"http://127.0.0.1:{admin_port}/status", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)["upstreams"]["tiny"]
    return found


def test_the_proxy_starts_the_server_and_takes_it_down(model: Path, tmp_path: Path) -> None:
    port, admin_port = free_port(), free_port()
    command = starting_proxy_command(port, admin_port, tmp_path, llama_command(model, "${PORT}"))
    with running(command, tmp_path, "proxy") as process:
        wait_until_open(port, process)
        assert status_of(admin_port)["state"] == "down"
        headers, text, finish = read_stream(port)
        assert headers["x-txsse-cold-start"] == "true"
        assert re.fullmatch(r"[a-z ]+", text)
        assert finish == "length"
        status = status_of(admin_port)
        assert status["state"] == "ready"
        assert "Uvicorn running" in status["output"]
        chosen = int(status["servers"][0]["url"].rpartition(":")[2])
        assert is_open(chosen)
        process.terminate()
        assert process.wait(SHUTDOWN + 5) == 0
    assert not is_open(chosen)


def test_answer_of_a_warm_server_is_the_same_as_without_the_proxy(stack: Stack, model: Path) -> None:
    with running(llama_command(model, stack.upstream), stack.folder, "llama") as process:
        wait_until_open(stack.upstream, process)
        post(stack.upstream)  # it computes a prompt it has seen before in another way, so both answers are to be the later kind
        status, headers, body = post(stack.upstream)
        proxied_status, proxied_headers, proxied_body = post(stack.proxy)
    assert status == proxied_status == 200
    assert body.endswith(b"data: [DONE]\n\n")
    assert without_ids(proxied_body) == without_ids(body)
    assert proxied_headers == headers


def test_example_prints_the_transcript_of_a_cold_start(model: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "llama_cold_start.py"), str(model)]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=90)
    assert answer.returncode == 0, answer.stderr
    assert "X-Txsse-Cold-Start: true" in answer.stdout
    assert "finish_reason: length" in answer.stdout
