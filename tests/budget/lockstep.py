"""The real process, one client of it and its backend, one step at a time.

The next event is sent only when the last one has reached the client, so each of them wakes the proxy once: what it costs does not depend
on how fast the machine is. Under load several arrive together and cost less.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.budget import scenarios
from tests.integration.process import Process
from txsse.testing import free_port

TIMEOUT: Final = 60.0
FEW, MANY = 10, 50  # operations
TRIES: Final = 5  # the least of them: a tick of the proxy's clocks may fall into one

CONFIGURATION: Final = """
server = {{ listen = ["tcp:{port}:interface=127.0.0.1"], admin = "none" }}
[[upstream]]
name = "model"
url = "http://127.0.0.1:{upstream}"
probe = {{ preset = "none" }}
"""


def reactors() -> list[str]:
    """Those to be looked at: Twisted's own, and ours."""
    return ["epoll", "txsse"]


def twistd() -> str:
    return str(Path(sys.executable).with_name("twistd"))


class Talk:
    """What client and backend say to each other through the proxy; one connection each, kept alive."""

    def __init__(self, listener: socket.socket, client: socket.socket) -> None:
        self._listener = listener
        self._client = client
        self._backend: socket.socket | None = None

    def close(self) -> None:
        for each in (self._client, self._backend):
            if each is not None:
                each.close()

    def _ask(self, whole: bytes) -> None:
        self._client.sendall(whole)
        if self._backend is None:
            self._backend = self._listener.accept()[0]
            self._backend.settimeout(TIMEOUT)
        self._until(self._backend, b'"}]}')

    def _answer(self, data: bytes, end: bytes) -> None:
        assert self._backend is not None
        self._backend.sendall(data)
        self._until(self._client, end)

    def _until(self, reader: socket.socket, end: bytes) -> None:
        data = b""
        while not data.endswith(end):
            more = reader.recv(65536)
            assert more, f"closed after {data!r}"
            data += more

    def begin_stream(self) -> None:
        self._ask(scenarios.request(0, stream=True))
        first = scenarios.chunk(scenarios.EVENT % 0)
        self._answer(scenarios.STREAM_HEAD + first, first)

    def events(self, number: int) -> None:
        for each in range(number):
            event = scenarios.chunk(scenarios.EVENT % each)
            self._answer(event, event)

    def end_stream(self) -> None:
        self._answer(scenarios.LAST, scenarios.LAST)

    def streams(self, number: int) -> None:
        """Streams whose answer comes in one piece."""
        events = b"".join(scenarios.chunk(scenarios.EVENT % each) for each in range(10))
        for each in range(number):
            self._ask(scenarios.request(each, stream=True))
            self._answer(scenarios.STREAM_HEAD + events + scenarios.LAST, scenarios.LAST)

    def json_requests(self, number: int) -> None:
        for each in range(number):
            self._ask(scenarios.request(each, stream=False))
            answer = scenarios.ANSWER % each
            self._answer(scenarios.JSON_HEAD % (b"", len(answer)) + answer, answer)

    def costs(self, read: Callable[[], int]) -> dict[str, float]:
        """What one operation of each kind adds to what *read* tells."""
        found = {"JSON request": _each(self.json_requests, read), "stream of 10 events in one read": _each(self.streams, read)}
        self.begin_stream()
        found["event"] = _each(self.events, read)
        self.end_stream()
        return found


def _each(work: Callable[[int], None], read: Callable[[], int]) -> float:
    def least(number: int) -> int:
        tries = []
        for _ in range(TRIES):
            before = read()
            work(number)
            tries.append(read() - before)
        return min(tries)

    work(FEW)
    # The difference: reading may have its own part in each of the two.
    return round((least(MANY) - least(FEW)) / (MANY - FEW), 2)


@contextmanager
def running(folder: Path, reactor: str, wrapper: Sequence[str], stop: Callable[[Process], object]) -> Iterator[tuple[Talk, Process]]:
    """A proxy whose twistd is started by *wrapper*, and ended by *stop*."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(TIMEOUT)
        port = free_port()
        file = folder / f"{reactor}.toml"
        file.write_text(CONFIGURATION.format(port=port, upstream=listener.getsockname()[1]))
        options = [f"--reactor={reactor}", "--nodaemon", "--pidfile=", "sse-proxy", "--config", str(file)]
        process = Process([*wrapper, *options], folder, reactor)
        try:
            process.wait_until_open(port)
            with socket.create_connection(("127.0.0.1", port), TIMEOUT) as client:
                talk = Talk(listener, client)
                try:
                    yield talk, process
                finally:
                    talk.close()
        finally:
            stop(process)
