"""A cold start as a client lives through it: the proxy runs, the client asks, and only then the llama.cpp server is started.

Needs ``pip install 'txsse[llama]' openai`` and a model file::

    python examples/llama_cold_start.py model.gguf

Prints a line with its time for everything that happens.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import openai

COLD_FOR = 3.0  # seconds between the request and the start of the server
QUESTION = "Tell me a story."


class Transcript:
    """Prints what happens and when, in seconds since the request."""

    def __init__(self) -> None:
        self.began = time.monotonic()

    def say(self, who: str, what: str) -> None:
        print(f"{time.monotonic() - self.began:6.2f} s  {who:<7} {what}", flush=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start_proxy(port: int, server_port: int) -> subprocess.Popen[bytes]:
    """``twistd sse-proxy`` with all its defaults, listening when this returns."""
    twistd = [str(Path(sys.executable).with_name("twistd")), "--nodaemon", "--pidfile="]
    proxy = ["sse-proxy", "--upstream", f"http://127.0.0.1:{server_port}", "--listen", f"tcp:{port}:interface=127.0.0.1", "--admin", "none"]
    process = subprocess.Popen([*twistd, *proxy], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        time.sleep(0.05)
    process.kill()
    raise SystemExit("the proxy did not start")


def start_server(model: str, port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "llama_cpp.server", "--model", model, "--host", "127.0.0.1", "--port", str(port)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def ask(port: int, transcript: Transcript) -> None:
    """One streaming request, by a client that knows nothing of the proxy."""
    with openai.OpenAI(
        base_url=f"http://127.0.0.1:{port}/v1",
        api_key="none",
        max_retries=0,
        http_client=openai.DefaultHttpxClient(trust_env=False),
    ) as client:
        transcript.say("client", f"asks: {QUESTION}")
        answer = client.chat.completions.with_raw_response.create(
            model="tiny", messages=[{"role": "user", "content": QUESTION}], stream=True, max_tokens=120, seed=1
        )
        transcript.say("client", "has its response head:")
        for name in ("Content-Type", "X-Txsse-Cold-Start"):
            transcript.say("", f"  {name}: {answer.headers[name]}")
        words, finish = "", None
        for chunk in answer.parse():
            for choice in chunk.choices:
                if choice.delta.content and not words:
                    transcript.say("client", "has its first token")
                words += choice.delta.content or ""
                finish = choice.finish_reason or finish
        transcript.say("client", f"has it all: {words!r}")
        transcript.say("", f"  finish_reason: {finish}")


def main(model: str) -> None:
    port, server_port = free_port(), free_port()
    servers: list[subprocess.Popen[bytes]] = [start_proxy(port, server_port)]
    transcript = Transcript()

    def wake() -> None:
        transcript.say("server", "is started")
        servers.append(start_server(model, server_port))

    timer = threading.Timer(COLD_FOR, wake)
    timer.start()
    try:
        ask(port, transcript)
    finally:
        timer.cancel()
        timer.join()
        for process in servers:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1])
