"""Measures txsse and its peers, interleaved, and writes what came out: JSON, tables, a plot.

    python benchmarks/run.py [--quick] [--rounds N] [--peers a,b] [--workloads W1,W2] [--docs DIR]
    python benchmarks/run.py --again benchmarks/build/results.json [--docs DIR]

``setup.sh`` comes first: it fetches the peers and compiles the load generator. ``make bench`` does both.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import counters
import page
from hotspots import profile
from peers import HERE, PEERS, Peer
from processes import rest
from report import summary
from results import DIRECT, OURS, Results
from workloads import WORKLOADS, Bench, Figures, Upstream, Workload

STRAIGHT = Peer(DIRECT, "direct, no proxy", lambda: "", lambda program, place: ())
COUNTED = ("W1", "W2", "W5")
CONTEXT_EACH = 3
"""Rounds in which those that are there for comparison only take part once."""


def main() -> int:
    options = arguments()
    signal.signal(signal.SIGTERM, _interrupted)
    if options.again:
        results = Results(**json.loads(options.again.read_text()))
    else:
        results = measured(options)
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results.as_json()) + "\n")
    tell("")
    print(summary(results))
    tell(f"\n{options.again or options.json}")
    if options.docs:
        for path in page.write(results, options.docs):
            tell(path)
    return 0


def measured(options: argparse.Namespace) -> Results:
    if missing := [name for name in ("load", "upstream") if not (HERE / "build" / name).exists()]:
        sys.exit(f"error: {missing[0]} is not compiled: run benchmarks/setup.sh (make bench does)")
    if not {options.proxy_core, options.load_core} <= os.sched_getaffinity(0):
        sys.exit(f"error: two cores are needed; this process may use {sorted(os.sched_getaffinity(0))}")
    peers = present(options)
    began = time.monotonic()
    results = Results(machine(options), {peer.name: peer.label for peer in peers}, {one.name: one.what for one in options.workloads})
    results.lighter = {peer.name: {name: dict(less) for name, less in peer.lighter.items()} for peer in peers}
    results.context = [peer.name for peer in peers if peer.context]
    results.versions = {peer.name: peer.version_of(program) for peer, program in peers.items()}
    with tempfile.TemporaryDirectory(prefix="txsse-bench-", ignore_cleanup_errors=True) as work:
        bench = Bench(Path(work), options.proxy_core, options.load_core)
        try:
            Run(bench, results, peers, options).all()
        except KeyboardInterrupt:
            tell("\ninterrupted: this is what there is")
    results.machine["minutes"] = round((time.monotonic() - began) / 60, 1)
    return results


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure txsse and its peers.")
    parser.add_argument("--quick", action="store_true", help="the fast peers, 3 rounds, no counts: about 2 minutes")
    parser.add_argument("--rounds", type=int, help="of all peers, interleaved (5; quick: 3)")
    parser.add_argument("--peers", type=_words, help=f"of {','.join(peer.name for peer in PEERS)}")
    parser.add_argument("--workloads", type=_words, help=f"of {','.join(one.name for one in WORKLOADS)}")
    parser.add_argument("--held", type=int, help="streams that wait, 0 for none (8000; quick: 0)")
    parser.add_argument("--held-rounds", type=int, default=2)
    parser.add_argument("--syscalls", action=argparse.BooleanOptionalAction, help="count system calls, with perf or strace (not if quick)")
    parser.add_argument("--profile", action=argparse.BooleanOptionalAction, help="sample where txsse spends its time (not if quick)")
    parser.add_argument("--instructions", action="store_true", help="count instructions, with valgrind: minutes more")
    parser.add_argument("--proxy-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    parser.add_argument("--json", type=Path, default=HERE / "build" / "results.json", help="where the figures go")
    parser.add_argument("--again", type=Path, help="measure nothing: make the tables of that JSON again")
    parser.add_argument("--docs", type=Path, help="write the parts of the page and the plots into this directory")
    options = parser.parse_args()
    full = not options.quick
    for name, value in (("rounds", 5 if full else 3), ("held", 8000 if full else 0), ("syscalls", full), ("profile", full)):
        if getattr(options, name) is None:
            setattr(options, name, value)
    asked = options.workloads
    options.workloads = [one for one in WORKLOADS if (one.name in asked if asked is not None else full or one.quick)]
    return options


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def present(options: argparse.Namespace) -> dict[Peer, str]:
    """The peers that are there, each with its program; one line about each that is not."""
    found = {}
    for peer in PEERS:
        if peer.name not in options.peers if options.peers else options.quick and not peer.quick:
            continue
        program = peer.program()
        if program is None:
            tell(f"{peer.name} is left out: it is not here")
        else:
            found[peer] = program
    return found


class Run:
    """One run of everything that is asked for."""

    def __init__(self, bench: Bench, results: Results, peers: dict[Peer, str], options: argparse.Namespace) -> None:
        self.bench = bench
        self.results = results
        self.peers = peers
        self.options = options
        self.workloads: Sequence[Workload] = options.workloads

    def all(self) -> None:
        with self.bench.upstream() as upstream:
            self.rounds(upstream)
            if self.options.syscalls:
                self.system_calls(upstream)
            if self.options.instructions:
                self.instructions(upstream)
            if self.options.profile:
                self.profiles(upstream)
        if self.options.held:
            self.held()

    def rounds(self, upstream: Upstream) -> None:
        order = [STRAIGHT, *self.peers]
        for number in range(self.options.rounds):
            # Each round begins with another peer, so that what changes on the machine meets all of them.
            turn = number % len(order)
            for peer in order[turn:] + order[:turn]:
                if peer.context and number % CONTEXT_EACH:
                    continue
                tell(f"round {number + 1} of {self.options.rounds}: {peer.name}", end=" ")
                began = time.monotonic()
                try:
                    self.turn(peer, upstream, number)
                except (RuntimeError, OSError) as error:
                    tell(f"failed: {error}", end="")
                    self.tell_log(peer)
                tell(f"{time.monotonic() - began:.0f} s")

    def turn(self, peer: Peer, upstream: Upstream, number: int) -> None:
        """One peer's part of a round."""
        together = [one for one in self.workloads if not one.fresh]
        if peer is STRAIGHT:
            for workload in together:
                self.note(workload.name, peer, number, self.bench.measure(workload, peer, None, upstream.port, upstream))
            return
        # The memory of a process depends on what it has done: that of streams is measured on one that has done nothing yet.
        fresh = [one for one in self.workloads if one.fresh and not (number and (peer.context or self.options.quick))]
        if peer.slow_start:
            self.serve(peer, upstream, number, [*fresh, *together])
        else:
            for workload in fresh:
                self.serve(peer, upstream, number, [workload])
            self.serve(peer, upstream, number, together)
        if "no admin" in peer.variants and fresh:
            with self.bench.proxy(peer, self.peers[peer], upstream.port, "no admin") as (process, _, _):
                self.note("idle, no admin", peer, number, self.bench.idle(process))

    def serve(self, peer: Peer, upstream: Upstream, number: int, workloads: Sequence[Workload]) -> None:
        """Workloads of one process, what is measured on a fresh one first."""
        if not workloads:
            return
        with self.bench.proxy(peer, self.peers[peer], upstream.port) as (process, place, started):
            self.note("start", peer, number, {"seconds": started, "bad": 0})
            idle = self.bench.idle(process) if workloads[0].fresh else None
            if idle:
                self.note("idle", peer, number, idle)
            self.bench.await_answer(peer, process, place)
            self.bench.warm_up(peer, place.port)
            for workload in workloads:
                rest(process.pid)
                figures = self.bench.measure(workload, peer, process, place.port, upstream)
                if idle and workload.fresh:
                    figures["grown_mib"] = figures["full_mib"] - idle["mib"]
                self.note(workload.name, peer, number, figures)

    def note(self, name: str, peer: Peer, number: int, figures: Figures) -> None:
        self.results.add(name, peer.name, {**figures, "round": number})
        if name in self.results.workloads:
            tell(name, end=" ")
        if figures["bad"]:
            tell(f"{figures['bad']:g} failed or wrong answers", end="")
            self.tell_log(peer)

    def system_calls(self, upstream: Upstream) -> None:
        if not counters.can_count_system_calls():
            tell("system calls are left out: neither perf, with leave to count them, nor strace is here")
            return
        for peer, program in self.peers.items():
            if peer.context or peer.slow_start:
                continue
            with self.bench.proxy(peer, program, upstream.port) as (process, place, _):
                self.bench.await_answer(peer, process, place)
                self.bench.warm_up(peer, place.port)
                for workload in WORKLOADS:
                    if workload.name in COUNTED:
                        calls = counters.system_calls(self.bench, workload, peer, process, place.port)
                        self.results.add(workload.name, peer.name, {"system_calls": calls})
                        tell(f"{peer.name} {workload.name}: {calls:.2f} system calls per {workload.unit[:-1]}")

    def instructions(self, upstream: Upstream) -> None:
        for peer, program in self.peers.items():
            for workload in WORKLOADS:
                if workload.name in ("W1", "W5"):
                    try:
                        count = counters.instructions(self.bench, workload, peer, program, upstream.port)
                    except (RuntimeError, OSError) as error:
                        tell(f"{peer.name}: instructions are left out: {error}")
                        break
                    self.results.add(workload.name, peer.name, {"instructions": count})
                    tell(f"{peer.name} {workload.name}: {count:,.0f} instructions per request")

    def profiles(self, upstream: Upstream) -> None:
        for peer, program in self.peers.items():
            if peer.name in OURS:
                tell(f"{peer.name}: where its time goes")
                self.results.profiles[peer.name] = profile(self.bench, peer, program, upstream)

    def held(self) -> None:
        for number in range(self.options.held_rounds):
            for peer, program in self.peers.items():
                if "held" in peer.variants:
                    tell(f"round {number + 1} of {self.options.held_rounds}: {peer.name} with {self.options.held} held streams")
                    self.note("held", peer, number, self.bench.held(peer, program, self.options.held))

    def tell_log(self, peer: Peer) -> None:
        """The last of what a peer said."""
        for line in _lines(self.bench.work / peer.name / "log")[-5:]:
            tell(f"\n    {line[:200]}", end="")


def machine(options: argparse.Namespace) -> dict[str, Any]:
    model = next((line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "rounds": options.rounds,
        "load_before": round(os.getloadavg()[0], 2),
    }


def _lines(path: str | Path) -> list[str]:
    try:
        return Path(path).read_text(errors="replace").splitlines()
    except OSError:
        return []


def tell(what: object, end: str = "\n") -> None:
    print(what, end=end, file=sys.stderr, flush=True)


def _interrupted(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
