"""A Redis of one test: its own process, port, socket and folder."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

from txsse.testing import free_port

PROGRAM = shutil.which("redis-server")


class RedisServer:
    """Stopped by :meth:`stop`, whatever happened to it in between.

    :param options: more of its command line.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.socket = folder / "redis.sock"
        self.url = f"redis://127.0.0.1:{self.port}"
        self._options = options
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        """Returns when it takes connections."""
        assert PROGRAM is not None
        where = ["--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.socket), "--dir", str(self.folder)]
        command = [PROGRAM, *where, "--save", "", "--appendonly", "no", "--daemonize", "no", *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        said = []
        for line in self._process.stdout:
            said.append(line)
            if "Ready to accept connections" in line:
                return
        self.stop()
        raise AssertionError("redis-server did not start:\n" + "".join(said))

    def do(self, *command: str) -> str:
        """Run a command with ``redis-cli`` and return what it prints."""
        line = [str(Path(PROGRAM or "").with_name("redis-cli")), "-p", str(self.port), *command]
        return subprocess.run(line, check=True, capture_output=True, text=True, timeout=60).stdout

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """At once, and without saving anything. Idempotent."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
