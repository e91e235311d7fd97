"""What each part adds to the memory of an idle proxy, and what it takes to start: fresh processes, medians, all in one run.

    python benchmarks/memory.py [--rounds N] [--docs DIR]

Needs nothing but txsse. ``make bench-memory`` writes the tables into the documentation.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection
from importlib.metadata import version
from pathlib import Path
from statistics import median

import attrs
from processes import cpu_seconds, free_port, resident, rest, wait_until

MIB = 1024 * 1024

# Each line is a process of its own, which imports what stands in this and in all lines before it.
LAYERS = (
    ("Python", ""),
    ("Twisted and a reactor, without pyOpenSSL", "sys.modules['OpenSSL'] = None; from twisted.internet import reactor, endpoints"),
    ("``twistd``, with the plugins it looks through", "import twisted.scripts._twistd_unix, twisted.plugin; {}"),
    ("cattrs and tomllib (attrs comes with Twisted)", "import attrs, cattrs, tomllib"),
    ("httptools", "import httptools"),
    ("txsse", "import txsse.tap, txsse.service, txsse.signals"),
)
PLUGINS = "from twisted.application.service import IServiceMaker; [*twisted.plugin.getPlugins(IServiceMaker)]"

# Each on top of all these layers, in a process of its own.
LATER = (
    ("twisted.web, Klein and werkzeug", "the first connection to the admin listener", "import txsse.admin.site"),
    ("prometheus_client", "the first scrape of ``/metrics``", "import txsse.admin.exposition"),
    ("treq", "the first probe that asks for a page", "import txsse.upstream.fetch"),
    ("pyOpenSSL and cryptography", "the start, or a reload, with TLS in the configuration", "show_tls(); import txsse.upstream.tls"),
)

RSS = "next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmRSS')) * 1024"


@attrs.define
class Figures:
    """What one line of a table was measured to be, in all rounds."""

    values: list[float] = attrs.field(factory=list)

    def cell(self, digits: int = 1) -> str:
        low, high = min(self.values), max(self.values)
        return f"{median(self.values):.{digits}f} ({low:.{digits}f} - {high:.{digits}f})"


class Table:
    """Figures by line and column, in the order in which they came."""

    def __init__(self, title: str, columns: Sequence[str]) -> None:
        self.title = title
        self.columns = columns
        self.rows: dict[tuple[str, ...], list[Figures]] = {}

    def add(self, *words: str, figures: Sequence[float]) -> None:
        row = self.rows.setdefault(words, [Figures() for _ in figures])
        for each, value in zip(row, figures, strict=True):
            each.values.append(value)

    def lines(self) -> Iterator[str]:
        yield from (f".. list-table:: {self.title}", "   :header-rows: 1", "")
        rows = [self.columns, *([*words, *(each.cell(2 if each.values[0] < 1 else 1) for each in row)] for words, row in self.rows.items())]
        for row in rows:
            yield from (f"   {'*' if number == 0 else ' '} - {cell}" for number, cell in enumerate(row))
        yield ""


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the memory of an idle proxy.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--docs", type=Path, help="write the tables into this directory's benchmarks/memory.txt")
    options = parser.parse_args()
    layers = Table("What is imported at every start", ("", "MiB so far", "adds"))
    later = Table("What is imported when it is used first", ("", "comes with", "adds MiB"))
    states = Table("The process: ``twistd sse-proxy --upstream URL``", ("", "MiB"))
    starts = Table("From the start to listening", ("", "CPU time, s", "time, s"))
    with tempfile.TemporaryDirectory(prefix="txsse-memory-") as folder:
        work = Path(folder)
        # As installed: with bytecode, wherever it may be written; the first start of all makes it and is not counted.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        environment |= {"PYTHONPYCACHEPREFIX": str(work / "bytecode"), "PYTHONUNBUFFERED": "1"}
        warm_up(work, environment)
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            measure_imports(layers, later, environment)
            measure_processes(states, starts, work, environment)
    text = "\n".join(line for table in (layers, later, states, starts) for line in table.lines())
    print(text)
    if options.docs:
        path = options.docs / "benchmarks" / "memory.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{header(options.rounds)}\n\n{text}")
        print(path, file=sys.stderr)
    return 0


def header(rounds: int) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("Twisted", "klein", "treq", "pyOpenSSL", "prometheus_client"))
    return f"Medians of {rounds} rounds, in parentheses the least and the most. Linux, Python {platform.python_version()}, {versions}."


def run(code: str, environment: dict[str, str]) -> list[float]:
    """The numbers that an interpreter prints."""
    ended = subprocess.run([sys.executable, "-c", "import sys\n" + code], env=environment, capture_output=True, text=True, check=True)
    return [float(word) for word in ended.stdout.split()]


def imports_up_to(count: int) -> str:
    return "\n".join(code.format(PLUGINS) for _, code in LAYERS[:count])


def measure_imports(layers: Table, later: Table, environment: dict[str, str]) -> None:
    before = 0.0
    for number, (name, _) in enumerate(LAYERS):
        (size,) = run(f"{imports_up_to(number + 1)}\nprint({RSS})", environment)
        layers.add(name, figures=(size / MIB, (size - before) / MIB))
        before = size
    for name, when, code in LATER:
        start = f"{imports_up_to(len(LAYERS))}\nfrom txsse._without_tls import show_tls\nbefore = {RSS}"
        low, high = run(f"{start}\n{code}\nprint(before, {RSS})", environment)
        later.add(name, when, figures=((high - low) / MIB,))


class Proxy:
    """``twistd sse-proxy`` with nothing behind it, listening when made. Stopped at the end of the block."""

    def __init__(self, work: Path, environment: dict[str, str], *options: str, scheme: str = "http", twistd: Sequence[str] = ()) -> None:
        self.port, self.admin = free_port(), free_port()
        command = [str(Path(sys.executable).with_name("twistd")), "--nodaemon", "--pidfile=", *twistd, "sse-proxy"]
        admin = f"--admin=tcp:{self.admin}:interface=127.0.0.1"
        listen = f"--listen=tcp:{self.port}:interface=127.0.0.1"
        began = time.monotonic()
        with (work / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, listen, f"--upstream={scheme}://127.0.0.1:{free_port()}", *(options or (admin,))],
                cwd=work,
                env=environment,
                stdout=log,
                stderr=log,
            )
        try:
            wait_until("txsse", self._is_open, 30)
        except BaseException:
            self.stop()
            raise
        self.started = time.monotonic() - began
        self.cpu = cpu_seconds(self._process.pid)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _is_open(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"ended with status {self._process.returncode}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def size(self) -> float:
        """MiB when it has nothing left to do."""
        rest(self._process.pid)
        return resident(self._process.pid) / MIB

    def ask_admin(self, path: str) -> None:
        with contextlib.closing(HTTPConnection("127.0.0.1", self.admin, timeout=10)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{path}: {answer.status}")

    def hold_a_request(self) -> None:
        """Long enough for a probe; there is nothing behind the proxy."""
        with contextlib.closing(HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request("POST", "/v1/chat/completions", b"{}", {"Content-Type": "application/json"})
            time.sleep(0.5)


def warm_up(work: Path, environment: dict[str, str]) -> None:
    with Proxy(work, environment, scheme="https") as proxy:
        proxy.ask_admin("/metrics")
        proxy.hold_a_request()
    run(imports_up_to(len(LAYERS)), environment)


def measure_processes(states: Table, starts: Table, work: Path, environment: dict[str, str]) -> None:
    def started(name: str, proxy: Proxy) -> None:
        states.add(name, figures=(proxy.size,))
        starts.add(name, figures=(proxy.cpu, proxy.started))

    with Proxy(work, environment, "--admin=none") as proxy:
        started("``--admin none``", proxy)
    with Proxy(work, environment) as proxy:
        started("with the defaults", proxy)
        proxy.ask_admin("/healthz")
        states.add("after the first request to the admin listener", figures=(proxy.size,))
        proxy.ask_admin("/metrics")
        states.add("after that and the first scrape of ``/metrics``", figures=(proxy.size,))
        proxy.hold_a_request()
        states.add("after these and the first probe", figures=(proxy.size,))
    with Proxy(work, environment, "--admin=none", scheme="https") as proxy:
        started("``--admin none``, an https upstream (pyOpenSSL)", proxy)
    with Proxy(work, environment, scheme="https") as proxy:
        started("with the defaults, an https upstream (pyOpenSSL)", proxy)
        proxy.ask_admin("/metrics")
        proxy.hold_a_request()
        states.add("after the first scrape and the first probe, an https upstream (pyOpenSSL)", figures=(proxy.size,))
    with Proxy(work, environment, twistd=("--reactor=epoll",)) as proxy:
        started("with the defaults, ``twistd --reactor=epoll`` (pyOpenSSL)", proxy)


if __name__ == "__main__":
    sys.exit(main())
