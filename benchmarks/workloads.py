"""What is measured, one function for each kind of load. Every figure of a proxy comes from its whole process tree."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs
from peers import HERE, KEY, Peer, Place, held
from processes import Pinned, cpu_seconds, free_port, resident, tree, wait_until

Figures: TypeAlias = dict[str, float]
Options: TypeAlias = Mapping[str, Any]

WARM_UP: Final = ({"clients": 8, "seconds": 0.3}, {"clients": 8, "seconds": 0.2, "events": 0})
SETTLE: Final = 1.0  # seconds before memory is read
START_TIMEOUT: Final = 90.0
LOAD_TIMEOUT: Final = 60.0


@attrs.frozen
class Workload:
    """:ivar fresh: it is measured on a process that has done nothing else."""

    name: str
    what: str
    options: Options
    fresh: bool = False


WORKLOADS: Final = (
    Workload("W0", "one client, 10 events back to back", {"clients": 1, "seconds": 0.5}),
    Workload("W1", "64 clients, 10 events back to back", {"clients": 64, "seconds": 1}),
    Workload("W2", "500 streams of 100 events, one each 20 ms", {"clients": 500, "requests": 500, "events": 100, "gap": 20000, "ramp": 1}),
    Workload("W3", "8 clients, 4096 events a stream, 64 per send", {"clients": 8, "events": 4096, "batch": 64, "seconds": 0.7}),
    Workload("W5", "64 clients, small JSON POST", {"clients": 64, "events": 0, "seconds": 1}),
    Workload("W4", "5000 idle streams", {"clients": 5000, "events": 2, "gap": 3600000000, "ramp": 1.5, "keep": 1}, fresh=True),
)


@attrs.frozen
class Bench:
    """Where everything runs.

    :ivar work: a directory for the configurations and logs of this run.
    """

    work: Path
    proxy_core: int
    load_core: int

    @contextmanager
    def upstream(self, port: int = 0) -> Iterator[int]:
        with Pinned([str(HERE / "build" / "upstream"), str(port)], self.load_core, talk=True) as process:
            assert process.process.stdout is not None
            yield int(process.process.stdout.readline().split()[1])

    @contextmanager
    def proxy(self, peer: Peer, program: str, upstream: int, *, held_streams: bool = False) -> Iterator[tuple[Pinned, Place, float]]:
        """A running proxy, where it listens, and the seconds from its start until it did."""
        directory = self.work / peer.name
        directory.mkdir(exist_ok=True)
        place = Place(free_port(), upstream, free_port(), directory)
        command = held(program, place) if held_streams else peer.command(program, place)
        log = directory / "log"
        with Pinned(command, self.proxy_core, log=log, environment=peer.surroundings(program), directory=directory) as process:
            started = wait_until(peer.name, lambda: listens(place.port), START_TIMEOUT, process)
            if not held_streams:
                wait_until(peer.name, lambda: answers(place.port), START_TIMEOUT, process)
            yield process, place, started

    def load(self, port: int, options: Options) -> dict[str, Any]:
        """Run the load generator to its end."""
        with self.loading(port, options) as process:
            return _result(process)

    @contextmanager
    def loading(self, port: int, options: Options) -> Iterator[Pinned]:
        arguments = [f"{name}={value}" for name, value in {"limit": LOAD_TIMEOUT, **options}.items()]
        command = [str(HERE / "build" / "load"), str(port), *arguments]
        with Pinned(command, self.load_core, talk=True, environment={**os.environ, "BENCH_KEY": KEY}) as process:
            yield process

    def measure(self, workload: Workload, peer: Peer, process: Pinned | None, port: int) -> Figures:
        """One workload through one proxy, or with no process straight to the upstream."""
        options = {**workload.options, **peer.lighter.get(workload.name, {}), "loose": int(peer.loose)}
        if workload.options.get("keep"):
            assert process is not None
            return self._idle(process, port, options)
        before = cpu_seconds(process.pid) if process else 0.0
        result = self.load(port, options)
        cpu = (cpu_seconds(process.pid) if process else 0.0) - before
        figures = _figures(result)
        if process and result["requests"]:
            figures["cpu_us_per_request"] = cpu * 1e6 / result["requests"]
            figures["core"] = cpu / result["seconds"]
            if result["events"]:
                figures["cpu_us_per_event"] = cpu * 1e6 / result["events"]
        return figures

    def _idle(self, process: Pinned, port: int, options: Options) -> Figures:
        """Open streams that have had their first event."""
        time.sleep(SETTLE)
        base = resident(process.pid)
        with self.loading(port, options) as load:
            _expect(load, "ready")
            time.sleep(SETTLE)
            full = resident(process.pid)
            _say(load)
            figures = _figures(_result(load))
        clients = options["clients"]
        return {**figures, "base_mib": base / 2**20, "kib_per_stream": (full - base) / 1024 / clients, "streams": clients}

    def warm_up(self, peer: Peer, port: int) -> None:
        for options in WARM_UP:
            self.load(port, {**options, "loose": int(peer.loose)})

    def held(self, peer: Peer, program: str, clients: int, watched: float) -> Figures:
        """Streams that wait for a closed port, *watched* seconds of them waiting, and their release when it opens."""
        closed = free_port()
        with self.proxy(peer, program, closed, held_streams=True) as (process, place, _):
            time.sleep(SETTLE)
            base = resident(process.pid)
            with self.loading(place.port, {"clients": clients, "events": 5, "pad": 512, "comments": 1, "ramp": 4}) as load:
                _expect(load, "held")
                time.sleep(6)  # each has had its first keepalive
                before, began = cpu_seconds(process.pid), time.monotonic()
                time.sleep(watched)
                core = (cpu_seconds(process.pid) - before) / (time.monotonic() - began)
                full = resident(process.pid)
                with self.upstream(closed):
                    opened = time.monotonic()
                    result = _result(load)
        figures = _figures(result)
        return {
            **figures,
            "streams": clients,
            "core": core,
            "base_mib": base / 2**20,
            "kib_per_stream": (full - base) / 1024 / clients,
            "comments": result["comments"],
            "first_release_s": result["first_first_ns"] / 1e9 - opened,
            "last_release_s": result["last_first_ns"] / 1e9 - opened,
        }

    def system_calls(self, workload: Workload, peer: Peer, process: Pinned, port: int) -> float:
        """System calls of a proxy per event, in W1 and W5 per request: from the kernel's tracepoint, else from strace, under which
        a proxy is slower and so finds more to do each time it wakes."""
        options = {**workload.options, **peer.lighter.get(workload.name, {}), "loose": int(peer.loose)}
        told = self.work / "system-calls"
        told.unlink(missing_ok=True)
        if has_perf():
            threads = [int(task.name) for one in tree(process.pid) for task in Path(f"/proc/{one}/task").iterdir()]
            command = ["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "-o", str(told), "-t", ",".join(map(str, threads))]
        else:
            command = ["strace", "-c", "-f", "-q", "-o", str(told), *(f"-p{one}" for one in tree(process.pid))]
        with Pinned(command, self.load_core, log=self.work / "system-calls.log") as counter:
            time.sleep(0.5)
            result = self.load(port, options)
            counter.process.send_signal(signal.SIGINT)
            counter.process.wait(10)
        lines = told.read_text().splitlines()
        counts = [line.split(",")[0] for line in lines if "sys_enter" in line]  # perf
        counts += [line.split()[3] for line in lines if line.endswith(" total")]  # strace
        return int(counts[0]) / _unit(workload, result)

    def instructions(self, workload: Workload, peer: Peer, program: str, upstream: int) -> float:
        """Instructions per request: of two runs of different length under valgrind, the difference."""
        short, long = (self._instructions(peer, program, upstream, workload, requests) for requests in (100, 400))
        return (long[0] - short[0]) / (long[1] - short[1])

    def _instructions(self, peer: Peer, program: str, upstream: int, workload: Workload, requests: int) -> tuple[int, int]:
        directory = self.work / f"{peer.name}-valgrind"
        directory.mkdir(exist_ok=True)
        place = Place(free_port(), upstream, free_port(), directory)
        command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", "--trace-children=no"]
        script = [*peer.command(program, place)]
        if peer.distributions and "python" not in Path(program).name:
            script.insert(0, str(Path(program).parent / "python"))  # valgrind would not follow the first line of a script
        log = directory / f"log-{requests}"
        log.unlink(missing_ok=True)
        environment = {**peer.surroundings(program), "PYTHONHASHSEED": "0"}
        with Pinned([*command, *script], self.proxy_core, log=log, environment=environment, directory=directory) as process:
            wait_until("valgrind", lambda: answers(place.port), START_TIMEOUT, process)
            carried = {**workload.options, "clients": 8, "requests": requests, "ramp": 0, "gap": 0}
            result = self.load(place.port, carried)
        # A line for each process of the tree, when it ends.
        counts = re.findall(r"I\s+refs:\s+([\d,]+)", log.read_text(errors="replace"))
        if not counts:
            raise RuntimeError("valgrind gave no count")
        return sum(int(count.replace(",", "")) for count in counts), _unit(workload, result)


def has_perf() -> bool:
    """Whether perf is here, and may count system calls."""
    if shutil.which("perf") is None:
        return False
    tried = subprocess.run(["perf", "stat", "-e", "raw_syscalls:sys_enter", "true"], capture_output=True, timeout=20, check=False)
    return tried.returncode == 0 and b"not supported" not in tried.stderr


def listens(port: int) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        connection.connect()
    except OSError:
        return False
    connection.close()
    return True


def answers(port: int) -> bool:
    """Whether one JSON request gets through."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    body = {
        "model": "bench",
        "stream": False,
        "messages": [{"role": "user", "content": "bench id=00000000 n=000000 gap=0000000000 batch=0001"}],
    }
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return response.status == 200


def _unit(workload: Workload, result: Mapping[str, Any]) -> int:
    """What instructions and system calls are counted over: events where a stream has many of them, else requests."""
    return int(result["events" if workload.options.get("events", 10) >= 100 else "requests"])


def _expect(load: Pinned, word: str) -> None:
    assert load.process.stdout is not None
    said = load.process.stdout.readline().decode().strip()
    if said != word:
        raise RuntimeError(f"the load generator said {said!r} and not {word!r}")


def _say(load: Pinned) -> None:
    assert load.process.stdin is not None
    load.process.stdin.write(b"\n")
    load.process.stdin.flush()


def _result(load: Pinned) -> dict[str, Any]:
    assert load.process.stdout is not None
    lines = load.process.stdout.read().decode().strip().splitlines()
    load.process.wait(10)
    if not lines:
        raise RuntimeError(f"the load generator ended with status {load.process.returncode}")
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def _figures(result: Mapping[str, Any]) -> Figures:
    figures = {name: float(value) for name, value in result.items() if name.endswith("_us")}
    figures["bad"] = float(result["failed"] + result["wrong"] + result["timed_out"])
    figures["requests_per_s"] = result["requests"] / result["seconds"]
    figures["events_per_s"] = result["events"] / result["seconds"]
    figures["mb_per_s"] = result["bytes"] / result["seconds"] / 1e6
    return figures
