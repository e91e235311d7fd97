"""What keeping answers costs, and what a hit takes; LiteLLM's cache beside ours.

    python benchmarks/cache.py [--rounds N] [--only hit,replay,recording,resuming,identical,bound] [--docs DIR]

``setup.sh`` comes first. ``make bench-cache`` does both and writes the table into the documentation (about 6 minutes).
"""

from __future__ import annotations

import argparse
import http.client
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import attrs
from page import list_table
from peers import HERE, PEERS, Place
from processes import Pinned, cpu_seconds, resident, rest
from report import markdown
from results import Spread, short
from workloads import Bench, Upstream

MIB: Final = 2**20
SAMPLE: Final = 0.05  # seconds between two looks at a process under load
STREAMS: Final = 10_000
MANY: Final = 100

HIT: Final = {"clients": 1, "events": 1, "seconds": 1, "same": 1}
REPLAY: Final = {"clients": 1, "events": 4000, "seconds": 1, "same": 1}
W2: Final = {"clients": 500, "requests": 500, "events": 100, "gap": 20000, "ramp": 1}
LONG: Final = {"clients": 250, "requests": 250, "events": 500, "gap": 10000, "ramp": 1}
BURSTS: Final = {"clients": 8, "requests": 100, "events": 4000, "batch": 64}
IDENTICAL: Final = {"clients": MANY, "requests": MANY, "events": 4000, "batch": 4, "gap": 1000, "same": 1}
RANDOM: Final = {"clients": 16, "requests": STREAMS, "events": 4000, "batch": 64, "vary": 1}
RECORDED: Final = (
    ("W2, streams of 100 events", W2, "<= 10"),
    ("250 streams of 500 events, one each 10 ms", LONG, "<= 10"),
    ("Streams of 4000 events, 64 in each send", BURSTS, ""),
)
"""What it is, its options, and the bar for what recording adds."""
RESUMED: Final = RECORDED[:2]

CACHING: Final = "txsse"
RELAYING: Final = "txsse, cache off"
RESUMING: Final = "txsse, resume"
NUMBERING: Final = "txsse, resume with ids"
LITELLM: Final = "LiteLLM"
STARTED: Final = {
    CACHING: ("txsse", "cache"),
    RELAYING: ("txsse", ""),
    RESUMING: ("txsse", "resume"),
    NUMBERING: ("txsse", "ids"),
    LITELLM: ("litellm", "cache"),
}
"""Which peer each of them is, and in which variant."""


class Figures:
    """What was measured, row by row and by whose it is; the bars that there are."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, list[float]]] = {}
        self._bars: dict[str, str] = {}

    def add(self, what: str, whose: str, value: float, bar: str = "") -> None:
        self._rows.setdefault(what, {}).setdefault(whose, []).append(value)
        self._bars[what] = bar
        print(f"    {what}, {whose}: {short(value)}", file=sys.stderr, flush=True)

    def table(self) -> tuple[list[str], list[list[str]]]:
        rows = [
            [what, self._bars[what], *(str(Spread.of(row.get(name, [])) or "") for name in STARTED)] for what, row in self._rows.items()
        ]
        return ["", "bar", *STARTED], rows


@attrs.frozen
class Running:
    """A proxy at work."""

    name: str
    process: Pinned
    place: Place

    @property
    def resident(self) -> int:
        """Bytes."""
        return resident(self.process.pid)

    def metric(self, name: str) -> float:
        text = _get(self.place.admin, "/metrics")
        value = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
        if value is None:
            raise RuntimeError(f"there is no {name} in the metrics")
        return float(value[1])


class Run:
    """One run of everything that is asked for."""

    def __init__(self, bench: Bench, upstream: Upstream, figures: Figures, rounds: int) -> None:
        self._bench = bench
        self._upstream = upstream
        self._add = figures.add
        self._rounds = rounds

    # -- what is measured

    def hit(self) -> None:
        """One client asks the same again and again."""
        for name in (CACHING, LITELLM):
            with self._running(name) as one:
                for _ in range(self._rounds):
                    result, cpu = self._hits(one, HIT)
                    self._add("Hit: first byte of the body, p50, ms", name, result["ttfb_p50_us"] / 1e3, "<= 2")
                    self._add("Hit: first byte of the body, p99, ms", name, result["ttfb_p99_us"] / 1e3)
                    self._add("Hit of one event: CPU µs", name, cpu * 1e6 / result["requests"])

    def replay(self) -> None:
        """A stream of 4000 events is told again, at once."""
        with self._running(CACHING) as one:
            for _ in range(self._rounds):
                result, cpu = self._hits(one, REPLAY)
                self._add("Hit of 4000 events: first byte of the body, p50, ms", CACHING, result["ttfb_p50_us"] / 1e3, "<= 2")
                self._add("Events replayed per second of CPU time", CACHING, result["events"] / cpu, ">= 20,000")

    def recording(self) -> None:
        """Streams with the cache on, none of them a hit, and with the cache off: both proxies run, and take turns."""
        with self._running(CACHING) as on, self._running(RELAYING) as off:
            for what, options, bar in RECORDED:
                for spent in self._turns((on, off), options):
                    for name, each in spent.items():
                        self._add(f"{what}: CPU µs per event", name, each)
                    self._add(f"{what}: recording adds, %", CACHING, (spent[CACHING] / spent[RELAYING] - 1) * 100, bar)

    def resuming(self) -> None:
        """The same with streams that can be come back to, with ids and without, and with those that cannot."""
        with self._running(RESUMING) as auto, self._running(NUMBERING) as always, self._running(RELAYING) as off:
            for what, options, _ in RESUMED:
                for spent in self._turns((auto, always, off), options):
                    for name in (RESUMING, NUMBERING):
                        self._add(f"{what}: keeping it for those who come back adds, µs per event", name, spent[name] - spent[RELAYING])

    def _turns(self, running: Sequence[Running], options: Mapping[str, Any]) -> Iterator[dict[str, float]]:
        """CPU µs per event of each, round by round; each round begins with another one."""
        for number in range(self._rounds + 1):
            at = number % len(running)
            spent = {one.name: self._cpu_per_event(one, options) for one in (*running[at:], *running[:at])}
            if number:  # before that some things happen for the first time
                yield spent

    def identical(self) -> None:
        """The same request from many clients at once, from one client, and from many without a cache."""
        for name, clients in ((CACHING, MANY), (CACHING, 1), (RELAYING, MANY)):
            what = f"{clients} alike at once" if clients > 1 else "One alone"
            with self._running(name) as one:
                self._load(one, {**IDENTICAL, "events": 1, "gap": 0})  # the connections that there will be
                base, before = one.resident, self._orders()
                sizes = self._watched(one, {**IDENTICAL, "clients": clients, "requests": clients}, lambda: one.resident)
                asked = self._orders() - before
                self._add(f"{what}: requests to upstream", name, asked, "1" if clients > 1 else "")
                self._add(f"{what}: resident memory grows by at most, MiB", name, (max(sizes) - base) / MIB)

    def bound(self) -> None:
        """Streams of 200 bytes to 760 KB."""
        with self._running(CACHING) as one:
            base, sizes = one.resident, []

            def sample() -> float:
                sizes.append(one.resident)
                return one.metric("txsse_cache_bytes")

            stored = self._watched(one, RANDOM, sample)
            rest(one.process.pid)
            what = f"{STREAMS:,} streams of random length"
            self._add(f"{what}: stored at most, MiB", CACHING, max(stored) / MIB, "<= 64.6")
            self._add(f"{what}: resident memory grows by at most, MiB", CACHING, (max(sizes) - base) / MIB)
            self._add(f"{what}: kept at the end", CACHING, one.metric("txsse_cache_entries"))

    # -- with what

    @contextmanager
    def _running(self, name: str) -> Iterator[Running]:
        """One of the three, warm.

        :raises LookupError: it is not here.
        """
        peer_name, variant = STARTED[name]
        peer = next(one for one in PEERS if one.name == peer_name)
        program = peer.program()
        if program is None:
            raise LookupError(f"{name} is left out: it is not here")
        print(name, file=sys.stderr)
        with self._bench.proxy(peer, program, self._upstream.port, variant) as (process, place, _):
            self._bench.await_answer(peer, process, place)
            self._bench.warm_up(peer, place.port)
            rest(process.pid)
            yield Running(name, process, place)

    def _orders(self) -> int:
        """How many requests the mock has had."""
        told = re.search(r"@(\d+)@", _get(self._upstream.port, "/"))
        assert told is not None
        return int(told[1])

    def _load(self, one: Running, options: Mapping[str, Any]) -> dict[str, Any]:
        result = self._bench.load(one.place.port, {**options, "loose": int(one.name in (LITELLM, NUMBERING))})
        if bad := result["failed"] + result["wrong"] + result["timed_out"]:
            raise RuntimeError(f"{one.name}: {bad} failed or wrong answers")
        return result

    def _hits(self, one: Running, options: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
        """A load of which upstream sees nothing, and the seconds of CPU time that it took."""
        self._load(one, {**options, "requests": 1})
        rest(one.process.pid)
        asked, before = self._orders(), cpu_seconds(one.process.pid)
        result = self._load(one, options)
        spent = cpu_seconds(one.process.pid) - before
        if missed := self._orders() - asked:
            raise RuntimeError(f"{one.name}: {missed} of {result['requests']} requests were no hits")
        return result, spent

    def _cpu_per_event(self, one: Running, options: Mapping[str, Any]) -> float:
        """Microseconds, of streams that are all asked of upstream. What is done after their end is part of it."""
        asked, before = self._orders(), cpu_seconds(one.process.pid)
        result = self._load(one, {**options, "first": asked})
        rest(one.process.pid)
        spent = cpu_seconds(one.process.pid) - before
        if hits := result["requests"] - (self._orders() - asked):
            raise RuntimeError(f"{one.name}: {hits} of {result['requests']} requests were hits")
        return spent * 1e6 / float(result["events"])

    def _watched(self, one: Running, options: Mapping[str, Any], sample: Callable[[], float]) -> list[float]:
        """What *sample* says while a load runs, and after it."""
        samples: list[float] = []
        over = threading.Event()

        def watch() -> None:
            while not over.wait(SAMPLE):
                samples.append(sample())

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            self._load(one, options)
        finally:
            over.set()
            watcher.join()
        return [*samples, sample()]


PARTS: Final[Mapping[str, Callable[[Run], None]]] = {
    "hit": Run.hit,
    "replay": Run.replay,
    "recording": Run.recording,
    "resuming": Run.resuming,
    "identical": Run.identical,
    "bound": Run.bound,
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the cache.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--proxy-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    parser.add_argument("--docs", type=Path, help="write the table into this directory's benchmarks/cache.txt")
    options = parser.parse_args()
    if missing := [name for name in ("load", "upstream") if not (HERE / "build" / name).exists()]:
        sys.exit(f"error: {missing[0]} is not compiled: run benchmarks/setup.sh (make bench-cache does)")
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="txsse-bench-", ignore_cleanup_errors=True) as work:
        bench = Bench(Path(work), options.proxy_core, options.load_core)
        with bench.upstream() as upstream:
            run = Run(bench, upstream, figures, options.rounds)
            for name in options.only.split(","):
                try:
                    PARTS[name](run)
                except LookupError as error:
                    print(error, file=sys.stderr)
    head, rows = figures.table()
    print(markdown(head, rows))
    if options.docs:
        path = options.docs / "benchmarks" / "cache.txt"
        path.write_text("\n".join([*_introduction(options.rounds), *list_table("", head, rows)]).rstrip() + "\n")
        print(path, file=sys.stderr)
    return 0


def _introduction(rounds: int) -> Iterator[str]:
    versions = []
    for peer in PEERS:
        program = peer.program() if "cache" in peer.variants and peer.name in ("txsse", "litellm") else None
        if program is not None:
            versions.append(peer.version_of(program))
    yield from (".. Written by benchmarks/cache.py: run `make bench-cache`, do not edit.", "")
    yield f"Measured {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {rounds} rounds: {'; '.join(versions)}."
    yield ""


def _get(port: int, path: str) -> str:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", path)
        return connection.getresponse().read().decode()


if __name__ == "__main__":
    sys.exit(main())
