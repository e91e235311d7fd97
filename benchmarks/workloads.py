"""What is measured, one function for each kind of load. Every figure of a proxy comes from its whole process tree."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs
from peers import HERE, KEY, Peer, Place
from processes import Pinned, cpu_seconds, free_port, resident, usage, wait_until

Figures: TypeAlias = dict[str, float]
Options: TypeAlias = Mapping[str, Any]

WARM_UP: Final = ({"clients": 8, "seconds": 0.3}, {"clients": 8, "seconds": 0.2, "events": 0})
SETTLE: Final = 0.7  # seconds before memory is read
START_TIMEOUT: Final = 90.0
LOAD_TIMEOUT: Final = 60.0
HELD_COMMENT: Final = 5  # seconds between two comments of a stream that waits, as in proxies/txsse-held.toml
HELD_WATCHED: Final = 10  # seconds over which their cost is taken


@attrs.frozen
class Workload:
    """:ivar fresh: it is measured on a process that has done nothing else.
    :ivar quick: it is part of ``make bench-quick``.
    """

    name: str
    what: str
    options: Options
    fresh: bool = False
    quick: bool = True

    @property
    def unit(self) -> str:
        """What instructions and system calls are counted over: events where a stream has many of them, else requests."""
        return "events" if self.options.get("events", 10) >= 100 else "requests"


_W1: Final = {"clients": 64, "seconds": 0.8}
_W5: Final = {"clients": 64, "events": 0, "seconds": 0.8}

WORKLOADS: Final = (
    Workload("W0", "one client, streams of 10 events back to back", {"clients": 1, "seconds": 0.3}, quick=False),
    Workload("W1", "64 clients, streams of 10 events back to back, each event a send of its own", _W1),
    Workload("W1u", "as W1, no two requests and no two response heads alike", {**_W1, "unique": 1}, quick=False),
    Workload("W2", "500 streams of 100 events, one each 20 ms", {"clients": 500, "requests": 500, "events": 100, "gap": 20000, "ramp": 1}),
    Workload(
        "W3", "8 clients, streams of 4096 events, 64 in each send", {"clients": 8, "events": 4096, "batch": 64, "seconds": 0.6}, quick=False
    ),
    Workload("W5", "64 clients, small JSON requests and answers", _W5),
    Workload("W5u", "as W5, no two requests and no two response heads alike", {**_W5, "unique": 1}, quick=False),
    Workload("W4", "5000 idle streams", {"clients": 5000, "events": 2, "gap": 3600000000, "ramp": 1.5, "keep": 1}, fresh=True),
)


@attrs.frozen
class Upstream:
    """The running mock."""

    port: int
    process: Pinned


@attrs.frozen
class Bench:
    """Where everything runs.

    :ivar work: a directory for the configurations and logs of this run.
    """

    work: Path
    proxy_core: int
    load_core: int

    @contextmanager
    def upstream(self, port: int = 0) -> Iterator[Upstream]:
        with Pinned([str(HERE / "build" / "upstream"), str(port)], self.load_core, talk=True) as process:
            assert process.process.stdout is not None
            yield Upstream(int(process.process.stdout.readline().split()[1]), process)

    @contextmanager
    def proxy(self, peer: Peer, program: str, upstream: int, variant: str = "") -> Iterator[tuple[Pinned, Place, float]]:
        """A running proxy that listens: its process, its place, and the seconds from its start until it did."""
        directory = self.work / peer.name
        directory.mkdir(exist_ok=True)
        place = Place(free_port(), upstream, free_port(), directory)
        command = (peer.variants[variant] if variant else peer.command)(program, place)
        log = directory / "log"
        with Pinned(command, self.proxy_core, log=log, environment=peer.surroundings(program), directory=directory) as process:
            started = wait_until(peer.name, lambda: listens(place.port), START_TIMEOUT, process)
            yield process, place, started

    def await_answer(self, peer: Peer, process: Pinned, place: Place) -> None:
        """A proxy that listens need not serve yet."""
        wait_until(peer.name, lambda: answers(place.port), START_TIMEOUT, process)

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

    def options(self, workload: Workload, peer: Peer) -> Options:
        return {**workload.options, **peer.lighter.get(workload.name, {}), "loose": int(peer.loose)}

    def measure(self, workload: Workload, peer: Peer, process: Pinned | None, port: int, upstream: Upstream) -> Figures:
        """One workload through one proxy, or with no process straight to the upstream.

        ``core`` is what the proxy took of its core, ``load_core`` what load generator and upstream took of theirs, ``waited`` how long
        the proxy was kept from its core, all as shares of the time; ``kernel`` is the kernel's share of the proxy's CPU time.
        """
        options = self.options(workload, peer)
        if workload.options.get("keep"):
            assert process is not None
            return self._idle(process, port, options)
        before = usage(process.pid) if process else None
        upstream_before = cpu_seconds(upstream.process.pid)
        result = self.load(port, options)
        spent = usage(process.pid) - before if process and before else None
        load_cpu = result["cpu_s"] + cpu_seconds(upstream.process.pid) - upstream_before
        figures = {**_figures(result), "load_core": min(1.0, load_cpu / result["seconds"])}
        if spent and result["requests"]:
            figures["cpu_us_per_request"] = spent.cpu * 1e6 / result["requests"]
            figures["core"] = spent.cpu / result["seconds"]
            figures["kernel"] = spent.kernel_share
            figures["waited"] = spent.waited / result["seconds"]
            if result["events"]:
                figures["cpu_us_per_event"] = spent.cpu * 1e6 / result["events"]
        return figures

    def _idle(self, process: Pinned, port: int, options: Options) -> Figures:
        """Open streams that have had their first event; what a proxy does with its very first ones is not counted."""
        time.sleep(SETTLE)
        base = resident(process.pid)
        with self.loading(port, options) as load:
            _expect(load, "ready")
            time.sleep(SETTLE)
            full = resident(process.pid)
            _say(load)
            figures = _figures(_result(load))
        clients = options["clients"]
        return {**figures, "full_mib": full / 2**20, "kib_per_stream": (full - base) / 1024 / clients, "streams": clients}

    def idle(self, process: Pinned) -> Figures:
        """The memory of a proxy that has started and served nothing."""
        time.sleep(SETTLE)
        return {"mib": resident(process.pid) / 2**20, "bad": 0}

    def warm_up(self, peer: Peer, port: int) -> None:
        for options in WARM_UP:
            self.load(port, {**options, "loose": int(peer.loose)})

    def held(self, peer: Peer, program: str, clients: int) -> Figures:
        """Streams that wait for a closed port, their comments over some seconds, and their release when it opens."""
        closed = free_port()
        with self.proxy(peer, program, closed, "held") as (process, place, _):
            time.sleep(SETTLE)
            base = resident(process.pid)
            with self.loading(place.port, {"clients": clients, "events": 5, "pad": 512, "comments": 1, "ramp": 4}) as load:
                _expect(load, "held")
                time.sleep(HELD_COMMENT)  # the last one has had its first comment, the others more
                before, began = cpu_seconds(process.pid), time.monotonic()
                time.sleep(HELD_WATCHED)
                core = (cpu_seconds(process.pid) - before) / (time.monotonic() - began)
                full = resident(process.pid)
                with self.upstream(closed):
                    opened = time.monotonic()
                    result = _result(load)
        return {
            **_figures(result),
            "streams": clients,
            "core": core,
            "base_mib": base / 2**20,
            "kib_per_stream": (full - base) / 1024 / clients,
            "comments": result["comments"],
            "first_release_s": result["first_first_ns"] / 1e9 - opened,
            "last_release_s": result["last_first_ns"] / 1e9 - opened,
        }


def listens(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.connect()
    except OSError:
        return False
    finally:
        connection.close()
    return True


def answers(port: int) -> bool:
    """Whether one JSON request gets through."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    body = {"model": "bench", "stream": False, "messages": [{"role": "user", "content": "hello"}]}
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
