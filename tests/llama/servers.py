"""Real processes for the tests: an inference server, and the proxy before it. Whoever starts one here stops it, by its own pid."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

STARTUP = 60.0
SHUTDOWN = 10.0


def free_port() -> int:
    """A loopback port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(command: list[str], folder: Path, name: str) -> Generator[subprocess.Popen[bytes]]:
    """Run *command* in *folder* until the end of the block; what it prints goes to ``name.log`` there."""
    with (folder / f"{name}.log").open("wb") as log, subprocess.Popen(command, cwd=folder, stdout=log, stderr=log) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(SHUTDOWN)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_until_open(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + STARTUP
    while not is_open(port):
        assert process.poll() is None, f"{process.args!r} ended with {process.returncode}"
        assert time.monotonic() < deadline, f"{process.args!r} does not listen on {port}"
        time.sleep(0.05)


def llama_command(model: Path, port: int | str) -> list[str]:
    options = {"model": model, "host": "127.0.0.1", "port": port, "n_ctx": 1024, "interrupt_requests": "false", "verbose": "false"}
    return [sys.executable, "-m", "llama_cpp.server", *(f"--{name}={value}" for name, value in options.items())]


def proxy_command(port: int, upstream_port: int) -> list[str]:
    twistd = [str(Path(sys.executable).with_name("twistd")), "--nodaemon", "--pidfile="]
    upstream = f"http://127.0.0.1:{upstream_port}"
    return [*twistd, "sse-proxy", "--upstream", upstream, "--listen", f"tcp:{port}:interface=127.0.0.1", "--admin", "none"]


def starting_proxy_command(port: int, admin_port: int, folder: Path, command: list[str]) -> list[str]:
    """A proxy that runs *command*, with the port it chooses, when the first request comes."""
    configuration = folder / "txsse.toml"
    configuration.write_text(
        f"""
[server]
listen = ["tcp:{port}:interface=127.0.0.1"]
admin = "tcp:{admin_port}:interface=127.0.0.1"
[[upstream]]
name = "tiny"
url = "http://127.0.0.1:${{PORT}}"
wake = {{ exec = {json.dumps(command)} }}
"""
    )
    twistd = [str(Path(sys.executable).with_name("twistd")), "--nodaemon", "--pidfile="]
    return [*twistd, "sse-proxy", "--config", str(configuration)]
