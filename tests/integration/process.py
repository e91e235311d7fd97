"""The proxy as its users run it: a process of its own, a TOML file, loopback ports. Whoever starts one here stops it, by its own pid."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from string import Template

STARTUP = 60.0
SHUTDOWN = 30.0  # before a harder signal; a dozen interpreters that end at once need seconds on two cores
COMPLAINTS = ("Traceback", "Unhandled", "an exchange broke")

TIMES = """
[route.hold]
timeout = "300ms"
commit_after = "50ms"
[route.keepalive]
commit_after = "50ms"
interval = "100ms"
heartbeat = 0
"""
"""The policy of most tests: an exchange that takes minutes in life is over in half a second."""

CALM = """
[route.hold]
timeout = "60s"
commit_after = "60s"
[route.keepalive]
commit_after = "60s"
interval = "60s"
heartbeat = 0
"""
"""For those that read upstream's own bytes: nothing of ours comes in between, however long a busy machine makes it take."""

PATIENT = CALM.replace('interval = "60s"', 'interval = "100ms"')
"""For those whose head is upstream's, whenever it comes, and that are kept alive after it."""


class Ports(dict[str, int]):
    """Free ports by name, taken when first asked for (``$name`` in a configuration) and nobody else's until they are released."""

    def __init__(self, known: Mapping[str, int] | None = None) -> None:
        super().__init__(known or {})
        self._reserved: list[socket.socket] = []

    def __missing__(self, name: str) -> int:
        reserved, self[name] = reserve()
        self._reserved.append(reserved)
        return self[name]

    def release(self) -> None:
        for each in self._reserved:
            each.close()


def reserve() -> tuple[socket.socket, int]:
    """A port that nobody is given before the socket is closed: a proxy needs a second to listen, a backend comes and goes."""
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    return reserved, reserved.getsockname()[1]


def server(more: str = "") -> str:
    """The ``[server]`` table that every configuration begins with."""
    return f'[server]\nlisten = ["tcp:$listen:interface=127.0.0.1"]\nadmin = "tcp:$admin:interface=127.0.0.1"\n{more}\n'


def upstream(name: str = "main", more: str = 'probe = { preset = "tcp", interval = "50ms" }', port: str = "main") -> str:
    """An ``[[upstream]]`` table; *port* is the name of its port."""
    return f'[[upstream]]\nname = "{name}"\nurl = "http://127.0.0.1:${port}"\n{more}\n'


def route(name: str = "", to: str = "main", more: str = TIMES) -> str:
    """A ``[[route]]`` table; a named one takes the requests with that name in the field ``X-Case``."""
    match = f'match = {{ header = {{ X-Case = "{name}" }} }}\nname = "{name}"\n' if name else ""
    return f'[[route]]\nupstream = "{to}"\n{match}{more}\n'


class Process:
    """A child process whose output is kept in a file."""

    def __init__(self, command: list[str], folder: Path, name: str) -> None:
        self.path = folder / f"{name}.log"
        self._asked = False
        with self.path.open("wb") as output:
            self._child = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, stdin=subprocess.DEVNULL)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        return self._child.poll()

    @property
    def log(self) -> str:
        """Everything it has printed so far."""
        return self.path.read_text("utf-8", "replace")

    def wait_until_open(self, port: int) -> None:
        deadline = time.monotonic() + STARTUP
        while not _is_open(port):
            assert self.returncode is None, f"ended with {self.returncode}:\n{self.log}"
            assert time.monotonic() < deadline, f"does not listen on {port}:\n{self.log}"
            time.sleep(0.01)

    def signal(self, number: signal.Signals) -> None:
        if self.returncode is None:
            self._child.send_signal(number)

    def stop(self) -> int:
        """SIGTERM, twice if the first one only drains, then SIGKILL; returns the exit status."""
        self.ask_to_stop()
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                return self._child.wait(SHUTDOWN)
            except subprocess.TimeoutExpired:
                self.signal(number)
        return self._child.wait(SHUTDOWN)

    def ask_to_stop(self) -> None:
        """The first SIGTERM, sent once."""
        if not self._asked:
            self._asked = True
            self.signal(signal.SIGTERM)

    def memory(self) -> int:
        """Resident bytes now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))


class Proxy(Process):
    """``twistd -n sse-proxy --config FILE``, listening when the constructor returns.

    :param ports: those that are known already.
    """

    def __init__(self, configuration: str, folder: Path, name: str = "proxy", ports: Mapping[str, int] | None = None) -> None:
        self.ports = Ports(ports)
        self.file = folder / f"{name}.toml"
        self.configure(configuration)
        super().__init__(twistd("--config", str(self.file)), folder, name)
        try:
            self.wait_until_open(self.ports["admin"])
            self._wait_until_it_runs()
        except BaseException:
            self.stop()
            raise

    def _wait_until_it_runs(self) -> None:
        """An answer tells that its reactor turns and its signal handlers are installed; an open port does not."""
        with socket.create_connection(("127.0.0.1", self.ports["admin"]), STARTUP) as admin:
            admin.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            admin.settimeout(STARTUP)
            answer = admin.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200"), f"{answer!r}\n{self.log}"

    def stop(self) -> int:
        try:
            return super().stop()
        finally:
            self.ports.release()

    def configure(self, configuration: str) -> None:
        """Write the file; a running proxy reads it again on SIGHUP."""
        self.file.write_text(Template(configuration).substitute(self.ports))

    @property
    def port(self) -> int:
        return self.ports["listen"]

    @property
    def complaints(self) -> list[str]:
        return [line for line in self.log.splitlines() if any(word in line for word in COMPLAINTS)]


def twistd(*options: str) -> list[str]:
    return [str(Path(sys.executable).with_name("twistd")), "--nodaemon", "--pidfile=", "sse-proxy", *options]


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
