"""The proxies that are compared: how each is started, and what it cannot carry as much of as the others."""

from __future__ import annotations

import os
import resource
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

HERE = Path(__file__).parent
PROXIES = HERE / "proxies"
UNPACKED = HERE / ".peers"  # Debian packages, by setup.sh
VENV = HERE / ".venv-peers"  # PyPI, by setup.sh

KEY = f"sk-{secrets.token_hex(32)}"  # of this run, for the gateway that starts with none


@attrs.frozen
class Place:
    """Where a peer is to run."""

    port: int
    upstream: int
    admin: int
    directory: Path

    def fill(self, template: str) -> str:
        """A file of ``proxies/`` with its ``@NAME@`` replaced, as a file in the peer's own directory."""
        text = (PROXIES / template).read_text()
        nofile = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        for name, value in (
            ("PORT", self.port),
            ("UPSTREAM", self.upstream),
            ("ADMIN", self.admin),
            ("DIR", self.directory),
            ("KEY", KEY),
            ("NOFILE", nofile),
        ):
            text = text.replace(f"@{name}@", str(value))
        path = self.directory / template
        path.write_text(text)
        return str(path)


# What a Python asks itself for the versions of distributions.
TELL_VERSIONS = """
import sys
from importlib.metadata import version
print(*(f"{name} {version(name)}" for name in sys.argv[1:]), f"Python {sys.version.split()[0]}", sep=", ")
"""

Command = Callable[[str, Place], Sequence[str]]


@attrs.frozen(eq=False)
class Peer:
    """One proxy.

    :ivar program: finds what is to be run; ``None`` means it is left out.
    :ivar version: the argument that makes the program tell its version; *distributions* tell it for those in Python.
    :ivar quick: it is part of ``make bench-quick``.
    :ivar context: there for comparison only, no bar is set by it: it takes part in every third round.
    :ivar slow_start: it takes seconds to start, so one process serves a whole round: the memory of its streams is measured first.
    :ivar variants: other commands by name: ``held`` for streams that wait, ``no admin`` without what is started for administration,
        ``cache`` with answers kept in memory, ``resume`` with streams that can be come back to, ``ids`` with ids of ours in them.
    :ivar loose: it writes the JSON anew, so only numbers and order of the events are compared.
    :ivar lighter: options of the load generator that replace a workload's own, by workload: what would take minutes otherwise.
    """

    name: str
    label: str
    program: Callable[[], str | None]
    command: Command
    version: Sequence[str] = ("--version",)
    distributions: Sequence[str] = ()
    quick: bool = False
    context: bool = False
    slow_start: bool = False
    loose: bool = False
    lighter: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    environment: Mapping[str, str] = attrs.field(factory=dict)
    variants: Mapping[str, Command] = attrs.field(factory=dict)

    def version_of(self, program: str) -> str:
        """In one line."""
        command = [program, *self.version]
        if self.distributions:
            python = program if "python" in Path(program).name else str(Path(program).parent / "python")
            command = [python, "-c", TELL_VERSIONS, *self.distributions]
        said = subprocess.run(command, capture_output=True, text=True, timeout=60, env=self.surroundings(program), check=False)
        lines = (said.stdout or said.stderr).splitlines()
        return lines[0].strip() if lines else ""

    def surroundings(self, program: str) -> dict[str, str]:
        """Its environment: with the libraries of packages that were unpacked and not installed."""
        around = {**os.environ, **self.environment}
        if Path(program).is_relative_to(UNPACKED):
            around["LD_LIBRARY_PATH"] = ":".join(str(path) for path in sorted(UNPACKED.glob("usr/lib/*-linux-gnu")))
        return around


def _found(*patterns: str, path: str = "") -> Callable[[], str | None]:
    def find() -> str | None:
        for pattern in patterns:
            for candidate in sorted(HERE.glob(pattern)):
                if candidate.exists():
                    return str(candidate)
        return shutil.which(path, path="/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin") if path else None

    return find


def _python_of_peers(*modules: str) -> Callable[[], str | None]:
    def find() -> str | None:
        python = VENV / "bin" / "python"
        if not python.exists():
            return None
        asked = subprocess.run([python, "-c", f"import {', '.join(modules)}"], capture_output=True, timeout=60, check=False)
        return str(python) if asked.returncode == 0 else None

    return find


def _twistd() -> str | None:
    twistd = Path(sys.executable).parent / "twistd"
    return str(twistd) if twistd.exists() else None


def _txsse(reactor: Sequence[str], admin: str = "") -> Command:
    def command(twistd: str, place: Place) -> Sequence[str]:
        return (
            twistd, *reactor, "-n", "--pidfile=", "sse-proxy",
            "--listen", f"tcp:{place.port}:interface=127.0.0.1",
            "--admin", admin or f"tcp:{place.admin}:interface=127.0.0.1",
            "--upstream", f"http://127.0.0.1:{place.upstream}",
        )  # fmt: skip

    return command


def _txsse_with(reactor: Sequence[str], template: str) -> Command:
    return lambda twistd, place: (twistd, *reactor, "-n", "--pidfile=", "sse-proxy", "--config", place.fill(template))


def _ours(name: str, label: str, program: Callable[[], str | None], *reactor: str) -> Peer:
    """txsse on one reactor, in all its forms."""
    command = _txsse(reactor)
    return Peer(
        name,
        label,
        program,
        command,
        distributions=("txsse", "twisted"),
        quick=True,
        variants={
            "no admin": _txsse(reactor, admin="none"),
            **{name: _txsse_with(reactor, f"txsse-{name}.toml") for name in ("held", "cache", "resume", "ids")},
            "sampled": lambda twistd, place: (
                *(str(Path(twistd).parent / "python"), str(PROXIES / "sampled.py"), str(place.directory / "samples.json")),
                *command(twistd, place)[1:],
            ),
        },
    )


def _litellm(template: str) -> Command:
    return lambda program, place: (
        *(program, "--host", "127.0.0.1", "--port", str(place.port)),
        *("--config", place.fill(template), "--num_workers", "1"),
    )


def _script(name: str) -> Command:
    return lambda python, place: (python, str(PROXIES / name), str(place.port), str(place.upstream))


# What a peer that handles some hundred requests a second can be asked for in a few seconds.
_SLOW = {
    "W2": {"clients": 100, "requests": 100},
    "W3": {"clients": 8, "events": 1024},
    "W4": {"clients": 500, "ramp": 4},
}
_SLOWEST = {
    "W1": {"clients": 16},
    "W1u": {"clients": 16},
    "W2": {"clients": 20, "requests": 20, "events": 50},
    "W3": {"clients": 2, "events": 256},
    "W4": {"clients": 150, "ramp": 4},
    "W5": {"clients": 16},
    "W5u": {"clients": 16},
}

PEERS = (
    _ours("txsse-stock", "txsse, --reactor=epoll", _twistd, "--reactor=epoll"),
    _ours("txsse", "txsse", _twistd),
    Peer(
        "nginx",
        "nginx",
        _found(".peers/usr/sbin/nginx", path="nginx"),
        lambda program, place: (program, "-p", str(place.directory), "-e", "stderr", "-c", place.fill("nginx.conf")),
        version=("-v",),
        quick=True,
    ),
    Peer(
        "haproxy",
        "HAProxy",
        _found(".peers/usr/sbin/haproxy", path="haproxy"),
        lambda program, place: (program, "-db", "-f", place.fill("haproxy.cfg")),
        version=("-v",),
        quick=True,
    ),
    Peer(
        "go",
        "Go httputil.ReverseProxy",
        _found("build/goproxy"),
        lambda program, place: (program, f"127.0.0.1:{place.port}", f"http://127.0.0.1:{place.upstream}"),
        version=("-version",),
        quick=True,
    ),
    Peer(
        "caddy",
        "Caddy",
        _found(".venv-peers/bin/caddy", ".peers/usr/bin/caddy", path="caddy"),
        lambda program, place: (program, "run", "--adapter", "caddyfile", "--config", place.fill("Caddyfile")),
        version=("version",),
        context=True,
    ),
    Peer(
        "envoy",
        "Envoy",
        _found(".venv-peers/lib/python*/site-packages/envoy/_bin/envoy", path="envoy"),
        lambda program, place: (
            program,
            "-c",
            place.fill("envoy.yaml"),
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "--log-level",
            "error",
        ),
        context=True,
    ),
    Peer(
        "aiohttp",
        "aiohttp",
        _python_of_peers("aiohttp", "uvloop"),
        _script("aiohttp_proxy.py"),
        distributions=("aiohttp", "uvloop"),
        context=True,
    ),
    Peer(
        "starlette",
        "starlette + httpx",
        _python_of_peers("starlette", "httpx", "uvicorn", "uvloop", "httptools"),
        _script("starlette_proxy.py"),
        distributions=("starlette", "httpx", "uvicorn", "uvloop"),
        lighter=_SLOW,
        context=True,
    ),
    Peer(
        "klein-treq",
        "Klein + treq splice",
        lambda: sys.executable,
        _script("klein_treq.py"),
        distributions=("klein", "treq", "twisted"),
        lighter={"W4": {"clients": 2000, "ramp": 4}},
        context=True,
    ),
    Peer(
        "litellm",
        "LiteLLM, 1 worker",
        _found(".venv-peers/bin/litellm"),
        _litellm("litellm.yaml"),
        distributions=("litellm",),
        slow_start=True,
        loose=True,
        lighter=_SLOWEST,
        environment={"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        variants={"cache": _litellm("litellm-cache.yaml")},
    ),
)
